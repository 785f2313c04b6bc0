"""Limits over the fake store and over a real one."""

from __future__ import annotations

import pytest
from redis import Redis

from service.domain import ids
from service.domain.accounts import Limit, address_of, network_of
from service.domain.policy import Policy
from service.stores import keys
from service.stores.limits import (
    LOGIN_WINDOW,
    SIGNUPS,
    SLOWEST,
    TRIES_OF_OTHERS,
    TRIES_PER_ACCOUNT,
    TRIES_PER_ADDRESS,
    Limits,
)
from tests.conftest import await_true
from tests.redis.kit import ACCOUNT, at_once, snapshot


def limits_of(redis: Redis, *limits: Limit) -> Limits:
    return Limits(redis, Policy(rate_limits=limits))


def test_calls_are_counted_in_every_window(redis: Redis) -> None:
    limits = limits_of(redis, Limit(2, 60), Limit(5, 3600))
    states = [limits.hit(ACCOUNT) for _ in range(2)][-1]
    assert [(state.remaining, state.exceeded) for state in states] == [(0, False), (3, False)]
    minute, hour = (state.resets_in for state in states)
    # A second may begin, or some of them pass, between the two calls.
    assert 0 < minute <= 60 < hour <= 3600


def test_a_call_over_a_limit_is_told_and_not_counted(redis: Redis) -> None:
    limits = limits_of(redis, Limit(2, 60), Limit(5, 3600))
    for _ in range(6):
        states = limits.hit(ACCOUNT)
    assert [(state.remaining, state.exceeded) for state in states] == [(0, True), (3, False)]


def test_a_window_begins_anew(redis: Redis) -> None:
    limits = limits_of(redis, Limit(1, 60))
    limits.hit(ACCOUNT)
    assert limits.hit(ACCOUNT)[0].exceeded
    redis.pexpire(keys.rate(ACCOUNT, 60), 5)
    await_true(lambda: not limits.hit(ACCOUNT)[0].exceeded)


def test_accounts_are_counted_apart(redis: Redis) -> None:
    limits = limits_of(redis, Limit(1, 60))
    limits.hit(ACCOUNT)
    assert not limits.hit(ids.new_id(ids.ACCOUNT, 2, 1))[0].exceeded


def test_without_limits_nothing_is_counted(redis: Redis) -> None:
    assert limits_of(redis).hit(ACCOUNT) == []
    assert list(redis.scan_iter()) == []


def test_of_many_calls_at_once_exactly_the_limit_gets_through(valkey: Redis) -> None:
    limits = limits_of(valkey, Limit(7, 60))
    passed = at_once(30, lambda _: not limits.hit(ACCOUNT)[0].exceeded)
    assert sum(passed) == 7


# --- logging in ----------------------------------------------------------------------------------


@pytest.fixture
def limits(redis: Redis) -> Limits:
    return Limits(redis, Policy())


ANNA = "anna@example.com"
HERE = "10.0.0.1"


def attack(limits: Limits, email: str = ANNA, tries: int = 100) -> None:
    """Try an account from so many addresses."""
    for number in range(tries):
        limits.login_attempt(email, f"10.9.{number // 256}.{number % 256}")


def test_one_account_can_be_tried_so_often_from_one_address(limits: Limits) -> None:
    waits = [limits.login_attempt(ANNA, HERE) for _ in range(TRIES_PER_ACCOUNT)]
    assert waits == [0] * 10
    assert SLOWEST < limits.login_attempt(ANNA, HERE) <= LOGIN_WINDOW
    assert limits.login_attempt("bert@example.com", HERE) == 0
    assert limits.login_attempt(ANNA, "10.0.0.2") == 0


def test_one_address_can_try_so_many_accounts(limits: Limits) -> None:
    waits = [limits.login_attempt(f"{n}@example.com", HERE) for n in range(TRIES_PER_ADDRESS)]
    assert waits == [0] * 50
    assert SLOWEST < limits.login_attempt(ANNA, HERE) <= LOGIN_WINDOW
    assert limits.login_attempt(ANNA, "10.0.0.2") == 0


def test_what_an_address_tries_beyond_its_limit_counts_against_nobody(limits: Limits, redis: Redis) -> None:
    for number in range(TRIES_PER_ADDRESS):
        limits.login_attempt(f"{number}@example.com", HERE)
    before = snapshot(redis) if not _is_fake(redis) else set(redis.scan_iter())
    for _ in range(100):
        assert limits.login_attempt(ANNA, HERE) > 0
    assert (snapshot(redis) if not _is_fake(redis) else set(redis.scan_iter())) == before
    assert limits.login_attempt(ANNA, "10.0.0.2") == 0


def _is_fake(redis: Redis) -> bool:
    return "Fake" in type(redis).__name__


def test_thousands_of_refused_tries_with_fresh_texts_leave_nothing(limits: Limits, redis: Redis) -> None:
    for number in range(TRIES_PER_ADDRESS):
        limits.login_attempt(f"{number}@example.com", HERE)
    there = redis.dbsize()
    for number in range(3_000):
        limits.login_attempt(f"fresh{number}@example.com", HERE)
    assert redis.dbsize() == there


