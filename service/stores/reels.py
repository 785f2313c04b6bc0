"""Reels that are shared, and who fetches one right now, in Redis.

Keys, in one slot a reel: see `keys`. The truth about requests is elsewhere: who waits here is swept like
everybody else when a fetch never lands.
"""

from __future__ import annotations

import gzip
import secrets
from collections.abc import Sequence
from typing import Any

from service.domain.policy import Policy
from service.domain.requests import RequestRecord
from service.domain.sharing import Flight, Landing, Shared
from service.stores import keys, scripts
from service.stores.commands import Command, alone, together
from service.stores.connection import Client, store_adapter

FIELDS = ("started", "fetched", "until", "code", "body")
COMPRESSION_LEVEL = 1


@store_adapter
class Reels:
    """ReelStore over Redis."""

    def __init__(self, redis: Client, policy: Policy) -> None:
        self._redis = redis
        self._lease_ms = policy.lease * 1000
        self._board = scripts.load(redis, "flight_board")
        self._land = scripts.load(redis, "flight_land")

    def get(self, key: str) -> tuple[Shared | None, int]:
        [shared], now = self.get_many([key])
        return shared, now

    def get_many(self, names: Sequence[str]) -> tuple[list[Shared | None], int]:
        looks = [Command(("HMGET", keys.reel(name), *FIELDS), raw=True) for name in names]
        (seconds, micros), *rows = together(self._redis, [Command(("TIME",)), *looks])
        return [_shared(values) for values in rows], seconds * 1000 + micros // 1000

    def board(self, key: str, request_id: str) -> Flight | None:
        token = secrets.token_hex(8)
        return _flight(key, token, alone(self._redis, self._board_of(key, token, request_id)))

    def board_many(self, requests: Sequence[RequestRecord]) -> list[Flight | None]:
        """The first of several that want the same reel fetches it."""
        tokens = [secrets.token_hex(8) for _ in requests]
        asks = [request.ask.key for request in requests]
        commands = [
            self._board_of(ask, token, request.request_id)
            for ask, token, request in zip(asks, tokens, requests, strict=True)
        ]
        flights = zip(asks, tokens, together(self._redis, commands), strict=True)
        return [_flight(ask, token, started) for ask, token, started in flights]

    def _board_of(self, key: str, token: str, request_id: str) -> Command:
        return self._board.command(
            keys=[keys.flight(key), keys.flight_waiting(key)], args=[token, self._lease_ms, request_id]
        )

    def land(self, flight: Flight, landing: Landing | None) -> list[str]:
        [waiting] = self.land_many([(flight, landing)])
        return waiting

    def land_many(self, landings: Sequence[tuple[Flight, Landing | None]]) -> list[list[str]]:
        found = together(self._redis, [self._land_of(flight, landing) for flight, landing in landings])
        return [[str(name) for name in waiting] for waiting in found]

    def _land_of(self, flight: Flight, landing: Landing | None) -> Command:
        lifetime = landing.lifetime if landing else 0
        kept = landing or Landing(b"")
        return self._land.command(
            keys=[
                keys.flight(flight.key),
                keys.flight_waiting(flight.key),
                keys.reel(flight.key),
            ],
            args=[
                flight.token,
                lifetime,
                flight.started_at,
                kept.until,
                kept.code,
                gzip.compress(kept.body, COMPRESSION_LEVEL, mtime=0),
                kept.owner,
                kept.owner_name,
            ],
        )


def _shared(values: list[Any]) -> Shared | None:
    if values[0] is None:
        return None
    started, fetched, until, code, body = values
    return Shared(int(started), int(fetched), int(until), gzip.decompress(body), code.decode())


def _flight(key: str, token: str, started: Any) -> Flight | None:
    return Flight(key, token, int(started)) if started else None
