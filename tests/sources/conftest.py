"""A store, a simulated Instagram and a pool of sessions for the tests of the sources."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import fakeredis
import pytest
import requests
from cryptography.fernet import Fernet
from redis import Redis

from service.domain.instagram import SessionRecord, settings_from_sessionid
from service.domain.operations import STORIES, Ask
from service.domain.targets import USERNAME, Target
from service.stores.instagram_ids import InstagramIds
from service.stores.instagram_sessions import InstagramSessions
from workers.sources.accounts import SessionPool, client_factory
from workers.sources.contract import Found
from workers.sources.instagrapi import InstagrapiSource
from workers.sources.verdicts import RestTimes

# Seconds that are told apart easily, so that a test sees which of them was used.
RESTS = RestTimes(
    throttled=1_801,
    please_wait=14_402,
    rate_limit=3_603,
    sentry_block=86_404,
    proxy_blocked=86_405,
    feedback=86_406,
    forbidden=607,
    html_repeated=908,
    bad_request_repeated=609,
    caller_retry=61,
)


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for a condition; return what it gave."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)  # between two looks
    return value


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).ok
    except requests.RequestException:
        return False


@pytest.fixture
def rests() -> RestTimes:
    return RESTS


@pytest.fixture
def store() -> Iterator[Redis]:
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=True)
    yield client
    client.close()


@pytest.fixture
def sessions(store: Redis) -> InstagramSessions:
    return InstagramSessions(store, Fernet(Fernet.generate_key()), b"k" * 32)


@pytest.fixture
def ids(store: Redis) -> InstagramIds:
    return InstagramIds(store)


@dataclass
class World:
    """A source over a pool of sessions, and what is needed to look behind it."""

    sessions: InstagramSessions
    ids: InstagramIds
    pool: SessionPool
    source: InstagrapiSource
    built: list[Any] = field(default_factory=list)

    def fetch(self, operation: str, kind: str, value: str, force: bool = False) -> Found:
        return self.source.fetch(Ask(operation, Target(kind, value), force))

    def stories(self, name: str, force: bool = False) -> Found:
        return self.fetch(STORIES, USERNAME, name, force)

    def session(self, name: str = "s1") -> SessionRecord:
        return self.sessions.get(name)


@pytest.fixture
def make_world(sessions: InstagramSessions, ids: InstagramIds) -> Callable[..., World]:
    """Return a function that builds a World over an address; ``accounts`` sessions s1, s2, ..."""

    def make(
        base_url: str,
        accounts: int = 1,
        read_timeout: float = 30.0,
        connect_timeout: float = 20.0,
        **options: Any,
    ) -> World:
        for number in range(1, accounts + 1):
            sessions.add(f"s{number}", settings_from_sessionid(f"{9000 + number}%3Aabcdefghijklmno%3A7"))
        real = client_factory(
            redirect_to=base_url, connect_timeout=connect_timeout, read_timeout=read_timeout
        )
        built: list[Any] = []

        def factory(settings: dict[str, Any], proxy: str | None) -> Any:
            built.append(real(settings, proxy))
            return built[-1]

        pool = SessionPool(sessions, factory, rests=RESTS, **{"wait_seconds": 0.2, **options})
        return World(sessions, ids, pool, InstagrapiSource(pool, ids), built)

    return make


@pytest.fixture(scope="session")
def simulator_url() -> Iterator[str]:
    """Run the simulated Instagram."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "workers.simulator", "--port", str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(f"{url}/_sim/health"))
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def simulator(simulator_url: str) -> str:
    """The simulated Instagram with its counters and knobs at rest."""
    requests.post(f"{simulator_url}/_sim/reset", timeout=60).raise_for_status()
    return simulator_url


@pytest.fixture
def asked(simulator: str) -> Callable[[], dict[str, int]]:
    """Return a function that tells how often which endpoint was asked."""
    return lambda: requests.get(f"{simulator}/_sim/calls", timeout=60).json()["by_endpoint"]
