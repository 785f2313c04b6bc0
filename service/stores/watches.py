"""Watches in Redis: the records, what each has seen, which webhooks it is owed, when to look after it.

`submit.lua` begins the run of a watch and `finish.lua` ends it, in the same step as the request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from service.domain import ids
from service.domain.errors import Conflict, IdempotencyKeyReuse
from service.domain.options import Options
from service.domain.policy import Policy
from service.domain.requests import Page
from service.domain.rows import among, moment, reading, whole
from service.domain.watches import ACTIVE, GRACE_MS, PAUSED, STATES, Watch
from service.stores import keys, scripts
from service.stores.commands import fields_of, together
from service.stores.connection import Client, store_adapter
from service.stores.requests import IDEMPOTENCY_LIFETIME
from service.stores.rows import look_up

READ_AT_ONCE = 200
# Webhooks looked after in one run; those of more than a day's items do not come together.
OWED_AT_ONCE = 200


@store_adapter
class Watches:
    """WatchStore over Redis."""

    def __init__(self, redis: Client, policy: Policy, shards: int) -> None:
        self._redis = redis
        self._policy = policy
        self._shards = shards
        self._add = scripts.load(redis, "watch_add")
        self._state = scripts.load(redis, "watch_state")
        self._skip = scripts.load(redis, "watch_skip")
        self._take_due = scripts.load(redis, "take_due")

    def add(self, watch: Watch, idempotency_key: str | None = None) -> Watch:
        answer, value = self._add(
            keys=[
                keys.watch(watch.watch_id),
                keys.account_watches(watch.account_id),
                keys.watching(ids.shard_in(watch.watch_id)),
                keys.idempotency(watch.account_id, idempotency_key or ""),
            ],
            args=[
                watch.watch_id,
                watch.account_id,
                watch.username,
                watch.every,
                watch.webhook_url,
                int(watch.only_new),
                int(watch.heartbeat),
                watch.max_age,
                self._policy.watches_most,
                GRACE_MS,
                watch.fingerprint if idempotency_key is not None else "",
                IDEMPOTENCY_LIFETIME,
                watch.options.text,
            ],
        )
        if answer == "reuse":
            raise IdempotencyKeyReuse
        if answer == "replay":
            return self._original(str(value))
        if answer == "full":
            most = self._policy.watches_most
            raise Conflict(f"An account has at most {most} watches. Delete one that is not needed.")
        stored = self.get(watch.watch_id)
        return stored or watch

    def _original(self, watch_id: str) -> Watch:
        watch = self.get(watch_id)
        if watch is None:
            raise Conflict("The watch of this Idempotency-Key was deleted. Use a new key.")
        return watch

    def get(self, watch_id: str) -> Watch | None:
        return watch_record(watch_id, fields_of(self._redis, keys.watch(watch_id)))

    def page(self, account_id: str, *, cursor: str | None, limit: int) -> Page[Watch]:
        top = f"({cursor}" if cursor else "+"
        names = self._redis.zrevrangebylex(keys.account_watches(account_id), top, "-", start=0, num=limit)
        found = [watch for watch in self._many(names) if watch is not None]
        return Page(found, names[-1] if len(names) == limit else None)

    def _many(self, names: Sequence[str]) -> list[Watch | None]:
        return look_up(self._redis, keys.watch, watch_record, names)

    def pause(self, watch_id: str, reason: str) -> Watch | None:
        return self._become(watch_id, PAUSED, reason)

    def resume(self, watch_id: str) -> Watch | None:
        return self._become(watch_id, ACTIVE, "")

    def _become(self, watch_id: str, status: str, reason: str) -> Watch | None:
        fields = self._state(
            keys=[keys.watch(watch_id), keys.watching(ids.shard_in(watch_id))],
            args=[watch_id, status, reason, GRACE_MS],
        )
        return watch_record(watch_id, scripts.pairs(fields))

    def skip_if_disabled(self, watch: Watch, next_in: int) -> bool:
        watching = keys.watching(ids.shard_in(watch.watch_id))
        names = [keys.account(watch.account_id), keys.watch(watch.watch_id), watching]
        return bool(self._skip(keys=names, args=[watch.watch_id, next_in, GRACE_MS]))

    def remove(self, watch: Watch) -> bool:
        watch_id = watch.watch_id
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(keys.account_watches(watch.account_id), watch_id)
            pipe.zrem(keys.watching(ids.shard_in(watch_id)), watch_id)
            pipe.delete(keys.watch(watch_id), keys.watch_seen(watch_id), keys.watch_owed(watch_id))
            return bool(pipe.execute()[0])

    def seen(self, watch_id: str, items: Sequence[str]) -> frozenset[str]:
        if not items:
            return frozenset()
        scores = self._redis.zmscore(keys.watch_seen(watch_id), list(items))
        return frozenset(item for item, score in zip(items, scores, strict=True) if score is not None)

    def owed(self, watch_id: str) -> list[tuple[str, int]]:
        rows = self._redis.zrange(keys.watch_owed(watch_id), 0, OWED_AT_ONCE - 1, withscores=True)
        return [(str(request_id), int(at)) for request_id, at in rows]

    def settle(self, watch_id: str, request_ids: Sequence[str]) -> None:
        if request_ids:
            self._redis.zrem(keys.watch_owed(watch_id), *request_ids)

    def overdue(self, limit: int) -> list[str]:
        looks = [
            self._take_due.command(keys=[keys.watching(shard)], args=[limit, GRACE_MS])
            for shard in range(self._shards)
        ]
        return [watch_id for found in together(self._redis, looks) for watch_id in found]

    def active(self) -> Iterator[list[Watch]]:
        for shard in range(self._shards):
            names = self._redis.zrange(keys.watching(shard), 0, -1)
            for start in range(0, len(names), READ_AT_ONCE):
                chunk = self._many(names[start : start + READ_AT_ONCE])
                yield [watch for watch in chunk if watch is not None and watch.is_active]


def watch_record(watch_id: str, fields: dict[str, Any]) -> Watch | None:
    """Turn a watch's hash into a record, None when there is none. Raises BrokenRow."""
    if not fields:
        return None
    with reading("watch", watch_id):
        return Watch(
            watch_id=watch_id,
            account_id=fields["account"],
            username=fields["username"],
            every=fields["every"],
            webhook_url=fields["webhook_url"],
            only_new=fields["only_new"] == "1",
            heartbeat=fields["heartbeat"] == "1",
            max_age=whole(fields, "max_age"),
            status=among(fields, "status", STATES),
            pause_reason=fields.get("pause_reason") or None,
            created_at=moment(fields, "created_at"),
            next_run_at=moment(fields, "next_run_at", 0),
            last_run_at=moment(fields, "last_run_at", 0),
            resumed_at=moment(fields, "resumed_at", 0),
            last_request_id=fields.get("last_request"),
            last_outcome=fields.get("last_outcome"),
            options=Options.of(fields.get("options")),
            running=fields.get("running"),
            told=fields.get("told", ""),
            runs=whole(fields, "runs", 0),
            items_delivered=whole(fields, "items_delivered", 0),
        )
