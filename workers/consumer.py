"""Celery's consumer, without what serves nothing here."""

from __future__ import annotations

from celery.worker.consumer import consumer

# With quorum queues it makes 28 more of them, for messages that are due later. Ours are due at once:
# what is due later stands in the store.
_LEFT_OUT = "celery.worker.consumer.delayed_delivery:DelayedDelivery"


class Consumer(consumer.Consumer):
    """The same with one step less."""

    class Blueprint(consumer.Consumer.Blueprint):
        """What a consumer starts, in order."""

        default_steps = [step for step in consumer.Consumer.Blueprint.default_steps if step != _LEFT_OUT]  # noqa: RUF012 - Celery's
