"""Waiting for the end of something: a subscription that was there before the state was looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.client import PubSub

from service.stores.connection import Client, translate


class Waiter:
    """A subscription to the end of one request."""

    def __init__(self, pubsub: PubSub) -> None:
        self._pubsub = pubsub

    @translate
    def wait(self, seconds: float) -> bool:
        """Block until the request ends or ``seconds`` pass; tell whether it ended."""
        return self._pubsub.get_message(ignore_subscribe_messages=True, timeout=max(seconds, 0.0)) is not None


@contextmanager
def waiter(redis: Client, channel: str) -> Iterator[Waiter]:
    """Listen on a channel of `keys.done`. Raises StoreUnavailable."""
    with redis.pubsub() as pubsub:
        translate(pubsub.subscribe)(channel)
        # The confirmation is read here: what ends after it is heard, what ended before is in the state.
        translate(pubsub.get_message)(timeout=1.0)
        yield Waiter(pubsub)
