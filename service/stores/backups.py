"""What a backup reads of the store and a restore writes into it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from redis.client import NEVER_DECODE
from redis.exceptions import ResponseError

from service.domain import ids
from service.domain.backups import (
    AccountCopy,
    BatchCopy,
    CountersCopy,
    Fields,
    IdempotencyCopy,
    Kept,
    LedgerCopy,
    OptOutsCopy,
    PoolCopy,
    Record,
    RequestCopy,
    SessionCopy,
    WatchCopy,
)
from service.domain.credits import LedgerEntry
from service.domain.errors import BrokenRow
from service.domain.instagram import SessionState
from service.domain.rows import Tell, is_whole, reading
from service.domain.watches import GRACE_MS
from service.stores import instagram_sessions, keys, meta
from service.stores.accounts import LAST_USE
from service.stores.commands import OF_ANOTHER_TYPE, answers_of, pages, tolerated
from service.stores.connection import Client, store_adapter
from service.stores.credits import ledger_pages

PAGE = 500  # ledger entries
# Requests come with their delivery logs in one transaction and with their results: some megabytes.
REQUEST_PAGE = 50
SCAN_COUNT = 1_000
COMMANDS_AT_ONCE = 200

GONE = -2  # what PTTL says of a key that is not there
FOR_GOOD = -1

_IDEMPOTENCY = re.compile(r"\{s[0-9a-f]{2}\}:acct:([^:]+):idem:([0-9a-f]+)")


@store_adapter
class Backups:
    """BackupStore over Redis. Reads in pages while the service works; writes into a store at rest."""

    newest_format = meta.DATA_FORMAT

    def __init__(self, redis: Client, key_check: str) -> None:
        self._redis = redis
        self.key_check = key_check

    # --- reading -----------------------------------------------------------------------------------

    def kind(self) -> tuple[int, int]:
        data_format, shards = self._redis.hmget(keys.META, "format", "shards")
        return int(data_format), int(shards)

    def account_ids(self) -> list[str]:
        return sorted(self._redis.smembers(keys.ACCOUNTS))

    def account(self, account_id: str) -> tuple[AccountCopy, list[WatchCopy], str | None] | None:
        watch_ids: list[str] = []

        def read(pipe: Any) -> None:
            watch_ids[:] = pipe.zrange(keys.account_watches(account_id), 0, -1)
            pipe.multi()
            pipe.hgetall(keys.account(account_id))
            pipe.hgetall(keys.credits(account_id))
            pipe.xrevrange(keys.ledger(account_id), count=1)
            pipe.smembers(keys.account_keys(account_id))
            for watch_id in watch_ids:
                pipe.hgetall(keys.watch(watch_id))
                pipe.zrange(keys.watch_seen(watch_id), 0, -1, withscores=True)
                pipe.zrange(keys.watch_owed(watch_id), 0, -1, withscores=True)

        # A watch that is added meanwhile would be missing beside a request of its own.
        with reading("account", account_id):
            try:
                found = self._redis.transaction(read, keys.account_watches(account_id))
            except ResponseError as error:
                [_] = tolerated([error])
                raise ValueError("one of its keys holds another type than it should") from error
        fields, credits, last, named, *rest = found
        if not fields or self._is_left_over(account_id, fields):
            return None
        copy = AccountCopy(account_id, fields, credits, self._api_keys(sorted(named)))
        watches = [
            WatchCopy(
                account_id, watch_id, *rest[place : place + 1], *map(_times, rest[place + 1 : place + 3])
            )
            for place, watch_id in zip(range(0, len(rest), 3), watch_ids, strict=True)
            if rest[place]
        ]
        return copy, watches, last[0][0] if last else None

    def _is_left_over(self, account_id: str, fields: Fields) -> bool:
        """Tell whether the making of an account was broken off, and its address is somebody else's now."""
        owner = self._redis.get(keys.email(fields.get("email", "")))
        return owner not in (None, account_id)

    def _api_keys(self, named: list[str]) -> dict[str, Fields]:
        with self._redis.pipeline(transaction=False) as pipe:
            for key_id in named:
                pipe.hgetall(keys.api_key(key_id))
            found = zip(named, answers_of(pipe), strict=True)
        # A key revoked while its last use was being written left only that behind.
        return {key_id: fields for key_id, fields in found if fields.keys() - LAST_USE}

    def ledger(
        self, account_id: str, after: str | None, until: str, tell: Tell
    ) -> Iterator[list[LedgerEntry]]:
        yield from ledger_pages(self._redis, account_id, after, until, count=PAGE, tell=tell)

    def request_ids(self, account_id: str, below: str | None) -> list[str]:
        return self._listed(keys.account_requests(account_id), below)

    def delivery_ids(self, account_id: str, below: str | None) -> list[str]:
        return self._listed(keys.account_deliveries(account_id), below)

    def _listed(self, name: str, below: str | None) -> list[str]:
        top = f"({below}" if below else "+"
        found: list[str] = self._redis.zrevrangebylex(name, top, "-", start=0, num=REQUEST_PAGE)
        return found

    def requests(self, account_id: str, request_ids: Sequence[str]) -> list[RequestCopy]:
        with self._redis.pipeline(transaction=True) as pipe:
            for request_id in request_ids:
                delivery_id = ids.delivery_of(request_id)
                for name in (keys.request(request_id), keys.delivery(delivery_id)):
                    pipe.hgetall(name)
                    pipe.pttl(name)
                pipe.lrange(keys.delivery_log(delivery_id), 0, -1)
                pipe.pttl(keys.delivery_log(delivery_id))
            answers = iter(answers_of(pipe))
        copies = []
        for request_id in request_ids:
            request, delivery, log = (_kept(next(answers), next(answers)) for _ in range(3))
            if request or delivery:
                copies.append(RequestCopy(account_id, request_id, request, None, delivery, log))
        return copies

    def batches(self, account_id: str, batch_ids: Sequence[str]) -> list[BatchCopy]:
        with self._redis.pipeline(transaction=False) as pipe:
            for batch_id in batch_ids:
                pipe.hgetall(keys.batch(batch_id))
                pipe.pttl(keys.batch(batch_id))
            answers = iter(answers_of(pipe))
        kept = [(batch_id, _kept(next(answers), next(answers))) for batch_id in batch_ids]
        return [BatchCopy(account_id, batch_id, each) for batch_id, each in kept if each]

    def with_results(self, copies: Sequence[RequestCopy], tell: Tell) -> list[RequestCopy]:
        options = {NEVER_DECODE: True}
        # Not in one transaction with the rest: its answer comes in one piece, which is decoded or not.
        # A result does not change once it is there.
        with self._redis.pipeline(transaction=False) as pipe:
            for copy in copies:
                pipe.execute_command("GET", keys.result(copy.request_id), **options)
                pipe.pttl(keys.result(copy.request_id))
            answers = iter(answers_of(pipe))
        return [replace(copy, result=_result(copy, next(answers), next(answers), tell)) for copy in copies]

    def idempotency_keys(self) -> Iterator[list[IdempotencyCopy]]:
        for names in pages(self._redis, "{s??}:acct:*:idem:*", SCAN_COUNT):
            yield self._idempotency_keys(names)

    def _idempotency_keys(self, names: Sequence[str]) -> list[IdempotencyCopy]:
        with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(name)
                pipe.pttl(name)
            answers = iter(answers_of(pipe))
        found = []
        for name in names:
            kept = _kept(next(answers), next(answers))
            match = _IDEMPOTENCY.fullmatch(name)
            if kept and match:
                found.append(IdempotencyCopy(match[1], match[2], kept))
        return found

    def counters(self, shards: int) -> list[CountersCopy]:
        with self._redis.pipeline(transaction=False) as pipe:
            for shard in range(shards):
                pipe.hgetall(keys.stats(shard))
            return [CountersCopy(shard, fields) for shard, fields in enumerate(answers_of(pipe))]

    def sessions(self) -> tuple[list[SessionCopy], PoolCopy]:
        names = sorted(self._redis.smembers(instagram_sessions.NAMES))
        with self._redis.pipeline(transaction=True) as pipe:
            for name in names:
                pipe.hgetall(_session(name))
            pipe.get(instagram_sessions.COUNTER)
            *rows, counter = answers_of(pipe)
        copies = [SessionCopy(name, fields) for name, fields in zip(names, rows, strict=True) if fields]
        return copies, PoolCopy(_number(counter))

    def opt_outs(self) -> OptOutsCopy:
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.OPTOUT_NAMES)
            pipe.hgetall(keys.OPTOUT_IDS)
            return OptOutsCopy(*pipe.execute())

    # --- writing -----------------------------------------------------------------------------------

    def target(self) -> tuple[int, str | None]:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.scard(keys.ACCOUNTS)
            pipe.hget(keys.META, meta.RESTORING)
            accounts, mark = pipe.execute()
        return int(accounts), mark

    def begin(self, digest: str) -> None:
        self._redis.hset(keys.META, meta.RESTORING, digest)

    def complete(self, data_format: int, shards: int) -> None:
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.META, mapping={"format": data_format, "shards": shards, "key": self.key_check})
            pipe.hdel(keys.META, meta.RESTORING)
            pipe.execute()

    def write(self, records: Iterator[Record]) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            for record in records:
                _WRITERS[type(record)](pipe, record)
                if len(pipe) >= COMMANDS_AT_ONCE:
                    _send(pipe)
            _send(pipe)


