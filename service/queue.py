"""Enqueue by task name; knows no task's code.

The store is the truth and a Celery message a hint: publishing is tried once and its failure is no
failure of the request, the sweep publishes what was never picked up.
"""

from __future__ import annotations

from typing import Any

import structlog
from amqp.exceptions import AMQPError
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from service.broker import QUEUES, SOCKET_TIMEOUT

OUT_OF_REACH = (OperationalError, AMQPError, RedisError, OSError)

log = structlog.get_logger(__name__)


class CeleryQueue:
    """Queue over Celery."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def enqueue(self, task: str, queue: str, *args: str) -> bool:
        try:
            # Only RabbitMQ confirms; on Redis a message is there when its command was answered.
            self._app.send_task(
                task, args=args, queue=queue, retry=False, ignore_result=True, confirm_timeout=SOCKET_TIMEOUT
            )
        except OUT_OF_REACH as error:
            log.warning("enqueue.failed", task=task, args=args, queue=queue, error=str(error))
            return False
        return True

    def depths(self) -> dict[str, int]:
        """Return how many messages wait in each queue; nothing when the broker does not answer."""
        try:
            with self._app.connection_for_read() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=SOCKET_TIMEOUT)
                return {queue: self._depth(connection, queue) for queue in QUEUES}
        except OUT_OF_REACH as error:
            log.warning("queue.unknown_depths", error=str(error))
            return {}

    def _depth(self, connection: Any, queue: str) -> int:
        # Declaring answers with the number of messages; on a queue that exists it changes nothing.
        declared = self._app.amqp.queues[queue]
        return int(declared.queue_declare(channel=connection.default_channel).message_count)
