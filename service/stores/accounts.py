"""Accounts and API keys in Redis."""

from __future__ import annotations

import base64
import math
import secrets
import time
import uuid
from dataclasses import dataclass

from cryptography.fernet import Fernet, InvalidToken

from service.domain import ids
from service.domain.accounts import (
    KEYS_MOST,
    OLD_SECRETS_FOR,
    OLD_SECRETS_MOST,
    Account,
    ApiKey,
    WebhookSecrets,
)
from service.domain.errors import Conflict, IdempotencyKeyReuse, NotFound, RateLimited
from service.domain.rows import Tell, among, moment, reading, whole
from service.stores import keys, scripts
from service.stores.commands import fields_of, hashes
from service.stores.connection import Client, store_adapter
from service.stores.requests import IDEMPOTENCY_LIFETIME
from service.stores.rows import log_broken, look_up

WEBHOOK_SECRET_BYTES = 32  # Standard Webhooks asks for 24 to 64
ROTATION = "rotate the webhook secret"  # all that such a call asks
LAST_USE = frozenset({"last_used_at", "last_used_from"})
LAST_USE_GRAIN_MS = 60_000
LAST_ADDRESS_GRAIN_MS = 1_000
# Keys of which a process remembers whose they are: that never changes, all else is read each time.
OWNERS_KEPT = 10_000


