"""The Celery object and enqueue-by-task-name; knows no task's code.

The store is the truth and a Celery message a hint: publishing is tried once and its failure is no
failure of the request, the sweep publishes what was never picked up.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery import Celery
from kombu import Exchange
from kombu import Queue as Route
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from service.domain.requests import BULK, DELIVERIES, INTERACTIVE

QUEUES = (INTERACTIVE, BULK, DELIVERIES)

# A frozen broker must not hold a caller.
SOCKET_TIMEOUT = 2.0

log = structlog.get_logger(__name__)


def make_celery(broker_url: str) -> Celery:
    """Return the Celery app that publishers and workers share; nothing is connected yet."""
    app = Celery("storyhook", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_queues=[Route(name, Exchange(name), routing_key=name) for name in QUEUES],
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
        worker_soft_shutdown_timeout=20,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A store that is full or read-only answers with an error of the channel: it is waited out too.
        broker_channel_error_retry=True,
        broker_transport_options={
            # Interactive before bulk: BRPOP takes from the first list that has something.
            "queue_order_strategy": "priority",
            "socket_timeout": SOCKET_TIMEOUT,
            "socket_connect_timeout": SOCKET_TIMEOUT,
            "socket_keepalive": True,
            "max_connections": 256,
        },
    )
    return app


class CeleryQueue:
    """Queue over Celery."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def enqueue(self, task: str, queue: str, *args: str) -> bool:
        try:
            self._app.send_task(task, args=args, queue=queue, retry=False, ignore_result=True)
        except (OperationalError, RedisError, OSError) as error:
            log.warning("enqueue.failed", task=task, args=args, queue=queue, error=str(error))
            return False
        return True

    def depths(self) -> dict[str, int]:
        """Return how many messages wait in each queue; nothing when the broker does not answer."""
        try:
            with self._app.connection_for_read() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=SOCKET_TIMEOUT)
                return {queue: self._depth(connection, queue) for queue in QUEUES}
        except (OperationalError, RedisError, OSError) as error:
            log.warning("queue.unknown_depths", error=str(error))
            return {}

    def _depth(self, connection: Any, queue: str) -> int:
        # Declaring answers with the number of messages; on a queue that exists it changes nothing.
        return int(connection.default_channel.queue_declare(queue=queue, durable=True).message_count)
