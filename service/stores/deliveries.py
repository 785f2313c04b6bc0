"""Webhooks that are owed, in Redis."""

from __future__ import annotations

import gzip
import json
import time
from dataclasses import asdict

from service.domain import ids
from service.domain.batches import summary
from service.domain.deliveries import PENDING, STATES, Attempt, Delivery, DeliveryClaim, Plan
from service.domain.errors import LeaseLost
from service.domain.policy import Policy
from service.domain.requests import Page
from service.domain.rows import LAST_MS, among, moment, reading, whole
from service.stores import keys, scripts
from service.stores.batches import batch_record
from service.stores.commands import Command, fields_of, together
from service.stores.connection import Client, store_adapter
from service.stores.rows import look_up, read, readable, unpacked

SCAN_CHUNK = 200
SCAN_MOST = 2_000
HOSTS_AT_ONCE = 100  # per shard and look
HOST_LOOK_MS = 500
SINGLE_TTL = 86_400  # seconds; of what is sent for nothing, once


@store_adapter
class Deliveries:
    """DeliveryStore over Redis."""

    def __init__(self, redis: Client, policy: Policy, shards: int) -> None:
        self._redis = redis
        self._policy = policy
        self._shards = shards
        self._grace_ms = policy.pickup_grace * 1000
        self._claim = scripts.load(redis, "delivery_claim")
        self._defer = scripts.load(redis, "delivery_defer")
        self._record = scripts.load(redis, "delivery_record")
        self._replay = scripts.load(redis, "delivery_replay")
        self._take_due = scripts.load(redis, "take_due")
        self._due_of_host = scripts.load(redis, "due_of_host")

    def claim(self, delivery_id: str, host: str) -> DeliveryClaim | None:
        claim = self._claim.command(
            keys=[keys.delivery(delivery_id), keys.due(ids.shard_in(delivery_id), host)],
            args=[delivery_id, self._policy.delivery_lease_ms],
        )
        body = Command(("GET", keys.result(ids.request_of(delivery_id))), raw=True)
        answer, packed = together(self._redis, [claim, body])
        if not answer:
            return None
        fence, fields = answer
        delivery = _delivery(delivery_id, scripts.pairs(fields))
        if delivery is None:
            return None
        return DeliveryClaim(delivery, int(fence), self._body(delivery, packed))

    def _body(self, delivery: Delivery, packed: bytes | None) -> bytes | None:
        if delivery.is_of_batch:
            batch = batch_record(delivery.request_id, fields_of(self._redis, _body_key(delivery)))
            return None if batch is None else summary(batch)
        return read(unpacked, delivery.delivery_id, packed)

    def defer(self, claim: DeliveryClaim, seconds: float) -> None:
        delivery = claim.delivery
        shard = ids.shard_in(delivery.delivery_id)
        self._defer(
            keys=[keys.delivery(delivery.delivery_id), keys.due_hosts(shard), keys.due(shard, delivery.host)],
            args=[delivery.delivery_id, claim.fence, delivery.host, int(seconds * 1000)],
        )

    def record(self, claim: DeliveryClaim, attempt: Attempt, plan: Plan) -> str | None:
        delivery = claim.delivery
        shard = ids.shard_in(delivery.delivery_id)
        answer, waiting = self._record(
            keys=[
                keys.delivery(delivery.delivery_id),
                keys.delivery_log(delivery.delivery_id),
                keys.due_hosts(shard),
                keys.due(shard, delivery.host),
                keys.stats(shard),
            ],
            args=[
                delivery.delivery_id,
                claim.fence,
                plan.status,
                int(plan.wait * 1000),
                json.dumps(asdict(attempt), separators=(",", ":")),
                self._policy.result_ttl,
                round(attempt.duration, 6),
                int(plan.counts),
                delivery.host,
                keys.done(delivery.delivery_id),
                self._grace_ms,
            ],
        )
        if answer == "lost":
            raise LeaseLost(f"Another deliverer holds {delivery.delivery_id}, or it has ended.")
        return waiting or None

    def due_hosts(self) -> list[tuple[int, str]]:
        looks = [
            self._take_due.command(keys=[keys.due_hosts(shard)], args=[HOSTS_AT_ONCE, HOST_LOOK_MS])
            for shard in range(self._shards)
        ]
        found = enumerate(together(self._redis, looks))
        return [(shard, str(host)) for shard, hosts in found for host in hosts]

    def due_of_host(self, shard: int, host: str, limit: int, wait: float) -> list[str]:
        found = self._due_of_host(
            keys=[keys.due_hosts(shard), keys.due(shard, host)],
            args=[host, limit, self._grace_ms, int(wait * 1000)],
        )
        return [str(delivery_id) for delivery_id in found]

    def get(self, delivery_id: str) -> Delivery | None:
        return _delivery(delivery_id, fields_of(self._redis, keys.delivery(delivery_id)))

    def attempts(self, delivery_id: str) -> list[Attempt]:
        rows = self._redis.lrange(keys.delivery_log(delivery_id), 0, -1)
        found = readable(_attempt, [delivery_id] * len(rows), rows)
        return [attempt for attempt in found if attempt is not None]

    def page(
        self,
        account_id: str,
        *,
        statuses: frozenset[str] | None,
        since_ms: int,
        cursor: str | None,
        limit: int,
    ) -> Page[Delivery]:
        """Filters are applied while reading; a page may come short, its cursor goes on from there."""
        found: list[Delivery] = []
        floor = f"[{ids.floor_id(ids.DELIVERY, ids.shard_in(account_id), since_ms)}"
        chunk = min(SCAN_CHUNK, max(limit, 20))
        for _ in range(0, SCAN_MOST, chunk):
            top = f"({cursor}" if cursor else "+"
            names = self._redis.zrevrangebylex(
                keys.account_deliveries(account_id), top, floor, start=0, num=chunk
            )
            for name, delivery in zip(names, self._many(names), strict=True):
                cursor = name
                if delivery and (statuses is None or delivery.status in statuses):
                    found.append(delivery)
                    if len(found) == limit:
                        return Page(found, cursor)
            if len(names) < chunk:
                return Page(found, None)
        return Page(found, cursor)

    def _many(self, names: list[str]) -> list[Delivery | None]:
        return look_up(self._redis, keys.delivery, _delivery, names)

    def backlog(self) -> tuple[int, int]:
        now = int(time.time() * 1000)
        overdue, oldest = 0, now
        for shard in range(self._shards):
            hosts = self._redis.zrange(keys.due_hosts(shard), 0, -1)
            with self._redis.pipeline(transaction=False) as pipe:
                for host in hosts:
                    pipe.zcount(keys.due(shard, host), "-inf", now)
                    pipe.zrange(keys.due(shard, host), 0, 0, withscores=True)
                answers = pipe.execute()
            overdue += sum(answers[::2])
            oldest = min([oldest, *(int(first[0][1]) for first in answers[1::2] if first)])
        return overdue, now - oldest

    def replay(self, delivery: Delivery) -> str:
        shard = ids.shard_in(delivery.delivery_id)
        return str(
            self._replay(
                keys=[
                    keys.delivery(delivery.delivery_id),
                    keys.delivery_log(delivery.delivery_id),
                    keys.due_hosts(shard),
                    keys.due(shard, delivery.host),
                    _body_key(delivery),
                ],
                args=[delivery.delivery_id, delivery.host, self._policy.result_ttl, self._grace_ms],
            )
        )

    def create_single(self, account_id: str, delivery_id: str, url: str, host: str, body: bytes) -> None:
        now = int(time.time() * 1000)
        shard = ids.shard_in(delivery_id)
        fields = {"account": account_id, "request": "", "url": url, "host": host, "status": PENDING}
        times = {"created_at": now, "started_at": now, "next_at": now}
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(
                keys.delivery(delivery_id),
                mapping={**fields, **times, "attempts": 0, "tries": 0, "single": 1, "brief": 1},
            )
            pipe.expire(keys.delivery(delivery_id), SINGLE_TTL)
            packed = gzip.compress(body, 1, mtime=0)
            pipe.set(keys.result(ids.request_of(delivery_id)), packed, ex=SINGLE_TTL)
            pipe.zadd(keys.due(shard, host), {delivery_id: now + self._grace_ms})
            pipe.zadd(keys.due_hosts(shard), {host: now + self._grace_ms}, lt=True)
            pipe.zadd(keys.account_deliveries(account_id), {delivery_id: 0})
            pipe.execute()

    def trim(self, account_id: str) -> int:
        oldest = int(time.time() - 2 * self._policy.result_ttl) * 1000
        floor = ids.floor_id(ids.DELIVERY, ids.shard_in(account_id), oldest)
        return int(self._redis.zremrangebylex(keys.account_deliveries(account_id), "-", f"({floor}"))


