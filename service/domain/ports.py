"""What the actions and workers need of the outside, as narrow protocols.

The adapters are in `service.stores`, `service.queue` and `service.auth`; `service.bootstrap` puts
them together. Every store method raises StoreUnavailable when the store does not answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from service.domain.accounts import Account, ApiKey, LimitState, WebhookSecrets
from service.domain.backups import (
    AccountCopy,
    BatchCopy,
    CountersCopy,
    IdempotencyCopy,
    PoolCopy,
    Record,
    RequestCopy,
    SessionCopy,
    WatchCopy,
)
from service.domain.batches import BatchRecord, BatchSubmission
from service.domain.credits import Balance, LedgerEntry
from service.domain.deliveries import Attempt, Delivery, DeliveryClaim, Plan
from service.domain.errors import SessionVerdict
from service.domain.instagram import Known, Leased, Missing, SessionRecord, Unavailable
from service.domain.policy import Policy
from service.domain.requests import Claim, Ending, Owed, Page, RequestRecord, Submission
from service.domain.sharing import Flight, Landing, Shared
from service.domain.watches import Watch


class Waiter(Protocol):
    """Listens for the end of one request; obtained before the state is looked at."""

    def wait(self, seconds: float) -> bool:
        """Block until the request ends or ``seconds`` pass; tell whether it ended."""
        ...


class RequestStore(Protocol):
    """The life of requests."""

    def submit(self, submission: Submission) -> RequestRecord:
        """Store a request and hold its price in one step.

        Returns the request as stored: with a known idempotency key the original one, under its own
        id, and nothing is held again; so with a watch of which a request is open. Raises
        InsufficientCredits, IdempotencyKeyReuse, and Conflict when the watch is paused or gone.
        """
        ...

    def get(self, request_id: str) -> RequestRecord | None: ...
    def get_many(self, request_ids: Sequence[str]) -> list[RequestRecord | None]: ...
    def envelopes(self, request_ids: Sequence[str]) -> list[bytes | None]: ...
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

    def finish(self, claim: Claim, ending: Ending) -> Owed | None:
        """End a claimed request; return the delivery it owes. Raises LeaseLost."""
        ...

    def cancel(self, request: RequestRecord, ending: Ending) -> Owed | None:
        """End a queued request; return the delivery it owes. Raises Conflict."""
        ...

    def cancel_many(self, endings: Sequence[tuple[RequestRecord, Ending]]) -> list[Owed]:
        """End those of these requests that are queued; return the deliveries they owe."""
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
        idempotency key the original one, under its own id. Raises InsufficientCredits, IdempotencyKeyReuse.
        """
        ...

    def get(self, batch_id: str) -> BatchRecord | None: ...
    def page(self, account_id: str, *, cursor: str | None, limit: int) -> Page[BatchRecord]: ...
    def cancel(self, batch_id: str) -> bool:
        """Mark a batch cancelled unless it has ended; tell whether it is marked."""
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
    """Reels that are shared, and who fetches one right now."""

    def get(self, username: str) -> tuple[Shared | None, int]:
        """Return what may be shared of an account, and the store's time (Unix ms)."""
        ...

    def get_many(self, usernames: Sequence[str]) -> tuple[list[Shared | None], int]: ...
    def board(self, username: str, request_id: str) -> Flight | None:
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
        """Put requests of an account at the end of its turns; return how many were not there yet."""
        ...

    def take(self, count: int) -> list[str]:
        """Take up to ``count`` requests whose turn it is."""
        ...

    def absent(self, request_ids: Sequence[str]) -> list[str]:
        """Return those that do not stand in the queue."""
        ...

    def remove(self, request_ids: Sequence[str]) -> None: ...
    def waiting(self) -> int: ...


