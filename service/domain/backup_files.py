"""The lines of a backup as they are written and read: counted, summed up, and checked. Pure functions."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from service.domain import ids
from service.domain.backup_rows import Row, read
from service.domain.backups import (
    AccountCopy,
    BatchCopy,
    CountersCopy,
    Header,
    IdempotencyCopy,
    LedgerCopy,
    Record,
    RequestCopy,
    WatchCopy,
)
from service.domain.errors import ValidationFailed

KIND = "storyhook-backup"
VERSION = 4  # 1 knew neither batches nor watches, 2 no opt-outs, 3 was not sealed
SEALED_SINCE = 4
LINE_MOST = 64 * 1024 * 1024  # bytes; the longest lines hold one reel each

_ENTRY_ID = re.compile(r"(\d{1,20})-(\d{1,20})")


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


class Unsealer:
    """Reads the lines of a backup and checks everything that can be checked without a store.

    ``read_line`` returns the next line with its end of line, b"" after the last; ``sealed`` tells that they
    come out of a sealed file. Raises ValidationFailed, naming the line.
    """

    def __init__(self, read_line: Callable[[], bytes], *, sealed: bool) -> None:
        self._read = read_line
        self.sealed = sealed
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
        given = Row(row)
        try:
            version = given.whole("version", least=1)
            if version > VERSION:
                raise ValidationFailed(
                    f"The backup is of version {version}, this Storyhook reads up to {VERSION}. Update."
                )
            if version >= SEALED_SINCE and not self.sealed:
                raise ValidationFailed(
                    f"This is no backup that Storyhook made: version {version} is sealed, and this is not."
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
            record = read(row)
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
            if isinstance(record, RequestCopy) and record.is_worked_on:
                raise ValueError("no request in a backup is 'processing'")
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
