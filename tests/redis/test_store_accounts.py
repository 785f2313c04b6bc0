"""Accounts and API keys over the fake store and over a real one."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from redis import Redis

from service.auth.api_keys import ApiKeys
from service.domain import ids
from service.domain.accounts import KEYS_MOST, OLD_SECRETS_FOR, OLD_SECRETS_MOST, Account
from service.domain.errors import BrokenRow, Conflict, IdempotencyKeyReuse, NotFound, RateLimited
from service.domain.rows import PassedOver
from service.secrets import at_rest
from service.stores import accounts as module
from service.stores import keys
from service.stores.accounts import Accounts
from tests.conftest import SHARDS
from tests.redis.kit import at_once

SECRET_KEY = "s" * 32
MINT = ApiKeys(b"k" * 32)


@pytest.fixture
def accounts(redis: Redis) -> Accounts:
    return Accounts(redis, at_rest(SECRET_KEY), SHARDS)


@pytest.fixture
def anna(accounts: Accounts) -> Account:
    return accounts.create("anna@example.com", "hash")


def test_an_account_is_found_by_id_by_address_and_in_the_list(accounts: Accounts, anna: Account) -> None:
    assert accounts.get(anna.account_id) == anna
    assert accounts.by_email("anna@example.com") == anna
    assert accounts.all() == [anna]
    assert ids.shard_of(anna.account_id, ids.ACCOUNT) in range(SHARDS)


def test_an_account_that_never_was_is_nothing(accounts: Accounts) -> None:
    assert accounts.get(ids.new_id(ids.ACCOUNT, 1, 1)) is None
    assert accounts.by_email("nobody@example.com") is None
    assert accounts.all() == []


def test_an_address_is_given_once(accounts: Accounts, anna: Account, redis: Redis) -> None:
    before = set(redis.scan_iter())
    with pytest.raises(Conflict, match=r"anna@example\.com"):
        accounts.create("anna@example.com", "other")
    assert accounts.by_email("anna@example.com") == anna
    assert set(redis.scan_iter()) == before


def test_of_many_who_want_one_address_at_once_one_gets_it(valkey: Redis) -> None:
    accounts = Accounts(valkey, at_rest(SECRET_KEY), SHARDS)

    def create(number: int) -> Account | None:
        try:
            return accounts.create("anna@example.com", f"hash {number}")
        except Conflict:
            return None

    [winner] = [made for made in at_once(20, create) if made]
    assert accounts.by_email("anna@example.com") == winner
    assert accounts.all() == [winner]
    assert list(valkey.scan_iter("*acct:*")) == [keys.account(winner.account_id)]


def test_an_account_is_made_also_when_the_reply_to_its_claim_of_the_address_was_lost(
    redis: Redis, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sends a command again when the connection broke before the reply."""
    send = redis.set

    def send_again(*args: Any, **options: Any) -> Any:
        send(*args, **options)
        return send(*args, **options)

    monkeypatch.setattr(redis, "set", send_again)
    made = accounts.create("anna@example.com", "hash")
    assert accounts.by_email("anna@example.com") == made


def test_disabling_an_account_revokes_its_tokens_and_enabling_brings_none_back(
    accounts: Accounts, anna: Account
) -> None:
    versions = [anna.token_version]
    for disabled in (True, False):
        accounts.set_disabled(anna.account_id, disabled)
        account = accounts.get(anna.account_id)
        assert account is not None
        assert account.disabled is disabled
        versions.append(account.token_version)
    assert len(set(versions)) == 3


def test_a_hash_is_renewed_unless_the_password_was_changed_meanwhile(
    accounts: Accounts, anna: Account
) -> None:
    accounts.renew_password(anna.account_id, "another hash", "renewed")
    assert accounts.get(anna.account_id) == anna
    accounts.renew_password(anna.account_id, anna.password_hash, "renewed")
    renewed = accounts.get(anna.account_id)
    assert renewed is not None
    assert (renewed.password_hash, renewed.token_version) == ("renewed", anna.token_version)