def _body_key(delivery: Delivery) -> str:
    """Return the key of what a delivery's body is made of.

    A request's result, as it is; a single delivery has its own. That of a batch is made of the counts.
    """
    if delivery.is_of_batch:
        return keys.batch(delivery.request_id)
    return keys.result(ids.request_of(delivery.delivery_id))


def _delivery(delivery_id: str, fields: dict[str, str]) -> Delivery | None:
    """Turn a delivery's hash into a record, None when there is none. Raises BrokenRow."""
    if not fields:
        return None
    with reading("delivery", delivery_id):
        return Delivery(
            delivery_id=delivery_id,
            account_id=fields["account"],
            request_id=fields["request"],
            url=fields["url"],
            host=fields["host"],
            status=among(fields, "status", STATES),
            attempts=whole(fields, "attempts"),
            tries=whole(fields, "tries"),
            created_at=moment(fields, "created_at"),
            started_at=moment(fields, "started_at"),
            next_at=moment(fields, "next_at", 0),
            leased=moment(fields, "lease_until", 0) > int(time.time() * 1000),
            repeats="single" not in fields,
            spared=whole(fields, "spared", 0),
        )


def _attempt(delivery_id: str, row: str) -> Attempt:
    """Turn a line of a delivery's log into an attempt. Raises BrokenRow."""
    with reading("log of", delivery_id):
        attempt = Attempt(**json.loads(row))
        if not 0 <= attempt.at * 1000 <= LAST_MS:
            raise ValueError("'at' is no time")
        return attempt
