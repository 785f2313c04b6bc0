"""What the store has to hold after any sequence of calls, in plain Python: no clock, no keys, no scripts.

Time does not pass here by itself: what runs out or falls due is told. Errors are those of the domain.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from service.domain import ids
from service.domain.deliveries import PENDING, Attempt, Plan
from service.domain.errors import Conflict, IdempotencyKeyReuse, InsufficientCredits, LeaseLost, NotFound
from service.domain.requests import CANCELLED, FINAL, PROCESSING, QUEUED, Ending, Owed, Submission

# When the sweep or the pump looks at something.
AT_ONCE, LATER, NEVER = "at once", "later", "never"


class RequestState(NamedTuple):
    """What can be seen of a request."""

    status: str
    fence: int
    leased: bool
    charged: int
    looks: int
    look: str


class DeliveryState(NamedTuple):
    """What can be seen of a delivery. ``waits`` tells that its next attempt is not due yet."""

    status: str
    attempts: int
    logged: int
    tries: int
    fence: int
    leased: bool
    waits: bool
    look: str


@dataclass
class Account:
    balance: int = 0
    held: int = 0
    # What an idempotency key stands for: what was asked, and the request.
    keys: dict[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)


@dataclass
class Request:
    asked: Submission
    status: str = QUEUED
    fence: int = 0
    leased: bool = False
    looks: int = 0
    look: str = LATER
    ending: Ending | None = None
    ledger: list[tuple[str, int]] = field(default_factory=list)

    @property
    def state(self) -> RequestState:
        charged = self.ending.charge if self.ending else 0
        return RequestState(self.status, self.fence, self.leased, charged, self.looks, self.look)


@dataclass
class Delivery:
    host: str
    body: bytes
    status: str = PENDING
    tries: int = 0
    fence: int = 0
    recorded: int = 0
    leased: bool = False
    waits: bool = False
    look: str = LATER
    log: list[Attempt] = field(default_factory=list)

    @property
    def state(self) -> DeliveryState:
        made = len(self.log)
        return DeliveryState(
            self.status, made, made, self.tries, self.fence, self.leased, self.waits, self.look
        )


class Model:
    """Accounts, requests and deliveries, by their ids."""

    def __init__(self, account_ids: list[str]) -> None:
        self.accounts = {account_id: Account() for account_id in account_ids}
        self.requests: dict[str, Request] = {}
        self.deliveries: dict[str, Delivery] = {}
        self.counters: Counter[str] = Counter()

    # --- requests --------------------------------------------------------------------------------

    def submit(self, asked: Submission) -> str:
        """Return the id of the request that stands for what is asked."""
        if asked.request_id in self.requests:
            return asked.request_id
        account = self.accounts[asked.account_id]
        what = (asked.operation, asked.target.text, asked.webhook_url or "")
        if asked.idempotency_key in account.keys:
            before, request_id = account.keys[asked.idempotency_key]
            if before != what:
                raise IdempotencyKeyReuse
            return request_id
        if account.balance - account.held < asked.hold:
            raise InsufficientCredits
        account.held += asked.hold
        if asked.idempotency_key is not None:
            account.keys[asked.idempotency_key] = (what, asked.request_id)
        self.requests[asked.request_id] = Request(asked, ledger=[("hold", -asked.hold)])
        self.counters["accepted"] += 1
        return asked.request_id

    def claim(self, request_id: str) -> int | None:
        """Return the fence of a new claim."""
        request = self.requests[request_id]
        if request.status in FINAL or request.leased:
            return None
        request.status, request.leased, request.look = PROCESSING, True, LATER
        request.fence, request.looks = request.fence + 1, 0
        return request.fence

    def renew(self, request_id: str, fence: int) -> None:
        request = self.requests[request_id]
        if request.status != PROCESSING or request.fence != fence:
            raise LeaseLost
        request.leased, request.look = True, LATER

    def finish(self, request_id: str, fence: int, ending: Ending) -> Owed | None:
        request = self.requests[request_id]
        if request.fence != fence:
            raise LeaseLost
        if request.status == PROCESSING:
            return self._end(request_id, ending)
        if request.status != ending.status:
            raise LeaseLost
        return self._owed(request_id)

    def cancel(self, request_id: str, ending: Ending) -> Owed | None:
        request = self.requests[request_id]
        if request.status == QUEUED:
            return self._end(request_id, ending)
        if request.status != CANCELLED:
            raise Conflict
        return self._owed(request_id)

    def _end(self, request_id: str, ending: Ending) -> Owed | None:
        request = self.requests[request_id]
        request.status, request.leased, request.look, request.ending = ending.status, False, NEVER, ending
        account, hold = self.accounts[request.asked.account_id], request.asked.hold
        account.balance -= ending.charge
        account.held -= hold
        if ending.charge:
            request.ledger.append(("charge", -ending.charge))
        if hold > ending.charge:
            request.ledger.append(("release", hold - ending.charge))
        self.counters[f"outcome:{ending.outcome or ending.code}"] += 1
        owed = self._owed(request_id)
        if owed is not None:
            self.deliveries[owed.delivery_id] = Delivery(owed.host, ending.envelope)
        return owed

    def _owed(self, request_id: str) -> Owed | None:
        url = self.requests[request_id].asked.webhook_url
        if url is None:
            return None
        return Owed(ids.delivery_of(request_id), url.split("/")[2] + ":443")

    def time_passes(self, request_id: str) -> None:
        """The lease runs out, if there is one, and the sweep's time comes."""
        request = self.requests[request_id]
        request.leased, request.look = False, AT_ONCE

    def sweep(self, limit: int) -> tuple[list[str], list[str]]:
        """Return what is published, and what is given up: claimed, to be finished by the caller."""
        published, given_up = [], []
        for request_id, request in self.requests.items():
            if request.look != AT_ONCE:
                continue
            request.look = LATER
            request.looks += 1
            if request.looks > limit:
                self.claim(request_id)
                given_up.append(request_id)
            else:
                published.append(request_id)
        return published, given_up

    # --- deliveries ------------------------------------------------------------------------------

    def claim_delivery(self, delivery_id: str) -> int | None:
        """Return the fence of a new claim."""
        delivery = self.deliveries.get(delivery_id)
        if delivery is None or delivery.status != PENDING or delivery.waits or delivery.leased:
            return None
        delivery.leased, delivery.look = True, LATER
        delivery.fence += 1
        return delivery.fence

    def record(self, delivery_id: str, fence: int, attempt: Attempt, plan: Plan) -> str | None:
        """Return another delivery of the host that is due."""
        delivery = self.deliveries[delivery_id]
        if delivery.fence != fence:
            raise LeaseLost
        if delivery.recorded == fence:
            return None
        delivery.status, delivery.recorded, delivery.leased = plan.status, fence, False
        delivery.tries += plan.counts
        delivery.log.append(attempt)
        delivery.waits = plan.status == PENDING
        delivery.look = LATER if delivery.waits else NEVER
        self.counters[f"delivery:{'failed' if plan.status == PENDING else plan.status}"] += 1
        return self._next_at_host(delivery_id)

    def _next_at_host(self, delivery_id: str) -> str | None:
        host, shard = self.deliveries[delivery_id].host, ids.shard_in(delivery_id)
        due = [
            other
            for other, delivery in self.deliveries.items()
            if (delivery.look, delivery.host, ids.shard_in(other)) == (AT_ONCE, host, shard)
        ]
        if not due:
            return None
        self.deliveries[min(due)].look = LATER
        return min(due)

    def defer(self, delivery_id: str, fence: int) -> None:
        delivery = self.deliveries[delivery_id]
        if delivery.status == PENDING and delivery.fence == fence:
            delivery.leased, delivery.look = False, LATER

    def replay(self, delivery_id: str) -> str:
        """Return the status it had."""
        delivery = self.deliveries.get(delivery_id)
        if delivery is None:
            raise NotFound
        if delivery.leased:
            raise Conflict
        before = delivery.status
        delivery.status, delivery.tries, delivery.waits, delivery.look = PENDING, 0, False, LATER
        delivery.fence += 1
        return before

    def time_passes_for_delivery(self, delivery_id: str) -> None:
        """The lease runs out, if there is one, the next attempt falls due and the pump's time comes."""
        delivery = self.deliveries[delivery_id]
        delivery.leased, delivery.waits, delivery.look = False, False, AT_ONCE

    def pump(self) -> list[str]:
        """Return what is published."""
        found = [name for name, delivery in self.deliveries.items() if delivery.look == AT_ONCE]
        for delivery_id in found:
            self.deliveries[delivery_id].look = LATER
        return found

    # --- kinds to choose from --------------------------------------------------------------------

    def all(self) -> list[str]:
        return list(self.requests)

    def open(self) -> list[str]:
        return [name for name, request in self.requests.items() if request.status not in FINAL]

    def queued(self) -> list[str]:
        return [name for name in self.open() if self.requests[name].status == QUEUED]

    def claimed(self) -> list[str]:
        return [name for name in self.open() if self.requests[name].status == PROCESSING]

    def leased(self) -> list[str]:
        return [name for name in self.claimed() if self.requests[name].leased]

    def free(self) -> list[str]:
        return [name for name in self.open() if not self.requests[name].leased]

    def abandoned(self) -> list[str]:
        return [name for name in self.claimed() if not self.requests[name].leased]

    def watched_later(self) -> list[str]:
        return [name for name in self.open() if self.requests[name].look == LATER]

    def all_deliveries(self) -> list[str]:
        """Of all requests, whether they owe one or not."""
        return [ids.delivery_of(name) for name in self.requests]

    def owed(self) -> list[str]:
        return list(self.deliveries)

    def ended(self) -> list[str]:
        return [name for name, delivery in self.deliveries.items() if delivery.status != PENDING]

    def pending(self) -> list[str]:
        return [name for name, delivery in self.deliveries.items() if delivery.status == PENDING]

    def taken(self) -> list[str]:
        return [name for name in self.pending() if self.deliveries[name].leased]

    def under_way(self) -> list[str]:
        """Claimed, and nothing recorded yet."""
        return [
            name for name in self.pending() if self.deliveries[name].fence > self.deliveries[name].recorded
        ]

    def waiting(self) -> list[str]:
        return [name for name in self.pending() if self.deliveries[name].waits]

    def ready(self) -> list[str]:
        return [name for name in self.pending() if name not in self.taken() + self.waiting()]

    def due_later(self) -> list[str]:
        return [name for name in self.pending() if self.deliveries[name].look == LATER]