def test_a_new_password_revokes_the_tokens(accounts: Accounts, anna: Account) -> None:
    accounts.set_password(anna.account_id, "new hash")
    account = accounts.get(anna.account_id)
    assert account is not None
    assert account.password_hash == "new hash"
    assert account.token_version > anna.token_version


# --- webhook secrets -----------------------------------------------------------------------------


def stored(redis: Redis, account: Account) -> str:
    return " ".join(redis.hvals(keys.account(account.account_id)))


def test_a_webhook_secret_is_one_of_standard_webhooks(accounts: Accounts, anna: Account) -> None:
    secrets = accounts.webhook_secrets(anna.account_id)
    assert secrets.active == [secrets.current]
    assert 24 <= len(base64.b64decode(secrets.current.removeprefix("whsec_"), validate=True)) <= 64
    assert secrets.current.startswith("whsec_")


def test_every_account_has_a_secret_of_its_own(accounts: Accounts, anna: Account) -> None:
    bert = accounts.create("bert@example.com", "hash")
    assert accounts.webhook_secrets(anna.account_id) != accounts.webhook_secrets(bert.account_id)


def test_webhook_secrets_are_encrypted_at_rest(redis: Redis, accounts: Accounts, anna: Account) -> None:
    first = accounts.webhook_secrets(anna.account_id).current
    second = accounts.rotate_webhook_secret(anna.account_id).current
    for secret in (first, second):
        assert secret.removeprefix("whsec_") not in stored(redis, anna)
    assert "whsec_" not in stored(redis, anna)
    with pytest.raises(BrokenRow, match="does not open under this SECRET_KEY"):
        Accounts(redis, at_rest("t" * 32), SHARDS).webhook_secrets(anna.account_id)


def test_after_a_rotation_both_secrets_sign_the_new_one_first(accounts: Accounts, anna: Account) -> None:
    before = accounts.webhook_secrets(anna.account_id).current
    rotated = accounts.rotate_webhook_secret(anna.account_id)
    assert rotated.active == [rotated.current, before]
    assert rotated.current != before
    assert accounts.webhook_secrets(anna.account_id) == rotated


