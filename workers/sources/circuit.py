"""Whether an upstream is worth asking: it is left alone for a while when most of what it was asked failed."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]

WINDOW_SECONDS = 300.0
TRIES_LEAST = 10
FAILED_SHARE = 0.7
OPEN_SECONDS = 30.0
# What is counted together: memory stays small, however much is asked.
SLICE_SECONDS = 10.0


@dataclass
class _Slice:
    """What was counted in a few seconds."""

    begin: float
    tries: int = 0
    failures: int = 0


class Circuit:
    """A circuit breaker of one upstream in one process; threads may share it.

    It opens when of at least ``TRIES_LEAST`` tries within ``WINDOW_SECONDS`` ``FAILED_SHARE`` or more
    failed. ``OPEN_SECONDS`` later one probe is let through at a time: it closes the circuit, or keeps it
    open for as long again. ``clock`` returns seconds that never go back.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._slices: deque[_Slice] = deque()
        self._opened: float | None = None
        self._entered = 0
        self._probe: int | None = None

    def wait(self) -> float:
        """Return in how many seconds it is worth asking; 0 when it may be asked now."""
        with self._lock:
            return self._wait()

    def enter(self) -> int | None:
        """Begin a try and return its number; None when the upstream must be left alone.

        Every try that began is told to `leave`.
        """
        with self._lock:
            if self._wait():
                return None
            self._entered += 1
            if self._opened is not None:
                self._probe = self._entered
            return self._entered

    def leave(self, number: int, failed: bool | None) -> None:
        """End a try: whether the upstream failed, None when it says nothing about the upstream."""
        with self._lock:
            if self._opened is None:
                if failed is not None:
                    self._count(failed)
            elif number == self._probe:
                self._probe = None
                if failed is not None:
                    self._opened = self._clock() if failed else None
                    self._slices.clear()

    def _wait(self) -> float:
        if self._opened is None:
            return 0.0
        left = self._opened + OPEN_SECONDS - self._clock()
        if left > 0:
            return left
        return 0.0 if self._probe is None else 1.0  # the probe's end is not known

    def _count(self, failed: bool) -> None:
        now = self._clock()
        while self._slices and self._slices[0].begin <= now - WINDOW_SECONDS:
            self._slices.popleft()
        if not self._slices or self._slices[-1].begin <= now - SLICE_SECONDS:
            self._slices.append(_Slice(now))
        self._slices[-1].tries += 1
        self._slices[-1].failures += failed
        tries = sum(each.tries for each in self._slices)
        failures = sum(each.failures for each in self._slices)
        if tries >= TRIES_LEAST and failures >= tries * FAILED_SHARE:
            self._opened = now
