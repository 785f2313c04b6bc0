"""Limits over the fake store and over a real one."""

from __future__ import annotations

import pytest
from redis import Redis

from service.domain import ids
from service.domain.accounts import Limit
from service.domain.policy import Policy
from service.stores import keys
from service.stores.limits import (
    LOGIN_TRIES_PER_ADDRESS,
    LOGIN_TRIES_PER_EMAIL,
    LOGIN_WINDOW,
    Limits,
)
from tests.conftest import await_true
from tests.redis.kit import ACCOUNT, at_once


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


def test_one_account_can_be_tried_so_often_from_anywhere(limits: Limits) -> None:
    waits = [limits.login_attempt("anna@example.com", f"10.0.0.{n}") for n in range(LOGIN_TRIES_PER_EMAIL)]
    assert waits == [0] * LOGIN_TRIES_PER_EMAIL
    assert 0 < limits.login_attempt("anna@example.com", "10.0.1.1") <= LOGIN_WINDOW
    assert limits.login_attempt("bert@example.com", "10.0.1.1") == 0


def test_one_address_can_try_so_many_accounts(limits: Limits) -> None:
    waits = [limits.login_attempt(f"{n}@example.com", "10.0.0.1") for n in range(LOGIN_TRIES_PER_ADDRESS)]
    assert waits == [0] * LOGIN_TRIES_PER_ADDRESS
    assert 0 < limits.login_attempt("anna@example.com", "10.0.0.1") <= LOGIN_WINDOW
    assert limits.login_attempt("anna@example.com", "10.0.0.2") == 0


def test_who_gets_in_starts_anew(limits: Limits) -> None:
    for _ in range(LOGIN_TRIES_PER_EMAIL):
        limits.login_attempt("anna@example.com", "10.0.0.1")
    limits.login_succeeded("anna@example.com")
    assert limits.login_attempt("anna@example.com", "10.0.0.1") == 0


def test_getting_in_does_not_clear_the_address(limits: Limits) -> None:
    for number in range(LOGIN_TRIES_PER_ADDRESS):
        limits.login_attempt(f"{number}@example.com", "10.0.0.1")
    limits.login_succeeded("anna@example.com")
    assert limits.login_attempt("anna@example.com", "10.0.0.1") > 0