def _session(name: str) -> str:
    return f"{{ig}}:session:{name}"


# Stands for what is no number, in fields that have none below 0: the check of the record tells of it.
NO_NUMBER = -1


def _times(rows: list[tuple[str, float]]) -> dict[str, int]:
    return {name: int(at) if math.isfinite(at) else NO_NUMBER for name, at in rows}


def _number(text: Any) -> int:
    return int(text) if isinstance(text, str) and is_whole(text) else 0 if text is None else NO_NUMBER


def _result(copy: RequestCopy, value: Any, lifetime: int, tell: Tell) -> Kept[bytes] | None:
    if value is OF_ANOTHER_TYPE:
        tell(BrokenRow(f"result of {copy.request_id}", "the key holds another type"))
        return None
    return _kept(value, lifetime)


def _kept(value: Any, lifetime: int) -> Kept[Any] | None:
    if not value or lifetime == GONE:
        return None
    return Kept(value, None if lifetime == FOR_GOOD else max(lifetime, 1))


def _send(pipe: Any) -> None:
    """Send what was collected. When a reply was lost and all of it is sent again, nothing changes."""
    for answer in pipe.execute(raise_on_error=False):
        # Ids only rise, and nobody else writes: an entry that comes too late is there already.
        again = isinstance(answer, ResponseError) and "equal or smaller than" in str(answer)
        if isinstance(answer, Exception) and not again:
            raise answer


