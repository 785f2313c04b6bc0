"""Balances and ledgers in Redis. Holds, charges and releases are written by the request scripts."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence

from service.domain.credits import AMOUNT_MOST, Balance, LedgerEntry
from service.domain.errors import BrokenRecord, InsufficientCredits, ValidationFailed
from service.domain.requests import Page
from service.stores import keys, scripts
from service.stores.connection import Client, store_adapter

SCAN_CHUNK = 500
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
        """Newest first. A filter by request stops at the request's own first entry, its hold."""
        top = f"({cursor}" if cursor else "+"
        chunk = limit if request_id is None else SCAN_CHUNK
        found: list[LedgerEntry] = []
        while True:
            rows = self._redis.xrevrange(keys.ledger(account_id), max=top, min="-", count=chunk)
            for entry_id, fields in rows:
                top = f"({entry_id}"
                if request_id in (None, fields.get("request")):
                    found.append(ledger_entry(entry_id, fields))
                    if len(found) == limit:
                        return Page(found, entry_id)
                    if request_id is not None and fields["type"] == "hold":
                        return Page(found, None)
            if len(rows) < chunk:
                return Page(found, None)


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
