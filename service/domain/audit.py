"""Does the ledger add up? Pure functions over what the stores hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from service.domain import ids
from service.domain.credits import CHARGE, HOLD, RELEASE, Balance, LedgerEntry, entry_place


@dataclass(frozen=True)
class Difference:
    """Something that does not add up. ``kind`` is a stable word, ``where`` an id."""

    kind: str
    where: str
    text: str


@dataclass
class Fold:
    """A ledger read from its start: what the balance has to be, and which holds are open.

    A batch holds the price of all its items in one entry: what is left of that is under the batch's id.
    ``settled`` remembers what each ended request was charged, until it is asked for, and ``batches`` those
    that had a hold. Up to ``tidied`` (the id of an entry) only charges are left of holds that are closed.
    """

    tidied: str | None = None
    balance: int = 0
    held: int = 0
    entries: int = 0
    last: str | None = None
    open_holds: dict[str, int] = field(default_factory=dict)
    settled: dict[str, int] = field(default_factory=dict)
    batches: set[str] = field(default_factory=set)
    differences: list[Difference] = field(default_factory=list)

    def read(self, entries: Iterable[LedgerEntry]) -> None:
        """Take further entries, oldest first."""
        for entry in entries:
            self.entries += 1
            self.last = entry.entry_id
            tidied = self.is_tidied(entry.entry_id)
            self._apply(entry, tidied=tidied)
            held = self.held if tidied else entry.held_after
            if (entry.balance_after, held) != (self.balance, self.held):
                text = f"says {entry.balance_after}/{entry.held_after}, adds up to {self.balance}/{self.held}"
                self.differences.append(Difference("running_total", entry.entry_id, text))
                self.balance, self.held = entry.balance_after, held

    def is_tidied(self, entry_id: str) -> bool:
        """Tell whether entries about here may be gone."""
        return self.tidied is not None and entry_place(entry_id) <= entry_place(self.tidied)

    def released_by(self, entry_id: str) -> bool:
        """Tell whether an entry is among those that were read."""
        return self.last is not None and entry_place(entry_id) <= entry_place(self.last)

    def _apply(self, entry: LedgerEntry, *, tidied: bool) -> None:
        request_id = entry.request_id or ""
        if entry.type == HOLD:
            self.held -= entry.amount
            self._hold(request_id, -entry.amount)
        elif entry.type == RELEASE:
            self.held -= entry.amount
            self._settle(request_id, entry.amount, charged=0)
        elif entry.type == CHARGE:
            self.balance += entry.amount
            if tidied and self._hold_of(request_id) is None:  # its hold is gone, as it is closed
                self.settled[request_id] = self.settled.get(request_id, 0) - entry.amount
                return
            self.held += entry.amount
            self._settle(request_id, -entry.amount, charged=-entry.amount)
        else:
            self.balance += entry.amount
        if self.balance < 0 or self.held < 0 or self.held > self.balance:
            text = f"balance {self.balance}, held {self.held}"
            self.differences.append(Difference("impossible_balance", entry.entry_id, text))

    def _hold_of(self, request_id: str) -> str | None:
        """Return under which id the price of a request is held: its own, or that of its batch."""
        if request_id in self.open_holds:
            return request_id
        batch_id = ids.batch_of(request_id)
        return batch_id if batch_id in self.open_holds else None

    def _hold(self, request_id: str, amount: int) -> None:
        if request_id in self.open_holds or request_id in self.settled:
            self.differences.append(Difference("held_twice", request_id, f"{amount} held again"))
        if request_id.startswith(f"{ids.BATCH}_"):
            self.batches.add(request_id)
        self.open_holds[request_id] = self.open_holds.get(request_id, 0) + amount

    def _settle(self, request_id: str, amount: int, *, charged: int) -> None:
        holder = self._hold_of(request_id) or request_id
        left = self.open_holds.get(holder, 0) - amount
        if left < 0:
            self.differences.append(Difference("settled_twice", request_id, f"{amount} more than was held"))
        if left > 0:
            self.open_holds[holder] = left
        else:
            self.open_holds.pop(holder, None)
        self.settled[request_id] = self.settled.get(request_id, 0) + charged

    def compare(self, account_id: str, balance: Balance) -> None:
        """Compare with the balance stored at the moment of the last entry read."""
        if (balance.balance, balance.held) != (self.balance, self.held):
            text = (
                f"stored {balance.balance} with {balance.held} held, "
                f"the ledger adds up to {self.balance} with {self.held} held"
            )
            self.differences.append(Difference("balance", account_id, text))