def _put_hash(pipe: Any, name: str, fields: Fields, lifetime: int | None = None) -> None:
    pipe.delete(name)
    if fields:
        pipe.hset(name, mapping=fields)
    _expire(pipe, name, lifetime)


def _expire(pipe: Any, name: str, lifetime: int | None) -> None:
    if lifetime is not None:
        pipe.pexpire(name, lifetime)


def _write_account(pipe: Any, copy: AccountCopy) -> None:
    account_id = copy.account_id
    _put_hash(pipe, keys.account(account_id), copy.fields)
    _put_hash(pipe, keys.credits(account_id), copy.credits)
    # Filled by the records that follow.
    pipe.delete(
        keys.ledger(account_id),
        keys.account_requests(account_id),
        keys.account_deliveries(account_id),
        keys.account_watches(account_id),
    )
    pipe.delete(keys.account_batches(account_id))
    pipe.delete(keys.account_keys(account_id))
    for key_id, fields in copy.keys.items():
        _put_hash(pipe, keys.api_key(key_id), fields)
        pipe.sadd(keys.account_keys(account_id), key_id)
    pipe.set(keys.email(copy.fields["email"]), account_id)
    pipe.sadd(keys.ACCOUNTS, account_id)


def _write_watch(pipe: Any, copy: WatchCopy) -> None:
    watch_id, watching = copy.watch_id, keys.watching(ids.shard_in(copy.watch_id))
    _put_hash(pipe, keys.watch(watch_id), copy.fields)
    pipe.zadd(keys.account_watches(copy.account_id), {watch_id: 0})
    for name, times in ((keys.watch_seen(watch_id), copy.seen), (keys.watch_owed(watch_id), copy.owed)):
        pipe.delete(name)
        if times:
            pipe.zadd(name, times)
    if copy.is_active:
        # Beat's entry is put back by the housekeeping; what was missed meanwhile the sweep runs.
        due = int(copy.fields.get("next_run_at", copy.fields["created_at"]))
        pipe.zadd(watching, {watch_id: due + GRACE_MS})


