"""How many threads of a process work for nobody who waits."""

from __future__ import annotations

from threading import Lock


class Places:
    """The threads of a process that may work for nobody who waits; the others are for callers who do."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._taken = 0
        self._lock = Lock()

    def take(self) -> int:
        """Take a place; return how many are taken now, 0 when there was none."""
        with self._lock:
            if self._taken == self._count:
                return 0
            self._taken += 1
            return self._taken

    def leave(self) -> None:
        """Give a place back."""
        with self._lock:
            self._taken -= 1
