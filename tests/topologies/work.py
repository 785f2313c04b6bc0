"""Work for a service that loses a machine meanwhile, and what has to be true of it in the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from service.actions.audit import audit
from service.cli.demo import free_ports
from service.domain.errors import StoreUnavailable
from tests.conftest import await_true
from tests.e2e.clients import Customer
from tests.e2e.receiver import Receiver
from tests.e2e.stack import FOUNDATION, IMPATIENT, Stack

CHARGED = [("hold", -1), ("charge", -1)]
CREDITS = 1_000
CALLERS = 4
PATIENCE = 90.0


class Machines(Stack):
    """A service whose processes are on two machines: a name that ends in ``.2`` is on the second."""

    def __init__(self, home: Path, **settings: str) -> None:
        if settings.get("REDIS_URL"):
            self.foundation = FOUNDATION[1:]
        super().__init__(home, **{**IMPATIENT, **settings})
        [self._second_port] = free_ports(1)
        self.second_url = f"http://127.0.0.1:{self._second_port}"

    def environment_of(self, name: str) -> dict[str, str]:
        moved = {"PORT": str(self._second_port)} if name.endswith(".2") else {}
        return {**super().environment_of(name), **moved}


class Work:
    """Requests of one customer, each handed in until it is accepted, under a key of its own."""

    def __init__(self, stack: Stack, receiver: Receiver) -> None:
        self.stack = stack
        self.receiver = receiver
        self.customer = stack.customer(CREDITS)
        self.accepted: dict[str, str] = {}  # name -> request id
        self.refused = 0

    def hand_in(self, names: Sequence[str], *also_at: str) -> None:
        """Hand requests in from several threads, at the front ends in turn."""
        at = [self.customer, *(Customer(url, self.customer.api_key) for url in also_at)]
        with ThreadPoolExecutor(CALLERS) as threads:
            given = [(name, at[number % len(at)]) for number, name in enumerate(names)]
            list(threads.map(lambda one: self.hand_in_one(*one), given))

    def hand_in_one(self, name: str, customer: Customer | None = None) -> float:
        """Hand in one, again and again; return how many seconds it took until it was accepted."""
        started = time.monotonic()
        while True:
            answer = self._answer(customer or self.customer, name)
            if answer is not None and answer.status_code == 202:
                self.accepted[name] = answer.json()["requestId"]
                return time.monotonic() - started
            assert answer is None or answer.status_code == 503, answer.text
            self.refused += 1
            assert time.monotonic() - started < PATIENCE, (
                f"{name} is not accepted\n{self.stack.output()[-4000:]}"
            )
            time.sleep(0.05)  # as a caller does

    def _answer(self, customer: Customer, name: str) -> requests.Response | None:
        options: dict[str, Any] = {"json": {"username": name, "webhookUrl": self.receiver.url}}
        headers = {"Idempotency-Key": name, "Prefer": "respond-async"}
        try:
            return customer.call("POST", "/api/instagram/stories", headers=headers, **options)
        except requests.ConnectionError:
            return None

    def ended(self) -> int:
        """Return how many have ended, as far as a store that is only just coming back tells."""
        try:
            records = self.stack.services.requests.get_many(list(self.accepted.values()))
        except StoreUnavailable:
            return 0
        return sum(record is not None and record.is_final for record in records)

    def all_is_settled(self) -> None:
        """Check that each has ended, was charged once and was delivered, and that the books add up."""
        await_true(lambda: self.ended() == len(self.accepted), PATIENCE)
        wanted = set(self.accepted.values())
        await_true(lambda: self.told() >= wanted, PATIENCE)
        assert self.told() == wanted, "somebody was told of a request that nobody knows"
        assert {name: self.customer.ledger(each) for name, each in self.accepted.items()} == dict.fromkeys(
            self.accepted, CHARGED
        )
        left = CREDITS - len(self.accepted)
        await_true(lambda: self.customer.credits() == {"balance": left, "held": 0, "available": left})
        assert audit(self.stack.services).differences == []

    def told(self) -> set[str]:
        """Return the requests whose webhooks have come."""
        secret = self.customer.secret()
        return {str(each.verified(secret)["requestId"]) for each in list(self.receiver.arrivals)}


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]
