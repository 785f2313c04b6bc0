"""A backup: what stands in its lines. See also `backup_files`, `backup_rows` and `backup_moments`.

A backup is JSON lines, packed by gzip, in a sealed file (`service.sealing`). The first is the header, then
comes one record a line, and the last says how many there were and the SHA-256 of all lines before it::

    {"kind": "storyhook-backup", "version": 4, "dataFormat": 1, "shards": 16, "madeAt": "...", ...}
    {"type": "account", "id": "acc_...", "fields": {...}, "credits": {...}, "keys": {"<id>": {...}}}
    {"type": "watch", "account": "acc_...", "id": "wat_...", "fields": {...}, "seen": {...}, "owed": {...}}
    {"type": "ledger", "account": "acc_.", "entries": [[id, type, amount, balance, held, request, note, at]]}
    {"type": "request", "account": "acc_...", "id": "req_...", "request": {...}, "result": {...}, ...}
    {"type": "batch", "account": "acc_...", "id": "bat_...", "value": {...}, "lifetime": null}
    {"type": "idempotency", "account": "acc_...", "hash": "...", "value": {...}, "lifetime": 86399000}
    {"type": "counters", "shard": 7, "fields": {...}}
    {"type": "session", "name": "...", "fields": {...}}
    {"type": "pool", "counter": 12}
    {"type": "optouts", "names": {"<name>": "<JSON>"}, "ids": {...}}
    {"end": true, "records": 7, "sha256": "..."}

``fields`` are hashes as the store keeps them, texts under names. A ``lifetime`` is what was left of it when
it was read, in milliseconds, or null for good. What belongs to an account comes after the account. Version 1
knew no watches, version 2 no opt-outs, and up to version 3 nothing was sealed: the SHA-256 shows what broke,
and nothing of what somebody changed.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from service.domain import deliveries, requests, watches
from service.domain.credits import Balance, LedgerEntry
from service.domain.errors import ConfigurationError, ValidationFailed

T = TypeVar("T")
Fields = dict[str, str]


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
    def is_worked_on(self) -> bool:
        return self.request is not None and self.request.value["status"] == requests.PROCESSING

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


@dataclass(frozen=True)
class OptOutsCopy:
    """Who is not served, by name and by id, as the store keeps it."""

    names: Fields
    user_ids: Fields

    def row(self) -> dict[str, Any]:
        return {"type": "optouts", "names": self.names, "ids": self.user_ids}


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
    | OptOutsCopy
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
    opt_outs: int = 0

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
        elif isinstance(record, OptOutsCopy):
            self.opt_outs += len(record.names) + len(record.user_ids)
