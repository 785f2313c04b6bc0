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
from redis.retry import Retry

from service.domain.errors import StoreUnavailable

C = TypeVar("C", bound=type)

# redis-py types every answer as bytes or str or None; this client always decodes, and the adapters
# know what their own keys hold.
Client = Any

# A store that is frozen must not hold a caller: connect and answer within these, or 503.
CONNECT_TIMEOUT = 0.8
ANSWER_TIMEOUT = 1.5
MAX_CONNECTIONS = 1024


def open_store(url: str, *, answer_timeout: float = ANSWER_TIMEOUT) -> Redis:
    """Return a client for ``url``; nothing is sent before its first command.

    One immediate retry covers pooled connections that died with a restarted server. It is safe
    because every script tolerates being run twice. A timeout is not retried: the caller waits.
    """
    return Redis.from_url(
        url,
        decode_responses=True,
        protocol=2,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=answer_timeout,
        socket_keepalive=True,
        max_connections=MAX_CONNECTIONS,
        retry=Retry(NoBackoff(), 1, supported_errors=(redis_errors.ConnectionError,)),
    )


def is_outage(error: redis_errors.RedisError) -> bool:
    """Tell trouble of the store (down, loading, read-only, full) from a mistake of ours."""
    trouble = (
        redis_errors.ConnectionError,
        redis_errors.TimeoutError,
        redis_errors.ReadOnlyError,
        redis_errors.OutOfMemoryError,
        redis_errors.ClusterDownError,
    )
    # A disk that is full shows as MISCONF, a replica set that is too small as NOREPLICAS; in a
    # pipeline the words come after the number of the command.
    told = str(error)
    return isinstance(error, trouble) or any(word in told for word in ("MISCONF", "NOREPLICAS", "MASTERDOWN"))


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
