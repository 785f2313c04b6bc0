"""Which threads of a process work for nobody who waits, and how often they take something up."""

from __future__ import annotations

import time
from threading import Lock

# Between two groups a process takes out of the bulk queue, unless there is a full one, seconds. What is asked
# for together costs a fraction, and nobody waits for it. Who comes after a pause is served at once.
APART = 0.1


class Places:
    """The threads of a process that may work for nobody who waits; the others are for callers who do."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._last = -APART
        self._lock = Lock()

    def take(self) -> bool:
        """Take a place, if there is one."""
        with self._lock:
            if not self._free:
                return False
            self._free -= 1
            return True

    def leave(self) -> None:
        """Give a place back."""
        with self._lock:
            self._free += 1

    def linger(self) -> float:
        """Return for how long more requests may gather before some are taken out, seconds."""
        return self._last + APART - time.monotonic()

    def taken_out(self) -> None:
        """Note that requests are taken out now."""
        self._last = time.monotonic()