class CreditStore(Protocol):
    """Balances and ledgers."""

    def balance(self, account_id: str) -> Balance: ...

    def add(self, account_id: str, amount: int, *, entry_type: str, note: str) -> Balance:
        """Change the balance; raises InsufficientCredits when it would fall below what is held."""
        ...

    def ledger(
        self, account_id: str, *, request_id: str | None, cursor: str | None, limit: int
    ) -> Page[LedgerEntry]: ...


class AccountStore(Protocol):
    """Accounts and API keys."""

    def create(self, email: str, password_hash: str) -> Account:
        """Raises Conflict when the address is taken."""
        ...

    def get(self, account_id: str) -> Account | None: ...
    def by_email(self, email: str) -> Account | None: ...
    def all(self) -> list[Account]: ...
    def set_disabled(self, account_id: str, disabled: bool) -> None: ...
    def set_password(self, account_id: str, password_hash: str) -> None: ...
    def add_key(self, key: ApiKey) -> None: ...
    def key(self, key_id: str) -> ApiKey | None: ...
    def keys(self, account_id: str) -> list[ApiKey]: ...
    def remove_key(self, account_id: str, key_id: str) -> bool: ...
    def touch_key(self, key: ApiKey) -> None:
        """Record that the key was used now (kept to the minute)."""
        ...

    def webhook_secrets(self, account_id: str) -> WebhookSecrets: ...
    def rotate_webhook_secret(self, account_id: str) -> WebhookSecrets: ...


class LimitStore(Protocol):
    """Counts calls against limits."""

    def hit(self, account_id: str) -> list[LimitState]:
        """Count one call of an account, unless a limit is exceeded already."""
        ...

    def login_attempt(self, email: str, address: str) -> int:
        """Count one try to log in; return the seconds to wait, 0 when it may go on."""
        ...

    def login_succeeded(self, email: str) -> None: ...


class BookStore(Protocol):
    """What an audit reads, and the one thing it may repair."""

    def closing(self, account_id: str) -> tuple[Balance, str | None]:
        """Return the balance and the id of the ledger's last entry, both of one moment."""
        ...

    def ledger(self, account_id: str, after: str | None, until: str) -> Iterator[list[LedgerEntry]]: ...
    def requests(self, account_id: str) -> Iterator[list[RequestRecord]]: ...
    def batches(self, account_id: str) -> Iterator[list[BatchRecord]]: ...
    def items(self, batch: BatchRecord) -> Iterator[list[RequestRecord]]:
        """Yield pages of a batch's requests that are still kept."""
        ...

    def is_watched(self, request_id: str) -> bool: ...
    def delivery_is_safe(self, request_id: str) -> bool: ...
    def void_hold(self, account_id: str, request_id: str, amount: int) -> bool: ...


class BackupStore(Protocol):
    """What a backup reads, page by page, and what a restore writes.

    ``key_check`` tells the SECRET_KEY of this installation from others, without telling the key;
    ``newest_format`` is the newest format of data this version reads.
    """

    key_check: str
    newest_format: int

    def kind(self) -> tuple[int, int]:
        """Return the format of the data and the number of shards."""
        ...

    def account_ids(self) -> list[str]: ...
    def account(self, account_id: str) -> tuple[AccountCopy, list[WatchCopy], str | None] | None:
        """Return an account, its watches and the id of its ledger's last entry, all of one moment."""
        ...

    def ledger(self, account_id: str, after: str | None, until: str) -> list[LedgerEntry]:
        """Return the next entries, oldest first, from after ``after`` to ``until`` inclusive."""
        ...

    def request_ids(self, account_id: str, below: str | None) -> list[str]:
        """Return the next ids of the account's list, newest first; the last page is empty."""
        ...

    def delivery_ids(self, account_id: str, below: str | None) -> list[str]: ...
    def requests(self, account_id: str, request_ids: Sequence[str]) -> list[RequestCopy]:
        """Return what there is of these requests, each of one moment, without the results."""
        ...

    def batches(self, account_id: str, batch_ids: Sequence[str]) -> list[BatchCopy]:
        """Return what there is of these batches."""
        ...

    def with_results(self, copies: Sequence[RequestCopy]) -> list[RequestCopy]:
        """Return the same with the results that are kept."""
        ...

    def idempotency_keys(self, cursor: int) -> tuple[int, list[IdempotencyCopy]]:
        """Return the next cursor, 0 at the end, and the keys found on the way; one may come twice."""
        ...

    def counters(self, shards: int) -> list[CountersCopy]: ...
    def sessions(self) -> tuple[list[SessionCopy], PoolCopy]: ...
    def target(self) -> tuple[int, str | None]:
        """Return how many accounts there are, and the checksum of the backup being restored, if any."""
        ...

    def begin(self, digest: str) -> None:
        """Mark the store: until `complete` no process starts over it."""
        ...

    def write(self, records: Iterator[Record]) -> None:
        """Write records, replacing what is there under the same names."""
        ...

    def complete(self, data_format: int, shards: int) -> None:
        """Take the mark away."""
        ...