@store_adapter
class Accounts:
    """AccountStore over Redis. ``fernet`` encrypts the webhook secrets at rest."""

    def __init__(self, redis: Client, fernet: Fernet, shards: int) -> None:
        self._redis = redis
        self._fernet = fernet
        self._shards = shards
        self._owners: dict[str, str] = {}
        self._key_add = scripts.load(redis, "key_add")
        self._key_touch = scripts.load(redis, "key_touch")
        self._password_renew = scripts.load(redis, "password_renew")
        self._secret_rotate = scripts.load(redis, "secret_rotate")

    def create(self, email: str, password_hash: str) -> Account:
        now = _now_ms()
        account = Account(
            ids.new_id(ids.ACCOUNT, secrets.randbelow(self._shards), now), email, password_hash, now
        )
        self._redis.hset(
            keys.account(account.account_id),
            mapping={
                "email": email,
                "password": password_hash,
                "created_at": now,
                "disabled": 0,
                "token_version": account.token_version,
                "webhook_secret": self._seal(_new_webhook_secret()),
            },
        )
        # The address is claimed last: a crash before leaves an account nobody can name, not a name that
        # leads nowhere, or to one that no backup knows of.
        self._redis.sadd(keys.ACCOUNTS, account.account_id)
        claimed = self._redis.set(keys.email(email), account.account_id, nx=True)
        # Not claimed now may mean claimed by this very call, the reply to which was lost.
        if not claimed and self._redis.get(keys.email(email)) != account.account_id:
            self._redis.srem(keys.ACCOUNTS, account.account_id)
            self._redis.delete(keys.account(account.account_id))
            raise Conflict(f"There is an account for {email} already.")
        return account

    def get(self, account_id: str) -> Account | None:
        return _account(account_id, fields_of(self._redis, keys.account(account_id)))

    def by_email(self, email: str) -> Account | None:
        account_id = self._redis.get(keys.email(email))
        return None if account_id is None else self.get(str(account_id))

    def all(self, tell: Tell = log_broken) -> list[Account]:
        names = list(self._redis.smembers(keys.ACCOUNTS))
        found = look_up(self._redis, keys.account, _account, names, tell)
        return sorted((account for account in found if account), key=lambda account: account.created_at)

    def set_disabled(self, account_id: str, disabled: bool) -> None:
        """Disabling also revokes every token, so that enabling does not bring old ones back."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.account(account_id), "disabled", int(disabled))
            pipe.hincrby(keys.account(account_id), "token_version", 1)
            pipe.execute()

    def set_password(self, account_id: str, password_hash: str) -> None:
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.account(account_id), "password", password_hash)
            pipe.hincrby(keys.account(account_id), "token_version", 1)
            pipe.execute()

    def renew_password(self, account_id: str, before: str, after: str) -> None:
        self._password_renew(keys=[keys.account(account_id)], args=[before, after])

    def revoke_tokens(self, account_id: str) -> None:
        self._redis.hincrby(keys.account(account_id), "token_version", 1)

    def add_key(self, key: ApiKey) -> bool:
        self._redis.hset(
            keys.api_key(key.key_id),
            mapping={
                "account": key.account_id,
                "name": key.name,
                "prefix": key.prefix,
                "digest": key.digest,
                "created_at": key.created_at,
            },
        )
        # The list is in another slot. What stops here leaves a key that nobody was shown.
        listed = keys.account_keys(key.account_id)
        added = bool(self._key_add(keys=[listed], args=[key.key_id, KEYS_MOST]))
        if not added:
            self._redis.delete(keys.api_key(key.key_id))
        return added

    def key(self, key_id: str) -> ApiKey | None:
        return _api_key(key_id, fields_of(self._redis, keys.api_key(key_id)))

    def key_and_account(self, key_id: str) -> tuple[ApiKey | None, Account | None]:
        owner = self._owners.get(key_id)
        if owner is None:
            key = self.key(key_id)
            if key is None:
                return None, None
            self._remember(key)
            return key, self.get(key.account_id)
        found, account = hashes(self._redis, [keys.api_key(key_id), keys.account(owner)])
        return _api_key(key_id, found), _account(owner, account)

    def _remember(self, key: ApiKey) -> None:
        if len(self._owners) >= OWNERS_KEPT:
            self._owners.clear()
        self._owners[key.key_id] = key.account_id

    def keys(self, account_id: str) -> list[ApiKey]:
        names = list(self._redis.smembers(keys.account_keys(account_id)))
        found = look_up(self._redis, keys.api_key, _api_key, names)
        return sorted((key for key in found if key), key=lambda key: key.created_at)

    def remove_key(self, account_id: str, key_id: str) -> bool:
        if not self._redis.sismember(keys.account_keys(account_id), key_id):
            return False
        self._redis.delete(keys.api_key(key_id))
        self._redis.srem(keys.account_keys(account_id), key_id)
        return True

    def remove_keys(self, account_id: str) -> int:
        named = [str(key_id) for key_id in self._redis.smembers(keys.account_keys(account_id))]
        return sum(self.remove_key(account_id, key_id) for key_id in named)

    def touch_key(self, key: ApiKey, address: str) -> None:
        now = _now_ms()
        grain = LAST_USE_GRAIN_MS if address == key.last_used_from else LAST_ADDRESS_GRAIN_MS
        if now - key.last_used_at >= grain:
            self._key_touch(keys=[keys.api_key(key.key_id)], args=[now, address])

    def webhook_secrets(self, account_id: str) -> WebhookSecrets:
        return _told(self._secrets(account_id))

    def rotate_webhook_secret(self, account_id: str, idempotency_key: str | None = None) -> WebhookSecrets:
        fresh = self._seal(_new_webhook_secret())
        fingerprint = "" if idempotency_key is None else ROTATION
        word, said = self._secret_rotate(
            keys=[keys.account(account_id), keys.idempotency(account_id, idempotency_key or "")],
            args=[
                uuid.uuid4().hex,
                fresh,
                OLD_SECRETS_FOR * 1000,
                OLD_SECRETS_MOST,
                fingerprint,
                IDEMPOTENCY_LIFETIME,
            ],
        )
        if word == "full":
            seconds = max(math.ceil(int(said) / 1000), 1)
            raise RateLimited(
                f"Your {OLD_SECRETS_MOST} earlier secrets sign still, each for 24 hours after it was "
                f"replaced. Rotate again in {seconds} seconds.",
                retry_after=seconds,
            )
        if word == "reuse":
            raise IdempotencyKeyReuse
        if word == "gone":
            raise NotFound("There is no such account.")
        found = self._secrets(account_id)
        # Of a call that is sent again, others may have rotated since.
        made = next((place for place, each in enumerate(found) if each.rotation == said), 0)
        return _told(found[made:])

    def _secrets(self, account_id: str) -> list[_Secret]:
        """Return the secrets that sign, the newest first. Raises BrokenRow."""
        current, rotation, previous, ends, made_by, older = self._redis.hmget(
            keys.account(account_id),
            "webhook_secret",
            "rotation",
            "previous_secret",
            "previous_expires_at",
            "previous_rotation",
            "older_secrets",
        )
        with reading("webhook secrets of", account_id):
            rows = [line.split(" ") for line in (older or "").splitlines()]
            old = [[previous, ends, made_by], *rows] if previous else rows
            now = _now_ms()
            return [
                _Secret(self._open(current), 0, rotation),
                *(_Secret(self._open(each), int(end), made) for each, end, made in old if int(end) > now),
            ]

    def _seal(self, secret: str) -> str:
        return self._fernet.encrypt(secret.encode()).decode()

    def _open(self, token: str) -> str:
        try:
            return self._fernet.decrypt(token.encode()).decode()
        except InvalidToken:
            raise ValueError("one does not open under this SECRET_KEY") from None


@dataclass(frozen=True)
class _Secret:
    """A signing secret, when it ends (Unix ms, 0: not yet known), and the rotation that made it."""

    value: str
    ends: int
    rotation: str | None


def _told(found: list[_Secret]) -> WebhookSecrets:
    current, *old = found
    return WebhookSecrets(current.value, tuple((each.value, each.ends) for each in old))


def _new_webhook_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(WEBHOOK_SECRET_BYTES)).decode()


def _account(account_id: str, fields: dict[str, str]) -> Account | None:
    """Raises BrokenRow."""
    if not fields:
        return None
    with reading("account", account_id):
        return Account(
            account_id=account_id,
            email=fields["email"],
            password_hash=fields["password"],
            created_at=moment(fields, "created_at"),
            disabled=among(fields, "disabled", ("0", "1")) == "1",
            token_version=whole(fields, "token_version"),
        )


def _api_key(key_id: str, fields: dict[str, str]) -> ApiKey | None:
    # A key revoked while its last use was being written left only that behind.
    if not fields.keys() - LAST_USE:
        return None
    with reading("API key", key_id):
        return ApiKey(
            key_id=key_id,
            account_id=fields["account"],
            name=fields["name"],
            prefix=fields["prefix"],
            created_at=moment(fields, "created_at"),
            digest=fields["digest"],
            last_used_at=moment(fields, "last_used_at", 0),
            last_used_from=fields.get("last_used_from", ""),
        )


def _now_ms() -> int:
    return int(time.time() * 1000)
