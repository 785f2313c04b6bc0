"""The tests of the stores, and those of the whole service that kill no store, on each topology."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.stores.connection import open_store
from tests.topologies import rabbit
from tests.topologies.servers import SentinelSet, SingleValkey, ValkeyCluster

ROOT = Path(__file__).resolve().parents[2]
STORES = "tests/redis"
# Each file by itself: the stacks of several would share one store.
WHOLE = (
    "tests/e2e/test_calls.py",
    "tests/e2e/test_batches.py",
    "tests/e2e/test_watches.py",
    "tests/e2e/test_outages.py",
)
# These kill or freeze a store that is a process of the stack, or empty the database of the messages.
OF_ITS_OWN_STORE = "not killed_while_idle and not whole_restart and not store_that_hangs"
OF_REDIS_MESSAGES = "not messages_lost and not forgets_everything"


@dataclass(frozen=True)
class Place:
    """Where tests run: URLs of stores, "" for one of their own, and of a broker."""

    store: str = ""
    other_store: str = ""
    broker: str = ""


@contextmanager
def cluster(folder: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        store, other = (stack.enter_context(ValkeyCluster(folder / name)) for name in ("store", "other"))
        broker = stack.enter_context(SingleValkey(folder))
        yield Place(store.url, other.url, broker.url)


@contextmanager
def sentinels(folder: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        store, other = (stack.enter_context(SentinelSet(folder / name)) for name in ("store", "other"))
        yield Place(store.url, other.url)


@contextmanager
def rabbitmq(folder: Path) -> Iterator[Place]:
    if not rabbit.is_there():
        pytest.skip(rabbit.MISSING)
    with rabbit.RabbitMq(folder / "rabbit").running() as broker:
        yield Place(broker=broker.url)


def run(place: Place, *arguments: str) -> None:
    """Run tests somewhere else. What they print is shown when they fail."""
    environment = {
        **os.environ,
        "TEST_STORE_URL": place.store,
        "TEST_OTHER_STORE_URL": place.other_store,
        "TEST_BROKER_URL": place.broker,
    }
    if place.store:
        with open_store(place.store) as store:
            store.flushall()
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(" ".join(arguments), ran.stdout.splitlines()[-1])  # noqa: T201 - shown by -s, and when it fails
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("there", [cluster, sentinels])
def test_the_stores_keep_their_promises(there: type, folder: Path) -> None:
    with there(folder) as place:
        run(place, STORES)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("there", [cluster, sentinels, rabbitmq])
def test_the_whole_service_works(there: type, folder: Path) -> None:
    with there(folder) as place:
        chosen = []
        if place.store:
            chosen.append(OF_ITS_OWN_STORE)
        if place.broker.startswith("amqp"):
            chosen.append(OF_REDIS_MESSAGES)
        for file in WHOLE:
            run(place, file, *(["-k", " and ".join(chosen)] if file.endswith("outages.py") else []))
