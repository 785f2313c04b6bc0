"""A backup: what stands in its lines, which checks they pass, and which moment it shows. Pure functions.

A backup is JSON lines. The first is the header, then comes one record a line, and the last says how many
there were and the SHA-256 of all lines before it::

    {"kind": "storyhook-backup", "version": 2, "dataFormat": 1, "shards": 16, "madeAt": "...", ...}
    {"type": "account", "id": "acc_...", "fields": {...}, "credits": {...}, "keys": {"<id>": {...}}}
    {"type": "watch", "account": "acc_...", "id": "wat_...", "fields": {...}, "seen": {...}, "owed": {...}}
    {"type": "ledger", "account": "acc_.", "entries": [[id, type, amount, balance, held, request, note, at]]}
    {"type": "request", "account": "acc_...", "id": "req_...", "request": {...}, "result": {...}, ...}
    {"type": "batch", "account": "acc_...", "id": "bat_...", "value": {...}, "lifetime": null}
    {"type": "idempotency", "account": "acc_...", "hash": "...", "value": {...}, "lifetime": 86399000}
    {"type": "counters", "shard": 7, "fields": {...}}
    {"type": "session", "name": "...", "fields": {...}}
    {"type": "pool", "counter": 12}
    {"end": true, "records": 7, "sha256": "..."}

``fields`` are hashes as the store keeps them, texts under names. A ``lifetime`` is what was left of it when
it was read, in milliseconds, or null for good. What belongs to an account comes after the account. Version 1
knew no watches.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from service.domain import deliveries, ids, requests, watches
from service.domain.audit import Fold
from service.domain.batches import Tally as BatchTally
from service.domain.credits import ADJUSTMENT, CHARGE, HOLD, RELEASE, TOPUP, Balance, LedgerEntry
from service.domain.errors import ConfigurationError, ValidationFailed
from service.domain.instagram import SessionState, check_name

KIND = "storyhook-backup"
VERSION = 2  # 1 knew neither batches nor watches
LINE_MOST = 64 * 1024 * 1024  # bytes; the longest lines hold one reel each

T = TypeVar("T")
Fields = dict[str, str]

_WHOLE = re.compile(r"-?\d{1,18}")
_ENTRY_ID = re.compile(r"(\d{1,20})-(\d{1,20})")
_IDEMPOTENCY_HASH = re.compile(r"[0-9a-f]{32}")
_ENTRY_TYPES = frozenset({TOPUP, HOLD, CHARGE, RELEASE, ADJUSTMENT})
_ENTRY_COLUMNS = 8

# What work on a request, waiting in vain for it, and its end leave in its hash.
_LEASE = "lease_until"
_OF_THE_WORK = frozenset({_LEASE, "looks", "parked"})
_OF_THE_END = frozenset(
    {"outcome", "code", "charged", "item_count", "retry_after", "cached", "silent", "finished_at"}
)


# --- the records ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Header:
    """The first line. ``key_check`` tells under which SECRET_KEY the backup can be read."""

    data_format: int
    shards: int
    made_at: str
    storyhook: str
    key_check: str

    def check(self, *, newest_format: int, key_check: str) -> None:
        """Raise ValidationFailed or ConfigurationError for a backup this installation cannot take."""
        if self.data_format > newest_format:
            raise ValidationFailed(
                f"The backup holds data of format {self.data_format}, this version reads up to "
                f"{newest_format}. Update: it was made by Storyhook {self.storyhook}."
            )
        if self.key_check != key_check:
            raise ConfigurationError(
                "SECRET_KEY: the backup was made under another one; the API keys, webhook secrets and "
                "Instagram sessions in it would be worthless under this. Set the one it was made under."
            )


@dataclass(frozen=True)
class Kept(Generic[T]):
    """A value of the store and what was left of its lifetime in milliseconds, None for good."""

    value: T
    lifetime: int | None = None


@dataclass(frozen=True)
class AccountCopy:
    """An account with its credits, and its API keys by their ids."""

    account_id: str
    fields: Fields
    credits: Fields
    keys: dict[str, Fields]

    @property
    def balance(self) -> Balance:
        return Balance(int(self.credits.get("balance", 0)), int(self.credits.get("held", 0)))

    def row(self) -> dict[str, Any]:
        """Return the line as JSON knows it; so do the other records."""
        return {
            "type": "account",
            "id": self.account_id,
            "fields": self.fields,
            "credits": self.credits,
            "keys": self.keys,
        }


@dataclass(frozen=True)
class WatchCopy:
    """A watch: its hash, the items it has seen by when to forget them (Unix seconds), and the requests whose
    webhook may not have arrived by when they ended (Unix milliseconds)."""

    account_id: str
    watch_id: str
    fields: Fields
    seen: dict[str, int]
    owed: dict[str, int]

    @property
    def is_active(self) -> bool:
        return self.fields["status"] == watches.ACTIVE

    def row(self) -> dict[str, Any]:
        name = {"type": "watch", "account": self.account_id, "id": self.watch_id}
        return {**name, "fields": self.fields, "seen": self.seen, "owed": self.owed}


@dataclass(frozen=True)
class LedgerCopy:
    """Consecutive entries of an account's ledger, oldest first."""

    account_id: str
    entries: list[LedgerEntry]

    def row(self) -> dict[str, Any]:
        rows = [
            [
                entry.entry_id,
                entry.type,
                entry.amount,
                entry.balance_after,
                entry.held_after,
                entry.request_id,
                entry.note,
                entry.at,
            ]
            for entry in self.entries
        ]
        return {"type": "ledger", "account": self.account_id, "entries": rows}