class DeliveryStore(Protocol):
    """Webhooks that are owed. A host is ``name:port``."""

    def claim(self, delivery_id: str, host: str) -> DeliveryClaim | None:
        """Take a due delivery for one attempt; None when it is not due, done, or held."""
        ...

    def defer(self, claim: DeliveryClaim, seconds: float) -> None:
        """Give a claimed delivery back without an attempt."""
        ...

    def record(self, claim: DeliveryClaim, attempt: Attempt, plan: Plan) -> str | None:
        """Store an attempt and what follows it; return the id of another one due at the same host.

        Raises LeaseLost.
        """
        ...

    def due_hosts(self) -> list[tuple[int, str]]:
        """Return (shard, host) wherever a delivery may be due, and postpone the next look."""
        ...

    def due_of_host(self, shard: int, host: str, limit: int, wait: float) -> list[str]:
        """Hand out up to ``limit`` due deliveries; look again in ``wait`` seconds at the earliest."""
        ...

    def get(self, delivery_id: str) -> Delivery | None: ...
    def attempts(self, delivery_id: str) -> list[Attempt]: ...
    def page(
        self,
        account_id: str,
        *,
        statuses: frozenset[str] | None,
        since_ms: int,
        cursor: str | None,
        limit: int,
    ) -> Page[Delivery]: ...
    def backlog(self) -> tuple[int, int]:
        """Return how many deliveries are due and waiting, and for how long the oldest is (ms)."""
        ...

    def replay(self, delivery: Delivery) -> str:
        """Make it due now; return the status it had, or "running" or "expired" and change nothing."""
        ...

    def create_single(self, account_id: str, delivery_id: str, url: str, host: str, body: bytes) -> None:
        """Store a delivery that tells of no request and is tried once."""
        ...

    def trim(self, account_id: str) -> int:
        """Drop ids past their lifetime from the account's list; return how many."""
        ...


class HostStore(Protocol):
    """Receiving hosts: places for attempts in flight, and a circuit."""

    def enter(self, host: str, place: str) -> float:
        """Take a place under a name of its own; return 0, or the seconds to wait when there is none."""
        ...

    def leave(self, host: str, place: str, attempt: Attempt | None) -> None:
        """Give the place back with what came of the attempt (None: nothing to learn from)."""
        ...

    def room(self, host: str) -> tuple[int, float]:
        """Return (free places, seconds to wait when there are none)."""
        ...

    def open_circuits(self) -> list[str]: ...


