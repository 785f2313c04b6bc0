"""Webhook deliveries: their states and the retry schedule, a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

PENDING = "pending"
DELIVERED = "delivered"
EXHAUSTED = "exhausted"
REFUSED = "refused"  # the receiver answered 410 Gone

# The schedule Standard Webhooks recommends: at once, then the waits below, about 76 hours in all.
# https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
DEFAULT_SCHEDULE: tuple[int, ...] = (
    5,
    5 * 60,
    30 * 60,
    2 * 3600,
    5 * 3600,
    10 * 3600,
    14 * 3600,
    20 * 3600,
    24 * 3600,
)
JITTER = 0.2


@dataclass(frozen=True)
class Attempt:
    """One try to deliver. ``at`` is Unix seconds (the one that was signed), ``duration`` seconds.

    ``status`` is the HTTP status, or 0 with ``error`` naming what happened instead.
    """

    at: int
    duration: float
    status: int = 0
    error: str = ""
    snippet: str = ""

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Delivery:
    """A webhook that is owed. Times are Unix milliseconds."""

    delivery_id: str
    account_id: str
    request_id: str
    url: str
    status: str
    attempts: int
    created_at: int
    next_at: int = 0


@dataclass(frozen=True)
class DeliveryClaim:
    """A deliverer's right to make the next attempt, proven by ``fence``."""

    delivery: Delivery
    fence: int
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """What follows an attempt: the new state, and the wait in seconds while it stays pending."""

    status: str
    wait: float = 0.0


def plan(attempt: Attempt, attempts_made: int, schedule: Sequence[int], chance: float) -> Plan:
    """Decide what follows the ``attempts_made``-th attempt (1 = the first).

    ``chance`` in [0, 1) spreads the wait by +-20 %, so that receivers that failed together are not
    tried together again.
    """
    if attempt.succeeded:
        return Plan(DELIVERED)
    if attempt.status == 410:
        return Plan(REFUSED)
    if attempts_made > len(schedule):
        return Plan(EXHAUSTED)
    wait = schedule[attempts_made - 1]
    return Plan(PENDING, wait * (1 - JITTER + 2 * JITTER * chance))


def longest(schedule: Sequence[int]) -> float:
    """Return the seconds from the first to the last attempt when every wait runs long."""
    return sum(schedule) * (1 + JITTER)
