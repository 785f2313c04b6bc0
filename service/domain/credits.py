"""What things cost, and the kinds of ledger entries.

A price is per operation and outcome. The highest price an operation can end with is held when the
request is accepted; what the outcome costs is charged when it ends, the rest is released.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from service.domain.errors import ConfigurationError

STORIES = "stories"

FOUND = "found"
EMPTY = "empty"
CACHED = "cached"  # found or empty, and fetched for somebody else
NOTHING_NEW = "nothing_new"  # a watch found only what it had delivered before

TOPUP = "topup"
HOLD = "hold"
CHARGE = "charge"
RELEASE = "release"
ADJUSTMENT = "adjustment"

DEFAULT_PRICES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        STORIES: MappingProxyType(
            {
                FOUND: 1,
                EMPTY: 1,
                CACHED: 1,
                NOTHING_NEW: 0,
                "account_private": 0,
                "user_not_found": 0,
                "upstream_blocked": 0,
                "upstream_timeout": 0,
                "upstream_error": 0,
                "opted_out": 0,
            }
        )
    }
)


@dataclass(frozen=True)
class PriceList:
    """Prices in whole credits: operation -> outcome -> price."""

    prices: Mapping[str, Mapping[str, int]]

    def hold_for(self, operation: str) -> int:
        """Return the most that ``operation`` can cost."""
        return max(self.prices[operation].values())

    def charge_for(self, operation: str, outcome: str, held: int) -> int:
        """Return what ``outcome`` costs, never more than was held when the request was accepted.

        A price raised in between does not reach requests that are under way.
        """
        return min(self.prices[operation].get(outcome, 0), held)


def price_list(changes: Mapping[str, Mapping[str, int]]) -> PriceList:
    """Return the default prices with ``changes`` laid over them.

    Raises ConfigurationError on an unknown operation or outcome, or a price that is no whole number >= 0.
    """
    merged = {operation: dict(prices) for operation, prices in DEFAULT_PRICES.items()}
    for operation, outcomes in changes.items():
        if operation not in merged:
            raise ConfigurationError(f"PRICES: unknown operation {operation!r}; known: {', '.join(merged)}")
        for outcome, price in outcomes.items():
            _check(operation, outcome, price, merged[operation])
            merged[operation][outcome] = price
    return PriceList(merged)


def _check(operation: str, outcome: str, price: object, known: Mapping[str, int]) -> None:
    if outcome not in known:
        raise ConfigurationError(
            f"PRICES: unknown outcome {outcome!r} of {operation!r}; known: {', '.join(known)}"
        )
    if not isinstance(price, int) or isinstance(price, bool) or price < 0:
        raise ConfigurationError(f"PRICES: {operation}.{outcome} must be a whole number of 0 or more")


@dataclass(frozen=True)
class Balance:
    """An account's credits: what it owns, what of it is set aside for open requests."""

    balance: int
    held: int

    @property
    def available(self) -> int:
        return self.balance - self.held


@dataclass(frozen=True)
class LedgerEntry:
    """One line of the ledger.

    ``amount`` is signed: ``topup``, ``adjustment`` and ``charge`` change the balance by it; ``hold``
    (negative) and ``release`` (positive) change only what is available. ``at`` is Unix milliseconds.
    """

    entry_id: str
    type: str
    amount: int
    balance_after: int
    held_after: int
    request_id: str | None
    note: str | None
    at: int
