"""Counters the scripts keep, living workers, and whether the store answers."""

from __future__ import annotations

import time
from collections import defaultdict

from service.domain.rows import reading
from service.stores import keys
from service.stores.connection import Client, store_adapter
from service.stores.rows import read

BEAT_LIFETIME = 15
FORGET_AFTER = 3_600


@store_adapter
class Stats:
    """StatsStore over Redis."""

    def __init__(self, redis: Client, shards: int) -> None:
        self._redis = redis
        self._shards = shards

    def ping(self) -> None:
        self._redis.ping()

    def beat(self, worker: str) -> None:
        now = time.time()
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(keys.WORKERS, {worker: now})
            pipe.zremrangebyscore(keys.WORKERS, "-inf", now - FORGET_AFTER)
            pipe.execute()

    def gone(self, worker: str) -> None:
        self._redis.zrem(keys.WORKERS, worker)

    def workers(self) -> list[str]:
        alive = self._redis.zrangebyscore(keys.WORKERS, time.time() - BEAT_LIFETIME, "+inf")
        return [str(name) for name in alive]

    def beat_leads(self) -> bool:
        return bool(self._redis.exists(keys.BEAT_LEADER))

    def counters(self) -> dict[str, float]:
        """Return every counter summed over the shards, and how many requests are open."""
        total: dict[str, float] = defaultdict(float)
        with self._redis.pipeline(transaction=False) as pipe:
            for shard in range(self._shards):
                pipe.hgetall(keys.stats(shard))
                pipe.zcard(keys.open_requests(shard))
            answers = pipe.execute()
        for index in range(0, len(answers), 2):
            fields, still_open = answers[index : index + 2]
            for name, value in fields.items():
                total[name] += read(_count, f"{name} of shard {index // 2}", value) or 0
            total["open"] += still_open
        return dict(total)


def _count(name: str, value: str) -> float:
    with reading("counter", name):
        return float(value)
