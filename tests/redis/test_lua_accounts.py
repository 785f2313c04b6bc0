"""key_add, key_touch, secret_rotate, login_try and login_over, alone on a real server: what is sent again."""

from __future__ import annotations

import pytest
from redis import Redis

from tests.redis.kit import Lua, snapshot

ACCOUNT, IDEM, KEYS, KEY = "acct", "idem", "keys", "key"
HERE, AT = "from", "at"
DAY = 86_400_000


@pytest.fixture
def lua(valkey: Redis) -> Lua:
    return Lua(valkey)


def rotate(lua: Lua, name: str, secret: str, *, fingerprint: str = "") -> list[object]:
    return lua("secret_rotate", [ACCOUNT, IDEM], name, secret, DAY, 2, fingerprint, 86_400)


@pytest.mark.parametrize("fingerprint", ["", "f"])
def test_a_rotation_whose_reply_was_lost_is_one(lua: Lua, fingerprint: str) -> None:
    lua.redis.hset(ACCOUNT, "webhook_secret", "first")
    assert rotate(lua, "r1", "second", fingerprint=fingerprint) == ["ok", "r1"]
    before = snapshot(lua.redis)
    assert rotate(lua, "r1", "third", fingerprint=fingerprint) == ["ok", "r1"]
    assert snapshot(lua.redis) == before
    assert lua.redis.hmget(ACCOUNT, "webhook_secret", "previous_secret") == ["second", "first"]


def test_a_rotation_forgets_secrets_whose_time_is_over_and_no_others(lua: Lua) -> None:
    lua.redis.hset(ACCOUNT, "webhook_secret", "first")
    rotate(lua, "r1", "second")
    rotate(lua, "r2", "third")
    word, left = rotate(lua, "r3", "fourth")
    assert word == "full"
    assert 0 < left <= DAY
    assert lua.redis.hget(ACCOUNT, "webhook_secret") == "third"
    lua.redis.hset(ACCOUNT, "older_secrets", "first 1 -")
    assert rotate(lua, "r3", "fourth") == ["ok", "r3"]
    assert lua.redis.hget(ACCOUNT, "older_secrets").startswith("second ")
    assert lua.redis.hget(ACCOUNT, "older_secrets").endswith(" r1")


def test_a_key_of_another_thing_and_an_account_that_is_gone_rotate_nothing(lua: Lua) -> None:
    assert rotate(lua, "r1", "second") == ["gone", ""]
    lua.redis.hset(ACCOUNT, "webhook_secret", "first")
    lua.redis.hset(IDEM, mapping={"fingerprint": "g", "request": "req_1"})
    before = snapshot(lua.redis)
    assert rotate(lua, "r1", "second", fingerprint="f") == ["reuse", ""]
    assert snapshot(lua.redis) == before


def test_a_key_is_put_on_the_list_once_and_none_too_many(lua: Lua) -> None:
    assert [lua("key_add", [KEYS], name, 2) for name in ("a", "a", "b", "c", "b")] == [1, 1, 1, 0, 1]
    assert lua.redis.smembers(KEYS) == {"a", "b"}


def test_the_use_of_a_key_that_was_revoked_is_not_noted(lua: Lua) -> None:
    assert lua("key_touch", [KEY], 1, "10.0.0.1") == 0
    assert not lua.redis.exists(KEY)
    lua.redis.hset(KEY, "digest", "d")
    assert lua("key_touch", [KEY], 1, "10.0.0.1") == 1
    assert lua.redis.hmget(KEY, "last_used_at", "last_used_from") == ["1", "10.0.0.1"]


def attempt(lua: Lua, *, known: int = 0) -> int:
    return lua("login_try", [HERE, AT], "anna", 9, 3, 5, 20_000, 60_000, known)


def test_a_refused_try_writes_nothing(lua: Lua) -> None:
    assert [attempt(lua) for _ in range(3)] == [0, 0, 0]
    before = snapshot(lua.redis)
    assert 0 < attempt(lua) <= 60_000
    assert snapshot(lua.redis) == before


def test_only_the_first_knock_at_a_slowed_account_is_written(lua: Lua) -> None:
    lua.redis.set(AT, 5 + 3, px=60_000)
    assert attempt(lua) == 8_000
    lua.redis.hset(HERE, "from:anna", 4_000_000_000_000)
    assert lua.redis.hget(HERE, "all") == "1"
    before = snapshot(lua.redis)
    assert attempt(lua) > 8_000
    assert snapshot(lua.redis) == before
    assert attempt(lua, known=1) == 0
    lua.redis.hset(HERE, "from:anna", 1)
    assert attempt(lua) == 0
    from_then_on = int(lua.redis.hget(HERE, "from:anna"))
    seconds, _ = lua.redis.time()
    assert 1 < from_then_on <= (seconds + 9) * 1000


def test_the_windows_begin_with_their_first_try(lua: Lua) -> None:
    attempt(lua)
    lua.redis.pexpire(HERE, 30_000)
    lua.redis.pexpire(AT, 30_000)
    attempt(lua)
    assert lua.redis.pttl(HERE) <= 30_000
    assert lua.redis.pttl(AT) <= 30_000


def test_what_is_taken_back_is_taken_back_once(lua: Lua) -> None:
    for _ in range(2):
        attempt(lua)
    lua.redis.incrby(AT, 4)
    assert lua("login_over", [HERE, AT], "anna") == 2
    before = snapshot(lua.redis)
    assert lua("login_over", [HERE, AT], "anna") == 0
    assert snapshot(lua.redis) == before
    assert lua.redis.get(AT) == "4"
    assert lua.redis.hgetall(HERE) == {"all": "2"}


def test_taking_back_makes_no_counter_that_lives_for_good(lua: Lua) -> None:
    attempt(lua)
    lua.redis.delete(AT)
    assert lua("login_over", [HERE, AT], "anna") == 1
    assert not lua.redis.exists(AT)
