"""Calls at a later time, all on one thread: a thread for each costs as much as a POST."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count


class Alarm:
    """A call that is to be made, unless it is cancelled."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Make it not, unless it is being made already."""
        self._call = None

    @property
    def is_over(self) -> bool:
        return self._call is None

    def ring(self) -> None:
        """Make the call."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Alarms:
    """The alarms of a process. Calls have to be short and must not raise."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Alarm]] = []
        self._numbers = count()  # so that two of the same time are never compared
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def set(self, seconds: float, call: Callable[[], None]) -> Alarm:
        """Have ``call`` made in so many seconds."""
        alarm, at = Alarm(call), time.monotonic() + seconds
        with self._changed:
            is_next = not self._waiting or at < self._waiting[0][0]
            heapq.heappush(self._waiting, (at, next(self._numbers), alarm))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)
                self._thread.start()
            elif is_next:
                self._changed.notify()
        return alarm

    def _run(self) -> None:
        while True:
            with suppress(Exception):  # one call that fails must not silence all others
                self._due().ring()

    def _due(self) -> Alarm:
        """Wait for the next alarm and return it."""
        with self._changed:
            while True:
                # Those that were cancelled are no reason to wake up, and most are.
                while self._waiting and self._waiting[0][2].is_over:
                    heapq.heappop(self._waiting)
                wait = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._waiting)[2]
                self._changed.wait(wait)
