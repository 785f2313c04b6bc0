"""What kind of store this is, checked once at the start."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from service import bootstrap
from service.cli.demo import free_ports
from service.config import Settings
from service.domain.errors import ConfigurationError
from service.stores import keys
from service.stores.connection import open_store
from service.stores.meta import DATA_FORMAT, check_durability, check_kind, fix_shards, wait_until_ready
from tests.conftest import running_valkey
from tests.redis.kit import ON_ONE_SERVER


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Redis]:
    """A server of its own, which a test may set up badly."""
    [port] = free_ports(1)
    with running_valkey(tmp_path, port) as url:
        client = open_store(url)
        yield client
        client.close()


def test_a_node_of_a_cluster_is_not_taken_for_the_only_server(tmp_path: Path) -> None:
    port, bus = free_ports(2)
    with running_valkey(tmp_path, port, "--cluster-enabled", "yes", "--cluster-port", str(bus)) as url:
        with open_store(url) as node, pytest.raises(ConfigurationError, match=r"redis\+cluster://"):
            check_kind(node)
        with open_store(f"redis+cluster://127.0.0.1:{port}") as cluster:
            check_kind(cluster)


def test_a_server_that_is_in_no_cluster_is_one(other: Redis) -> None:
    check_kind(other)


@pytest.mark.parametrize(
    "policy", ["allkeys-lru", "allkeys-lfu", "volatile-lru", "volatile-ttl", "allkeys-random"]
)
def test_a_store_that_evicts_is_refused_everywhere(other: Redis, policy: str) -> None:
    other.config_set("maxmemory", "100mb")
    other.config_set("maxmemory-policy", policy)
    for production in (True, False):
        with pytest.raises(ConfigurationError, match=rf"evicts.*{policy}.*noeviction"):
            check_durability(other, production=production)


def test_a_store_that_is_bounded_and_refuses_writes_is_taken(other: Redis) -> None:
    other.config_set("maxmemory", "100mb")
    check_durability(other, production=True)


def test_a_store_without_bounds_never_evicts_whatever_its_policy(other: Redis) -> None:
    other.config_set("maxmemory-policy", "allkeys-lru")
    check_durability(other, production=True)


def test_a_store_without_an_append_only_file_is_refused_in_production_only(other: Redis) -> None:
    other.config_set("appendonly", "no")
    check_durability(other, production=False)
    with pytest.raises(ConfigurationError, match="append-only"):
        check_durability(other, production=True)


def test_the_number_of_shards_is_fixed_at_the_first_start(redis: Redis) -> None:
    assert fix_shards(redis, 16) == 16
    assert fix_shards(redis, 32) == 16
    assert redis.hgetall(keys.META) == {"format": str(DATA_FORMAT), "shards": "16"}


def test_data_of_a_newer_version_is_refused(redis: Redis) -> None:
    redis.hset(keys.META, mapping={"format": DATA_FORMAT + 1, "shards": 16})
    with pytest.raises(ConfigurationError, match=f"format {DATA_FORMAT + 1}"):
        fix_shards(redis, 16)


def test_a_store_that_answers_is_ready_at_once(valkey: Redis) -> None:
    started = time.monotonic()
    wait_until_ready(valkey, 60)
    assert time.monotonic() - started < 30


def test_a_store_that_does_not_answer_is_waited_for_and_then_named() -> None:
    [port] = free_ports(1)
    nobody = open_store(f"redis://127.0.0.1:{port}/0")
    started = time.monotonic()
    with pytest.raises(ConfigurationError, match="REDIS_URL: the store does not answer"):
        wait_until_ready(nobody, 0.3)
    assert 0.3 <= time.monotonic() - started < 30
    nobody.close()


@ON_ONE_SERVER
@pytest.mark.parametrize(
    ("trouble", "cure"),
    [
        (("CONFIG", "SET", "maxmemory", "1mb"), ("CONFIG", "SET", "maxmemory", "0")),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    ],
    ids=["full", "read-only"],
)
def test_a_process_that_starts_while_nothing_can_be_written_waits(
    valkey: Redis, settings: Settings, trouble: tuple[str, ...], cure: tuple[str, ...]
) -> None:
    valkey.execute_command(*trouble)
    try:
        with pytest.raises(ConfigurationError, match="REDIS_URL: the store does not answer"):
            bootstrap.build(settings, wait=0.3)
        timer = threading.Timer(0.5, valkey.execute_command, cure)
        timer.start()
        bootstrap.build(settings, wait=60).stats.ping()
    finally:
        valkey.execute_command(*cure)


def test_building_the_services_checks_and_fixes_the_store(valkey: Redis, settings: Settings) -> None:
    services = bootstrap.build(settings, wait=60)
    assert valkey.hget(keys.META, "shards") == str(settings.shards)
    services.stats.ping()


def test_services_are_not_built_over_a_store_of_a_newer_version(valkey: Redis, settings: Settings) -> None:
    valkey.hset(keys.META, mapping={"format": 99, "shards": 4})
    with pytest.raises(ConfigurationError):
        bootstrap.build(settings, wait=60)


def test_data_of_another_secret_key_is_refused(valkey: Redis, settings: Settings) -> None:
    bootstrap.build(settings, wait=60)
    bootstrap.build(settings, wait=60)
    with pytest.raises(ConfigurationError, match="SECRET_KEY: the data in the store was made under another"):
        bootstrap.build(replace(settings, secret_key="x" * 40), wait=60)
