"""Celery's consumer, without what serves nothing here, and not to be ended by a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from celery.worker.consumer import consumer

from service.domain import ids
from service.domain.requests import DELIVER, GATHER, SCRAPE
from service.domain.watches import RUN
from workers.schedule import HOUSEKEEP, MEND

# With quorum queues it makes 28 more of them, for messages that are due later. Ours are due at once:
# what is due later stands in the store.
_LEFT_OUT = "celery.worker.consumer.delayed_delivery:DelayedDelivery"

REASON_MOST = 200  # characters


def _one(kind: str) -> Callable[[list[str]], bool]:
    return lambda arguments: len(arguments) == 1 and ids.shard_of(arguments[0], kind) is not None


def _deliveries(arguments: list[str]) -> bool:
    """Tell pairs of a delivery's id and its host."""
    return len(arguments) % 2 == 0 and all(
        ids.shard_of(each, ids.DELIVERY) is not None for each in arguments[::2]
    )


def _none(arguments: list[str]) -> bool:
    return not arguments


# What each task takes, all of it text; `workers.tasks` has them.
TAKES: Mapping[str, Callable[[list[str]], bool]] = {
    SCRAPE: _one(ids.REQUEST),
    GATHER: _none,
    DELIVER: _deliveries,
    RUN: _one(ids.WATCH),
    HOUSEKEEP: _none,
    MEND: _none,
}

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

    def on_unknown_message(self, body: Any, message: Any) -> None:
        self._drop(message, "it names no task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        self._drop(message, f"unknown task {exc}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        self._drop(message, str(exc))

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self._drop(message, str(exc))

    def _what_is_wrong(self, message: Any) -> str:
        """Return why a message is no call of a task of ours, "" for one that is."""
        name = message.headers.get("task")
        if not isinstance(name, str) or name not in self.app.tasks:
            return f"unknown task {name!r}"
        arguments, named = message.decode()[:2]
        takes = TAKES.get(name)
        texts = isinstance(arguments, list) and all(isinstance(each, str) for each in arguments)
        if takes is None or named or not texts or not takes(arguments):
            return f"wrong arguments for {name}"
        return ""

    def _drop(self, message: Any, reason: str) -> None:
        log.warning("broker.message_dropped", reason=reason[:REASON_MOST])
        if not message.acknowledged:
            message.reject_log_error(consumer.logger, self.connection_errors)
