"""The Celery object and its connections to the broker; knows no task's code.

The broker is Redis or Valkey, which Celery's own transport treats as if it never failed: what is put
right here was found by killing, freezing and filling it under load (tests/e2e/test_store_trouble.py).
Or it is RabbitMQ, with quorum queues (tests/topologies).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import Empty
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import structlog
from celery import Celery
from kombu import Connection, Exchange
from kombu import Queue as Route
from kombu.transport import pyamqp, virtual
from kombu.transport import redis as redis_transport
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.domain.requests import BULK, DELIVERIES, INTERACTIVE
from service.stores import topology
from service.stores.connection import SENTINEL_TIMEOUT

QUEUES = (INTERACTIVE, BULK, DELIVERIES)

# A frozen broker must not hold a caller.
SOCKET_TIMEOUT = 2.0
# How soon a consumer finds out that the answer it waits for will never come, seconds: kombu's own
# 25 make it 51. It looks every so often, and gives an answer one second more than that.
HEALTH_CHECK = 4
# Between two tries of a consumer to reach a broker that is out, at most, seconds; kombu's own is 30.
LONGEST_PAUSE = 2.0

# A message is published when a majority of the nodes has it.
ON_RABBITMQ: Mapping[str, Any] = {"confirm_publish": True, "connect_timeout": SOCKET_TIMEOUT}
RABBITMQ = frozenset({"amqp", "amqps", "pyamqp"})
VERIFIED: Mapping[str, Any] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
ON_REDIS: Mapping[str, Any] = {
    # A publisher tries once; by kombu's default it goes on for four seconds.
    "max_retries": 0,
    # Interactive before bulk: BRPOP takes from the first list that has something.
    "queue_order_strategy": "priority",
    "socket_timeout": SOCKET_TIMEOUT,
    "socket_connect_timeout": SOCKET_TIMEOUT,
    "socket_keepalive": True,
    "health_check_interval": HEALTH_CHECK,
    "max_connections": 256,
}


# What reading JSON of any form, and taking it for a message, may raise.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
REASON_MOST = 200  # characters

log = structlog.get_logger(__name__)


class QoS(redis_transport.QoS):
    """Counts the messages a consumer holds, and no longer those whose acknowledgement failed.

    Kombu's goes on counting them for as long as the connection lasts. Each outage of the broker
    would take places away for good, and one that catches as many jobs as may be held would end
    consuming: with no place left nothing is read, so the lost connection is never noticed. The
    message itself stays with the broker, comes again after its visibility timeout, and finds that
    its work is done.
    """

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)
        except BaseException:
            virtual.QoS.ack(self, delivery_tag)
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        try:
            super().reject(delivery_tag, requeue=requeue)
        except BaseException:
            virtual.QoS.ack(self, delivery_tag)
            raise

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        try:
            super().restore_by_tag(tag, client, leftmost)
        except UNREADABLE as error:
            # What is no message would end each look for those a dead consumer held.
            self._remove_from_indices(tag).execute()
            log.warning("broker.message_dropped", reason=f"{type(error).__name__}: {error}"[:REASON_MOST])


class Message(virtual.Message):
    """A message that has all a consumer needs of it. Raises ValueError for anything else."""

    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **options)
            known = {"exchange", "routing_key"} <= self.delivery_info.keys()
        except UNREADABLE as error:
            raise ValueError(f"it lacks what a message has ({type(error).__name__}: {error})") from error
        if not (known and isinstance(self.headers, dict) and isinstance(self.delivery_tag, str)):
            raise ValueError("it lacks what a message has")


class _Tolerant:
    """Reads what is in a broker's lists, and drops what is no message with a warning.

    Kombu lets it end the consumer, and so the process.
    """

    Message = Message

    def _brpop_read(self, **options: Any) -> Any:
        return self._tolerating(super()._brpop_read, **options)  # type: ignore[misc]

    def _get(self, queue: str) -> Any:
        return self._tolerating(super()._get, queue)  # type: ignore[misc]

    def _tolerating(self, read: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return read(*arguments, **options)
        except self.connection_errors:  # type: ignore[attr-defined]
            raise
        except UNREADABLE as error:
            log.warning("broker.message_dropped", reason=f"{type(error).__name__}: {error}"[:REASON_MOST])
            raise Empty from None


class Channel(_Tolerant, redis_transport.Channel):  # type: ignore[misc]
    """A channel of a Redis that survives what is no message."""


class SentinelChannel(_Tolerant, redis_transport.SentinelChannel):  # type: ignore[misc]
    """The same behind Sentinels."""


# By the class, because a broker's URL alone decides which transport and channel are used.
redis_transport.Channel.QoS = QoS
redis_transport.Transport.Channel = Channel
redis_transport.SentinelTransport.Channel = SentinelChannel


class _Bounded:
    """Waits for an answer of RabbitMQ for so long; py-amqp waits for ever, to say good-bye as well."""

    def wait(
        self, method: Any, callback: Any = None, timeout: Any = None, returns_tuple: bool = False
    ) -> Any:
        connection: Any = getattr(self, "connection", None) or self
        try:
            return super().wait(method, callback, timeout or SOCKET_TIMEOUT, returns_tuple)  # type: ignore[misc]
        except TimeoutError:
            # An answer that comes late would be taken for that to something else.
            connection.collect()
            raise


class AmqpChannel(_Bounded, pyamqp.Channel):
    """A channel of RabbitMQ that gives up on one that is frozen."""


class AmqpConnection(_Bounded, pyamqp.Connection):
    """A connection to RabbitMQ, the same."""

    Channel = AmqpChannel


pyamqp.Transport.Connection = AmqpConnection


class PromptConnection(Connection):
    """Tries to reach a broker that is out as often after an hour as at first."""

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        return super().ensure_connection(*args, **{"interval_max": LONGEST_PAUSE, **kwargs})


@dataclass(frozen=True)
class Broker:
    """How Celery is told of a broker: its URL, what its connections are made with, what its queues are."""

    url: str = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)
    tls: Mapping[str, Any] | None = None
    queue_arguments: Mapping[str, Any] | None = None


def make_celery(broker_url: str) -> Celery:
    """Return the Celery app that publishers and workers share; nothing is connected yet."""
    broker = broker_of(broker_url)
    app = Celery("storyhook", broker=broker.url, set_as_current=False)
    app.conf.update(
        task_queues=[
            Route(name, Exchange(name), routing_key=name, queue_arguments=broker.queue_arguments)
            for name in QUEUES
        ],
        task_default_queue=BULK,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A store that is full or read-only answers with an error of the channel: it is waited out too.
        broker_channel_error_retry=True,
        broker_transport_options=dict(broker.options),
    )
    if broker.tls is not None:
        app.conf.broker_use_ssl = dict(broker.tls)
    app.amqp.Connection = PromptConnection
    return app


def broker_of(url: str) -> Broker:
    """Return what Celery needs to be told of the broker at ``url``. Raises ValueError for a wrong URL."""
    if urlsplit(url).scheme in RABBITMQ:
        # Each of its nodes is tried once, or who publishes would be held.
        options = {**ON_RABBITMQ, "max_retries": url.count(";")}
        return Broker(url, options, queue_arguments={"x-queue-type": "quorum"})
    if not topology.is_of_a_store(url) or (where := topology.parse(url)).kind == topology.SINGLE:
        return Broker(url, ON_REDIS, VERIFIED if _leaves_tls_open(url) else None)
    return _behind_sentinels(where)


def _behind_sentinels(where: topology.StoreUrl) -> Broker:
    """Return how kombu wants it: one URL for each Sentinel, the rest as options."""
    urls = [
        urlunsplit(("sentinel", *urlsplit(where.server(address))[1:3], "", "")) for address in where.nodes
    ]
    asking = {
        "socket_timeout": SENTINEL_TIMEOUT,
        "socket_connect_timeout": SENTINEL_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        **({"ssl": True} if where.tls else {}),
        **where.sentinel_login,
    }
    options = {**ON_REDIS, "master_name": where.service, "sentinel_kwargs": asking}
    return Broker(";".join(urls), options, VERIFIED if where.tls else None)


def _leaves_tls_open(broker_url: str) -> bool:
    """Tell whether a URL asks for TLS and says nothing of certificates: kombu would not verify them."""
    parts = urlsplit(broker_url)
    return parts.scheme == "rediss" and "ssl_cert_reqs" not in parse_qs(parts.query)
