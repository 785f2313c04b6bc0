"""Receiving hosts: how many attempts are in flight at each, and a circuit for those that fail.

Shared by all deliverers. A host is ``name:port``; its keys share the slot of ``{h:<host>}``.
"""

from __future__ import annotations

import time

from service.domain.deliveries import HOST_SLOW_SECONDS, NOT_TRIED, Attempt
from service.domain.policy import Policy
from service.stores import keys, scripts
from service.stores.connection import Client, store_adapter

# The circuit: opens at 70 % failures of at least 10 attempts in 5 minutes; one probe after 30 s.
JUDGED_AFTER = 10
OPENS_AT_PERCENT = 70
WINDOW_MINUTES = 5
OPEN_MS = 30_000


@store_adapter
class Hosts:
    """HostStore over Redis."""

    def __init__(self, redis: Client, policy: Policy) -> None:
        self._redis = redis
        self._places = policy.webhook_host_concurrency
        self._lease_ms = policy.delivery_lease_ms
        self._enter = scripts.load(redis, "host_enter")
        self._leave = scripts.load(redis, "host_leave")
        self._room = scripts.load(redis, "host_room")

    def enter(self, host: str, place: str) -> float:
        answer = self._enter(keys=_keys(host), args=[place, self._places, self._lease_ms])
        return int(answer) / 1000

    def room(self, host: str) -> tuple[int, float]:
        free, wait = self._room(keys=_keys(host), args=[self._places])
        return int(free), int(wait) / 1000

    def leave(self, host: str, place: str, attempt: Attempt | None) -> None:
        slow = HOST_SLOW_SECONDS * 1000 if attempt is not None and attempt.host_in_trouble else 0
        circuit = self._leave(
            keys=_keys(host),
            args=[
                place,
                _verdict(attempt),
                slow,
                JUDGED_AFTER,
                OPENS_AT_PERCENT,
                WINDOW_MINUTES,
                OPEN_MS,
            ],
        )
        if circuit == "open":
            self._redis.zadd(keys.CIRCUITS, {host: time.time()})
        elif circuit == "recovered":
            self._redis.zrem(keys.CIRCUITS, host)

    def open_circuits(self) -> list[str]:
        # One whose host got no more deliveries is forgotten with its health.
        self._redis.zremrangebyscore(keys.CIRCUITS, "-inf", time.time() - WINDOW_MINUTES * 120)
        return [str(host) for host in self._redis.zrange(keys.CIRCUITS, 0, -1)]


def _verdict(attempt: Attempt | None) -> str:
    if attempt is None or attempt.error in NOT_TRIED:
        return "unknown"
    return "failed" if attempt.host_failed else "fine"


def _keys(host: str) -> list[str]:
    return [keys.host_inflight(host), keys.host_health(host)]
