"""What a cluster asks of its client: slots that move, keys that are apart, a pipeline to several nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis.exceptions import CrossSlotTransactionError, ResponseError

from service.stores.cluster import Cluster, slot_of
from service.stores.commands import Command, together
from service.stores.connection import is_outage, node_of, nodes, open_store
from service.stores.scripts import Script
from tests.conftest import await_true
from tests.topologies.servers import Server, ValkeyCluster

KEYS = [f"key{number}" for number in range(60)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with ValkeyCluster(tmp_path_factory.mktemp("cluster"), replicas=1) as servers:
        yield servers


@pytest.fixture
def redis(servers: ValkeyCluster) -> Iterator[Cluster]:
    client = open_store(servers.url)
    client.flushall()
    for key in KEYS:
        client.set(key, key)
    yield client
    client.close()


def test_keys_are_on_all_nodes_and_all_are_found(redis: Cluster) -> None:
    assert len(nodes(redis)) == 3
    assert min(node.dbsize() for node in nodes(redis)) > 0
    assert redis.dbsize() == len(KEYS)
    assert sorted(redis.scan_iter("key*", count=5)) == sorted(KEYS)


def test_commands_and_scripts_to_several_nodes_are_answered_in_order(redis: Cluster) -> None:
    script = Script(redis, "return redis.call('get', KEYS[1]) .. ARGV[1]")
    commands = [part for key in KEYS for part in (Command(("GET", key)), script.command([key], ["!"]))]
    assert together(redis, commands) == [part for key in KEYS for part in (key, f"{key}!")]


def test_one_step_is_of_one_slot(redis: Cluster) -> None:
    with redis.pipeline(transaction=True) as pipe:
        pipe.set("a", 1)
        pipe.set("b", 2)
        with pytest.raises(CrossSlotTransactionError):
            pipe.execute()
    with pytest.raises(ResponseError, match="slot"):
        redis.mget("a", "b")
    with redis.pipeline(transaction=True) as pipe:
        pipe.set("{a}1", 1)
        pipe.incr("{a}1")
        assert pipe.execute() == [True, 2]


def test_a_replica_that_takes_over_is_followed(servers: ValkeyCluster, redis: Cluster) -> None:
    before = {id(node_of(redis, key)) for key in KEYS}
    for replica in servers.servers[3:]:
        replica.client.execute_command("CLUSTER FAILOVER")
        await_true(lambda replica=replica: replica.client.role()[0] == "master", 20)
    with redis.pipeline(transaction=False) as pipe:
        for key in KEYS:
            pipe.append(key, "!")
        assert pipe.execute() == [len(key) + 1 for key in KEYS]
    with redis.pipeline(transaction=True) as pipe:
        pipe.get(KEYS[0])
        assert pipe.execute() == [f"{KEYS[0]}!"]
    assert redis.get(KEYS[-1]) == f"{KEYS[-1]}!"
    assert not before & {id(node_of(redis, key)) for key in KEYS}


def test_a_slot_that_is_just_moving_is_asked_for_at_both_nodes(
    servers: ValkeyCluster, redis: Cluster
) -> None:
    slot, holder, taker = _two_nodes(servers, redis, "{moving}1")
    redis.set("{moving}1", "there")
    redis.set("{moving}2", "here")
    holder_id, taker_id = (each.client.execute_command("CLUSTER MYID") for each in (holder, taker))
    taker.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", holder_id)
    holder.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", taker_id)
    holder.client.execute_command("MIGRATE", "127.0.0.1", taker.port, "{moving}1", 0, 5000)
    assert redis.get("{moving}1") == "there"
    assert together(redis, [Command(("GET", f"{{moving}}{number}")) for number in (1, 2)]) == [
        "there",
        "here",
    ]
    with pytest.raises(ResponseError) as caught:
        redis.mget("{moving}1", "{moving}2")
    assert is_outage(caught.value), "it is over as soon as the slot has moved"
    holder.client.execute_command("MIGRATE", "127.0.0.1", taker.port, "{moving}2", 0, 5000)
    for server in (taker, holder):
        server.client.execute_command("CLUSTER SETSLOT", slot, "NODE", taker_id)
    assert redis.mget("{moving}1", "{moving}2") == ["there", "here"]


def _two_nodes(servers: ValkeyCluster, redis: Cluster, key: str) -> tuple[int, Server, Server]:
    """Return the slot of a key, the node that holds it, and another."""
    holder = servers.holder_of(redis, key)
    other = next(each for each in (servers.holder_of(redis, one) for one in KEYS) if each is not holder)
    return slot_of(("GET", key)), holder, other
