"""Requests in Redis: submit, claim, finish, cancel, look up, wait."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Any

from service.domain import ids
from service.domain.accounts import Limit, refuse_free
from service.domain.errors import (
    Conflict,
    IdempotencyKeyReuse,
    InsufficientCredits,
    LeaseLost,
    StoreUnavailable,
    WatchUnpaid,
)
from service.domain.policy import Policy
from service.domain.ports.work import Counted
from service.domain.requests import BULK, Claim, Ending, Owed, Page, RequestRecord, Submission
from service.domain.watches import GRACE_MS
from service.domain.webhooks import host_of
from service.stores import keys, scripts
from service.stores.bulk import BULK_KEYS, CALL_LIFETIME_MS, Bulk
from service.stores.commands import Command, alone, fields_of, together
from service.stores.connection import Client, is_one_server, store_adapter
from service.stores.credits import balance_of, uncounted
from service.stores.endings import of_the_end
from service.stores.limits import bounds_of, free_bound, states_of, windows_of
from service.stores.rows import look_up, read, readable, unpacked
from service.stores.waiting import Waiter, Waiters

SCAN_CHUNK = 200
SCAN_MOST = 2_000
IDEMPOTENCY_LIFETIME = 86_400  # seconds
SWEEP_WAIT_MAX_MS = 3_600_000
LEFT_FOR = 10  # sweep intervals until what stands in the bulk queue is looked at again


@store_adapter
class Requests:
    """RequestStore over Redis."""

    def __init__(self, redis: Client, policy: Policy, shards: int) -> None:
        self._redis = redis
        self._policy = policy
        self._shards = shards
        self._waiters = Waiters(redis)
        self._bulk = Bulk(redis)
        self._in_one_step = is_one_server(redis)
        self._submit = scripts.load(redis, "submit")
        self._claim = scripts.load(redis, "claim")
        self._renew = scripts.load(redis, "renew")
        self._release = scripts.load(redis, "release")
        self._park = scripts.load(redis, "park")
        self._finish = scripts.load(redis, "finish")
        self._take_due = scripts.load(redis, "take_due")
        self._postpone = scripts.load(redis, "postpone")
        self._leave = scripts.load(redis, "leave")
        self._abandon = scripts.load(redis, "abandon")

    def submit(self, submission: Submission, counted: Counted | None = None) -> RequestRecord:
        limits = self._policy.rate_limits if counted else ()
        windows, verdict, *told = self._hand_in(submission, self._running(submission), limits)
        while verdict == "moved":  # another run of the watch began or ended since it was looked at
            windows, verdict, *told = self._hand_in(submission, str(told[0]), limits)
        if counted:
            counted(states_of(limits, windows))
        if verdict == "ok":
            return self._accepted(submission, *(int(number) for number in told))
        return self._refused(submission, verdict, told)

    def _accepted(
        self, submission: Submission, created_at: int, available: int, uncalled: int
    ) -> RequestRecord:
        if submission.queue == BULK and not self._in_one_step:
            with suppress(StoreUnavailable):  # it is accepted: the sweep does it again
                uncalled = self._bulk.push(submission.account_id, [submission.request_id])
        return RequestRecord(
            request_id=submission.request_id,
            account_id=submission.account_id,
            operation=submission.operation,
            target=submission.target,
            queue=submission.queue,
            status="queued",
            hold=submission.hold,
            created_at=created_at,
            webhook_url=submission.webhook_url,
            max_age=submission.max_age,
            watch_id=submission.watch.watch_id if submission.watch else None,
            options=submission.options,
            available=available,
            uncalled=uncalled,
        )

    def _refused(self, submission: Submission, verdict: str, told: list[Any]) -> RequestRecord:
        """Return the request that stands for this one. Raises what speaks against it."""
        if verdict == "replay":
            return self._original(str(told[0]))
        if verdict == "idle":
            raise Conflict("The watch is paused, or was deleted.")
        if verdict == "reuse":
            raise IdempotencyKeyReuse
        if verdict == "spent":
            assert self._policy.free_limit is not None  # noqa: S101 - or the script would not have looked
            refuse_free(self._policy.free_limit, int(told[0]))
        if verdict == "broken":
            raise uncounted(submission.account_id)
        available, paused = told
        sentence = (
            f"This costs up to {submission.hold} credit(s) and {available} are available. Top up the account."
        )
        raise WatchUnpaid(sentence) if paused else InsufficientCredits(sentence)

    def _running(self, submission: Submission) -> str:
        """Return the open request of the watch that is to run, "" when there is none."""
        if submission.watch is None:
            return ""
        return str(self._redis.hget(keys.watch(submission.watch.watch_id), "running") or "")

    def _hand_in(self, submission: Submission, running: str, limits: Sequence[Limit]) -> list[Any]:
        shard, watch = ids.shard_in(submission.request_id), submission.watch
        next_in = -1 if watch is None or watch.next_in is None else watch.next_in
        queues = submission.queue == BULK and self._in_one_step
        answer: list[Any] = self._submit(
            keys=[
                keys.request(submission.request_id),
                keys.credits(submission.account_id),
                keys.ledger(submission.account_id),
                keys.open_requests(shard),
                keys.account_requests(submission.account_id),
                keys.stats(shard),
                keys.idempotency(submission.account_id, submission.idempotency_key or ""),
                keys.watch(watch.watch_id if watch else submission.request_id),
                keys.watching(shard),
                keys.request(running or submission.request_id),
                *(BULK_KEYS if queues else [keys.request(submission.request_id)] * len(BULK_KEYS)),
                keys.free_endings(submission.account_id),
                *windows_of(submission.account_id, limits),
            ],
            args=[
                submission.request_id,
                submission.account_id,
                submission.operation,
                submission.target.kind,
                submission.queue,
                submission.hold,
                submission.webhook_url or "",
                self._policy.pickup_grace * 1000,
                self._index_floor(submission.request_id, shard),
                submission.fingerprint if submission.idempotency_key is not None else "",
                IDEMPOTENCY_LIFETIME,
                submission.max_age,
                watch.watch_id if watch else "",
                running,
                next_in,
                GRACE_MS,
                submission.target.value,
                submission.options.text,
                CALL_LIFETIME_MS if queues else "",
                free_bound(self._policy),
                *bounds_of(limits),
            ],
        )
        return answer

    def _original(self, request_id: str) -> RequestRecord:
        record = self.get(request_id)
        if record is None:
            # Requests outlive keys by days unless RESULT_TTL is set below a day.
            raise Conflict("The request of this Idempotency-Key has passed its lifetime. Use a new key.")
        return record

    def _index_floor(self, request_id: str, shard: int, *, lifetimes: int = 1) -> str:
        # The id carries its time, so no other clock is asked. A delivery lives on after its request.
        oldest = ids.born_ms(request_id) - lifetimes * self._policy.result_ttl * 1000
        return ids.floor_id(ids.REQUEST, shard, oldest)

    def get(self, request_id: str) -> RequestRecord | None:
        return request_record(request_id, fields_of(self._redis, keys.request(request_id)))

    def look(self, request_id: str, account_id: str) -> RequestRecord | None:
        fields, packed, credits = together(
            self._redis,
            [
                Command(("HGETALL", keys.request(request_id))),
                Command(("GET", keys.result(request_id)), raw=True),
                Command(("HMGET", keys.credits(account_id), "balance", "held")),
            ],
        )
        record, balance = request_record(request_id, fields), read(balance_of, account_id, credits)
        return record and replace(
            record,
            envelope=read(unpacked, request_id, packed),
            available=None if balance is None else balance.available,
        )

    def get_many(self, request_ids: Sequence[str]) -> list[RequestRecord | None]:
        return look_up(self._redis, keys.request, request_record, request_ids)

    def envelope(self, request_id: str) -> bytes | None:
        [found] = self.envelopes([request_id])
        return found

    def envelopes(self, request_ids: Sequence[str]) -> Iterator[bytes | None]:
        looks = [Command(("GET", keys.result(request_id)), raw=True) for request_id in request_ids]
        found = together(self._redis, looks)
        # One that is broken must not pass for one that is gone: it raises BrokenRow.
        return (unpacked(name, packed) for name, packed in zip(request_ids, found, strict=True))

    def waiter(self, request_id: str) -> AbstractContextManager[Waiter]:
        return self._waiters.on(keys.done(request_id))

    def page(
        self, account_id: str, *, status: str | None, username: str | None, cursor: str | None, limit: int
    ) -> Page[RequestRecord]:
        """Filters are applied while reading; a page may come short, its cursor goes on from there."""
        found: list[RequestRecord] = []
        seen = 0
        while seen < SCAN_MOST:
            chunk = self._chunk(account_id, cursor, min(SCAN_CHUNK, max(limit, 20)))
            for record, request_id in chunk:
                cursor = request_id
                if record and status in (None, record.status) and username in (None, record.username):
                    found.append(record)
                    if len(found) == limit:
                        return Page(found, cursor)
            if len(chunk) < min(SCAN_CHUNK, max(limit, 20)):
                return Page(found, None)
            seen += len(chunk)
        return Page(found, cursor)

    def _chunk(
        self, account_id: str, cursor: str | None, count: int
    ) -> list[tuple[RequestRecord | None, str]]:
        top = f"({cursor}" if cursor else "+"
        names = self._redis.zrevrangebylex(keys.account_requests(account_id), top, "-", start=0, num=count)
        return list(zip(self.get_many(names), names, strict=True))

    def claim(self, request_id: str, batch_id: str | None = None) -> Claim | None:
        return _claimed(request_id, alone(self._redis, self._claim_of(request_id, batch_id)))

    def claim_many(self, records: Sequence[RequestRecord]) -> list[Claim | None]:
        answers = together(self._redis, [self._claim_of(each.request_id, each.batch_id) for each in records])
        return readable(_claimed, [each.request_id for each in records], answers)

    def _claim_of(self, request_id: str, batch_id: str | None) -> Command:
        return self._claim.command(
            keys=[*_open_keys(request_id), keys.batch(batch_id or request_id)],
            args=[request_id, self._policy.lease * 1000],
        )

    def renew(self, claim: Claim) -> None:
        [holds] = self._renewed([claim])
        if not holds:
            raise LeaseLost(f"Another worker holds {claim.request.request_id}, or it has ended.")

    def renew_many(self, claims: Sequence[Claim]) -> None:
        self._renewed(claims)

    def _renewed(self, claims: Sequence[Claim]) -> list[Any]:
        lease = self._policy.lease * 1000
        commands = [
            self._renew.command(keys=_open_keys(request_id), args=[request_id, claim.fence, lease])
            for claim in claims
            for request_id in (claim.request.request_id,)
        ]
        return together(self._redis, commands)

    def release(self, claim: Claim, delay: float | None = None) -> None:
        request_id = claim.request.request_id
        look = self._policy.pickup_grace if delay is None else delay
        released = self._release(
            keys=[
                *_open_keys(request_id),
                keys.stats(ids.shard_in(request_id)),
                keys.batch(claim.request.batch_id or request_id),
            ],
            args=[request_id, claim.fence, int(look * 1000), int(delay is not None)],
        )
        if not released:
            raise LeaseLost(f"Another worker holds {request_id}, or it has ended.")

    def park(self, record: RequestRecord, delay: float) -> bool:
        args: list[str | int] = [record.request_id, record.parked, int(delay * 1000)]
        return bool(self._park(keys=self._keys(record.request_id), args=args))

    @staticmethod
    def _keys(request_id: str) -> list[str]:
        shard = ids.shard_in(request_id)
        return [keys.request(request_id), keys.open_requests(shard), keys.stats(shard)]

    def finish_many(self, endings: Sequence[tuple[Claim, Ending]]) -> list[Owed | LeaseLost | None]:
        commands = [
            self._finish.command(*self._of_the_end(claim.request, str(claim.fence), ending))
            for claim, ending in endings
        ]
        answers = zip(endings, together(self._redis, commands), strict=True)
        return [self._finished(claim, ending, answer) for (claim, ending), answer in answers]

    def _finished(self, claim: Claim, ending: Ending, answer: list[Any]) -> Owed | LeaseLost | None:
        if answer[0] == "lost":
            return LeaseLost(f"Another worker holds {claim.request.request_id}, or it has ended.")
        if answer[0] == "free":
            [ended] = self.finish_many([(claim, ending.free())])
            return ended
        return _owed(claim.request, answer[1])

    def abandon(self, request_id: str) -> bool:
        return bool(self._abandon(keys=[keys.request(request_id)], args=[]))

    def cancel(self, request: RequestRecord, ending: Ending) -> Owed | None:
        answer = self._finish(*self._of_the_end(request, "", ending))
        if answer[0] == "lost":
            raise Conflict("Only a queued request can be cancelled; this one is under way or has ended.")
        return _owed(request, answer[1])

    def _of_the_end(self, request: RequestRecord, fence: str, ending: Ending) -> tuple[list[Any], list[Any]]:
        shard = ids.shard_in(request.request_id)
        floor = ids.delivery_of(self._index_floor(request.request_id, shard, lifetimes=2))
        return of_the_end(request, fence, ending, self._policy, floor)

    def trim(self, account_id: str) -> int:
        oldest = int(time.time() - self._policy.result_ttl) * 1000
        floor = ids.floor_id(ids.REQUEST, ids.shard_in(account_id), oldest)
        return int(self._redis.zremrangebylex(keys.account_requests(account_id), "-", f"({floor}"))

    def stranded(self, limit: int) -> list[RequestRecord]:
        wait = self._policy.sweep_interval * 1000
        looks = [
            self._take_due.command(keys=[keys.open_requests(shard)], args=[limit, wait])
            for shard in range(self._shards)
        ]
        names = [name for found in together(self._redis, looks) for name in found]
        return [record for record in self.get_many(names) if record is not None and not record.is_final]

    def postpone(self, request_id: str) -> int:
        looks = self._postpone(
            keys=_open_keys(request_id),
            args=[request_id, self._policy.sweep_interval * 1000, SWEEP_WAIT_MAX_MS],
        )
        return int(looks)

    def leave(self, request_ids: Sequence[str]) -> None:
        by_shard: dict[int, list[str]] = {}
        for request_id in request_ids:
            by_shard.setdefault(ids.shard_in(request_id), []).append(request_id)
        for shard, names in by_shard.items():
            wait = LEFT_FOR * self._policy.sweep_interval * 1000
            self._leave(keys=[keys.open_requests(shard)], args=[wait, *names])


def _open_keys(request_id: str) -> list[str]:
    return [keys.request(request_id), keys.open_requests(ids.shard_in(request_id))]


def _claimed(request_id: str, answer: list[Any]) -> Claim | None:
    if not answer:
        return None
    fence, lease_until, fields = answer
    record = request_record(request_id, scripts.pairs(fields))
    assert record is not None  # noqa: S101 - the script returned its fields
    return Claim(record, int(fence), int(lease_until))


def _owed(request: RequestRecord, delivery_id: str) -> Owed | None:
    if not delivery_id or request.webhook_url is None:
        return None
    return Owed(delivery_id, host_of(request.webhook_url))


def request_record(request_id: str, fields: dict[str, str]) -> RequestRecord | None:
    """Turn a request's hash into a record, None when there is none. Raises BrokenRow."""
    if not fields:
        return None
    return RequestRecord.of(request_id, fields)
