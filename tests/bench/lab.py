"""What every part of a run needs: a stack of its own, a load on it, and what its processes used meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import requests

from service.cli.demo import free_ports
from service.cli.local import SIMULATED_SESSIONS
from service.domain.instagram import Known, settings_from_sessionid
from service.domain.ports import Services
from tests.bench import programs
from tests.bench.proc import cpu_seconds
from tests.e2e.clients import Simulator
from tests.e2e.stack import Stack, leaving_nothing
from tests.webhooks.fast_receiver import FastReceiver

STORIES = "/api/instagram/stories"
BATCH = "/api/instagram/stories/batch"
OURS = ("web", "worker", "deliverer", "beat")
FLOOR_DATABASE, RESULT_DATABASE = 7, 8  # of the same store; ours are 0 and 1

# As many kinds of limits as by default, so that counting them costs the same, and none of them reached.
SETTINGS = {
    "RATE_LIMITS": "1000000/minute,1000000/hour,1000000/day",
    "NAMES_LIMITS": "1000000/10s,1000000/minute",
    "FREE_LIMIT": "1000000/hour",
    "LOG_FORMAT": "json",
}
WAIT_LIMIT = 600.0


@dataclass(frozen=True)
class Sizes:
    """How much of everything a run does."""

    rounds: int = 3
    posts: int = 1_500
    jobs: int = 960
    calls: int = 64  # of the slowest bare loop, and of one caller alone
    seconds: float = 8.0  # of a steady load
    queued: tuple[int, ...] = (100_000,)
    soak_minutes: float = 0.0


@dataclass(frozen=True)
class Load:
    """What the load generator saw: seconds of each POST, when it was answered (Unix), seconds in all."""

    times: Sequence[float]
    answered: Sequence[float]
    seconds: float

    @property
    def per_second(self) -> float:
        return len(self.times) / self.seconds


class Service:
    """A running Storyhook with a customer who has credits, and who calls it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.customer = stack.customer(credits=100_000_000)

    def post(
        self, bodies: Sequence[Mapping[str, Any]], callers: int, *, rate: float | None = None, status: int
    ) -> Load:
        """POST to the stories route; raises AssertionError unless all answers have this status."""
        headers = {"Authorization": f"Bearer {self.customer.api_key}"}
        return post(self.stack.base_url + STORIES, bodies, callers, rate=rate, status=status, headers=headers)

    def batch(self, names: Sequence[str], **options: Any) -> str:
        """Hand in a batch, again where the store had too much to do to answer in time; return its id."""
        body = {"usernames": list(names), "idempotencyKey": uuid4().hex, **options}
        answer = self.customer.call("POST", BATCH, json=body)
        while answer.status_code == 503:
            time.sleep(float(answer.headers["Retry-After"]))  # as callers are told to
            answer = self.customer.call("POST", BATCH, json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["batchId"])

    def know(self, count: int) -> dict[str, str]:
        """Return names of people with stories whose ids the service knows, with the ids."""
        names = [f"bench{number:05d}" for number in range(count)]
        batch_id = self.batch(names)
        path = f"/api/batches/{batch_id}"
        wait_until(
            lambda: self.customer.call("GET", path, params={"wait": 20}).json()["status"] != "processing"
        )
        known = dict(zip(names, self.services.instagram_ids.get_many(names), strict=True))
        return {name: each.user_id for name, each in known.items() if isinstance(each, Known)}

    def have_sessions(self, count: int) -> None:
        """Have so many Instagram sessions at least."""
        for number in range(SIMULATED_SESSIONS, count):
            settings = settings_from_sessionid(f"80000000{number:03d}%3Abenchmark{number:08d}%3A1")
            self.services.sessions.add(f"bench-{number:03d}", settings)

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds each process has used so far, the store's too."""
        running = [name for name in (*OURS, "store") if self.stack.runs(name)]
        return {name: cpu_seconds(self.stack.pid(name)) for name in running}

    def store_bytes(self) -> int:
        """Return what the store holds in memory; buffers, which come and go with connections, left out."""
        told = self.stack.redis.info("memory")
        return int(told["used_memory"] - told["mem_clients_normal"] - told["mem_aof_buffer"])

    @property
    def services(self) -> Services:
        return self.stack.services

    @property
    def simulator(self) -> Simulator:
        return self.stack.simulator

    def store_url(self, database: int) -> str:
        return f"redis://127.0.0.1:{self.stack.plan.environment['STORE_PORT']}/{database}"


