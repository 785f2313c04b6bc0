"""Processes are replaced under load, told to end while they work, and frozen past their leases."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import pytest
import requests

from service.cli import local
from service.domain import ids
from service.domain.requests import RequestRecord
from tests.conftest import await_true
from tests.e2e.clients import Customer
from tests.e2e.receiver import Arrival, Receiver
from tests.e2e.stack import IMPATIENT, SERVICE, Stack, leaving_nothing

QUEUED = 60
CALLERS = 4
PLACES = 4
CHARGED = [("hold", -1), ("charge", -1)]

# What an attempt to deliver may take when told to end, and some more for a busy machine.
WEBHOOK_TIMEOUT = int(IMPATIENT["WEBHOOK_TIMEOUT"])
ENDS_WITHIN = WEBHOOK_TIMEOUT + 6


class Fleet(Stack):
    """A stack that tells how its processes ended."""

    def end_well(self, name: str) -> float:
        """End a process, check that it did so by itself, and return the seconds it took."""
        program = self._programs[name]
        started = time.monotonic()
        assert self.end(name) == [], self.output(name)[-4000:]
        assert program.returncode == 0, (name, program.returncode, self.output(name)[-4000:])
        return time.monotonic() - started


class Holding(Receiver):
    """A receiver that does not answer before it is told to."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self._times = times

    def take(self, body: bytes, headers: Mapping[str, str]) -> int:
        status = super().take(body, headers)
        if len(self.arrivals) <= self._times:
            self.go_on.wait(60)
        return status


class Slow(Receiver):
    """A receiver that answers each POST after ``seconds``."""

    seconds = 0.5

    def take(self, body: bytes, headers: Mapping[str, str]) -> int:
        status = super().take(body, headers)
        time.sleep(self.seconds)  # what a slow receiver does
        return status


@pytest.fixture(scope="module")
def fleet(home: Callable[[], object]) -> Iterator[Fleet]:
    with leaving_nothing(Fleet(home(), **IMPATIENT, WEBHOOK_HOST_CONCURRENCY=str(PLACES))) as stack:
        yield stack.start()


@pytest.fixture
def customer(fleet: Fleet) -> Customer:
    return fleet.customer(1_000)


