"""Balances and ledgers in Redis. Holds, charges and releases are written by the request scripts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from service.domain.credits import ENTRY_TYPES, HOLD, Balance, LedgerEntry
from service.domain.errors import BrokenRow, InsufficientCredits
from service.domain.requests import Page
from service.domain.rows import MOST, Tell, among, moment, reading, whole
from service.stores import keys, scripts
from service.stores.commands import OF_ANOTHER_TYPE, answers_of
from service.stores.connection import Client, store_adapter
from service.stores.rows import read

SCAN_CHUNK = 500


@store_adapter
class Credits:
    """CreditStore over Redis."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._credit = scripts.load(redis, "credit")

    def balance(self, account_id: str) -> Balance:
        return balance_of(account_id, self._redis.hmget(keys.credits(account_id), "balance", "held"))

    def add(self, account_id: str, amount: int, *, entry_type: str, note: str) -> Balance:
        answer = self._credit(
            keys=[keys.credits(account_id), keys.ledger(account_id)],
            args=[amount, entry_type, note, uuid.uuid4().hex],
        )
        if answer[0] == "poor":
            raise InsufficientCredits(f"Only {answer[1]} credit(s) are available.")
        return Balance(int(answer[1]), int(answer[2]))

    def ledger(
        self, account_id: str, *, request_id: str | None, cursor: str | None, limit: int
    ) -> Page[LedgerEntry]:
        """Newest first. A filter by request stops at the request's own first entry, its hold."""
        top = f"({cursor}" if cursor else "+"
        chunk = limit if request_id is None else SCAN_CHUNK
        found: list[LedgerEntry] = []
        while True:
            rows = self._redis.xrevrange(keys.ledger(account_id), max=top, min="-", count=chunk)
            for entry_id, fields in rows:
                top = f"({entry_id}"
                entry = read(ledger_entry, entry_id, fields)
                if entry is not None and request_id in (None, entry.request_id):
                    found.append(entry)
                    if len(found) == limit:
                        return Page(found, entry_id)
                    if request_id is not None and entry.type == HOLD:
                        return Page(found, None)
            if len(rows) < chunk:
                return Page(found, None)


def ledger_entry(entry_id: str, fields: dict[str, str]) -> LedgerEntry:
    """Turn a row of the ledger stream into an entry. Raises BrokenRow."""
    with reading("ledger entry", entry_id):
        return LedgerEntry(
            entry_id=entry_id,
            type=among(fields, "type", ENTRY_TYPES),
            amount=whole(fields, "amount", least=-MOST),
            balance_after=whole(fields, "balance", least=-MOST),
            held_after=whole(fields, "held", least=-MOST),
            request_id=fields.get("request"),
            note=fields.get("note"),
            at=moment(fields, "at"),
        )


def ledger_pages(
    redis: Client, account_id: str, after: str | None, until: str, *, count: int, tell: Tell
) -> Iterator[list[LedgerEntry]]:
    """Yield pages of an account's ledger, oldest first, from after ``after`` to ``until`` inclusive."""

    def told(broken: BrokenRow) -> None:
        tell(BrokenRow(f"{broken.where} of {account_id}", broken.what))

    start = f"({after}" if after else "-"
    while rows := _rows(redis, account_id, start, until, count=count, tell=tell):
        start = f"({rows[-1][0]}"
        entries = [
            entry
            for entry in (read(ledger_entry, entry_id, fields, told) for entry_id, fields in rows)
            if entry is not None
        ]
        if entries:
            yield entries


def _rows(redis: Client, account_id: str, start: str, until: str, *, count: int, tell: Tell) -> list[Any]:
    """Return the next rows of a ledger, none where there is something else."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.xrange(keys.ledger(account_id), min=start, max=until, count=count)
        [rows] = answers_of(pipe)
    if rows is OF_ANOTHER_TYPE:
        tell(BrokenRow(f"ledger of {account_id}", "its key holds another type"))
        return []
    return list(rows)


def balance_of(account_id: str, values: Sequence[str | None]) -> Balance:
    """Read the fields ``balance`` and ``held`` of an account's credits. Raises BrokenRow."""
    with reading("credits of", account_id):
        fields = {name: value for name, value in zip(("balance", "held"), values, strict=True) if value}
        return Balance(*(whole(fields, name, 0, least=-MOST) for name in ("balance", "held")))