class Lab:
    """Where parts are measured: a temporary folder, a receiver, stacks by demand."""

    def __init__(self, folder: Path, sizes: Sizes, receiver: FastReceiver) -> None:
        self.folder = folder
        self.sizes = sizes
        self.receiver = receiver
        self._hooks = 0

    @contextmanager
    def service(self, *names: str, **settings: str) -> Iterator[Service]:
        """Run a stack, or these processes of it, that nobody else uses; afterwards nothing is left of it."""
        home = Path(mkdtemp(prefix="stack-", dir=self.folder))
        with leaving_nothing(Stack(home, **SETTINGS, **settings)) as stack:
            stack.start(*names)
            wait_until(lambda: _answers(f"{stack.base_url}/healthz"))
            yield Service(stack)

    @contextmanager
    def serving(self, app: str, path: str, **environment: str) -> Iterator[Front]:
        """Serve a WSGI app as `storyhook web` serves ours."""
        [port] = free_ports(1)
        arguments = ["python", "-m", "tests.bench.serving", app, str(port)]
        with programs.running(arguments, self.log(app), **environment) as pid:
            front = Front(f"http://127.0.0.1:{port}", path, pid)
            wait_until(lambda: _answers(front.url))
            yield front

    @contextmanager
    def celery(self, app: str, *arguments: str, **environment: str) -> Iterator[int]:
        """Run a Celery worker as a tutorial starts it; yields its session."""
        command = ["celery", "--quiet", "-A", app, "worker", "--loglevel=warning", *arguments]
        with programs.running(command, self.log(app), **environment) as pid:
            yield pid

    def log(self, name: str) -> Path:
        return self.folder / f"{name.replace(':', '.')}.log"

    def hooks(self, count: int) -> list[str]:
        """Return webhook URLs that nobody was given before, spread over the receiver's hosts."""
        self._hooks += 1
        hosts = self.receiver.hosts
        return [f"http://{hosts[number % len(hosts)]}/{self._hooks}/{number}" for number in range(count)]

    def received(self, hooks: Sequence[str]) -> list[float]:
        """Wait until something came to every one of these URLs; return when it first did (Unix seconds)."""
        prefix = urlsplit(hooks[0]).path.rpartition("/")[0] + "/"
        wait_until(lambda: self.receiver.count(prefix) >= len(hooks))
        came = self.receiver.seen()["paths"]
        return [came[urlsplit(hook).path] for hook in hooks]


@dataclass(frozen=True)
class Front:
    """A front end that is not ours."""

    base_url: str
    path: str
    pid: int

    @property
    def url(self) -> str:
        return self.base_url + self.path

    def post(self, bodies: Sequence[Mapping[str, Any]], callers: int, status: int = 202) -> Load:
        return post(self.url, bodies, callers, status=status)


def post(
    url: str,
    bodies: Sequence[Mapping[str, Any]],
    callers: int,
    *,
    status: int,
    rate: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Load:
    """Let the load generator send each body once; raises AssertionError for another ``status``."""
    parts = urlsplit(url)
    found = programs.ask(
        "tests.bench.load",
        {
            "address": parts.netloc,
            "path": parts.path,
            "headers": headers or {},
            "bodies": [json.dumps(body) for body in bodies],
            "callers": callers,
            "rate": rate,
        },
    )
    assert found["statuses"] == {str(status): len(bodies)}, found["statuses"]
    return Load(found["times"], found["answered"], found["seconds"])


def wait_until(condition: Callable[[], object], seconds: float = WAIT_LIMIT) -> None:
    """Wait for a condition, looking seldom enough not to be felt by what is measured."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not so after {seconds:.0f} seconds")
        time.sleep(0.05)  # between two looks


def in_turn(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """Take measures in turn, round after round (A B A B); return the median of each."""
    found = [[measure() for measure in measures] for _ in range(rounds)]
    return [median(each) for each in zip(*found, strict=True)]


def _answers(url: str) -> bool:
    """Tell whether somebody answers there at all."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            session.get(url, timeout=2)
        except requests.RequestException:
            return False
    return True
