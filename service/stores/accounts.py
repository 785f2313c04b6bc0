"""Accounts and API keys in Redis."""

from __future__ import annotations

import base64
import secrets
import time

from cryptography.fernet import Fernet, InvalidToken

from service.domain import ids
from service.domain.accounts import Account, ApiKey, WebhookSecrets
from service.domain.errors import Conflict
from service.domain.rows import Tell, among, moment, reading, whole
from service.stores import keys
from service.stores.commands import hashes
from service.stores.connection import Client, store_adapter
from service.stores.rows import log_broken, look_up

WEBHOOK_SECRET_BYTES = 32  # Standard Webhooks asks for 24 to 64
PREVIOUS_SECRET_MS = 24 * 3_600 * 1_000
LAST_USE_GRAIN_MS = 60_000
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
        return _account(account_id, self._redis.hgetall(keys.account(account_id)))

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

    def add_key(self, key: ApiKey) -> None:
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
        self._redis.sadd(keys.account_keys(key.account_id), key.key_id)

    def key(self, key_id: str) -> ApiKey | None:
        return _api_key(key_id, self._redis.hgetall(keys.api_key(key_id)))

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

    def touch_key(self, key: ApiKey) -> None:
        now = _now_ms()
        if now - key.last_used_at >= LAST_USE_GRAIN_MS:
            self._redis.hset(keys.api_key(key.key_id), "last_used_at", now)

    def webhook_secrets(self, account_id: str) -> WebhookSecrets:
        current, previous, expires_at = self._redis.hmget(
            keys.account(account_id), "webhook_secret", "previous_secret", "previous_expires_at"
        )
        with reading("webhook secrets of", account_id):
            if previous is None or int(expires_at) <= _now_ms():
                return WebhookSecrets(self._open(current))
            return WebhookSecrets(self._open(current), self._open(previous), int(expires_at))

    def rotate_webhook_secret(self, account_id: str) -> WebhookSecrets:
        current = self._redis.hget(keys.account(account_id), "webhook_secret")
        expires_at = _now_ms() + PREVIOUS_SECRET_MS
        fresh = _new_webhook_secret()
        self._redis.hset(
            keys.account(account_id),
            mapping={
                "webhook_secret": self._seal(fresh),
                "previous_secret": current,
                "previous_expires_at": expires_at,
            },
        )
        return WebhookSecrets(fresh, self._open(current), expires_at)

    def _seal(self, secret: str) -> str:
        return self._fernet.encrypt(secret.encode()).decode()

    def _open(self, token: str) -> str:
        try:
            return self._fernet.decrypt(token.encode()).decode()
        except InvalidToken:
            raise ValueError("one does not open under this SECRET_KEY") from None


def _new_webhook_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(WEBHOOK_SECRET_BYTES)).decode()


def _account(account_id: str, fields: dict[str, str]) -> Account | None:
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
    # A key revoked while its last use was being written leaves only that field behind.
    if not fields.keys() - {"last_used_at"}:
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
        )


def _now_ms() -> int:
    return int(time.time() * 1000)