@dataclass(frozen=True)
class RequestCopy:
    """All that goes by one request's id: its hash, its result (gzip), its delivery and that one's log.

    A delivery that was replayed late outlives its request; then ``request`` is None.
    """

    account_id: str
    request_id: str
    request: Kept[Fields] | None
    result: Kept[bytes] | None = None
    delivery: Kept[Fields] | None = None
    log: Kept[list[str]] | None = None

    @property
    def record(self) -> requests.RequestRecord | None:
        """The request; None when only its delivery is kept."""
        return requests.RequestRecord.of(self.request_id, self.request.value) if self.request else None

    @property
    def is_open(self) -> bool:
        return self.request is not None and self.request.value["status"] not in requests.FINAL

    @property
    def is_owed(self) -> bool:
        """Whether its webhook is still to be sent."""
        return self.delivery is not None and self.delivery.value["status"] == deliveries.PENDING

    def row(self) -> dict[str, Any]:
        result = self.result
        text = None if result is None else Kept(base64.b64encode(result.value).decode(), result.lifetime)
        return {
            "type": "request",
            "account": self.account_id,
            "id": self.request_id,
            "request": _kept_row(self.request),
            "result": _kept_row(text),
            "delivery": _kept_row(self.delivery),
            "log": _kept_row(self.log),
        }


@dataclass(frozen=True)
class BatchCopy:
    """A batch, its counts those of its requests in the backup."""

    account_id: str
    batch_id: str
    kept: Kept[Fields]

    def row(self) -> dict[str, Any]:
        name = {"type": "batch", "account": self.account_id, "id": self.batch_id}
        return {**name, **(_kept_row(self.kept) or {})}


@dataclass(frozen=True)
class IdempotencyCopy:
    """What an idempotency key stands for: a request, batch or watch. ``digest`` stands for the key."""

    account_id: str
    digest: str
    kept: Kept[Fields]

    @property
    def request_id(self) -> str:
        return self.kept.value["request"]

    def row(self) -> dict[str, Any]:
        name = {"type": "idempotency", "account": self.account_id, "hash": self.digest}
        return {**name, **(_kept_row(self.kept) or {})}


