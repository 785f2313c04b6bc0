"""How long a whole piece of work of this thread may take, however many calls and reads it is made of.

A timeout of a socket starts anew with every byte; a server that drips would never meet it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class _Ends(threading.local):
    at = math.inf  # by the monotonic clock, seconds


_ends = _Ends()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let what this thread does in the block take so many seconds, and no longer than an outer block says."""
    outer = _ends.at
    _ends.at = min(outer, time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends.at = outer


def time_left(seconds: float | None) -> float | None:
    """Return ``seconds`` (None: no limit), or what is left when that is less.

    Raises TimeoutError when nothing is left.
    """
    left = _ends.at - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time for all of it is up")
    if left == math.inf:
        return seconds
    return left if seconds is None else min(seconds, left)


def capped(seconds: float) -> float:
    """Return the same, for timers that end by themselves: a moment when nothing is left."""
    return max(min(seconds, _ends.at - time.monotonic()), 0.01)
