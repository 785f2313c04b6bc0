"""Webhooks that are owed, in Redis."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict

from redis.client import NEVER_DECODE

from service.domain import ids
from service.domain.deliveries import Attempt, Delivery, DeliveryClaim, Plan
from service.domain.errors import LeaseLost
from service.domain.policy import Policy
from service.stores import keys, scripts
from service.stores.connection import Client, store_adapter

# An attempt ends within the webhook timeout; the rest is for a slow machine to write it down.
LEASE_MARGIN = 15


@store_adapter
class Deliveries:
    """DeliveryStore over Redis."""

    def __init__(self, redis: Client, policy: Policy, shards: int) -> None:
        self._redis = redis
        self._policy = policy
        self._shards = shards
        self._claim = scripts.load(redis, "delivery_claim")
        self._record = scripts.load(redis, "delivery_record")
        self._take_due = scripts.load(redis, "take_due")

    def claim(self, delivery_id: str) -> DeliveryClaim | None:
        lease = int((self._policy.webhook_timeout + LEASE_MARGIN) * 1000)
        answer = self._claim(
            keys=[keys.delivery(delivery_id), keys.due(ids.shard_in(delivery_id))],
            args=[delivery_id, lease],
        )
        if not answer:
            return None
        fence, fields = answer
        delivery = _delivery(delivery_id, scripts.pairs(fields))
        return DeliveryClaim(delivery, int(fence), self._body(delivery.request_id))

    def _body(self, request_id: str) -> bytes:
        options = {NEVER_DECODE: True}
        packed = self._redis.execute_command("GET", keys.result(request_id), **options)
        return b"" if packed is None else gzip.decompress(packed)

    def record(self, claim: DeliveryClaim, attempt: Attempt, plan: Plan) -> None:
        delivery_id = claim.delivery.delivery_id
        shard = ids.shard_in(delivery_id)
        recorded = self._record(
            keys=[
                keys.delivery(delivery_id),
                keys.due(shard),
                keys.delivery_log(delivery_id),
                keys.stats(shard),
            ],
            args=[
                delivery_id,
                claim.fence,
                plan.status,
                int(plan.wait * 1000),
                json.dumps(asdict(attempt), separators=(",", ":")),
                self._policy.result_ttl,
                attempt.duration,
            ],
        )
        if not recorded:
            raise LeaseLost(f"Another deliverer holds {delivery_id}, or it has ended.")

    def due(self, limit: int) -> list[str]:
        found: list[str] = []
        for shard in range(self._shards):
            wait = self._policy.pickup_grace * 1000
            found += self._take_due(keys=[keys.due(shard)], args=[limit, wait])
        return found

    def get(self, delivery_id: str) -> Delivery | None:
        fields = self._redis.hgetall(keys.delivery(delivery_id))
        return _delivery(delivery_id, fields) if fields else None

    def attempts(self, delivery_id: str) -> list[Attempt]:
        return [
            Attempt(**json.loads(row)) for row in self._redis.lrange(keys.delivery_log(delivery_id), 0, -1)
        ]


def _delivery(delivery_id: str, fields: dict[str, str]) -> Delivery:
    return Delivery(
        delivery_id=delivery_id,
        account_id=fields["account"],
        request_id=fields["request"],
        url=fields["url"],
        status=fields["status"],
        attempts=int(fields["attempts"]),
        created_at=int(fields["created_at"]),
        next_at=int(fields.get("next_at", 0)),
    )
