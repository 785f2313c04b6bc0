"""Counts calls against limits, in fixed windows that begin with their first call."""

from __future__ import annotations

import math
from collections.abc import Sequence

from service.domain.accounts import Limit, LimitState
from service.domain.policy import Policy
from service.stores import keys, scripts
from service.stores.connection import Client, store_adapter

LOGIN_WINDOW = 15 * 60
LOGIN_TRIES_PER_EMAIL = 10
LOGIN_TRIES_PER_ADDRESS = 50


@store_adapter
class Limits:
    """LimitStore over Redis."""

    def __init__(self, redis: Client, policy: Policy) -> None:
        self._redis = redis
        self._policy = policy
        self._rate = scripts.load(redis, "rate")

    def hit(self, account_id: str) -> list[LimitState]:
        limits = self._policy.rate_limits
        return self._count(windows_of(account_id, limits), limits)

    def login_attempt(self, email: str, address: str) -> int:
        waits = [
            self._login_wait("email", email, LOGIN_TRIES_PER_EMAIL),
            self._login_wait("address", address, LOGIN_TRIES_PER_ADDRESS),
        ]
        return max(waits)

    def login_succeeded(self, email: str) -> None:
        self._redis.delete(keys.login("email", email))

    def _login_wait(self, kind: str, who: str, tries: int) -> int:
        [state] = self._count([keys.login(kind, who)], (Limit(tries, LOGIN_WINDOW),))
        return state.resets_in if state.exceeded else 0

    def _count(self, names: list[str], limits: Sequence[Limit]) -> list[LimitState]:
        return states_of(limits, self._rate(keys=names, args=bounds_of(limits))) if limits else []


def windows_of(account_id: str, limits: Sequence[Limit]) -> list[str]:
    """Return the keys in which an account's calls are counted."""
    return [keys.rate(account_id, limit.seconds) for limit in limits]


def names_windows_of(account_id: str, limits: Sequence[Limit]) -> list[str]:
    """Return the keys in which the names of an account's batches are counted."""
    return [keys.names(account_id, limit.seconds) for limit in limits]


def free_bound(policy: Policy) -> int | str:
    """Return how long an account's free endings may weigh (ms), for the scripts; "" without a limit."""
    return policy.free_limit.seconds * 1000 if policy.free_limit else ""


def bounds_of(limits: Sequence[Limit]) -> list[int]:
    """Return limits as the scripts take them."""
    return [part for limit in limits for part in (limit.count, limit.seconds * 1000)]


def states_of(limits: Sequence[Limit], windows: Sequence[Sequence[int]]) -> list[LimitState]:
    """Return the state of each limit, as the scripts tell them; none when they tell none."""
    return [
        LimitState(
            limit=limit,
            remaining=max(limit.count - int(count), 0),
            resets_in=math.ceil(int(ttl) / 1000) if int(ttl) > 0 else limit.seconds,
            exceeded=bool(over),
        )
        for limit, (count, ttl, over) in zip(limits, windows, strict=bool(windows))
    ]