class SessionStore(Protocol):
    """The pool of Instagram sessions; its secrets leave it only with a lease."""

    def add(self, name: str, settings: dict[str, Any], proxy: str | None = None) -> int: ...
    def remove(self, name: str) -> None: ...
    def list(self) -> Sequence[SessionRecord]: ...
    def lease(
        self, seconds: float, calls: int = 1, least: int = 1, *, gives_way: bool = False
    ) -> Leased | Unavailable:
        """Take a session for up to ``calls`` calls, for ``least`` of them or more.

        Who ``gives_way`` gets none while a caller waits for one; who does not is such a caller.
        """
        ...

    def release(
        self,
        leased: Leased,
        verdict: SessionVerdict | None = None,
        settings: dict[str, Any] | None = None,
        used: int | None = None,
    ) -> int | None:
        """Give a session back with what became of it and how many calls were made (None: not known)."""
        ...

    def wanted(self) -> bool:
        """Tell whether a caller waits for a session: who works for nobody should let go of theirs."""
        ...

    def free(self) -> Unavailable | None:
        """Return why somebody who gives way may use no session now; None when one is free."""
        ...

    def prune(self) -> int:
        """Forget what budgets are over; return how many."""
        ...

    def rest(self, name: str, seconds: int, reason: str = "by_hand") -> None: ...
    def quarantine(self, name: str, reason: str = "by_hand") -> None: ...
    def resume(self, name: str) -> None: ...


class InstagramIdStore(Protocol):
    """Remembers which id an Instagram username has, and for a shorter time whether it is private."""

    def get(self, username: str) -> Known | Missing | None: ...
    def get_many(self, usernames: Sequence[str]) -> list[Known | Missing | None]:
        """Return the same for many, in the order of ``usernames``."""
        ...

    def put(self, username: str, user_id: str, user: dict[str, Any] | None = None) -> None: ...
    def put_many(self, known: Mapping[str, Known]) -> None: ...
    def put_missing(self, username: str) -> None: ...
    def forget(self, username: str) -> None: ...


class StatsStore(Protocol):
    """What /metrics and /readyz show."""

    def ping(self) -> None: ...
    def counters(self) -> dict[str, float]: ...
    def beat(self, worker: str) -> None:
        """Tell that a worker process is alive."""
        ...

    def gone(self, worker: str) -> None:
        """Tell that a worker process has stopped."""
        ...

    def workers(self) -> list[str]: ...
    def beat_leads(self) -> bool:
        """Tell whether some beat holds the lead."""
        ...


class Queue(Protocol):
    """Hints to the workers. The store is the truth; a hint may get lost or come twice."""

    def enqueue(self, task: str, queue: str, *args: str) -> bool:
        """Publish a task; False (never an error) when the broker did not take it."""
        ...

    def depths(self) -> dict[str, int]: ...


class Clock(Protocol):
    def __call__(self) -> int:
        """Return Unix milliseconds."""
        ...


class PasswordHasher(Protocol):
    def hash(self, password: str) -> str: ...
    def verify(self, password_hash: str | None, password: str) -> bool:
        """Take the same time for an unknown user (``None``)."""
        ...


class Tokens(Protocol):
    def issue(self, account: Account) -> str: ...
    def read(self, token: str) -> tuple[str, int]:
        """Return (account id, token version). Raises Unauthorized."""
        ...


class KeyMint(Protocol):
    def mint(self, account_id: str, name: str) -> tuple[str, ApiKey]:
        """Return the key to show once and the record to store."""
        ...

    def key_id(self, secret: str) -> str | None: ...
    def matches(self, key: ApiKey, secret: str) -> bool: ...


@dataclass(frozen=True)
class Services:
    """Everything a use case may ask for; made once a process by `service.bootstrap.build`."""

    policy: Policy
    requests: RequestStore
    watches: WatchStore
    schedules: Schedules
    reels: ReelStore
    bulk: BulkStore
    batches: BatchStore
    credits: CreditStore
    books: BookStore
    backups: BackupStore
    accounts: AccountStore
    limits: LimitStore
    deliveries: DeliveryStore
    hosts: HostStore
    sessions: SessionStore
    instagram_ids: InstagramIdStore
    stats: StatsStore
    queue: Queue
    passwords: PasswordHasher
    tokens: Tokens
    keys: KeyMint
    clock: Clock
