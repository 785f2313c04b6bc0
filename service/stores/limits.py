"""Counts calls against limits, in fixed windows that begin with their first call."""

from __future__ import annotations

import math

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
        return self._count([keys.rate(account_id, limit.seconds) for limit in limits], limits)

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

    def _count(self, names: list[str], limits: tuple[Limit, ...]) -> list[LimitState]:
        if not limits:
            return []
        args = [part for limit in limits for part in (limit.count, limit.seconds * 1000)]
        return [
            LimitState(
                limit=limit,
                remaining=max(limit.count - int(count), 0),
                resets_in=math.ceil(int(ttl) / 1000) if int(ttl) > 0 else limit.seconds,
                exceeded=bool(over),
            )
            for limit, (count, ttl, over) in zip(limits, self._rate(keys=names, args=args), strict=True)
        ]
