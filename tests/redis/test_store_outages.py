"""A store that is stopped, frozen or full: one error, soon, and the same client works again later."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from service.cli.demo import free_ports
from service.domain.accounts import Limit
from service.domain.errors import StoreUnavailable
from service.domain.policy import Policy
from service.secrets import at_rest
from service.stores import keys
from service.stores.accounts import Accounts
from service.stores.batches import Batches
from service.stores.books import Books
from service.stores.connection import open_store, translate
from service.stores.credits import Credits
from service.stores.deliveries import Deliveries
from service.stores.hosts import Hosts
from service.stores.limits import Limits
from service.stores.requests import Requests
from service.stores.stats import Stats
from tests.conftest import SHARDS, await_true, running_valkey
from tests.redis.kit import ACCOUNT, batch_of, submission

SOON = 15.0  # it takes at most 2; the rest is for a busy machine, which may stand still for a while


@pytest.fixture
def server(tmp_path: Path) -> Iterator[running_valkey]:
    [port] = free_ports(1)
    valkey = running_valkey(tmp_path, port)
    with valkey:
        yield valkey
        if valkey.process is not None:
            valkey.process.send_signal(signal.SIGCONT)


@pytest.fixture
def redis(server: running_valkey) -> Iterator[Redis]:
    client = open_store(server.url)
    yield client
    client.close()


def freeze(server: running_valkey) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)


def thaw(server: running_valkey) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGCONT)


def calls(redis: Redis) -> dict[str, Callable[[], Any]]:
    """One call of every kind: a command, a script, a pipeline, a subscription."""
    policy = Policy(rate_limits=(Limit(1, 60),))
    requests, deliveries = Requests(redis, policy, SHARDS), Deliveries(redis, policy, SHARDS)
    request_id = submission().request_id

    def subscribe() -> None:
        with requests.waiter(request_id):
            pass

    return {
        "a command": lambda: requests.get(request_id),
        "a raw command": lambda: requests.envelope(request_id),
        "a script": lambda: requests.submit(submission(hold=0)),
        "a batch": lambda: Batches(redis, policy).submit(batch_of(hold=0)),
        "a pipeline": Stats(redis, SHARDS).counters,
        "a transaction": lambda: Accounts(redis, at_rest("s" * 32), SHARDS).set_disabled(ACCOUNT, True),
        "a subscription": subscribe,
        "the ledger": lambda: Credits(redis).ledger(ACCOUNT, request_id=None, cursor=None, limit=1),
        "a limit": lambda: Limits(redis, policy).hit(ACCOUNT),
        "what is due": deliveries.due_hosts,
        "a host": lambda: Hosts(redis, policy).room("example.com:443"),
    }


def fails_soon(call: Callable[[], Any]) -> None:
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        call()
    assert time.monotonic() - started < SOON


def test_every_call_to_a_stopped_store_says_so_and_works_again_after_the_restart(
    server: running_valkey, redis: Redis
) -> None:
    for call in calls(redis).values():
        call()
    server.stop()
    for call in calls(redis).values():
        fails_soon(call)
    server.start()
    for call in calls(redis).values():
        call()


def test_a_restart_between_two_calls_is_not_noticed(server: running_valkey, redis: Redis) -> None:
    Credits(redis).add(ACCOUNT, 10, entry_type="topup", note="")
    requests = Requests(redis, Policy(), SHARDS)
    request_id = requests.submit(submission()).request_id
    server.stop()
    server.start()
    assert requests.claim(request_id) is not None


@pytest.mark.parametrize("kind", ["a command", "a script", "a pipeline", "a subscription"])
def test_a_call_to_a_frozen_store_says_so_soon_and_works_again_when_it_goes_on(
    server: running_valkey, redis: Redis, kind: str
) -> None:
    call = calls(redis)[kind]
    call()
    freeze(server)
    fails_soon(call)
    thaw(server)
    await_true(redis.ping)
    call()


def test_a_new_connection_to_a_frozen_store_says_so_soon(server: running_valkey) -> None:
    freeze(server)
    client = open_store(server.url)
    fails_soon(Stats(client, SHARDS).ping)
    client.close()


def test_a_waiter_of_a_store_that_stops_hears_of_it(server: running_valkey, redis: Redis) -> None:
    with Requests(redis, Policy(), SHARDS).waiter(submission().request_id) as waiter:
        server.stop()
        with pytest.raises(StoreUnavailable):
            waiter.wait(60)


def test_a_late_answer_is_never_taken_for_the_answer_to_another_call(
    server: running_valkey, redis: Redis
) -> None:
    redis.set("mine", "1")
    ask = translate(redis.get)
    freeze(server)
    fails_soon(lambda: ask("mine"))
    thaw(server)
    for number in range(5):
        redis.set("yours", number)
        assert ask("yours") == str(number)


def test_a_full_store_refuses_and_loses_nothing(redis: Redis) -> None:
    credits, requests = Credits(redis), Requests(redis, Policy(), SHARDS)
    credits.add(ACCOUNT, 10, entry_type="topup", note="")
    redis.config_set("maxmemory", "1")
    with pytest.raises(StoreUnavailable):
        requests.submit(submission())
    with pytest.raises(StoreUnavailable):
        credits.add(ACCOUNT, 1, entry_type="topup", note="")
    assert credits.balance(ACCOUNT).available == 10
    redis.config_set("maxmemory", "0")
    requests.submit(submission())
    assert credits.balance(ACCOUNT).available == 9


def test_a_store_that_lost_its_replicas_is_out(redis: Redis) -> None:
    redis.config_set("min-replicas-to-write", "1")
    with pytest.raises(StoreUnavailable):
        Requests(redis, Policy(), SHARDS).submit(submission(hold=0))


def test_a_store_that_lost_its_replicas_is_out_in_the_middle_of_a_pipeline_too(redis: Redis) -> None:
    redis.config_set("min-replicas-to-write", "1")
    with pytest.raises(StoreUnavailable):
        Stats(redis, SHARDS).beat("worker")


def test_a_store_that_became_a_replica_is_out(server: running_valkey, redis: Redis) -> None:
    [port] = free_ports(1)
    redis.execute_command("REPLICAOF", "127.0.0.1", port)
    with pytest.raises(StoreUnavailable):
        Requests(redis, Policy(), SHARDS).submit(submission(hold=0))


def test_a_mistake_of_ours_is_no_outage(redis: Redis) -> None:
    redis.set(keys.credits(ACCOUNT), "not a hash")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        Credits(redis).balance(ACCOUNT)


def test_an_outage_between_two_pages_is_the_same_error(server: running_valkey, redis: Redis) -> None:
    credits = Credits(redis)
    for _ in range(3):
        credits.add(ACCOUNT, 1, entry_type="topup", note="")
    pages = Books(redis).ledger(ACCOUNT, None, "+", pytest.fail)
    assert len(next(pages)) == 3
    server.stop()
    with pytest.raises(StoreUnavailable):
        next(pages)
