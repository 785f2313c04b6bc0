"""What the actions and workers need of the outside, as narrow protocols.

The adapters are in `service.stores`, `service.queue` and `service.auth`; `service.bootstrap` puts
them together. Every store method raises StoreUnavailable when the store does not answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from service.domain.policy import Policy
from service.domain.ports.accounts import (
    AccountStore,
    CreditStore,
    KeyMint,
    LimitStore,
    PasswordHasher,
    Tokens,
)
from service.domain.ports.archive import Archive
from service.domain.ports.books import BackupStore, BookStore, Sealing
from service.domain.ports.deliveries import DeliveryStore, HostStore
from service.domain.ports.instagram import InstagramIdStore, SessionStore
from service.domain.ports.media import MediaFiles
from service.domain.ports.optouts import ErasureStore, OptOutStore
from service.domain.ports.work import (
    BatchStore,
    BulkStore,
    Queue,
    ReelStore,
    RequestStore,
    Schedules,
    WatchStore,
)


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


class Clock(Protocol):
    def __call__(self) -> int:
        """Return Unix milliseconds."""
        ...


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
    sealing: Sealing
    accounts: AccountStore
    limits: LimitStore
    deliveries: DeliveryStore
    hosts: HostStore
    sessions: SessionStore
    instagram_ids: InstagramIdStore
    archive: Archive
    optouts: OptOutStore
    erasures: ErasureStore
    media: MediaFiles
    stats: StatsStore
    queue: Queue
    passwords: PasswordHasher
    tokens: Tokens
    keys: KeyMint
    clock: Clock