def test_an_account_that_many_try_is_slowed_and_never_shut(limits: Limits, redis: Redis) -> None:
    """Whatever strangers go on doing, the owner waits 20 seconds at most, and then is heard."""
    attack(limits)
    assert 0 < limits.login_attempt(ANNA, HERE) <= SLOWEST
    attack(limits)  # they go on all the while
    assert 0 < limits.login_attempt(ANNA, HERE) <= SLOWEST
    pass_time(redis, HERE)
    attack(limits)
    assert limits.login_attempt(ANNA, HERE) == 0
    assert 0 < limits.login_attempt(ANNA, HERE) <= SLOWEST  # and the same for the next try


def pass_time(redis: Redis, network: str) -> None:
    """Let the waits of an address be over."""
    name = keys.login_from(network)
    for field in redis.hkeys(name):
        if field.startswith("from:"):
            redis.hset(name, field, 1)


def test_the_wait_grows_with_the_tries_of_others(limits: Limits) -> None:
    waits = []
    for number in range(TRIES_OF_OTHERS + 8):
        waits.append(limits.login_attempt(ANNA, f"10.1.0.{number}"))
        limits.login_attempt(ANNA, f"10.1.0.{number}", known=True)
    slowed = [wait for wait in waits if wait]
    assert waits[: TRIES_OF_OTHERS // 2] == [0] * (TRIES_OF_OTHERS // 2)
    assert slowed == sorted(slowed)
    assert (slowed[0], slowed[-1]) == (1, SLOWEST)


def test_a_device_that_was_let_in_before_is_not_slowed_by_others(limits: Limits) -> None:
    attack(limits)
    waits = [limits.login_attempt(ANNA, HERE, known=True) for _ in range(TRIES_PER_ACCOUNT + 1)]
    assert waits[:-1] == [0] * TRIES_PER_ACCOUNT
    assert waits[-1] > SLOWEST  # its own tries count as anybody's


def test_knocks_are_bounded_as_tries_are(limits: Limits, redis: Redis) -> None:
    names = [f"victim{number}@example.com" for number in range(TRIES_PER_ADDRESS + 20)]
    for name in names:
        attack(limits, name, TRIES_OF_OTHERS + 10)
    for name in names:
        limits.login_attempt(name, HERE)
    assert redis.hlen(keys.login_from(HERE)) <= TRIES_PER_ADDRESS + 1
    assert limits.login_attempt("one@example.com", HERE) > SLOWEST


def test_unknown_names_take_a_bounded_room_from_however_many_addresses(
    limits: Limits, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.stores.limits.BUCKETS", 64)
    for number in range(400):
        limits.login_attempt(f"{number}@example.com", f"10.2.0.{number % 16}")
    assert len(list(redis.scan_iter("{login}:at:*"))) <= 64
    assert len(list(redis.scan_iter("{login}:from:*"))) == 16


def test_everything_that_is_counted_ends_by_itself(limits: Limits, redis: Redis) -> None:
    attack(limits, tries=30)
    limits.login_succeeded(ANNA, "10.9.0.1")
    limits.sign_up(HERE)
    lifetimes = [redis.ttl(name) for name in redis.scan_iter()]
    assert lifetimes
    assert all(0 < each <= 3_600 for each in lifetimes)


def test_who_gets_in_starts_anew(limits: Limits) -> None:
    for _ in range(TRIES_PER_ACCOUNT):
        limits.login_attempt(ANNA, HERE)
    limits.login_succeeded(ANNA, HERE)
    assert limits.login_attempt(ANNA, HERE) == 0


def test_who_gets_in_takes_back_own_tries_only_and_once(limits: Limits, redis: Redis) -> None:
    attack(limits, tries=5)
    for _ in range(3):
        limits.login_attempt(ANNA, HERE)
    [bucket] = redis.scan_iter("{login}:at:*")
    for _ in range(2):
        limits.login_succeeded(ANNA, HERE)
        assert redis.get(bucket) == "5"


def test_getting_in_does_not_clear_the_address(limits: Limits) -> None:
    for number in range(TRIES_PER_ADDRESS):
        limits.login_attempt(f"{number}@example.com", HERE)
    limits.login_succeeded(ANNA, HERE)
    assert limits.login_attempt(ANNA, HERE) > 0


def test_of_many_tries_at_once_exactly_the_limit_gets_through(valkey: Redis) -> None:
    limits = Limits(valkey, Policy())
    assert sum(at_once(40, lambda _: limits.login_attempt(ANNA, HERE) == 0)) == TRIES_PER_ACCOUNT


def test_five_accounts_an_hour_are_made_from_one_address(limits: Limits, redis: Redis) -> None:
    assert [limits.sign_up(HERE) for _ in range(SIGNUPS.count)] == [0] * 5
    there = redis.dbsize()
    assert 0 < limits.sign_up(HERE) <= 3_600
    assert redis.dbsize() == there
    assert limits.sign_up("10.0.0.2") == 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("x" * 30_000, "unknown"),
        ("*", "unknown"),
    ],
)
def test_a_caller_is_an_ipv4_address_or_a_network_of_ipv6(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:DB8::0001", "2001:db8::1"),
        ("fe80::1%\x1b[31m", "fe80::1"),
        ("x" * 30_000, ""),
        ("", ""),
    ],
)
def test_an_address_is_kept_in_one_form_and_nothing_else_is(text: str, address: str) -> None:
    assert address_of(text) == address
