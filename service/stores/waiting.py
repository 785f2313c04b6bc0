"""Waiting for the end of something: a subscription that was there before the state was looked at."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from redis.client import PubSub
from redis.exceptions import RedisError

from service.domain.errors import StoreUnavailable
from service.stores.connection import ANSWER_TIMEOUT, Client, node_of, translate


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
        self._idle: WeakKeyDictionary[Client, list[PubSub]] = WeakKeyDictionary()  # by node

    @contextmanager
    def on(self, channel: str) -> Iterator[Waiter]:
        """Listen on a channel of `keys.done`. Raises StoreUnavailable."""
        # The node of the channel's own slot: its messages need not travel through the cluster first.
        node = translate(node_of)(self._redis, channel)
        pubsub = self._take(node)
        try:
            waiter = Waiter(pubsub, channel)
            translate(pubsub.subscribe)(channel)
            # The confirmation is read here: what ends after it is heard, what ended before is in the state.
            if not translate(waiter.hears)("subscribe", ANSWER_TIMEOUT):
                self._drop_idle(node)
                raise StoreUnavailable
            yield waiter
        except BaseException:
            pubsub.close()  # whatever is on its way there is nobody's
            raise
        self._give_back(node, pubsub, channel)

    def _drop_idle(self, node: Client) -> None:
        """Keep none of a node that fell silent: the others fell silent with it."""
        for pubsub in self._idle.pop(node, []):
            pubsub.close()

    def _take(self, node: Client) -> PubSub:
        try:
            return self._idle[node].pop()
        except LookupError:
            pubsub: PubSub = node.pubsub()
            return pubsub

    def _give_back(self, node: Client, pubsub: PubSub, channel: str) -> None:
        try:
            pubsub.unsubscribe(channel)
        except RedisError:
            pubsub.close()
        else:
            self._idle.setdefault(node, []).append(pubsub)