def _write_ledger(pipe: Any, copy: LedgerCopy) -> None:
    for entry in copy.entries:
        fields: dict[str, Any] = {"type": entry.type, "amount": entry.amount}
        fields |= {"balance": entry.balance_after, "held": entry.held_after}
        fields |= {} if entry.request_id is None else {"request": entry.request_id}
        fields |= {} if entry.note is None else {"note": entry.note}
        pipe.xadd(keys.ledger(copy.account_id), {**fields, "at": entry.at}, id=entry.entry_id)


def _write_request(pipe: Any, copy: RequestCopy) -> None:
    request_id = copy.request_id
    if copy.request:
        _put_hash(pipe, keys.request(request_id), copy.request.value, copy.request.lifetime)
        pipe.zadd(keys.account_requests(copy.account_id), {request_id: 0})
    if copy.request and copy.is_open:
        # Due since it was made: the sweep takes the oldest first.
        due = {request_id: int(copy.request.value["created_at"])}
        pipe.zadd(keys.open_requests(ids.shard_in(request_id)), due)
    if copy.result:
        pipe.set(keys.result(request_id), copy.result.value, px=copy.result.lifetime)
    if copy.delivery:
        _write_delivery(pipe, copy, copy.delivery)


def _write_delivery(pipe: Any, copy: RequestCopy, delivery: Kept[Fields]) -> None:
    delivery_id = ids.delivery_of(copy.request_id)
    _put_hash(pipe, keys.delivery(delivery_id), delivery.value, delivery.lifetime)
    pipe.zadd(keys.account_deliveries(copy.account_id), {delivery_id: 0})
    pipe.delete(keys.delivery_log(delivery_id))
    if copy.log:
        pipe.rpush(keys.delivery_log(delivery_id), *copy.log.value)
        _expire(pipe, keys.delivery_log(delivery_id), copy.log.lifetime)
    if copy.is_owed:
        shard, host, look = ids.shard_in(delivery_id), delivery.value["host"], int(delivery.value["next_at"])
        pipe.zadd(keys.due(shard, host), {delivery_id: look})
        pipe.zadd(keys.due_hosts(shard), {host: look}, lt=True)


def _write_batch(pipe: Any, copy: BatchCopy) -> None:
    _put_hash(pipe, keys.batch(copy.batch_id), copy.kept.value, copy.kept.lifetime)
    pipe.zadd(keys.account_batches(copy.account_id), {copy.batch_id: 0})


def _write_idempotency(pipe: Any, copy: IdempotencyCopy) -> None:
    name = f"{keys.account(copy.account_id)}:idem:{copy.digest}"
    _put_hash(pipe, name, copy.kept.value, copy.kept.lifetime)


def _write_counters(pipe: Any, copy: CountersCopy) -> None:
    _put_hash(pipe, keys.stats(copy.shard), copy.fields)


def _write_session(pipe: Any, copy: SessionCopy) -> None:
    """A session comes back free: its place among the ready ones is what its own hash says."""
    _put_hash(pipe, _session(copy.name), copy.fields)
    pipe.sadd(instagram_sessions.NAMES, copy.name)
    pipe.zrem(instagram_sessions.READY, copy.name)
    pipe.hdel(instagram_sessions.LEASES, copy.name)
    pipe.hdel(instagram_sessions.PROXIES, copy.name)  # made anew by the first lease
    if copy.fields["state"] != SessionState.QUARANTINED:
        ready = max(int(copy.fields["rested_until"]), int(copy.fields.get("last_used", 0)))
        pipe.zadd(instagram_sessions.READY, {copy.name: ready})


def _write_pool(pipe: Any, copy: PoolCopy) -> None:
    pipe.set(instagram_sessions.COUNTER, copy.counter)


def _write_opt_outs(pipe: Any, copy: OptOutsCopy) -> None:
    _put_hash(pipe, keys.OPTOUT_NAMES, copy.names)
    _put_hash(pipe, keys.OPTOUT_IDS, copy.user_ids)


_WRITERS: dict[type, Callable[[Any, Any], None]] = {
    AccountCopy: _write_account,
    WatchCopy: _write_watch,
    LedgerCopy: _write_ledger,
    RequestCopy: _write_request,
    BatchCopy: _write_batch,
    IdempotencyCopy: _write_idempotency,
    CountersCopy: _write_counters,
    SessionCopy: _write_session,
    PoolCopy: _write_pool,
    OptOutsCopy: _write_opt_outs,
}
