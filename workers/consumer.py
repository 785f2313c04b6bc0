"""Celery's consumer, without what serves nothing here, and not to be ended by a message."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import structlog
from celery.worker.consumer import consumer

# With quorum queues it makes 28 more of them, for messages that are due later. Ours are due at once:
# what is due later stands in the store.
_LEFT_OUT = "celery.worker.consumer.delayed_delivery:DelayedDelivery"

REASON_MOST = 200  # characters

log = structlog.get_logger(__name__)


class Consumer(consumer.Consumer):
    """The same with one step less; drops with a warning what is no call of a task of ours."""

    class Blueprint(consumer.Consumer.Blueprint):
        """What a consumer starts, in order."""

        default_steps = [step for step in consumer.Consumer.Blueprint.default_steps if step != _LEFT_OUT]  # noqa: RUF012 - Celery's

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> None:
            try:
                reason = self._what_is_wrong(message)
                if not reason:
                    handle(message)
            except (*self.connection_errors, *self.channel_errors):
                raise
            except Exception as error:  # noqa: BLE001 - whatever is in a message, it ends no process
                reason = f"{type(error).__name__}: {error}"
            if reason:
                self._drop(message, reason)

        return on_task_received

    def _what_is_wrong(self, message: Any) -> str:
        """Return why a message is no call of a task of ours, "" for one that is."""
        name = message.headers.get("task")
        if not isinstance(name, str) or name not in self.app.tasks:
            return f"unknown task {name!r}"
        arguments, named = message.decode()[:2]
        if named or not isinstance(arguments, list) or not all(isinstance(each, str) for each in arguments):
            return f"wrong arguments for {name}: texts are expected"
        try:
            inspect.signature(self.app.tasks[name].run).bind(*arguments)
        except TypeError as error:
            return f"wrong arguments for {name}: {error}"
        return ""

    def _drop(self, message: Any, reason: str) -> None:
        log.warning("broker.message_dropped", reason=reason[:REASON_MOST])
        if not message.acknowledged:
            message.reject_log_error(consumer.logger, self.connection_errors)
