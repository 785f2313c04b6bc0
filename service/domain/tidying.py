"""What a ledger may lose: the holds that are closed, once nobody asks for them any more. Pure functions.

What was charged, topped up or adjusted stays for good, for it makes the balance. A hold and what was released
of it cancel each other out, and an account may have any number of them for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from service.domain import ids
from service.domain.credits import CHARGE, HOLD, RELEASE, LedgerEntry, entry_place


@dataclass
class _Open:
    """A hold, what is left of it, and its entries that change no balance."""

    left: int
    entries: list[str] = field(default_factory=list)


@dataclass
class Tidying:
    """Entries of a ledger read from one of its holds on, oldest first; ``closed`` what may go, hold by hold.

    What belongs to a hold before the first entry read is left alone.
    """

    closed: list[list[str]] = field(default_factory=list)
    _open: dict[str, _Open] = field(default_factory=dict)

    def read(self, entries: Iterable[LedgerEntry]) -> None:
        """Take further entries."""
        for entry in entries:
            subject = entry.request_id or ""
            if entry.type == HOLD:
                self._open[subject] = _Open(-entry.amount, [entry.entry_id])
            elif entry.type in {RELEASE, CHARGE}:
                self._settle(subject, entry)

    def _settle(self, subject: str, entry: LedgerEntry) -> None:
        holder = subject if subject in self._open else ids.batch_of(subject)
        hold = self._open.get(holder)
        if hold is None:
            return
        hold.left -= abs(entry.amount)
        if entry.type == RELEASE:
            hold.entries.append(entry.entry_id)
        if hold.left <= 0:
            self.closed.append(self._open.pop(holder).entries)

    def since(self, end: str) -> str:
        """Return the id of the oldest hold that is open, ``end`` when there is none."""
        return min((hold.entries[0] for hold in self._open.values()), key=entry_place, default=end)
