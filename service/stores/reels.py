"""Reels that are shared, and who fetches one right now, in Redis.

Keys, in one slot a reel: see `keys`. The truth about requests is elsewhere: who waits here is swept like
everybody else when a fetch never lands.
"""

from __future__ import annotations

import gzip
import secrets

from redis.client import NEVER_DECODE

from service.domain.policy import Policy
from service.domain.sharing import Flight, Landing, Shared
from service.stores import keys, scripts
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

    def get(self, username: str) -> tuple[Shared | None, int]:
        options = {NEVER_DECODE: True}
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.execute_command("HMGET", keys.reel(username), *FIELDS, **options)
            (seconds, micros), values = pipe.execute()
        now = seconds * 1000 + micros // 1000
        if values[0] is None:
            return None, now
        started, fetched, until, code, body = values
        return Shared(int(started), int(fetched), int(until), gzip.decompress(body), code.decode()), now

    def board(self, username: str, request_id: str) -> Flight | None:
        token = secrets.token_hex(8)
        started = self._board(
            keys=[keys.flight(username), keys.flight_waiting(username)],
            args=[token, self._lease_ms, request_id],
        )
        return Flight(username, token, int(started)) if started else None

    def land(self, flight: Flight, landing: Landing | None) -> list[str]:
        lifetime = landing.lifetime if landing else 0
        kept = landing or Landing(b"")
        waiting = self._land(
            keys=[
                keys.flight(flight.username),
                keys.flight_waiting(flight.username),
                keys.reel(flight.username),
            ],
            args=[
                flight.token,
                lifetime,
                flight.started_at,
                kept.until,
                kept.code,
                gzip.compress(kept.body, COMPRESSION_LEVEL, mtime=0),
            ],
        )
        return [str(name) for name in waiting]
