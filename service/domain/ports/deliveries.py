"""Webhooks and the hosts they go to."""

from __future__ import annotations

from typing import Protocol

from service.domain.deliveries import Attempt, Delivery, DeliveryClaim, Plan
from service.domain.requests import Page


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
