"""How many calls sessions and proxies may make: reserved with the lease, corrected when it ends."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable

import pytest
from cryptography.fernet import Fernet
from redis import Redis

from service.domain.instagram import BUSY_SECONDS, Leased, Pace, Unavailable, settings_from_sessionid
from service.stores import instagram_sessions
from service.stores.connection import open_store
from service.stores.instagram_sessions import (
    BUDGET,
    COUNTER,
    LEASES,
    PROXIES,
    READY,
    WANTED,
    InstagramSessions,
)
from tests.redis.kit import Lua, at_once

LOGIN = settings_from_sessionid("42%3Aabcdefghijklmno%3A7")
PROXY, OTHER_PROXY = "http://user:pass@proxy:8080", "socks5://user:pass@proxy:1080"
FERNET = Fernet(Fernet.generate_key())
KEY = b"k" * 32

Make = Callable[..., InstagramSessions]


@pytest.fixture
def make(redis: Redis) -> Make:
    """Return a function that makes a pool with the sessions anna, ben, ... behind the given proxies."""

    def make(*proxies: str | None, **pace: int) -> InstagramSessions:
        pool = InstagramSessions(redis, FERNET, KEY, Pace(**pace))
        for name, proxy in zip(("anna", "ben", "cleo", "dora"), proxies, strict=False):
            pool.add(name, LOGIN, proxy)
        return pool

    return make


def take(pool: InstagramSessions, calls: int = 1, least: int = 1) -> Leased:
    leased = pool.lease(60, calls, least)
    assert isinstance(leased, Leased)
    return leased


def spend(pool: InstagramSessions, calls: int) -> str:
    """Make calls with a session; return its name."""
    leased = take(pool, calls, calls)
    pool.release(leased, used=calls)
    return leased.name


def none_left(pool: InstagramSessions, calls: int = 1, least: int = 1) -> Unavailable:
    answer = pool.lease(60, calls, least)
    assert isinstance(answer, Unavailable)
    return answer


def made(pool: InstagramSessions) -> dict[str, tuple[int, int]]:
    return {record.name: (record.calls_minute, record.calls_hour) for record in pool.list()}


def let_pass(redis: Redis, seconds: int) -> None:
    """Move everything that has a time into the past instead of waiting."""
    for field, value in redis.hgetall(BUDGET).items():
        if field.startswith("o:"):
            redis.hset(BUDGET, field, int(value) - seconds * 1000)
            continue
        start, count = value.split(":")
        redis.hset(BUDGET, field, f"{int(start) - seconds * 1000}:{count}")
    for name, score in redis.zrange(READY, 0, -1, withscores=True):
        redis.zadd(READY, {name: score - seconds * 1000})


# --- one session ---------------------------------------------------------------------------------


def test_no_more_calls_are_granted_than_the_minute_has(make: Make) -> None:
    pool = make(None, session_minute=5)
    assert take(pool, 3).granted == 3
    assert made(pool) == {"anna": (3, 0)}


def test_what_is_left_of_a_budget_is_granted(make: Make) -> None:
    pool = make(None, session_minute=5)
    spend(pool, 3)
    leased = take(pool, 10)
    assert leased.granted == 2
    pool.release(leased, used=2)
    assert 40 < (none_left(pool).retry_in or 0) <= 66
    assert none_left(pool).busy == 0


def test_calls_that_were_not_made_are_given_back(make: Make) -> None:
    pool = make(None, session_minute=5, session_hour=9)
    pool.release(take(pool, 5), used=1)
    assert made(pool) == {"anna": (1, 1)}
    assert take(pool, 9).granted == 4


def test_calls_beyond_what_was_granted_count_as_well(make: Make) -> None:
    pool = make(None, session_minute=5)
    pool.release(take(pool, 2), used=3)
    assert made(pool) == {"anna": (3, 0)}


def test_whoever_does_not_say_what_was_used_has_used_it_all(make: Make) -> None:
    pool = make(None, session_minute=5)
    pool.release(take(pool, 4))
    assert made(pool) == {"anna": (4, 0)}


def test_a_window_that_is_over_counts_no_more(make: Make, redis: Redis) -> None:
    pool = make(None, session_minute=3)
    spend(pool, 3)
    none_left(pool)
    let_pass(redis, 40)
    none_left(pool)
    let_pass(redis, 27)  # the rest of the window, and the jitter
    assert made(pool) == {"anna": (0, 0)}
    assert take(pool, 5).granted == 3


def test_the_hour_holds_whatever_the_minute_allows(make: Make, redis: Redis) -> None:
    pool = make(None, session_minute=3, session_hour=4)
    spend(pool, 3)
    let_pass(redis, 67)
    leased = take(pool, 3)
    assert leased.granted == 1
    pool.release(leased, used=1)
    assert 3_500 < (none_left(pool).retry_in or 0) <= 3_600 * 1.1


def test_a_session_with_less_than_the_least_is_left_for_another(make: Make) -> None:
    pool = make(None, None, session_minute=3)
    spent = spend(pool, 2)
    assert spend(pool, 2) != spent
    none_left(pool, 3, least=2)


def test_a_least_beyond_the_budget_takes_a_whole_window(make: Make) -> None:
    pool = make(None, session_minute=1)
    assert take(pool, 5, least=2).granted == 1


def test_a_lease_that_ran_out_keeps_what_it_reserved(make: Make, redis: Redis) -> None:
    pool = make(None, session_minute=5)
    lost = take(pool, 3)
    redis.zadd(READY, {"anna": 1})
    fresh = take(pool, 5)
    assert fresh.granted == 2
    assert pool.release(lost, used=0) is None
    assert made(pool) == {"anna": (5, 0)}


def test_what_was_reserved_in_a_window_that_is_over_is_not_given_back_to_the_next(
    make: Make, redis: Redis
) -> None:
    pool = make(None, session_minute=5, session_hour=100)
    held = take(pool, 4)
    number, taken_at, *rest = redis.hget(LEASES, "anna").split(":")
    old = ":".join([number, str(int(taken_at) - 61_000), *rest])
    redis.hset(LEASES, "anna", old)
    start = int(taken_at) - 1_000  # of a window that began later than the lease
    redis.hset(BUDGET, "s:anna:60", f"{start}:2")
    redis.hset(BUDGET, "s:anna:3600", f"{int(taken_at) - 100_000}:40")
    pool.release(Leased("anna", old, held.version, LOGIN, granted=4), used=1)
    assert made(pool) == {"anna": (2, 37)}


def test_a_lost_reply_gives_nothing_back_twice(make: Make, redis: Redis) -> None:
    pool = make(PROXY, session_minute=9, proxy_hour=9)
    spend(pool, 2)
    leased = take(pool, 5)
    pool.release(leased, used=1)
    before = redis.hgetall(BUDGET)
    assert pool.release(leased, used=1) is None
    assert redis.hgetall(BUDGET) == before
    assert made(pool) == {"anna": (3, 0)}


def test_without_limits_nothing_is_counted(make: Make, redis: Redis) -> None:
    pool = make(PROXY)
    leased = take(pool, 31)
    assert leased.granted == 31
    pool.release(leased, used=31)
    assert not redis.exists(BUDGET)


def test_over_budget_is_no_rest_and_no_quarantine_and_ends_nothing_of_theirs(
    make: Make, redis: Redis
) -> None:
    pool = make(None, None, session_minute=1)
    pool.quarantine(spend(pool, 1))
    other = spend(pool, 1)
    assert none_left(pool).busy == 0
    assert pool.get(other).state == "active"
    pool.rest(other, 5_000)
    let_pass(redis, 67)
    assert (none_left(pool).retry_in or 0) > 4_900
    pool.resume(other)
    assert take(pool).name == other


def test_resuming_by_hand_adds_no_calls(make: Make) -> None:
    pool = make(None, session_minute=1)
    spend(pool, 1)
    pool.resume("anna")
    none_left(pool)
    pool.add("anna", LOGIN)
    none_left(pool)


def test_the_least_recently_used_comes_first_among_those_with_calls_left(make: Make) -> None:
    pool = make(None, None, None, session_minute=2)
    names = [spend(pool, 1) for _ in range(3)]
    assert set(names) == {"anna", "ben", "cleo"}
    assert [spend(pool, 1) for _ in range(3)] == names


# --- jitter --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("drawn", "wait"), [(0.0, 60.0), (0.5, 63.0), (1.0, 66.0)])
def test_who_is_over_budget_comes_back_up_to_a_tenth_later(
    make: Make, monkeypatch: pytest.MonkeyPatch, drawn: float, wait: float
) -> None:
    pool = make(None, session_minute=1)
    began = time.monotonic()
    spend(pool, 1)
    monkeypatch.setattr(instagram_sessions.random, "random", lambda: drawn)
    retry_in = none_left(pool).retry_in or 0
    passed = time.monotonic() - began
    assert wait - 1.1 * passed - 1 < retry_in < wait + 1


def test_those_put_off_together_come_back_apart(make: Make, redis: Redis) -> None:
    pool = make(PROXY, PROXY, PROXY, PROXY, proxy_minute=1)
    spend(pool, 1)
    none_left(pool)
    scores = {score for _, score in redis.zrange(READY, 0, -1, withscores=True)}
    assert len(scores) == 4
    assert max(scores) - min(scores) < 6_000


# --- proxies -------------------------------------------------------------------------------------


def test_sessions_of_one_proxy_share_its_budget(make: Make) -> None:
    pool = make(PROXY, PROXY, OTHER_PROXY, None, proxy_minute=3)
    granted = {leased.name: leased.granted for leased in (take(pool, 2) for _ in range(4))}
    assert granted == {"anna": 2, "ben": 1, "cleo": 2, "dora": 2}


def test_a_proxy_without_calls_puts_all_its_sessions_off_and_no_other(make: Make) -> None:
    pool = make(PROXY, PROXY, OTHER_PROXY, proxy_minute=2)
    names = {spend(pool, 2), spend(pool, 2)}
    assert len(names & {"anna", "ben"}) == 1
    assert names - {"anna", "ben"} == {"cleo"}
    assert 40 < (none_left(pool).retry_in or 0) <= 66


def test_what_is_given_back_the_proxy_has_again(make: Make) -> None:
    pool = make(PROXY, PROXY, proxy_minute=5)
    first = take(pool, 3)
    pool.release(first, used=1)
    assert take(pool, 9).granted == 4


def test_a_proxy_given_away_meanwhile_keeps_the_count(make: Make, redis: Redis) -> None:
    pool = make(PROXY, PROXY, proxy_minute=5)
    held = take(pool, 3)
    pool.add(held.name, LOGIN, OTHER_PROXY)
    pool.release(held, used=2)
    other = take(pool, 9)
    assert (other.proxy, other.granted) == (PROXY, 3)
    assert take(pool, 9).granted == 5


def test_tags_tell_nothing_of_the_proxy(make: Make, redis: Redis) -> None:
    pool = make(PROXY, PROXY, OTHER_PROXY, None, proxy_minute=5)
    pool.release(take(pool))
    tags = redis.hgetall(PROXIES)
    assert tags["anna"] == tags["ben"] != tags["cleo"]
    assert set(tags) == {"anna", "ben", "cleo"}
    stored = json.dumps([redis.hgetall(key) for key in (PROXIES, BUDGET, LEASES)])
    assert not any(word in stored for word in ("user", "pass", "proxy:", "8080"))
    InstagramSessions(redis, FERNET, b"another key").add("eve", LOGIN, PROXY)
    assert redis.hget(PROXIES, "eve") != tags["anna"]


def test_a_session_that_loses_its_proxy_counts_for_it_no_more(make: Make, redis: Redis) -> None:
    pool = make(PROXY, PROXY, proxy_minute=5)
    pool.add("anna", LOGIN)
    assert set(redis.hgetall(PROXIES)) == {"ben"}


def test_a_session_of_older_data_gets_its_proxys_tag_with_its_first_lease(make: Make, redis: Redis) -> None:
    pool = make(PROXY, proxy_minute=5)
    redis.delete(PROXIES)
    pool.release(take(pool), used=1)
    assert not redis.exists(BUDGET)
    pool.release(take(pool), used=1)
    assert [value.split(":")[1] for value in redis.hgetall(BUDGET).values()] == ["1"]


def test_a_lease_taken_before_an_update_is_given_back_as_ever(make: Make, redis: Redis) -> None:
    pool = make(None, session_minute=5)
    held = take(pool, 2)
    token = f"7:{held.token.rpartition(':')[2]}"
    redis.hset(LEASES, "anna", token)
    assert pool.release(Leased("anna", token, held.version, LOGIN), used=0) == held.version
    assert made(pool) == {"anna": (2, 0)}


# --- what goes away ------------------------------------------------------------------------------


def test_a_removed_session_takes_its_tag_along_and_added_again_has_no_fresh_budget(
    make: Make, redis: Redis
) -> None:
    pool = make(PROXY, session_minute=2)
    spend(pool, 2)
    pool.remove("anna")
    assert redis.hgetall(PROXIES) == {}
    pool.add("anna", LOGIN)
    none_left(pool)


def test_windows_that_are_over_are_dropped(make: Make, redis: Redis) -> None:
    pool = make(PROXY, None, session_minute=5, session_hour=5, proxy_minute=5, proxy_hour=5)
    spend(pool, 1)
    spend(pool, 1)
    assert redis.hlen(BUDGET) == 6
    assert pool.prune() == 0
    pool.remove("anna")
    let_pass(redis, 3_700)
    spend(pool, 1)
    assert pool.prune() == 4
    assert set(redis.hkeys(BUDGET)) == {"s:ben:60", "s:ben:3600"}
    assert pool.prune() == 0


# --- looking -------------------------------------------------------------------------------------


def test_looking_takes_nothing(make: Make, redis: Redis) -> None:
    pool = make(None, session_minute=5)
    assert pool.free() is None
    assert not pool.get("anna").leased
    assert not redis.exists(BUDGET)


def test_looking_tells_when_a_session_is_back(make: Make) -> None:
    pool = make(None, None, session_minute=5)
    spend(pool, 4)
    pool.quarantine(spend(pool, 4))
    why = pool.free()
    assert why is not None
    assert 40 < (why.wait or 0) <= 66, "one call is no fetch"
    assert why.paced


def test_a_session_that_is_held_may_be_back_in_a_moment(make: Make) -> None:
    pool = make(None)
    take(pool)
    why = pool.free()
    assert why is not None
    assert (why.wait, why.paced) == (BUSY_SECONDS, False)


def test_nobody_comes_back_by_itself(make: Make) -> None:
    pool = make(None)
    pool.quarantine("anna")
    why = pool.free()
    assert why is not None
    assert why.wait is None


def test_a_rest_is_no_pace(make: Make) -> None:
    pool = make(None, session_minute=5)
    pool.quarantine(spend(pool, 5))
    pool.resume("anna")
    pool.rest("anna", 30)
    why = pool.free()
    assert why is not None
    assert 10 < (why.wait or 0) <= 30
    assert not why.paced


# --- who goes first ------------------------------------------------------------------------------


def test_who_gives_way_gets_no_session_while_a_caller_waits(
    make: Make, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted_ms = 60_000  # it is not to be forgotten while a slow machine gets round to looking
    monkeypatch.setattr(instagram_sessions, "WANTED_MS", wanted_ms)
    pool = make(None)
    held = pool.lease(60, gives_way=True)
    assert isinstance(held, Leased)
    assert not pool.wanted()
    none_left(pool)
    assert pool.wanted()
    pool.release(held, used=1)
    assert isinstance(pool.lease(60, gives_way=True), Unavailable)
    why = pool.free()
    assert why is not None
    assert 0 < (why.wait or 0) <= wanted_ms / 1000
    assert isinstance(pool.lease(60), Leased), "the caller has it"
    assert 0 < redis.pttl(WANTED) <= wanted_ms, "who waits no longer is forgotten"


def test_who_gives_way_asks_nobody_to(make: Make) -> None:
    pool = make(None)
    take(pool)
    assert isinstance(pool.lease(60, gives_way=True), Unavailable)
    assert pool.free() is not None
    assert not pool.wanted()


def test_nobody_gives_way_to_callers_who_wait_for_the_end_of_a_rest(make: Make) -> None:
    pool = make(None)
    pool.rest("anna", 30)
    none_left(pool)
    assert not pool.wanted()


def test_the_scripts_touch_their_keys_only(valkey: Redis) -> None:
    pool = InstagramSessions(valkey, FERNET, KEY, Pace(5, 5, 5, 5))
    pool.add("anna", LOGIN, PROXY)
    lua = Lua(valkey)
    lease_keys = [READY, LEASES, COUNTER, BUDGET, PROXIES, WANTED]
    assert lua("session_lease", lease_keys, 60_000, 0, 2, 0.5, 5, 5, 5, 5, 0, 500) == ["free"]
    said, name, token, granted, tag = lua("session_lease", lease_keys, 60_000, 9, 2, 0.5, 5, 5, 5, 5, 0, 500)
    assert (said, name, granted, tag) == ("leased", "anna", 5, valkey.hget(PROXIES, "anna"))
    keys = ["{ig}:session:anna", READY, LEASES, COUNTER, BUDGET]
    assert lua("session_release", keys, "anna", token, 1, "", 0, 0, "", 4) == 1
    assert {value.split(":")[1] for value in valkey.hvals(BUDGET)} == {"4"}
    assert lua("session_lease", lease_keys, 60_000, 9, 2, 0.5, 5, 5, 5, 5, 0, 500)[0] == "none"
    assert valkey.hget(BUDGET, "o:anna")
    assert lua("session_prune", [BUDGET], 3_600_000) == 0


# --- many at a time ------------------------------------------------------------------------------


def test_however_many_ask_no_budget_is_exceeded(valkey: Redis, valkey_url: str) -> None:
    """Two processes of 16 threads each, six sessions, four of them behind one proxy."""
    stores = [open_store(valkey_url) for _ in range(2)]
    pools = [InstagramSessions(store, FERNET, KEY, Pace(20, 30, 50, 60)) for store in stores]
    for number in range(6):
        pools[0].add(f"s{number}", LOGIN, PROXY if number < 4 else None)

    def work(number: int) -> Counter[str]:
        pool, draw, calls = pools[number % 2], random.Random(number), Counter[str]()
        while True:
            leased = pool.lease(30, draw.choice([2, 3, 7]), 2)
            if isinstance(leased, Leased):
                used = draw.randint(0, leased.granted)
                calls[leased.name] += used
                pool.release(leased, used=used)
            elif not leased.busy:
                return calls

    total = sum(at_once(32, work), Counter[str]())
    assert all(19 <= total[name] <= 20 for name in ("s4", "s5")), "used up and not exceeded"
    assert all(total[f"s{number}"] <= 20 for number in range(4))
    assert 25 < sum(total[f"s{number}"] for number in range(4)) <= 50
    shown = {record.name: record.calls_minute for record in pools[0].list()}
    assert shown == {name: total[name] for name in shown}
    for store in stores:
        store.close()
