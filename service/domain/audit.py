"""Does the ledger add up? Pure functions over what the stores hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from service.domain.credits import CHARGE, HOLD, RELEASE, Balance, LedgerEntry


@dataclass(frozen=True)
class Difference:
    """Something that does not add up. ``kind`` is a stable word, ``where`` an id."""

    kind: str
    where: str
    text: str


@dataclass
class Fold:
    """A ledger read from its start: what the balance has to be, and which holds are open.

    ``settled`` remembers what each ended request was charged, until it is asked for.
    """

    balance: int = 0
    held: int = 0
    entries: int = 0
    open_holds: dict[str, int] = field(default_factory=dict)
    settled: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    def read(self, entries: Iterable[LedgerEntry]) -> None:
        """Take further entries, oldest first."""
        for entry in entries:
            self.entries += 1
            self._apply(entry)
            if (entry.balance_after, entry.held_after) != (self.balance, self.held):
                text = f"says {entry.balance_after}/{entry.held_after}, adds up to {self.balance}/{self.held}"
                self.differences.append(Difference("running_total", entry.entry_id, text))
                self.balance, self.held = entry.balance_after, entry.held_after

    def _apply(self, entry: LedgerEntry) -> None:
        request_id = entry.request_id or ""
        if entry.type == HOLD:
            self.held -= entry.amount
            self._hold(request_id, -entry.amount)
        elif entry.type == RELEASE:
            self.held -= entry.amount
            self._settle(request_id, entry.amount, charged=0)
        elif entry.type == CHARGE:
            self.balance += entry.amount
            self.held += entry.amount
            self._settle(request_id, -entry.amount, charged=-entry.amount)
        else:
            self.balance += entry.amount
        if self.balance < 0 or self.held < 0 or self.held > self.balance:
            text = f"balance {self.balance}, held {self.held}"
            self.differences.append(Difference("impossible_balance", entry.entry_id, text))

    def _hold(self, request_id: str, amount: int) -> None:
        if request_id in self.open_holds or request_id in self.settled:
            self.differences.append(Difference("held_twice", request_id, f"{amount} held again"))
        self.open_holds[request_id] = self.open_holds.get(request_id, 0) + amount

    def _settle(self, request_id: str, amount: int, *, charged: int) -> None:
        left = self.open_holds.get(request_id, 0) - amount
        if left < 0:
            self.differences.append(Difference("settled_twice", request_id, f"{amount} more than was held"))
        if left > 0:
            self.open_holds[request_id] = left
        else:
            self.open_holds.pop(request_id, None)
        self.settled[request_id] = self.settled.get(request_id, 0) + charged

    def compare(self, account_id: str, balance: Balance) -> None:
        """Compare with the balance stored at the moment of the last entry read."""
        if (balance.balance, balance.held) != (self.balance, self.held):
            text = (
                f"stored {balance.balance} with {balance.held} held, "
                f"the ledger adds up to {self.balance} with {self.held} held"
            )
            self.differences.append(Difference("balance", account_id, text))
