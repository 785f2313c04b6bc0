"""Batches in Redis: accept many requests in one step, look at how far they are."""

from __future__ import annotations

import gzip
import time
from collections.abc import Mapping, Sequence
from typing import Any

from service.domain import ids
from service.domain.accounts import Limit, refuse_free, refuse_names
from service.domain.batches import SUMMARY, WEBHOOK_MODES, BatchRecord, BatchSubmission
from service.domain.errors import Conflict, IdempotencyKeyReuse, InsufficientCredits
from service.domain.namelists import NAMES_MOST
from service.domain.policy import Policy
from service.domain.requests import Owed, Page
from service.domain.rows import among, moment, reading, whole
from service.domain.webhooks import host_of
from service.stores import keys, scripts
from service.stores.commands import fields_of
from service.stores.connection import Client, store_adapter
from service.stores.credits import uncounted
from service.stores.endings import COMPRESSION_LEVEL
from service.stores.limits import bounds_of, free_bound, names_windows_of, states_of
from service.stores.requests import IDEMPOTENCY_LIFETIME
from service.stores.rows import look_up

STATUS, OUTCOME = "status:", "outcome:"


@store_adapter
class Batches:
    """BatchStore over Redis."""

    def __init__(self, redis: Client, policy: Policy) -> None:
        self._redis = redis
        self._policy = policy
        self._submit = scripts.load(redis, "submit_batch")
        self._cancel = scripts.load(redis, "cancel_batch")

    def submit(self, submission: BatchSubmission) -> BatchRecord:
        limits = self._policy.names_limits
        answer, value, accepted, *windows = self._submit(
            keys=_keys(submission, limits), args=self._args(submission)
        )
        if answer == "limited":
            refuse_names(len(submission.entries), states_of(limits, windows[0]))
        if answer == "spent":
            assert self._policy.free_limit is not None  # noqa: S101 - or the script would not have looked
            refuse_free(self._policy.free_limit, int(value))
        if answer == "replay":
            return self._original(str(value))
        if answer == "reuse":
            raise IdempotencyKeyReuse
        if answer == "poor":
            raise InsufficientCredits(_poor(submission, int(value)))
        if answer == "broken":
            raise uncounted(submission.account_id)
        return BatchRecord(
            batch_id=submission.batch_id,
            account_id=submission.account_id,
            operation=submission.operation,
            total=int(accepted),
            left=int(accepted),
            processing=0,
            hold=submission.hold,
            charged=0,
            item_count=0,
            cached=0,
            created_at=int(value),
            webhook_url=submission.webhook_url,
            webhook_mode=submission.webhook_mode,
            max_age=submission.max_age,
        )

    def _args(self, submission: BatchSubmission) -> list[Any]:
        born = ids.born_ms(submission.batch_id) - self._policy.result_ttl * 1000
        shard = ids.shard_in(submission.batch_id)
        url = submission.webhook_url
        return [
            submission.batch_id,
            submission.account_id,
            submission.operation,
            submission.hold,
            url or "",
            int(submission.owes_each),
            host_of(url) if url and submission.owes_summary else "",
            submission.max_age,
            int(submission.clamp),
            self._policy.pickup_grace * 1000,
            ids.floor_id(ids.REQUEST, shard, born),
            ids.floor_id(ids.BATCH, shard, born),
            submission.fingerprint if submission.idempotency_key is not None else "",
            IDEMPOTENCY_LIFETIME,
            submission.webhook_mode,
            submission.options.text,
            free_bound(self._policy),
            len(self._policy.names_limits),
            *bounds_of(self._policy.names_limits),
            *(text for entry in submission.entries for text in (entry.username, entry.external_id or "")),
        ]

    def _original(self, batch_id: str) -> BatchRecord:
        record = self.get(batch_id)
        if record is None:
            raise Conflict("The batch of this Idempotency-Key has passed its lifetime. Use a new key.")
        return record

    def get(self, batch_id: str) -> BatchRecord | None:
        return batch_record(batch_id, fields_of(self._redis, keys.batch(batch_id)))

    def page(self, account_id: str, *, cursor: str | None, limit: int) -> Page[BatchRecord]:
        top = f"({cursor}" if cursor else "+"
        names = self._redis.zrevrangebylex(keys.account_batches(account_id), top, "-", start=0, num=limit)
        found = look_up(self._redis, keys.batch, batch_record, names)
        following = names[-1] if len(names) == limit else None
        return Page([record for record in found if record is not None], following)

    def cancel(self, batch: BatchRecord, envelopes: Mapping[str, bytes]) -> list[Owed]:
        shard = ids.shard_in(batch.batch_id)
        host = host_of(batch.webhook_url) if batch.webhook_url else ""
        summary_id = ids.delivery_of(batch.batch_id)
        ended = self._cancel(
            keys=[
                keys.batch(batch.batch_id),
                keys.credits(batch.account_id),
                keys.ledger(batch.account_id),
                keys.open_requests(shard),
                keys.account_requests(batch.account_id),
                keys.account_batches(batch.account_id),
                keys.stats(shard),
                keys.due_hosts(shard),
                keys.due(shard, host),
                keys.delivery(summary_id),
                keys.account_deliveries(batch.account_id),
                *(name for request_id in envelopes for name in _item_keys(request_id)),
            ],
            args=[
                batch.batch_id,
                batch.account_id,
                host,
                self._policy.pickup_grace * 1000,
                self._policy.cancelled_ttl,
                self._policy.result_ttl,
                summary_id,
                keys.done(batch.batch_id),
                keys.done(batch.batch_id).removesuffix(batch.batch_id),
                *(
                    part
                    for request_id, body in envelopes.items()
                    for part in (request_id, gzip.compress(body, COMPRESSION_LEVEL, mtime=0))
                ),
            ],
        )
        owed = ended if host and batch.webhook_mode != SUMMARY else []
        return [Owed(ids.delivery_of(str(request_id)), host) for request_id in owed]

    def trim(self, account_id: str) -> int:
        oldest = int(time.time() - self._policy.result_ttl) * 1000
        floor = ids.floor_id(ids.BATCH, ids.shard_in(account_id), oldest)
        return int(self._redis.zremrangebylex(keys.account_batches(account_id), "-", f"({floor}"))