def books_are_right(fleet: Fleet) -> None:
    audit = fleet.storyhook("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr


class Crowd:
    """Customers who wait for answers, over and over, while things happen."""

    def __init__(self, customer: Customer) -> None:
        self.answers: list[requests.Response] = []
        self._customer = customer
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(CALLERS)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _call(self, number: int) -> None:
        asked = 0
        while not self._over.is_set():
            asked += 1
            try:
                self.answers.append(self._customer.stories(f"caller{number}_{asked}"))
            except requests.ConnectionError:  # the front end is being replaced
                self._over.wait(0.1)  # else these threads keep the receiver from answering in time


def test_processes_replaced_one_by_one_finish_what_they_do(
    fleet: Fleet, customer: Customer, receiver: Receiver
) -> None:
    accepted = []
    with Crowd(customer) as crowd:
        for name in ("worker", "deliverer", "web", "beat"):
            for number in range(QUEUED // len(SERVICE)):
                scene = "slow_1_" if number % 5 == 0 else ""
                accepted.append(customer.queue(f"{scene}{name}{number}", webhook=receiver.url))
            fleet.end_well(name)
            fleet.start(name)
            fleet.await_ready()
    assert {answer.status_code for answer in crowd.answers} <= {200, 202}
    for request_id in accepted:
        assert customer.outcome(request_id)["outcome"] in {"found", "empty"}
    for record in every_request(fleet, accepted[0]):
        await_true(lambda record=record: ended(fleet, record.request_id), 30)
    assert {record.attempts for record in every_request(fleet, accepted[0])} == {1}
    arrivals = Counter(arrival.delivery_id for arrival in delivered(customer, receiver, accepted))
    for delivery_id, times in arrivals.items():
        errors = [attempt["error"] for attempt in customer.delivery(delivery_id)["log"]]
        # A busy machine may not answer in time; nothing else is a reason to deliver again.
        assert errors == ["timeout"] * (len(errors) - 1) + [None]
        assert times <= len(errors)
    books_are_right(fleet)


def delivered(customer: Customer, receiver: Receiver, accepted: list[str]) -> list[Arrival]:
    """Return what arrived once the webhooks of all these requests, and no others, were delivered."""
    deliveries = {ids.delivery_of(request_id) for request_id in accepted}
    for delivery_id in deliveries:
        await_true(lambda name=delivery_id: customer.delivery(name)["status"] == "delivered", 30)
    assert {arrival.delivery_id for arrival in receiver.arrivals} == deliveries
    return receiver.arrivals


def every_request(fleet: Fleet, one: str) -> list[RequestRecord]:
    """Return all requests of the account that ``one`` is of."""
    record = fleet.services.requests.get(one)
    assert record is not None
    page = fleet.services.requests.page(
        record.account_id, status=None, username=None, cursor=None, limit=1_000
    )
    return page.items


def ended(fleet: Fleet, request_id: str) -> bool:
    record = fleet.services.requests.get(request_id)
    return record is not None and record.is_final


def test_a_worker_told_to_end_works_on_and_when_killed_over_it_is_replaced(
    fleet: Fleet, customer: Customer, receiver: Receiver
) -> None:
    request_id = customer.queue("slow_2_dora", webhook=receiver.url)
    await_true(lambda: fleet.simulator.about("slow_2_dora") == 2, 20)
    told = fleet.output("worker").count("process.ending")
    fleet.signal("worker", signal.SIGTERM)
    await_true(lambda: fleet.output("worker").count("process.ending") > told, 20)
    fleet.kill("worker")  # as those do who wait no longer
    fleet.start("worker")
    assert customer.outcome(request_id)["outcome"] == "found"
    record = fleet.services.requests.get(request_id)
    assert record is not None
    assert record.attempts == 2
    assert customer.ledger(request_id) == CHARGED
    assert len(receiver.wait_for(request_id)) == 1


def test_a_deliverer_told_to_end_waits_no_longer_than_for_the_receivers_it_talks_to(
    fleet: Fleet, customer: Customer
) -> None:
    with Holding(times=1) as receiver:
        request_id = customer.queue("emil", webhook=receiver.url)
        [arrival] = receiver.wait_for(request_id)
        assert fleet.end_well("deliverer") < ENDS_WITHIN
        delivery = customer.delivery(arrival.delivery_id)
        assert (delivery["status"], [attempt["error"] for attempt in delivery["log"]]) == (
            "pending",
            ["timeout"],
        )
        fleet.start("deliverer")
        assert len(receiver.wait_for(request_id, 2)) == 2
        await_true(lambda: customer.delivery(arrival.delivery_id)["status"] == "delivered", 20)
        receiver.go_on.set()


def test_a_deliverer_told_to_end_leaves_a_backlog_to_the_next(fleet: Fleet, customer: Customer) -> None:
    many = int(2 * ENDS_WITHIN / Slow.seconds * PLACES)
    with Slow() as receiver:
        with fleet.frozen("deliverer"):
            accepted = [customer.queue(f"backlog{number}", webhook=receiver.url) for number in range(many)]
            await_true(lambda: all(ended(fleet, each) for each in accepted), 30)
        await_true(lambda: receiver.arrivals, 20)
        assert fleet.end_well("deliverer") < ENDS_WITHIN
        assert len(receiver.arrivals) < len(accepted)
        receiver.seconds = 0
        fleet.start("deliverer")
        await_true(lambda: len(receiver.arrivals) >= len(accepted), 40)
        assert set(Counter(arrival.delivery_id for arrival in receiver.arrivals).values()) == {1}


@pytest.fixture
def one_session(fleet: Fleet) -> Iterator[str]:
    """Leave one Instagram session, so that who takes a request over has to take its session over."""
    names = [record.name for record in fleet.services.sessions.list()]
    for name in names[1:]:
        fleet.services.sessions.remove(name)
    yield names[0]
    local.simulated_sessions(fleet.services)


def test_who_was_frozen_past_a_lease_is_refused_when_it_goes_on(
    fleet: Fleet, customer: Customer, receiver: Receiver, one_session: str
) -> None:
    with Holding(times=1) as holding:
        delivered = customer.queue("frida", webhook=holding.url)
        holding.wait_for(delivered)
        fleet.signal("deliverer", signal.SIGSTOP)
        fleet.start("deliverer.2")
        worker_is_taken_over(fleet, customer, receiver, one_session)
        deliverer_is_taken_over(fleet, customer, holding, delivered)
    fleet.end_well("worker.2")
    fleet.end_well("deliverer.2")
    books_are_right(fleet)


def worker_is_taken_over(fleet: Fleet, customer: Customer, receiver: Receiver, session: str) -> None:
    request_id = customer.queue("slow_2_gerd", webhook=receiver.url)
    await_true(lambda: fleet.simulator.about("slow_2_gerd") == 2, 20)
    with fleet.frozen("worker"):
        fleet.start("worker.2")
        await_true(lambda: fleet.simulator.about("slow_2_gerd") == 3, 30)  # by the id that is known now
        held = fleet.services.sessions.get(session)
        assert held.leased
    await_true(lambda: "scrape.lease_lost" in fleet.output("worker"), 20)
    if not ended(fleet, request_id):
        assert fleet.services.sessions.get(session) == held  # its new holder's, whatever the old one said
    assert customer.outcome(request_id)["outcome"] == "found"
    record = fleet.services.requests.get(request_id)
    assert record is not None
    assert record.attempts == 2
    assert customer.ledger(request_id) == CHARGED
    assert len({arrival.body for arrival in receiver.wait_for(request_id)}) == 1
    await_true(lambda: not fleet.services.sessions.get(session).leased)
    assert fleet.services.sessions.get(session).uses == held.uses + 1


def deliverer_is_taken_over(fleet: Fleet, customer: Customer, receiver: Holding, request_id: str) -> None:
    first, second = receiver.wait_for(request_id, 2, seconds=40)
    assert (first.delivery_id, first.body) == (second.delivery_id, second.body)
    await_true(lambda: customer.delivery(first.delivery_id)["status"] == "delivered", 20)
    before = customer.delivery(first.delivery_id)
    receiver.go_on.set()
    fleet.signal("deliverer", signal.SIGCONT)
    await_true(lambda: "delivery.lease_lost" in fleet.output("deliverer"), 20)
    assert customer.delivery(first.delivery_id) == before
    assert [attempt["status"] for attempt in before["log"]] == [204]
    assert len(receiver.about(request_id)) == 2
