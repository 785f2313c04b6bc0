"""Balances and ledgers in Redis. Holds, charges and releases are written by the request scripts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from service.domain import ids
from service.domain.credits import (
    AMOUNT_MOST,
    CHARGE,
    COUNTED_MOST,
    ENTRY_TYPES,
    RELEASE,
    Balance,
    LedgerEntry,
    entry_place,
)
from service.domain.errors import BrokenRow, InsufficientCredits, ValidationFailed
from service.domain.requests import Page
from service.domain.rows import MOST, Tell, among, is_whole, moment, reading, whole
from service.stores import keys, scripts
from service.stores.commands import OF_ANOTHER_TYPE, answers_of
from service.stores.connection import Client, store_adapter
from service.stores.rows import read

SCAN_CHUNK = 500
SCAN_MOST = 2_000  # entries from each moment on
CLOCKS_APART_MS = 5_000


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
            args=[amount, entry_type, note, uuid.uuid4().hex, AMOUNT_MOST],
        )
        if answer[0] == "broken":
            raise uncounted(account_id)
        if answer[0] == "over":
            sentence = f"An account has at most {AMOUNT_MOST} credits; this one has {answer[1]}."
            raise ValidationFailed(details={"amount": [sentence]})
        if answer[0] == "poor":
            raise InsufficientCredits(f"Only {answer[1]} credit(s) are available.")
        return Balance(int(answer[1]), int(answer[2]))

    def ledger(
        self, account_id: str, *, request_id: str | None, cursor: str | None, limit: int
    ) -> Page[LedgerEntry]:
        """Newest first. What is about one request or batch is read where that was accepted and ended."""
        if request_id is None:
            top = f"({cursor}" if cursor else "+"
            rows = self._redis.xrevrange(keys.ledger(account_id), max=top, min="-", count=limit)
            entries = [read(ledger_entry, entry_id, fields) for entry_id, fields in rows]
            following = str(rows[-1][0]) if len(rows) == limit else None
            return Page([entry for entry in entries if entry is not None], following)
        found = self._about(account_id, request_id)
        if cursor is not None:
            found = [entry for entry in found if entry_place(entry.entry_id) < entry_place(cursor)]
        page = found[:limit]
        return Page(page, page[-1].entry_id if len(found) > limit else None)

    def _about(self, account_id: str, subject: str) -> list[LedgerEntry]:
        """Return the entries of a request or batch, newest first; of an item also what its batch held."""
        found: dict[str, LedgerEntry] = {}
        for start in self._moments(subject):
            for entry in self._settled(account_id, subject, start):
                found[entry.entry_id] = entry
        return sorted(found.values(), key=lambda entry: entry_place(entry.entry_id), reverse=True)

    def _moments(self, subject: str) -> list[int]:
        """Return from when on to look (Unix ms): as the record says, or, if that is gone, as the id does."""
        name = keys.batch(subject) if subject.startswith(f"{ids.BATCH}_") else keys.request(subject)
        known = self._redis.hmget(name, "created_at", "cancelled_at", "finished_at")
        times = {int(at) - 1 for at in known if at is not None and is_whole(at)}
        return sorted(times) or [ids.born_ms(subject) - CLOCKS_APART_MS]

    def _settled(self, account_id: str, subject: str, start: int) -> Iterator[LedgerEntry]:
        """Yield entries of ``subject`` from ``start`` on, until it is settled or `SCAN_MOST` were read."""
        wanted, low, settled = {subject, ids.batch_of(subject)}, f"{max(start, 0)}-0", False
        for _ in range(0, SCAN_MOST, SCAN_CHUNK):
            rows = self._redis.xrange(keys.ledger(account_id), min=low, max="+", count=SCAN_CHUNK)
            for entry_id, fields in rows:
                mine = fields.get("request") in wanted
                if settled and not mine:
                    return  # what settles a request is written in one step
                entry = read(ledger_entry, entry_id, fields) if mine else None
                if entry is not None:
                    yield entry
                    settled = settled or entry.type in {CHARGE, RELEASE}
            if len(rows) < SCAN_CHUNK:
                return
            low = f"({rows[-1][0]}"


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


def uncounted(account_id: str) -> BrokenRow:
    """Return what is raised where a script found credits it cannot count with."""
    return BrokenRow(f"credits of {account_id}", "'balance' or 'held' is no number that can be counted with")


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
        named = zip(("balance", "held"), values, strict=True)
        fields = {name: value for name, value in named if value is not None}
        balance, held = (
            whole(fields, name, 0, least=-COUNTED_MOST, most=COUNTED_MOST) for name in ("balance", "held")
        )
        return Balance(balance, held)
