"""Waiting for the end of something: a subscription that was there before the state was looked at."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from redis.client import PubSub
from redis.exceptions import RedisError

from service.domain.errors import StoreUnavailable
from service.stores.connection import ANSWER_TIMEOUT, Client, translate


class Waiter:
    """A subscription to the end of one request."""

    def __init__(self, pubsub: PubSub, channel: str) -> None:
        self._pubsub = pubsub
        self._channel = channel

    @translate
    def wait(self, seconds: float) -> bool:
        """Block until the request ends or ``seconds`` pass; tell whether it ended."""
        return self.hears("message", seconds)

    def hears(self, kind: str, seconds: float) -> bool:
        """Block until something of this kind is said on the channel; what others were to hear is passed."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            said = self._pubsub.get_message(timeout=left)
            if said is not None and (said["type"], said["channel"]) == (kind, self._channel):
                return True
        return False


class Waiters:
    """Lends subscriptions. Their connections are kept: a new one for each caller costs more than the wait."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._idle: list[PubSub] = []  # append and pop are atomic

    @contextmanager
    def on(self, channel: str) -> Iterator[Waiter]:
        """Listen on a channel of `keys.done`. Raises StoreUnavailable."""
        pubsub = self._take()
        try:
            waiter = Waiter(pubsub, channel)
            translate(pubsub.subscribe)(channel)
            # The confirmation is read here: what ends after it is heard, what ended before is in the state.
            if not translate(waiter.hears)("subscribe", ANSWER_TIMEOUT):
                raise StoreUnavailable
            yield waiter
        except BaseException:
            pubsub.close()  # whatever is on its way there is nobody's
            raise
        self._give_back(pubsub, channel)

    def _take(self) -> PubSub:
        try:
            return self._idle.pop()
        except IndexError:
            pubsub: PubSub = self._redis.pubsub()
            return pubsub

    def _give_back(self, pubsub: PubSub, channel: str) -> None:
        try:
            pubsub.unsubscribe(channel)
        except RedisError:
            pubsub.close()
        else:
            self._idle.append(pubsub)
