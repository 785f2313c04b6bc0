"""Requests, batches, watches, and how they reach the workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from service.domain.accounts import LimitState
from service.domain.batches import BatchRecord, BatchSubmission
from service.domain.errors import LeaseLost
from service.domain.requests import Claim, Ending, Owed, Page, RequestRecord, Submission
from service.domain.sharing import Flight, Landing, Shared
from service.domain.watches import Watch


class Waiter(Protocol):
    """Listens for the end of one request; obtained before the state is looked at."""

    def wait(self, seconds: float) -> bool:
        """Block until the request ends or ``seconds`` pass; tell whether it ended."""
        ...


Counted = Callable[[Sequence[LimitState]], None]


class RequestStore(Protocol):
    """The life of requests."""

    def submit(self, submission: Submission, counted: Counted | None = None) -> RequestRecord:
        """Store a request and hold its price in one step; put it into the bulk queue if it is for that.

        Given ``counted``, the call counts against the account's rate limits, and that is told their
        state: it raises RateLimited when one was reached, and nothing is done. Returns the request as
        stored: with a known idempotency key the original one, under its own id, and nothing is held
        again; so with a watch of which a request is open. Raises InsufficientCredits,
        IdempotencyKeyReuse, and Conflict when the watch is paused or gone.
        """
        ...

    def get(self, request_id: str) -> RequestRecord | None: ...
    def look(self, request_id: str, account_id: str) -> RequestRecord | None:
        """As `get`, with all that an answer tells: its envelope and what the account has available."""
        ...

    def get_many(self, request_ids: Sequence[str]) -> list[RequestRecord | None]: ...
    def envelopes(self, request_ids: Sequence[str]) -> Iterator[bytes | None]: ...
    def envelope(self, request_id: str) -> bytes | None:
        """Return the final envelope (JSON), or None before the end or after its lifetime."""
        ...

    def waiter(self, request_id: str) -> AbstractContextManager[Waiter]: ...

    def page(
        self, account_id: str, *, status: str | None, username: str | None, cursor: str | None, limit: int
    ) -> Page[RequestRecord]: ...

    def claim(self, request_id: str, batch_id: str | None = None) -> Claim | None:
        """Take the request for work; None when it has ended or another worker holds it.

        An item of a batch is counted there: ``batch_id`` is that of its record.
        """
        ...

    def claim_many(self, records: Sequence[RequestRecord]) -> list[Claim | None]: ...
    def renew(self, claim: Claim) -> None:
        """Prolong the lease. Raises LeaseLost."""
        ...

    def renew_many(self, claims: Sequence[Claim]) -> None:
        """Prolong the leases of those that are still held."""
        ...

    def release(self, claim: Claim, delay: float | None = None) -> None:
        """Give a claimed request back, as if it had not been taken up. Raises LeaseLost.

        With a ``delay`` (seconds) it waits for an Instagram session: it is published again then, and
        the wait is added to its ``parked``.
        """
        ...

    def park(self, record: RequestRecord, delay: float) -> bool:
        """Make a queued request wait for a session as well; False when it is not queued (any more)."""
        ...

    def finish_many(self, endings: Sequence[tuple[Claim, Ending]]) -> list[Owed | LeaseLost | None]:
        """End claimed requests, each on its own; return what each owes, or why it was not ended."""
        ...

    def abandon(self, request_id: str) -> bool:
        """Make an open request free, for nobody gets its result; False when it has ended."""
        ...

    def cancel(self, request: RequestRecord, ending: Ending) -> Owed | None:
        """End a queued request; return the delivery it owes. Raises Conflict."""
        ...

    def trim(self, account_id: str) -> int:
        """Drop ids past their lifetime from the account's list; return how many."""
        ...

    def stranded(self, limit: int) -> list[RequestRecord]:
        """Return open requests nobody works on, and postpone their next look."""
        ...

    def postpone(self, request_id: str) -> int:
        """Look again after twice the wait; return how often it was looked in vain, 0 after the end."""
        ...

    def leave(self, request_ids: Sequence[str]) -> None:
        """Look at open requests much later: they stand in the bulk queue."""
        ...


class BatchStore(Protocol):
    """Batches; their items are requests like others."""

    def submit(self, submission: BatchSubmission) -> BatchRecord:
        """Store a batch and hold the price of all its items in one step.

        With ``clamp`` it has as many items as the balance pays for. Returns the batch as stored: with a known
        idempotency key the original one, under its own id. Raises InsufficientCredits, IdempotencyKeyReuse,
        and RateLimited when there is no room for so many names, or too much has ended free of charge.
        """
        ...

    def get(self, batch_id: str) -> BatchRecord | None: ...
    def page(self, account_id: str, *, cursor: str | None, limit: int) -> Page[BatchRecord]: ...
    def cancel(self, batch: BatchRecord, envelopes: Mapping[str, bytes]) -> list[Owed]:
        """Mark a batch cancelled and end what is queued of it, in one step with one entry in the ledger.

        ``envelopes`` (JSON) are those of the items that may be queued, by their ids. Returns the deliveries
        that are owed. Nothing happens to one that has ended.
        """
        ...

    def trim(self, account_id: str) -> int:
        """Drop ids past their lifetime from the account's list; return how many."""
        ...


