"""The bulk queue: requests nobody waits for, in the order in which accounts take turns.

A hint like a Celery message: what is lost from it is swept. All of it is in one slot.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.stores import keys, scripts
from service.stores.connection import Client, store_adapter

PUSHED_AT_ONCE = 1_000

# After this long a call that no worker followed counts as lost; the pump looks as often.
CALL_LIFETIME_MS = 1_000

BULK_KEYS = [keys.BULK_QUEUE, keys.BULK_CLOCK, keys.BULK_CALLED]


@store_adapter
class Bulk:
    """BulkStore over Redis."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._push = scripts.load(redis, "bulk_push")
        self._take = scripts.load(redis, "bulk_take")

    def push(self, account_id: str, request_ids: Sequence[str]) -> int:
        uncalled = 0
        for start in range(0, len(request_ids), PUSHED_AT_ONCE):
            chunk = request_ids[start : start + PUSHED_AT_ONCE]
            uncalled += int(self._push(keys=BULK_KEYS, args=[account_id, CALL_LIFETIME_MS, *chunk]))
        return uncalled

    def take(self, count: int) -> list[str]:
        return [str(name) for name in self._take(keys=BULK_KEYS, args=[count])]

    def absent(self, request_ids: Sequence[str]) -> list[str]:
        if not request_ids:
            return []
        turns = self._redis.zmscore(keys.BULK_QUEUE, request_ids)
        return [request_id for request_id, turn in zip(request_ids, turns, strict=True) if turn is None]

    def remove(self, request_ids: Sequence[str]) -> None:
        if request_ids:
            self._redis.zrem(keys.BULK_QUEUE, *request_ids)

    def waiting(self) -> int:
        return int(self._redis.zcard(keys.BULK_QUEUE))
