"""A primary or a broker dies in the middle of work: nothing that was accepted is lost or charged twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import NotFound
from kombu import Connection
from kombu.transport.native_delayed_delivery import level_name
from redis.exceptions import RedisError

from service.domain.accounts import Limit
from service.domain.errors import StoreUnavailable
from service.domain.policy import Policy
from service.stores import keys
from service.stores.connection import open_store
from service.stores.limits import Limits
from service.stores.requests import Requests
from service.stores.stats import Stats
from tests.conftest import SHARDS, await_true
from tests.e2e.receiver import Receiver
from tests.e2e.stack import leaving_nothing
from tests.redis.kit import ACCOUNT, submission
from tests.topologies import rabbit
from tests.topologies.servers import SentinelSet, Server, Servers, SingleValkey, ValkeyCluster
from tests.topologies.work import Machines, Work, names

# The Sentinels wait 2 s (down-after-milliseconds), agree, and promote; the rest is for a busy machine.
FAILOVER_LIMIT = 30.0
SOON = 2.5  # a call to a store that hangs takes at most 2; the rest is for a busy machine


def replicated(primary: Server) -> None:
    """Wait until a replica has all that the primary has answered so far."""
    assert primary.client.execute_command("WAIT", 1, 5000) >= 1


def loses_its_primary(stack: Machines, receiver: Receiver, primary: Server) -> float:
    """Kill the primary in the middle of work; return the seconds until a new request was accepted."""
    work = Work(stack, receiver)
    work.hand_in(names("before", 20))
    work.hand_in(names("slow_2_before", 20))
    await_true(lambda: work.ended() >= 5, 30)
    assert work.ended() < len(work.accepted), "there is nothing to be in the middle of"
    replicated(primary)
    primary.kill()
    seconds = work.hand_in_one("meanwhile")
    assert seconds < FAILOVER_LIMIT
    work.hand_in(names("after", 20))
    work.all_is_settled()
    stack.await_ready()
    return seconds


@pytest.mark.timeout(300)
def test_a_sentinel_set_that_loses_its_primary(
    home: Callable[[], Path], folder: Path, receiver: Receiver
) -> None:
    """Store and messages are both in it."""
    with SentinelSet(folder) as servers, leaving_nothing(Machines(home(), REDIS_URL=servers.url)) as stack:
        stack.start()
        seconds = loses_its_primary(stack, receiver, servers.primary)
        print(f"Sentinel: accepted again after {seconds:.1f} s")  # noqa: T201 - shown by -s


@pytest.mark.timeout(300)
def test_a_cluster_that_loses_a_primary(home: Callable[[], Path], folder: Path, receiver: Receiver) -> None:
    with ValkeyCluster(folder, replicas=1) as servers, SingleValkey(folder) as broker:
        settings = {"REDIS_URL": servers.url, "BROKER_URL": broker.url}
        with leaving_nothing(Machines(home(), **settings)) as stack:
            stack.start()
            # With it go the workers' signs of life, a third of the accounts, and for a while all others.
            seconds = loses_its_primary(stack, receiver, servers.holder_of(stack.redis, keys.WORKERS))
            print(f"cluster: accepted again after {seconds:.1f} s")  # noqa: T201 - shown by -s


@pytest.mark.timeout(300)
@pytest.mark.skipif(not rabbit.is_there(), reason=rabbit.MISSING)
def test_a_rabbitmq_that_is_killed_and_comes_back(
    home: Callable[[], Path], folder: Path, receiver: Receiver
) -> None:
    broker = rabbit.RabbitMq(folder / "rabbit")
    with broker.running(), leaving_nothing(Machines(home(), BROKER_URL=broker.url)) as stack:
        stack.start()
        assert set(stack.services.queue.depths()) == {"interactive", "bulk", "deliver"}
        work = Work(stack, receiver)
        work.hand_in([*names("before", 10), *names("slow_1_before", 20)])
        await_true(lambda: work.ended() >= 5, 30)
        broker.kill()
        assert work.hand_in_one("meanwhile") < SOON  # the broker is no part of accepting
        broker.come_back()
        work.hand_in(names("after", 10))
        work.all_is_settled()
        stack.await_ready()
        # Celery would make 28 queues more, for messages that are due later.
        with Connection(broker.url) as connection, pytest.raises(NotFound):
            connection.default_channel.queue_declare(level_name(0), passive=True)


@pytest.mark.timeout(300)
@pytest.mark.skipif(not rabbit.is_there(), reason=rabbit.MISSING)
def test_a_rabbitmq_that_hangs_holds_no_caller(
    home: Callable[[], Path], folder: Path, receiver: Receiver
) -> None:
    broker = rabbit.RabbitMq(folder / "rabbit")
    with broker.running(), leaving_nothing(Machines(home(), BROKER_URL=broker.url)) as stack:
        stack.start()
        work = Work(stack, receiver)
        work.hand_in_one("before")
        broker.signal(signal.SIGSTOP)
        try:
            took = [work.hand_in_one(name) for name in names("meanwhile", 3)]
        finally:
            broker.signal(signal.SIGCONT)
        print(f"frozen RabbitMQ: accepted after {max(took):.1f} s")  # noqa: T201 - shown by -s
        assert max(took) < SOON + 1
        work.all_is_settled()


# --- a store that hangs ----------------------------------------------------------------------------


@pytest.fixture(params=["sentinel", "cluster"])
def servers(request: pytest.FixtureRequest, folder: Path) -> Iterator[Servers]:
    made = SentinelSet(folder) if request.param == "sentinel" else ValkeyCluster(folder)
    with made:
        yield made
        made.thaw()


def calls(redis: Any) -> dict[str, Callable[[], Any]]:
    policy = Policy(rate_limits=(Limit(1_000, 60),))
    requests, request_id = Requests(redis, policy, SHARDS), submission().request_id

    def subscribe() -> None:
        with requests.waiter(request_id):
            pass

    return {
        "a command": lambda: requests.get(request_id),
        "a script": lambda: Limits(redis, policy).hit(ACCOUNT),
        "a pipeline": Stats(redis, SHARDS).counters,
        "a look": Stats(redis, SHARDS).ping,
        "a subscription": subscribe,
    }


def test_a_store_that_hangs_is_told_of_soon_and_heals(servers: Servers) -> None:
    redis = open_store(servers.url)
    for call in calls(redis).values():
        call()
    for server in servers.servers:
        server.signal(signal.SIGSTOP)
    for what, call in calls(redis).items():
        for _ in range(2):  # the second finds no connection left
            started = time.monotonic()
            with pytest.raises(StoreUnavailable):
                call()
            assert time.monotonic() - started < SOON, what
    servers.thaw()
    for call in calls(redis).values():
        await_true(lambda call=call: _works(call), FAILOVER_LIMIT)
    redis.close()


def _works(call: Callable[[], Any]) -> bool:
    try:
        call()
    except (StoreUnavailable, RedisError):
        return False
    return True