def _item_keys(request_id: str) -> tuple[str, str, str]:
    return keys.request(request_id), keys.result(request_id), keys.delivery(ids.delivery_of(request_id))


def _keys(submission: BatchSubmission, limits: Sequence[Limit] = ()) -> list[str]:
    shard, account_id = ids.shard_in(submission.batch_id), submission.account_id
    items = range(1, len(submission.entries) + 1)
    return [
        keys.batch(submission.batch_id),
        keys.credits(account_id),
        keys.ledger(account_id),
        keys.open_requests(shard),
        keys.account_requests(account_id),
        keys.stats(shard),
        keys.idempotency(account_id, submission.idempotency_key or ""),
        keys.account_batches(account_id),
        keys.free_endings(account_id),
        *names_windows_of(account_id, limits),
        *(keys.request(ids.item_of(submission.batch_id, number)) for number in items),
    ]


def _poor(submission: BatchSubmission, available: int) -> str:
    if submission.clamp:
        return (
            f"A name costs up to {submission.hold} credit(s), {available} are available. Top up the account."
        )
    most = submission.hold * len(submission.entries)
    return (
        f"This costs up to {most} credit(s) and {available} are available. Top up the account, or send "
        "onInsufficientCredits=clamp to have as many as they pay for."
    )


def batch_record(batch_id: str, fields: dict[str, str]) -> BatchRecord | None:
    """Turn a batch's hash into a record, None when there is none. Raises BrokenRow."""
    if not fields:
        return None
    with reading("batch", batch_id):
        total = whole(fields, "total", least=1, most=NAMES_MOST)
        return BatchRecord(
            batch_id=batch_id,
            account_id=fields["account"],
            operation=fields["operation"],
            total=total,
            left=whole(fields, "left", most=total),
            processing=whole(fields, "processing", 0),
            hold=whole(fields, "hold"),
            charged=whole(fields, "charged", 0),
            item_count=whole(fields, "items", 0),
            cached=whole(fields, "cached", 0),
            created_at=moment(fields, "created_at"),
            webhook_url=fields.get("webhook_url"),
            webhook_mode=among(fields, "mode", WEBHOOK_MODES),
            max_age=whole(fields, "max_age"),
            started_at=moment(fields, "started_at", 0),
            finished_at=moment(fields, "finished_at", 0),
            cancelled_at=moment(fields, "cancelled_at", 0),
            statuses=_counts(fields, STATUS),
            outcomes=_counts(fields, OUTCOME),
        )


def _counts(fields: dict[str, str], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): whole(fields, name) for name in fields if name.startswith(prefix)}