def test_the_previous_secret_stops_signing_when_its_time_is_over(
    accounts: Accounts, anna: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotated = accounts.rotate_webhook_secret(anna.account_id)
    ends = rotated.old[0][1]
    monkeypatch.setattr(module, "_now_ms", lambda: ends - 1)
    assert len(accounts.webhook_secrets(anna.account_id).active) == 2
    monkeypatch.setattr(module, "_now_ms", lambda: ends)
    assert accounts.webhook_secrets(anna.account_id).active == [rotated.current]


def test_of_several_rotations_within_a_day_every_secret_signs_on(accounts: Accounts, anna: Account) -> None:
    made = [accounts.webhook_secrets(anna.account_id).current]
    made += [accounts.rotate_webhook_secret(anna.account_id).current for _ in range(OLD_SECRETS_MOST)]
    found = accounts.webhook_secrets(anna.account_id)
    assert found.active == made[::-1]
    ends = [end for _, end in found.old]
    assert ends == sorted(ends, reverse=True)


def test_a_rotation_more_is_refused_and_changes_nothing(
    redis: Redis, accounts: Accounts, anna: Account
) -> None:
    for _ in range(OLD_SECRETS_MOST):
        accounts.rotate_webhook_secret(anna.account_id)
    before = accounts.webhook_secrets(anna.account_id)
    with pytest.raises(RateLimited, match="earlier secrets sign still") as caught:
        accounts.rotate_webhook_secret(anna.account_id)
    assert 0 < (caught.value.retry_after or 0) <= OLD_SECRETS_FOR
    assert accounts.webhook_secrets(anna.account_id) == before
    name = keys.account(anna.account_id)
    secret, _, made_by = redis.hget(name, "older_secrets").splitlines()[-1].split(" ")
    rest = redis.hget(name, "older_secrets").splitlines()[:-1]
    redis.hset(name, "older_secrets", "\n".join([*rest, f"{secret} 1 {made_by}"]))  # its time is over
    after = accounts.rotate_webhook_secret(anna.account_id)
    assert after.active[1:] == before.active[:-1]


def test_a_rotation_that_is_sent_again_with_its_key_gives_the_same_secret(
    accounts: Accounts, anna: Account
) -> None:
    first = accounts.webhook_secrets(anna.account_id).current
    made = accounts.rotate_webhook_secret(anna.account_id, "once")
    assert accounts.rotate_webhook_secret(anna.account_id, "once") == made
    accounts.rotate_webhook_secret(anna.account_id)
    assert accounts.rotate_webhook_secret(anna.account_id, "once") == made  # also when others did since
    assert len(accounts.webhook_secrets(anna.account_id).active) == 3
    assert first in accounts.webhook_secrets(anna.account_id).active


def test_a_key_that_stands_for_something_else_rotates_nothing(
    redis: Redis, accounts: Accounts, anna: Account
) -> None:
    name = keys.idempotency(anna.account_id, "once")
    redis.hset(name, mapping={"fingerprint": "a request", "request": "req_1"})
    before = accounts.webhook_secrets(anna.account_id)
    with pytest.raises(IdempotencyKeyReuse):
        accounts.rotate_webhook_secret(anna.account_id, "once")
    assert accounts.webhook_secrets(anna.account_id) == before


def test_a_secret_that_the_version_before_replaced_signs_on(
    redis: Redis, accounts: Accounts, anna: Account
) -> None:
    """It kept one, and forgot it with the next rotation."""
    old = redis.hget(keys.account(anna.account_id), "webhook_secret")
    first = accounts.webhook_secrets(anna.account_id).current
    ends = module._now_ms() + 60_000
    redis.hset(keys.account(anna.account_id), mapping={"previous_secret": old, "previous_expires_at": ends})
    assert accounts.webhook_secrets(anna.account_id).old == ((first, ends),)
    accounts.rotate_webhook_secret(anna.account_id)
    assert accounts.webhook_secrets(anna.account_id).old[-1] == (first, ends)


def test_of_many_rotations_at_once_none_loses_a_secret(valkey: Redis) -> None:
    accounts = Accounts(valkey, at_rest(SECRET_KEY), SHARDS)
    account_id = accounts.create("anna@example.com", "hash").account_id
    first = accounts.webhook_secrets(account_id).current

    def rotate(_: int) -> str | None:
        try:
            return accounts.rotate_webhook_secret(account_id).current
        except RateLimited:
            return None

    made = [secret for secret in at_once(40, rotate) if secret]
    assert len(made) == OLD_SECRETS_MOST
    assert set(accounts.webhook_secrets(account_id).active) == {first, *made}


def test_nobody_s_secret_is_not_rotated(accounts: Accounts, redis: Redis) -> None:
    with pytest.raises(NotFound):
        accounts.rotate_webhook_secret(ids.new_id(ids.ACCOUNT, 1, 1))
    assert list(redis.scan_iter()) == []


# --- what is not whole ---------------------------------------------------------------------------


def test_an_account_that_is_not_whole_keeps_no_other_from_the_list(
    redis: Redis, accounts: Accounts, anna: Account
) -> None:
    bert = accounts.create("bert@example.com", "hash")
    redis.hset(keys.account(bert.account_id), "created_at", "yesterday")
    told = PassedOver()
    assert accounts.all(told) == [anna]
    assert [each.where for each in told] == [f"account {bert.account_id}"]
    with pytest.raises(BrokenRow):
        accounts.get(bert.account_id)


# --- keys ----------------------------------------------------------------------------------------


def test_a_key_is_kept_as_it_was_minted(accounts: Accounts, anna: Account) -> None:
    secret, key = MINT.mint(anna.account_id, "laptop")
    accounts.add_key(key)
    assert accounts.key(key.key_id) == key
    assert accounts.keys(anna.account_id) == [key]
    assert MINT.matches(accounts.keys(anna.account_id)[0], secret)


def test_the_store_never_holds_a_whole_key(redis: Redis, accounts: Accounts, anna: Account) -> None:
    secret, key = MINT.mint(anna.account_id, "laptop")
    accounts.add_key(key)
    proof = secret.removeprefix("sk_live_" + key.key_id)
    assert proof not in str(redis.hgetall(keys.api_key(key.key_id)))


def test_a_revoked_key_is_gone(redis: Redis, accounts: Accounts, anna: Account) -> None:
    _, key = MINT.mint(anna.account_id, "laptop")
    accounts.add_key(key)
    assert accounts.remove_key(anna.account_id, key.key_id)
    assert accounts.key(key.key_id) is None
    assert accounts.keys(anna.account_id) == []
    assert not redis.exists(keys.api_key(key.key_id))
    assert not accounts.remove_key(anna.account_id, key.key_id)


def test_nobody_revokes_another_accounts_key(accounts: Accounts, anna: Account) -> None:
    bert = accounts.create("bert@example.com", "hash")
    _, key = MINT.mint(anna.account_id, "laptop")
    accounts.add_key(key)
    assert not accounts.remove_key(bert.account_id, key.key_id)
    assert accounts.key(key.key_id) == key


def test_the_last_use_of_a_key_is_kept_to_the_minute(
    accounts: Accounts, anna: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, key = MINT.mint(anna.account_id, "laptop")
    accounts.add_key(key)
    for at, expected in ((1_000_000, 1_000_000), (1_059_999, 1_000_000), (1_060_000, 1_060_000)):
        monkeypatch.setattr(module, "_now_ms", lambda at=at: at)
        current = accounts.key(key.key_id)
        assert current is not None
        accounts.touch_key(current, "")
        touched = accounts.key(key.key_id)
        assert touched is not None
        assert touched.last_used_at == expected


def test_of_many_keys_added_at_once_50_stand(valkey: Redis) -> None:
    accounts = Accounts(valkey, at_rest(SECRET_KEY), SHARDS)
    account_id = accounts.create("anna@example.com", "hash").account_id
    added = at_once(120, lambda n: accounts.add_key(MINT.mint(account_id, f"key {n}")[1]))
    assert sum(added) == KEYS_MOST
    assert len(accounts.keys(account_id)) == KEYS_MOST
    assert len(list(valkey.scan_iter("g:key:*"))) == KEYS_MOST


def test_the_same_key_is_added_once_however_often(accounts: Accounts, anna: Account) -> None:
    _, key = MINT.mint(anna.account_id, "laptop")
    assert accounts.add_key(key)
    assert accounts.add_key(key)
    assert accounts.keys(anna.account_id) == [key]


def test_all_keys_of_an_account_are_removed(redis: Redis, accounts: Accounts, anna: Account) -> None:
    bert = accounts.create("bert@example.com", "hash")
    for owner in (anna, anna, bert):
        accounts.add_key(MINT.mint(owner.account_id, "laptop")[1])
    assert accounts.remove_keys(anna.account_id) == 2
    assert accounts.keys(anna.account_id) == []
    assert len(accounts.keys(bert.account_id)) == 1
    assert len(list(redis.scan_iter("g:key:*"))) == 1


def test_a_use_from_elsewhere_shows_at_once_and_is_written_once_a_second_at_most(
    accounts: Accounts, anna: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, key = MINT.mint(anna.account_id, "laptop")
    accounts.add_key(key)
    for at, address, expected in (
        (1_000_000, "10.0.0.1", "10.0.0.1"),
        (1_000_999, "10.0.0.2", "10.0.0.1"),
        (1_001_000, "10.0.0.2", "10.0.0.2"),
        (1_002_000, "10.0.0.1", "10.0.0.1"),
    ):
        monkeypatch.setattr(module, "_now_ms", lambda at=at: at)
        current = accounts.key(key.key_id)
        assert current is not None
        accounts.touch_key(current, address)
        touched = accounts.key(key.key_id)
        assert touched is not None
        assert touched.last_used_from == expected


def test_a_key_used_while_it_was_revoked_stays_revoked(
    redis: Redis, accounts: Accounts, anna: Account
) -> None:
    _, key = MINT.mint(anna.account_id, "laptop")
    accounts.add_key(key)
    accounts.remove_key(anna.account_id, key.key_id)
    accounts.touch_key(key, "10.0.0.1")
    assert accounts.key(key.key_id) is None
    assert not redis.exists(keys.api_key(key.key_id))
