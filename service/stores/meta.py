"""What kind of store this is, and what is written in it: checked once at the start of a process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from redis import exceptions as redis_errors

from service.domain.errors import ConfigurationError
from service.stores import keys
from service.stores.connection import Client, is_one_server, is_outage, nodes

T = TypeVar("T")

DATA_FORMAT = 1
# While a restore writes: the checksum of the backup it writes.
RESTORING = "restoring"


def wait_until_ready(redis: Client, seconds: float) -> None:
    """Wait for the store to answer and to have loaded its data. Raises ConfigurationError."""
    patiently(redis.ping, seconds)


def patiently(ask: Callable[[], T], seconds: float) -> T:
    """Return what ``ask`` does once the store is down, full or read-only no more.

    Raises ConfigurationError when it still is after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except redis_errors.RedisError as error:
            if not is_outage(error) or time.monotonic() > deadline:
                raise ConfigurationError(f"REDIS_URL: the store does not answer: {error}") from error
            time.sleep(0.1)


def check_kind(redis: Client) -> None:
    """Refuse a node of a cluster where one server is expected: a step may touch any keys.

    Raises ConfigurationError.
    """
    if is_one_server(redis) and redis.info("cluster").get("cluster_enabled"):
        raise ConfigurationError(
            "REDIS_URL: this server is a node of a cluster. Write redis+cluster:// in place of redis://, "
            "and name a few of its nodes."
        )


def check_durability(redis: Client, *, production: bool) -> None:
    """Refuse a store that forgets. Raises ConfigurationError.

    A managed store may not show its configuration; then only what INFO tells is checked.
    """
    for node in nodes(redis):
        _check_durability(node, production=production)


def _check_durability(redis: Client, *, production: bool) -> None:
    memory = redis.info("memory")
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and int(memory.get("maxmemory", 0)) > 0:
        raise ConfigurationError(
            f"REDIS_URL: the store evicts keys (maxmemory-policy {policy}); it holds credits and must not. "
            "Set 'maxmemory-policy noeviction'."
        )
    if production and not redis.info("persistence").get("aof_enabled"):
        raise ConfigurationError(
            "REDIS_URL: the store keeps no append-only file; a restart loses credits. Set 'appendonly yes'."
        )


def fix_shards(redis: Client, wanted: int) -> int:
    """Write format and number of shards at the first start; return the number in force.

    Raises ConfigurationError when the data is of a newer format, or only half restored.
    """
    if redis.hexists(keys.META, RESTORING):
        raise ConfigurationError(
            "REDIS_URL: a restore of this store has not finished. "
            "Run `storyhook restore` again with the same file."
        )
    redis.hsetnx(keys.META, "format", DATA_FORMAT)
    redis.hsetnx(keys.META, "shards", wanted)
    check_format(redis)
    return int(redis.hget(keys.META, "shards"))


def fix_key(redis: Client, key_check: str) -> None:
    """Write at the first start which SECRET_KEY the data is of. Raises ConfigurationError under another."""
    redis.hsetnx(keys.META, "key", key_check)
    if redis.hget(keys.META, "key") != key_check:
        raise ConfigurationError(
            "SECRET_KEY: the data in the store was made under another one; API keys, webhook secrets and "
            "Instagram sessions are worthless under this. Set the one it was made under."
        )


def check_format(redis: Client) -> None:
    """Refuse data this version cannot read; writes nothing. Raises ConfigurationError."""
    written = redis.hget(keys.META, "format")
    if written is not None and int(written) > DATA_FORMAT:
        raise ConfigurationError(
            f"REDIS_URL: the data is of format {written}, this version reads up to {DATA_FORMAT}. Update."
        )