@dataclass(frozen=True)
class CountersCopy:
    """A shard's counters for /metrics."""

    shard: int
    fields: Fields

    def row(self) -> dict[str, Any]:
        return {"type": "counters", "shard": self.shard, "fields": self.fields}


@dataclass(frozen=True)
class SessionCopy:
    """An Instagram session, its secrets encrypted as they are at rest.

    Who holds it and what calls it made is left out.
    """

    name: str
    fields: Fields

    def row(self) -> dict[str, Any]:
        return {"type": "session", "name": self.name, "fields": self.fields}


@dataclass(frozen=True)
class PoolCopy:
    """The counter that gives the sessions' versions, which are never used twice."""

    counter: int

    def row(self) -> dict[str, Any]:
        return {"type": "pool", "counter": self.counter}


Record = (
    AccountCopy
    | WatchCopy
    | LedgerCopy
    | RequestCopy
    | BatchCopy
    | IdempotencyCopy
    | CountersCopy
    | SessionCopy
    | PoolCopy
)


def _kept_row(kept: Kept[Any] | None) -> dict[str, Any] | None:
    return None if kept is None else {"value": kept.value, "lifetime": kept.lifetime}


@dataclass
class Tally:
    """What a backup holds. ``open`` requests are to be worked on, ``owed`` webhooks to be sent."""

    made_at: str = ""
    accounts: int = 0
    entries: int = 0
    requests: int = 0
    open: int = 0
    owed: int = 0
    sessions: int = 0
    watches: int = 0

    def add(self, record: Record) -> None:
        if isinstance(record, AccountCopy):
            self.accounts += 1
        elif isinstance(record, WatchCopy):
            self.watches += 1
        elif isinstance(record, LedgerCopy):
            self.entries += len(record.entries)
        elif isinstance(record, RequestCopy):
            self.requests += record.request is not None
            self.open += record.is_open
            self.owed += record.is_owed
        elif isinstance(record, SessionCopy):
            self.sessions += 1


# --- one moment ----------------------------------------------------------------------------------


def as_of(copy: RequestCopy, fold: Fold, later: Container[str]) -> RequestCopy | None:
    """Return what a request was when its account's ledger ended as ``fold`` has read it.

    The copy was read after that moment and may be newer; the ledger is what tells. None when there was no
    such request, or nothing of it is kept. ``later`` holds the ids of requests whose hold came after the
    moment. What neither the ledger before nor after knows is no newer request but a damaged ledger, and
    copied as it is: `storyhook audit` tells of it, here as there.
    """
    if copy.request is None:
        return _without_lease(copy) if _is_kept(copy.delivery) else None
    if copy.request_id in fold.open_holds:
        return reopened(copy)
    if is_unknown(copy, fold) and copy.request_id in later:
        return None
    return reopened(copy) if copy.is_open else _without_lease(copy)


def is_unknown(copy: RequestCopy, fold: Fold) -> bool:
    """Tell whether a request holds a price of which the ledger read so far knows nothing."""
    if copy.request is None or int(copy.request.value["hold"]) == 0:
        return False
    return copy.request_id not in fold.open_holds and copy.request_id not in fold.settled


def reopened(copy: RequestCopy) -> RequestCopy:
    """Return a request as one nobody has worked on yet, its price held; its fence and attempts stay.

    The fence must never fall: a worker that comes back late would be let in.
    """
    assert copy.request is not None  # noqa: S101 - the callers asked
    gone = _OF_THE_WORK | _OF_THE_END
    fields = {name: value for name, value in copy.request.value.items() if name not in gone}
    return RequestCopy(copy.account_id, copy.request_id, Kept({**fields, "status": requests.QUEUED}))


