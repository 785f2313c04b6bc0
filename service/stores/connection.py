"""Opens the store, and turns its failures into one error."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from redis import Redis
from redis import exceptions as redis_errors
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from service.domain.errors import StoreUnavailable
from service.stores import topology
from service.stores.cluster import Cluster
from service.stores.topology import Address, StoreUrl

C = TypeVar("C", bound=type)

# redis-py types every answer as bytes or str or None; this client always decodes, and the adapters
# know what their own keys hold.
Client = Any

# A store that is frozen must not hold a caller: connect and answer within these, or 503.
CONNECT_TIMEOUT = 0.8
ANSWER_TIMEOUT = 1.5
# One of several Sentinels; the next is asked where it does not answer.
SENTINEL_TIMEOUT = 0.3
MAX_CONNECTIONS = 1024


def open_store(url: str, *, answer_timeout: float = ANSWER_TIMEOUT) -> Client:
    """Return a client for ``url``, see `topology`; nothing is sent before its first command.

    One immediate retry covers pooled connections that died with a restarted server. It is safe
    because every script tolerates being run twice. A timeout is not retried: the caller waits.
    Sentinels are asked for the primary with each new connection, the nodes of a cluster for its slots
    where one proved to have moved: so a failover heals by itself, and until then it is an outage.
    """
    where = topology.parse(url)
    options: dict[str, Any] = {
        "decode_responses": True,
        "protocol": 2,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": answer_timeout,
        "socket_keepalive": True,
        "max_connections": MAX_CONNECTIONS,
        "retry": Retry(NoBackoff(), 1, supported_errors=(redis_errors.ConnectionError,)),
    }
    return _OPENERS[where.kind](where, options)


def _server(where: StoreUrl, options: dict[str, Any]) -> Client:
    return Redis.from_url(where.server(where.nodes[0]), **options)


def _behind_sentinels(where: StoreUrl, options: dict[str, Any]) -> Client:
    given = parse_url(where.server(where.nodes[0]))  # the login and what else the URL says of a connection
    for name in ("host", "port", "connection_class"):
        given.pop(name, None)
    of_tls = {name: value for name, value in given.items() if name.startswith("ssl_")}
    asking = {
        "socket_connect_timeout": SENTINEL_TIMEOUT,
        "socket_timeout": SENTINEL_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        **({"ssl": True, **of_tls} if where.tls else {}),
        **where.sentinel_login,
    }
    sentinels = Sentinel(where.nodes, sentinel_kwargs=asking)
    return sentinels.master_for(where.service, **{**given, **options, "ssl": where.tls})


def _cluster(where: StoreUrl, options: dict[str, Any]) -> Client:
    def node(address: Address, **timeouts: float) -> Redis:
        return Redis.from_url(where.server(address), **{**options, **timeouts})

    return Cluster(node, where.nodes)


_OPENERS: dict[str, Callable[[StoreUrl, dict[str, Any]], Client]] = {
    topology.SINGLE: _server,
    topology.SENTINEL: _behind_sentinels,
    topology.CLUSTER: _cluster,
}


def nodes(redis: Client) -> list[Client]:
    """Return a client for each server that holds data: of one server or set, the one there is."""
    return list(redis.nodes()) if isinstance(redis, Cluster) else [redis]


def is_one_server(redis: Client) -> bool:
    """Tell whether a step may touch any keys: in a cluster those of one slot."""
    return not isinstance(redis, Cluster)


def node_of(redis: Client, key: str) -> Client:
    """Return a client of the server that holds a key."""
    return redis.node_of(key) if isinstance(redis, Cluster) else redis


_TROUBLE = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "BUSY ")
# What only a person can mend. redis-py calls some of these errors of the connection; Sentinels' are quoted.
_REFUSALS = ("WRONGPASS", "NOAUTH", "NOPERM", "AuthenticationError", "without any password configured")


def is_outage(error: redis_errors.RedisError) -> bool:
    """Tell trouble of the store (down, loading, read-only, full, moving) from a mistake of ours."""
    trouble = (
        redis_errors.ConnectionError,
        redis_errors.TimeoutError,
        redis_errors.ReadOnlyError,
        redis_errors.OutOfMemoryError,
        redis_errors.ClusterError,
        redis_errors.AskError,
        redis_errors.TryAgainError,
    )
    # A disk that is full shows as MISCONF, a replica set that is too small as NOREPLICAS; in a
    # pipeline the words come after the number of the command.
    told = str(error)
    return isinstance(error, trouble) or any(word in told for word in _TROUBLE)


def is_refusal(error: redis_errors.RedisError) -> bool:
    """Tell whether the store turns us away: a wrong login, or a user who may not do what we must."""
    kinds = (redis_errors.AuthenticationError, redis_errors.NoPermissionError)
    return isinstance(error, kinds) or any(word in str(error) for word in _REFUSALS)


def translate(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``method`` so that an outage of the store is raised as StoreUnavailable."""

    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with _translated():
            return method(*args, **kwargs)

    @functools.wraps(method)
    def generator(*args: Any, **kwargs: Any) -> Any:
        with _translated():
            yield from method(*args, **kwargs)

    return generator if inspect.isgeneratorfunction(method) else wrapper


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except redis_errors.RedisError as error:
        if is_outage(error):
            raise StoreUnavailable from error
        raise


def store_adapter(cls: C) -> C:
    """Class decorator: every public method raises StoreUnavailable when the store is out."""
    for name, member in list(vars(cls).items()):
        if not name.startswith("_") and inspect.isfunction(member):
            setattr(cls, name, translate(member))
    return cls