class WatchStore(Protocol):
    """Watches, and what each has seen and is owed."""

    def add(self, watch: Watch, idempotency_key: str | None = None) -> Watch:
        """Store a watch, active and due at once. Raises Conflict when the account has too many."""
        ...

    def get(self, watch_id: str) -> Watch | None: ...
    def page(self, account_id: str, *, cursor: str | None, limit: int) -> Page[Watch]: ...
    def pause(self, watch_id: str, reason: str) -> Watch | None:
        """Pause a watch; one that is paused keeps its reason. None when there is none."""
        ...

    def resume(self, watch_id: str) -> Watch | None:
        """Make a paused watch active, its next run due at once. None when there is none."""
        ...

    def skip_if_disabled(self, watch: Watch, next_in: int) -> bool:
        """Leave out a run when the watch's account is disabled, and plan the next one; tell whether it is.

        ``next_in`` is in milliseconds. One round trip.
        """
        ...

    def remove(self, watch: Watch) -> bool: ...
    def seen(self, watch_id: str, items: Sequence[str]) -> frozenset[str]:
        """Return which of these items the watch has delivered."""
        ...

    def owed(self, watch_id: str) -> list[tuple[str, int]]:
        """Return requests whose webhook may not have arrived, and when they ended (Unix ms), oldest first."""
        ...

    def settle(self, watch_id: str, request_ids: Sequence[str]) -> None:
        """Owe these no longer."""
        ...

    def overdue(self, limit: int) -> list[str]:
        """Return watches whose run should have begun, and postpone their next look."""
        ...

    def active(self) -> Iterator[list[Watch]]:
        """Yield all active watches, some at a time."""
        ...


class Schedules(Protocol):
    """When watches run. Raises StoreUnavailable when beat's schedule cannot be read or written."""

    def check(self, every: str, least: int) -> str:
        """Return ``every`` as it is kept.

        Raises ValidationFailed naming ``every`` when it is neither an interval nor a cron expression, or
        leaves less than ``least`` seconds between two runs.
        """
        ...

    def next_after(self, every: str, at_ms: int) -> int:
        """Return when the next run after ``at_ms`` is due, both in Unix milliseconds."""
        ...

    def put(self, watch: Watch) -> None:
        """Have beat run a watch, at once and from then on."""
        ...

    def remove(self, watch_id: str) -> None: ...
    def entries(self) -> frozenset[str]:
        """Return the ids of the watches beat runs."""
        ...


class ReelStore(Protocol):
    """Results that are shared, and who fetches one right now."""

    def get(self, key: str) -> tuple[Shared | None, int]:
        """Return what may be shared of an ask (`Ask.key`), and the store's time (Unix ms)."""
        ...

    def get_many(self, names: Sequence[str]) -> tuple[list[Shared | None], int]: ...
    def board(self, key: str, request_id: str) -> Flight | None:
        """Begin a fetch; None when somebody fetches already: then the request waits for that."""
        ...

    def board_many(self, requests: Sequence[RequestRecord]) -> list[Flight | None]: ...

    def land(self, flight: Flight, landing: Landing | None) -> list[str]:
        """End a fetch with what may be shared (None: nothing); return the ids of those who waited."""
        ...

    def land_many(self, landings: Sequence[tuple[Flight, Landing | None]]) -> list[list[str]]: ...


class BulkStore(Protocol):
    """Requests nobody waits for, in the order in which accounts take turns."""

    def push(self, account_id: str, request_ids: Sequence[str]) -> int:
        """Put requests of an account at the end of its turns.

        Returns for how many of them workers are to be called: none for those that stood there already, nor
        for a single one when a worker was called and has not come yet.
        """
        ...

    def take(self, count: int) -> list[str]:
        """Take up to ``count`` requests whose turn it is."""
        ...

    def absent(self, request_ids: Sequence[str]) -> list[str]:
        """Return those that do not stand in the queue."""
        ...

    def remove(self, request_ids: Sequence[str]) -> None: ...
    def waiting(self) -> int: ...


class Queue(Protocol):
    """Hints to the workers. The store is the truth; a hint may get lost or come twice."""

    def enqueue(self, task: str, queue: str, *args: str) -> bool:
        """Publish a task; False (never an error) when the broker did not take it."""
        ...

    def depths(self) -> dict[str, int]: ...
