"""What things cost, and the kinds of ledger entries.

A price is per operation and outcome. The highest price an operation can end with is held when the
request is accepted; what the outcome costs is charged when it ends, the rest is released.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from service.domain import ids
from service.domain.errors import ConfigurationError
from service.domain.operations import CACHED, EMPTY, FOUND, NOTHING_NEW, OPERATIONS, Operation
from service.domain.options import PLAIN, Options

TOPUP = "topup"
HOLD = "hold"
CHARGE = "charge"
RELEASE = "release"
ADJUSTMENT = "adjustment"

ENTRY_TYPES = frozenset({TOPUP, HOLD, CHARGE, RELEASE, ADJUSTMENT})

# Credits in one amount, and on one account. The store counts in floating point, exactly up to 2**53.
AMOUNT_MOST = 10**12
PRICE_MOST = 10**6
# What can stand in the store as credits: as lua/parts/credits.lua has it.
COUNTED_MOST = 10**15 - 1

# Beside an account's credits: ids of ledger entries, up to which it was tidied, and from where to read on.
TIDYING = TIDIED, TIDY_FROM = "tidied", "tidy_from"

PAID = (FOUND, EMPTY, CACHED, NOTHING_NEW)


def tariff_of(operation: str, kind: str) -> str:
    """Return the name of the prices of a HikerAPI-compatible call, by the kind of its target."""
    return f"hiker_{operation}_by_{kind}"


def _tariffs(operation: Operation) -> dict[str, Mapping[str, int]]:
    """Return the prices of an operation, and of the HikerAPI-compatible calls for it."""
    native = operation.prices
    tariffs = {operation.name: native}
    for kind, reqs in operation.reqs.items():
        prices = {outcome: reqs if outcome in PAID else 0 for outcome in native if outcome != NOTHING_NEW}
        tariffs[tariff_of(operation.name, kind)] = prices
    return {name: MappingProxyType(prices) for name, prices in tariffs.items()}


DEFAULT_PRICES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {name: prices for operation in OPERATIONS.values() for name, prices in _tariffs(operation).items()}
)


@dataclass(frozen=True)
class PriceList:
    """Prices in whole credits: operation or tariff -> outcome -> price."""

    prices: Mapping[str, Mapping[str, int]]

    def hold_for(self, operation: str, options: Options = PLAIN) -> int:
        """Return the most that ``operation`` can cost."""
        return self._discounted(max(self.prices[options.tariff or operation].values()), options)

    def charge_for(self, operation: str, outcome: str, held: int, options: Options = PLAIN) -> int:
        """Return what ``outcome`` costs, never more than was held when the request was accepted.

        A price raised in between does not reach requests that are under way.
        """
        prices = self.prices[options.tariff or operation]
        return min(self._discounted(prices.get(outcome, 0), options), held)

    @staticmethod
    def _discounted(price: int, options: Options) -> int:
        """A HikerAPI-compatible call that does without the question for privacy costs one less."""
        return max(price - 1, 0) if options.force and options.tariff else price


def price_list(changes: Mapping[str, Mapping[str, int]]) -> PriceList:
    """Return the default prices with ``changes`` laid over them.

    Raises ConfigurationError on an unknown operation or outcome, or a price that is no whole number from 0 to
    a million.
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
    if not isinstance(price, int) or isinstance(price, bool) or not 0 <= price <= PRICE_MOST:
        raise ConfigurationError(
            f"PRICES: {operation}.{outcome} must be a whole number from 0 to {PRICE_MOST}"
        )


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
    ``request_id`` is that of a batch where the price of all its items was held in one step, or what was left
    of it released.
    """

    entry_id: str
    type: str
    amount: int
    balance_after: int
    held_after: int
    request_id: str | None
    note: str | None
    at: int

    @property
    def batch_id(self) -> str | None:
        """The batch whose price was held or released as a whole, None for any other entry."""
        subject = self.request_id
        return subject if subject is not None and subject.startswith(f"{ids.BATCH}_") else None


def entry_place(entry_id: str) -> tuple[int, int]:
    """Return where in its ledger an entry stands, in a form that compares."""
    at, _, number = entry_id.partition("-")
    return int(at), int(number or 0)