def _without_lease(copy: RequestCopy) -> RequestCopy:
    if not _is_kept(copy.delivery):
        return replace(copy, delivery=None, log=None)
    delivery = copy.delivery
    assert delivery is not None  # noqa: S101 - it is kept
    fields = {name: value for name, value in delivery.value.items() if name != _LEASE}
    return replace(copy, delivery=Kept(fields, delivery.lifetime))


def _is_kept(delivery: Kept[Fields] | None) -> bool:
    """A test webhook, which tells of no request, is tried once and has been."""
    return delivery is not None and "single" not in delivery.value


def is_summary(copy: RequestCopy) -> bool:
    """Tell whether this is no request but the delivery that tells of a whole batch."""
    return copy.delivery is not None and copy.delivery.value["request"].startswith(ids.BATCH)


def recounted(copy: BatchCopy, tally: BatchTally) -> BatchCopy:
    """Return a batch with the counts of its requests in the backup; one that is over stays as it is.

    Where requests have passed their lifetime while others are open, those are counted no more.
    """
    if not tally.left and copy.kept.value["left"] == "0":
        return copy
    counted = ("status:", "outcome:")
    fields = {name: value for name, value in copy.kept.value.items() if not name.startswith(counted)}
    fields.pop("finished_at", None)
    fields |= {"left": str(tally.left), "processing": "0", "charged": str(tally.charged)}
    fields |= {"items": str(tally.items), "cached": str(tally.cached)}
    fields |= {f"status:{name}": str(count) for name, count in tally.statuses.items()}
    fields |= {f"outcome:{name}": str(count) for name, count in tally.outcomes.items()}
    return replace(copy, kept=Kept(fields))


# --- writing -------------------------------------------------------------------------------------


