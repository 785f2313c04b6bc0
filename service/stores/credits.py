"""Balances and ledgers in Redis. Holds, charges and releases are written by the request scripts."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence

from service.domain import ids
from service.domain.credits import AMOUNT_MOST, CHARGE, RELEASE, Balance, LedgerEntry, entry_place
from service.domain.errors import BrokenRecord, InsufficientCredits, ValidationFailed
from service.domain.requests import Page
from service.stores import keys, scripts
from service.stores.connection import Client, store_adapter

SCAN_CHUNK = 500
SCAN_MOST = 2_000  # entries from each moment on
CLOCKS_APART_MS = 5_000
# As credit.lua has it: what floating point counts exactly, up to 2**53.
_WHOLE = re.compile(r"-?[0-9]{1,15}")


_BROKEN = "The credits of this account are no numbers in the store. The operator has to look at it."


@store_adapter
class Credits:
    """CreditStore over Redis."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._credit = scripts.load(redis, "credit")

    def balance(self, account_id: str) -> Balance:
        return balance_of(self._redis.hmget(keys.credits(account_id), "balance", "held"))

    def add(self, account_id: str, amount: int, *, entry_type: str, note: str) -> Balance:
        answer = self._credit(
            keys=[keys.credits(account_id), keys.ledger(account_id)],
            args=[amount, entry_type, note, uuid.uuid4().hex, AMOUNT_MOST],
        )
        if answer[0] == "broken":
            raise BrokenRecord(_BROKEN)
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
            found = [ledger_entry(entry_id, fields) for entry_id, fields in rows]
            return Page(found, found[-1].entry_id if len(found) == limit else None)
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
        times = {int(at) - 1 for at in known if at is not None}
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
                if mine:
                    yield ledger_entry(entry_id, fields)
                    settled = settled or fields["type"] in {CHARGE, RELEASE}
            if len(rows) < SCAN_CHUNK:
                return
            low = f"({rows[-1][0]}"


def ledger_entry(entry_id: str, fields: dict[str, str]) -> LedgerEntry:
    """Turn a row of the ledger stream into an entry."""
    return LedgerEntry(
        entry_id=entry_id,
        type=fields["type"],
        amount=int(fields["amount"]),
        balance_after=int(fields["balance"]),
        held_after=int(fields["held"]),
        request_id=fields.get("request"),
        note=fields.get("note"),
        at=int(fields["at"]),
    )


def balance_of(fields: Sequence[str | None]) -> Balance:
    """Read the fields ``balance`` and ``held`` of an account's credits. Raises BrokenRecord."""
    balance, held = (field or "0" for field in fields)
    if not _WHOLE.fullmatch(balance) or not _WHOLE.fullmatch(held):
        raise BrokenRecord(_BROKEN)
    return Balance(int(balance), int(held))
