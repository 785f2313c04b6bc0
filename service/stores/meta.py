"""What kind of store this is, and what is written in it: checked once at the start of a process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event
from typing import Any, TypeVar

import structlog
from redis import exceptions as redis_errors

from service.domain.errors import ConfigurationError
from service.stores import keys, topology
from service.stores.connection import Client, is_one_server, is_outage, is_refusal, nodes, open_store

T = TypeVar("T")

TELL_EVERY = 10.0
LOOK_EVERY = 0.2

log = structlog.get_logger(__name__)

DATA_FORMAT = 1
# While a restore writes: the checksum of the backup it writes.
RESTORING = "restoring"


@dataclass(frozen=True)
class Patience:
    """How long is waited for a store that is out, in seconds; who is told of it; what ends the waiting.

    ``tell`` is called at once and every 10 s, with what is wrong and for how many seconds it has been.
    """

    seconds: float = math.inf
    tell: Callable[[str, float], None] = lambda reason, seconds: None
    stop: Event = field(default_factory=Event)


def wait_until_ready(redis: Client, seconds: float) -> None:
    """Wait for the store to answer and to have loaded its data. Raises ConfigurationError."""
    patiently(redis.ping, Patience(seconds))


def patiently(ask: Callable[[], T], patience: Patience, name: str = "REDIS_URL") -> T:
    """Return what ``ask`` does once the store is down, loading, full or read-only no more.

    Raises ConfigurationError naming the setting when it still is after as long as is waited, and at once
    for what only a person can mend. Raises SystemExit when told to stop meanwhile.
    """
    began, told = time.monotonic(), 0
    while not patience.stop.is_set():
        try:
            return ask()
        except redis_errors.RedisError as error:
            _must_pass(error, name)
            waited = time.monotonic() - began
            if waited > patience.seconds:
                raise ConfigurationError(f"{name}: the store does not answer: {error}") from error
            if waited >= told * TELL_EVERY:
                told += 1
                patience.tell(str(error), waited)
        except UnicodeError as error:
            raise ConfigurationError(f"{name}: the host is no name of a server ({error}).") from error
        patience.stop.wait(LOOK_EVERY)
    raise SystemExit(0)


def _must_pass(error: redis_errors.RedisError, name: str) -> None:
    """Raise ConfigurationError unless waiting may help."""
    if is_refusal(error):
        raise ConfigurationError(
            f"{name}: the store refuses the login, or what it may do: {error}. Mend the user and password in "
            f"{name} (percent-encoded), or the rights of the user."
        ) from error
    if not is_outage(error):
        raise ConfigurationError(f"{name}: what answers is no store this can use: {error}") from error


def is_out_of_reach(error: ConfigurationError) -> bool:
    """Tell a store that did not answer for as long as was waited from one that cannot be used."""
    cause = error.__cause__
    return isinstance(cause, redis_errors.RedisError) and is_outage(cause) and not is_refusal(cause)


def check_database(url: str, name: str, patience: Patience, *, hint: str) -> None:
    """Wait for the server of a URL, and refuse a database that it does not have.

    Raises ConfigurationError naming the setting, how many databases there are, and ``hint``.
    """
    with open_store(url) as redis:
        try:
            patiently(redis.ping, patience, name)
        except ConfigurationError as error:
            if "DB index" not in str(error.__cause__):
                raise
            number = topology.parse(url).database
            raise ConfigurationError(
                f"{name}: the server has no database {number}{_how_many(url)}. {hint}"
            ) from error


def _how_many(url: str) -> str:
    """Return how many databases a server has, as part of a sentence; "" where it does not tell."""
    with (
        suppress(redis_errors.RedisError, KeyError),
        open_store(topology.parse(url).first_database()) as redis,
    ):
        count = int(redis.config_get("databases")["databases"])
        return f", it has {count} (0 to {count - 1})"
    return ""


def check_kind(redis: Client) -> None:
    """Refuse a node of a cluster where one server is expected: a step may touch any keys.

    Raises ConfigurationError.
    """
    if is_one_server(redis) and _shown(redis, "cluster").get("cluster_enabled"):
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
    memory = _shown(redis, "memory")
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and int(memory.get("maxmemory", 0)) > 0:
        raise ConfigurationError(
            f"REDIS_URL: the store evicts keys (maxmemory-policy {policy}); it holds credits and must not. "
            "Set 'maxmemory-policy noeviction'."
        )
    persistence = _shown(redis, "persistence")
    if production and persistence and not persistence.get("aof_enabled"):
        raise ConfigurationError(
            "REDIS_URL: the store keeps no append-only file; a restart loses credits. Set 'appendonly yes'."
        )


def _shown(redis: Client, section: str) -> dict[str, Any]:
    """Return a section of INFO; nothing, and a warning, where the store does not show it."""
    try:
        found: dict[str, Any] = redis.info(section)
    except redis_errors.ResponseError as error:
        if is_outage(error):
            raise
        log.warning(
            "store.not_shown", section=section, error=str(error), unchecked="eviction, append-only file"
        )
        return {}
    return found


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
