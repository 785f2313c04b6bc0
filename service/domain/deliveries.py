"""Webhook deliveries: their states and the retry schedule, a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from service.domain.ids import BATCH

PENDING = "pending"
DELIVERED = "delivered"
EXHAUSTED = "exhausted"  # every attempt failed; it can be replayed
GONE = "gone"  # the receiver answered 410
BLOCKED = "blocked"  # it leads where this service does not go

STATES = (PENDING, DELIVERED, EXHAUSTED, GONE, BLOCKED)
FAILED_STATES = frozenset({EXHAUSTED, GONE, BLOCKED})

# What happened instead of an answer.
BLOCKED_ADDRESS = "blocked"
DNS_NOT_FOUND = "dns_not_found"
DNS_UNAVAILABLE = "dns_unavailable"
CONNECT_TIMEOUT = "connect_timeout"
CONNECTION_FAILED = "connection_failed"
TLS_ERROR = "tls_error"
TIMEOUT = "timeout"
BAD_ANSWER = "bad_answer"
RESULT_EXPIRED = "result_expired"
# No attempt at all: others' look-ups of names, of the same account mostly, have to end first.
LOOKUPS_BUSY = "lookups_busy"
LOOKUPS_BUSY_WAIT = 3.0

# Perhaps not the receiver's doing: these use up no attempt, the first few times. A name server that gives no
# answer may be ours or theirs, and theirs may be meant to give none.
OWN_TROUBLE = frozenset({DNS_UNAVAILABLE})
OWN_TROUBLE_WAIT = 30
SPARED_MOST = 10
# The receiver's machine is in trouble or asks for less, not just this one hook.
HOST_TROUBLE_STATUS = frozenset({429, 502, 503, 504})
# Nothing was sent: these tell nothing about the host.
NOT_TRIED = OWN_TROUBLE | {BLOCKED_ADDRESS, RESULT_EXPIRED}
HOST_TROUBLE_ERRORS = frozenset({CONNECT_TIMEOUT, TIMEOUT})

# Held back by `Hosts`: how many attempts at a time, and when a host gets a rest.
HOST_SLOW_SECONDS = 60
INSTANT_RETRY_WITHIN = 1.0

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
    retry_after: float | None = None

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300

    @property
    def host_failed(self) -> bool:
        """Whether it speaks against the whole host.

        A 404 or 401 is about one hook; many customers share a host such as a no-code tool's.
        """
        broken = bool(self.error) and self.error not in NOT_TRIED
        return broken or self.status >= 500 or self.status == 429

    @property
    def is_own_trouble(self) -> bool:
        """Whether it failed on our side, the receiver having no part in it."""
        return self.error in OWN_TROUBLE

    @property
    def host_in_trouble(self) -> bool:
        """Whether the host should get fewer attempts for a while."""
        return self.status in HOST_TROUBLE_STATUS or self.error in HOST_TROUBLE_ERRORS

    @property
    def worth_an_instant_retry(self) -> bool:
        """Whether the connection broke so soon that a stale or restarting one is likely."""
        return self.error == CONNECTION_FAILED and self.duration < INSTANT_RETRY_WITHIN


@dataclass(frozen=True)
class Delivery:
    """A webhook that is owed. Times are Unix milliseconds.

    ``request_id`` is that of a batch when it tells of a whole one. ``attempts`` counts all that were made,
    ``tries`` those since it was scheduled or replayed, ``spared`` those since then that used up none;
    ``leased`` tells that an attempt is under way.
    """

    delivery_id: str
    account_id: str
    request_id: str
    url: str
    host: str
    status: str
    attempts: int
    tries: int
    created_at: int
    started_at: int
    next_at: int = 0
    leased: bool = False
    repeats: bool = True
    spared: int = 0

    @property
    def is_of_batch(self) -> bool:
        return self.request_id.startswith(BATCH)


@dataclass(frozen=True)
class DeliveryClaim:
    """A deliverer's right to make the next attempt, proven by ``fence``."""

    delivery: Delivery
    fence: int
    body: bytes | None = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """What follows an attempt: the new state, the wait in seconds while it stays pending, and
    whether the attempt counts against the schedule."""

    status: str
    wait: float = 0.0
    counts: bool = True


def plan(attempt: Attempt, tries: int, schedule: Sequence[int], chance: float, *, spared: int = 0) -> Plan:
    """Decide what follows an attempt, the ``tries``-th of the schedule (1 = the first).

    ``chance`` in [0, 1) spreads the wait by +-20 %, so that receivers that failed together are not
    tried together again. ``spared`` is how many attempts used up none because of trouble that may be our
    own: past SPARED_MOST each one counts, and the schedule outlasts days of such trouble.
    """
    if attempt.succeeded:
        return Plan(DELIVERED)
    if attempt.status == 410:
        return Plan(GONE)
    if attempt.error == BLOCKED_ADDRESS:
        return Plan(BLOCKED)
    if attempt.is_own_trouble and schedule and spared < SPARED_MOST:
        return Plan(PENDING, spread(OWN_TROUBLE_WAIT, chance), counts=False)
    if tries > len(schedule) or attempt.error == RESULT_EXPIRED:
        return Plan(EXHAUSTED)
    base = schedule[tries - 1]
    wait = spread(base, chance)
    if attempt.retry_after is not None:
        wait = min(max(wait, attempt.retry_after), 2.0 * base)
    return Plan(PENDING, wait)


def spread(seconds: float, chance: float) -> float:
    """Return ``seconds`` changed by up to 20 % either way; ``chance`` in [0, 1) picks where."""
    return seconds * (1 - JITTER + 2 * JITTER * chance)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Read a Retry-After header (RFC 9110, 10.2.3): seconds, or an HTTP date. None when unreadable."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - now).total_seconds(), 0.0)


def longest(schedule: Sequence[int]) -> float:
    """Return the seconds from the first to the last attempt when every wait runs long.

    A receiver's Retry-After may double a wait.
    """
    return sum(schedule) * 2.0
