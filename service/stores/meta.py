"""What kind of store this is, and what is written in it: checked once at the start of a process."""

from __future__ import annotations

import time

from redis import exceptions as redis_errors

from service.domain.errors import ConfigurationError
from service.stores import keys
from service.stores.connection import Client, is_outage

DATA_FORMAT = 1


def wait_until_ready(redis: Client, seconds: float) -> None:
    """Wait for the store to answer and to have loaded its data. Raises ConfigurationError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            redis.ping()
        except redis_errors.RedisError as error:
            if not is_outage(error) or time.monotonic() > deadline:
                raise ConfigurationError(f"REDIS_URL: the store does not answer: {error}") from error
            time.sleep(0.1)
        else:
            return


def check_durability(redis: Client, *, production: bool) -> None:
    """Refuse a store that forgets. Raises ConfigurationError.

    A managed store may not show its configuration; then only what INFO tells is checked.
    """
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

    Raises ConfigurationError when the data is of a newer format.
    """
    redis.hsetnx(keys.META, "format", DATA_FORMAT)
    redis.hsetnx(keys.META, "shards", wanted)
    written, shards = redis.hmget(keys.META, "format", "shards")
    if int(written) > DATA_FORMAT:
        raise ConfigurationError(
            f"REDIS_URL: the data is of format {written}, this version reads up to {DATA_FORMAT}. Update."
        )
    return int(shards)