class Sealer:
    """Makes the lines of a backup, each with its end of line, and counts what it makes."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._records = 0

    def header(self, header: Header) -> bytes:
        """Return the first line."""
        return self._line(
            {
                "kind": KIND,
                "version": VERSION,
                "dataFormat": header.data_format,
                "shards": header.shards,
                "madeAt": header.made_at,
                "storyhook": header.storyhook,
                "keyCheck": header.key_check,
            }
        )

    def record(self, record: Record) -> bytes:
        """Return the line of a record."""
        self._records += 1
        return self._line(record.row())

    def end(self) -> bytes:
        """Return the last line."""
        return _json({"end": True, "records": self._records, "sha256": self._digest.hexdigest()})

    def _line(self, row: dict[str, Any]) -> bytes:
        line = _json(row)
        if len(line) >= LINE_MOST:
            raise ValidationFailed(f"A record of type {row.get('type')!r} is too long for a backup.")
        self._digest.update(line)
        return line


def _json(row: dict[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


# --- reading -------------------------------------------------------------------------------------


class Unsealer:
    """Reads the lines of a backup and checks everything that can be checked without a store.

    ``read_line`` returns the next line with its end of line, b"" after the last. Raises
    ValidationFailed, naming the line.
    """

    def __init__(self, read_line: Callable[[], bytes]) -> None:
        self._read = read_line
        self._digest = hashlib.sha256()
        self._number = 0
        self.header = self._header()
        self._order = _Order(self.header.shards)

    @property
    def digest(self) -> str:
        """The checksum; of the whole backup once all records were read."""
        return self._digest.hexdigest()

    def records(self) -> Iterator[Record]:
        """Yield every record. What was read is only known to be whole when this ends."""
        count = 0
        while True:
            line, row = self._next()
            if "end" in row:
                break
            self._digest.update(line)
            count += 1
            yield self._checked(row)
        if row != {"end": True, "records": count, "sha256": self.digest}:
            raise self._damaged("the checksum does not fit; something was changed or is missing")
        if self._read():
            raise self._damaged("something follows the end")

    def _header(self) -> Header:
        line, row = self._next()
        self._digest.update(line)
        if row.get("kind") != KIND:
            raise ValidationFailed("This is no backup that Storyhook made.")
        given = _Row(row)
        try:
            version = given.whole("version", least=1)
            if version > VERSION:
                raise ValidationFailed(
                    f"The backup is of version {version}, this Storyhook reads up to {VERSION}. Update."
                )
            return Header(
                data_format=given.whole("dataFormat", least=1),
                shards=given.whole("shards", least=1, most=256),
                made_at=given.text("madeAt"),
                storyhook=given.text("storyhook"),
                key_check=given.text("keyCheck"),
            )
        except ValueError as error:
            raise self._damaged(str(error)) from error

    def _next(self) -> tuple[bytes, dict[str, Any]]:
        line = self._read()
        self._number += 1
        if not line.endswith(b"\n"):
            raise self._damaged("it ends too early" if len(line) < LINE_MOST else "the line has no end")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._damaged("this is not JSON") from error
        if not isinstance(row, dict):
            raise self._damaged("this is no JSON object")
        return line, row

    def _checked(self, row: dict[str, Any]) -> Record:
        try:
            parse = _PARSERS.get(str(row.get("type")))
            if parse is None:
                raise ValueError(f"records of type {row.get('type')!r} are unknown")
            record = parse(_Row(row))
            self._order.check(record)
        except ValueError as error:
            raise self._damaged(str(error)) from error
        return record

    def _damaged(self, what: str) -> ValidationFailed:
        return ValidationFailed(f"The backup is damaged: line {self._number}: {what}.")


class _Order:
    """Checks that records fit those before them. Raises ValueError."""

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._last: dict[str, tuple[int, int]] = {}  # the newest ledger entry of each account so far

    def check(self, record: Record) -> None:
        if isinstance(record, AccountCopy):
            self._shard(record.account_id)
            if record.account_id in self._last:
                raise ValueError(f"{record.account_id} comes twice")
            self._last[record.account_id] = (0, 0)
        elif isinstance(record, CountersCopy):
            if record.shard >= self._shards:
                raise ValueError(f"there is no shard {record.shard}")
        elif isinstance(record, WatchCopy | LedgerCopy | RequestCopy | BatchCopy | IdempotencyCopy):
            if record.account_id not in self._last:
                raise ValueError(f"its account {record.account_id} does not come before it")
            self._belongs(record)

    def _belongs(self, record: WatchCopy | LedgerCopy | RequestCopy | BatchCopy | IdempotencyCopy) -> None:
        if isinstance(record, LedgerCopy):
            for entry in record.entries:
                self._newer(record.account_id, entry.entry_id)
            return
        if isinstance(record, WatchCopy):
            name = record.watch_id
        elif isinstance(record, BatchCopy):
            name = record.batch_id
        else:
            name = record.request_id
        if ids.shard_in(name) != ids.shard_in(record.account_id):
            raise ValueError(f"{name} is in another shard than its account")

    def _shard(self, account_id: str) -> None:
        if ids.shard_in(account_id) >= self._shards:
            raise ValueError(f"there is no shard for {account_id}")

    def _newer(self, account_id: str, entry_id: str) -> None:
        match = _ENTRY_ID.fullmatch(entry_id)
        if match is None:
            raise ValueError(f"{entry_id!r} is no id of a ledger entry")
        place = int(match[1]), int(match[2])
        if place <= self._last[account_id]:
            raise ValueError(f"ledger entry {entry_id} is out of order")
        self._last[account_id] = place


class _Row:
    """A JSON object asked for its parts; raises ValueError when one is missing or of another kind."""

    def __init__(self, row: dict[str, Any]) -> None:
        self._row = row

    def text(self, name: str) -> str:
        value = self._row.get(name)
        if not isinstance(value, str):
            raise ValueError(f"'{name}' is missing or no text")
        return value

    def whole(self, name: str, *, least: int = 0, most: int = 2**63) -> int:
        value = self._row.get(name)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"'{name}' is missing or no number it can be")
        return value

    def identifier(self, name: str, kind: str) -> str:
        value = self.text(name)
        if ids.shard_of(value, kind) is None:
            raise ValueError(f"'{name}' is no id")
        return value

    def fields(self, name: str, texts: str = "", numbers: str = "") -> Fields:
        """Return a hash. ``texts`` and ``numbers`` name what must be in it; with a "?" it may be missing."""
        value = self._row.get(name)
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise ValueError(f"'{name}' is missing or holds something else than texts")
        _check_fields(value, name, texts, numbers)
        return value

    def times(self, name: str) -> dict[str, int]:
        """Return times by names."""
        value = self._row.get(name)
        if not isinstance(value, dict) or not all(type(at) is int and at >= 0 for at in value.values()):
            raise ValueError(f"'{name}' is missing or holds something else than times")
        return value

    def items(self, name: str) -> list[Any]:
        value = self._row.get(name)
        if not isinstance(value, list):
            raise ValueError(f"'{name}' is missing or no list")
        return value

    def inner(self, name: str) -> _Row | None:
        """Return the object of this name, None for null."""
        value = self._row.get(name)
        if value is None and name in self._row:
            return None
        if not isinstance(value, dict):
            raise ValueError(f"'{name}' is missing or no object")
        return _Row(value)

    def each_of(self, name: str, texts: str, numbers: str) -> dict[str, Fields]:
        """Return hashes by their names."""
        value = self._row.get(name)
        if not isinstance(value, dict):
            raise ValueError(f"'{name}' is missing or no object")
        return {each: _Row(value).fields(each, texts, numbers) for each in value}

    def lifetime(self) -> int | None:
        if "lifetime" in self._row and self._row["lifetime"] is None:
            return None
        return self.whole("lifetime", least=1)


def _check_fields(fields: Fields, name: str, texts: str, numbers: str) -> None:
    missing = [each for each in texts.split() if each not in fields]
    for each in numbers.split():
        field, optional = each.removesuffix("?"), each.endswith("?")
        if not _WHOLE.fullmatch(fields.get(field, "0" if optional else "")):
            missing.append(field)
    if missing:
        raise ValueError(f"'{name}' lacks {', '.join(missing)}, or it is no number")


def _account(row: _Row) -> AccountCopy:
    return AccountCopy(
        row.identifier("id", ids.ACCOUNT),
        row.fields("fields", "email password webhook_secret", "created_at disabled token_version"),
        row.fields("credits", "", "balance? held?"),
        row.each_of("keys", "account name prefix digest", "created_at"),
    )


def _watch(row: _Row) -> WatchCopy:
    numbers = (
        "only_new heartbeat max_age created_at next_run_at? last_run_at? resumed_at? runs? items_delivered?"
    )
    copy = WatchCopy(
        row.identifier("account", ids.ACCOUNT),
        row.identifier("id", ids.WATCH),
        row.fields("fields", "account username every webhook_url status", numbers),
        row.times("seen"),
        row.times("owed"),
    )
    if copy.fields["status"] not in watches.STATES:
        raise ValueError(f"no watch is {copy.fields['status']!r}")
    if any(ids.shard_of(request_id, ids.REQUEST) is None for request_id in copy.owed):
        raise ValueError("a watch is owed something else than requests")
    return copy


def _ledger(row: _Row) -> LedgerCopy:
    return LedgerCopy(row.identifier("account", ids.ACCOUNT), [_entry(each) for each in row.items("entries")])


def _entry(row: Any) -> LedgerEntry:
    if not isinstance(row, list) or len(row) != _ENTRY_COLUMNS:
        raise ValueError("a ledger entry is not as it should be")
    entry_id, kind, amount, balance, held, request_id, note, at = row
    fits = isinstance(entry_id, str) and kind in _ENTRY_TYPES
    fits = fits and all(type(number) is int for number in (amount, balance, held, at))
    fits = fits and all(text is None or isinstance(text, str) for text in (request_id, note))
    if not fits:
        raise ValueError(f"ledger entry {entry_id!r} is not as it should be")
    return LedgerEntry(entry_id, kind, amount, balance, held, request_id, note, at)


def _request(row: _Row) -> RequestCopy:
    copy = RequestCopy(
        account_id=row.identifier("account", ids.ACCOUNT),
        request_id=row.identifier("id", ids.REQUEST),
        request=_kept(row, "request", _request_hash),
        result=_kept(row, "result", _result),
        delivery=_kept(row, "delivery", _delivery_hash),
        log=_kept(row, "log", _log),
    )
    if copy.request is None and copy.delivery is None:
        raise ValueError("there is nothing in it")
    return copy


def _kept(row: _Row, name: str, read: Callable[[_Row], T]) -> Kept[T] | None:
    inner = row.inner(name)
    return None if inner is None else Kept(read(inner), inner.lifetime())


def _request_hash(row: _Row) -> Fields:
    needed = "hold created_at fence? attempts? charged? item_count? retry_after? finished_at? max_age?"
    needed += " cached? silent?"
    fields = row.fields("value", "account operation username queue status", needed)
    if fields["status"] != requests.QUEUED and fields["status"] not in requests.FINAL:
        raise ValueError(f"no request in a backup is {fields['status']!r}")
    return fields


def _delivery_hash(row: _Row) -> Fields:
    needed = "attempts tries created_at started_at next_at fence?"
    fields = row.fields("value", "account request url host status", needed)
    if fields["status"] not in deliveries.STATES:
        raise ValueError(f"no delivery is {fields['status']!r}")
    return fields


def _result(row: _Row) -> bytes:
    return base64.b64decode(row.text("value"), validate=True)


def _log(row: _Row) -> list[str]:
    rows = row.items("value")
    if not all(isinstance(each, str) for each in rows):
        raise ValueError("the log of a delivery is not as it should be")
    return rows


def _batch(row: _Row) -> BatchCopy:
    needed = "total left hold max_age created_at processing? charged? items? cached? started_at? finished_at?"
    kept = Kept(row.fields("value", "account operation mode", needed), row.lifetime())
    return BatchCopy(row.identifier("account", ids.ACCOUNT), row.identifier("id", ids.BATCH), kept)


def _idempotency(row: _Row) -> IdempotencyCopy:
    digest = row.text("hash")
    kept = Kept(row.fields("value", "fingerprint request"), row.lifetime())
    kinds = (ids.REQUEST, ids.BATCH, ids.WATCH)
    known = any(ids.shard_of(kept.value["request"], kind) is not None for kind in kinds)
    if not _IDEMPOTENCY_HASH.fullmatch(digest) or not known:
        raise ValueError("an idempotency key is not as it should be")
    return IdempotencyCopy(row.identifier("account", ids.ACCOUNT), digest, kept)


def _counters(row: _Row) -> CountersCopy:
    fields = row.fields("fields")
    for value in fields.values():
        float(value)
    return CountersCopy(row.whole("shard", most=255), fields)


def _session(row: _Row) -> SessionCopy:
    numbers = "rested_until version failures uses? last_used? added_at?"
    fields = row.fields("fields", "state reason settings proxy failure", numbers)
    if fields["state"] not in set(SessionState):
        raise ValueError(f"no session is {fields['state']!r}")
    try:
        return SessionCopy(check_name(row.text("name")), fields)
    except ValidationFailed as error:
        raise ValueError("a session has no name it can have") from error


def _pool(row: _Row) -> PoolCopy:
    return PoolCopy(row.whole("counter"))


_PARSERS: dict[str, Callable[[_Row], Record]] = {
    "account": _account,
    "watch": _watch,
    "ledger": _ledger,
    "request": _request,
    "batch": _batch,
    "idempotency": _idempotency,
    "counters": _counters,
    "session": _session,
    "pool": _pool,
}
