"""A limit on the whole of an exchange."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from service.egress.alarms import Alarm, Alarms


class Deadline:
    """Cuts the connection of this thread when the time is up, wherever it stands.

    A timeout of a socket starts anew with every byte; a receiver that drips would never meet it.
    `cancel` has to be called, or the connection stays open until the time is up. ``owner`` names whose
    exchange it is, for bounds that are somebody's.
    """

    _of_thread = threading.local()
    _alarms = Alarms()

    def __init__(self, seconds: float, owner: str | None = None) -> None:
        self.passed = False
        self._owner = owner
        self._ends_at = time.monotonic() + seconds
        self._is_over = False
        # Held for a system call or two that do not wait, so that the thread of all alarms does not either.
        # Reentrant: the garbage collector may run meanwhile, and close the stream this one is for.
        self._lock = threading.RLock()
        self._line: socket.socket | None = None
        self._alarm: Alarm | None = None

    def __enter__(self) -> Deadline:
        self._of_thread.current = self
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
        self._of_thread.current = None

    @contextmanager
    def outlasting(self) -> Iterator[None]:
        """Watch what this thread connects to in the block; what it got may be cut until `cancel`."""
        self._of_thread.current = self
        self._begin()
        try:
            yield
        finally:
            self._of_thread.current = None

    def cancel(self) -> None:
        """Cut nothing any more, from when this returns."""
        if self._alarm is not None:
            self._alarm.cancel()
        with self._lock:  # the alarm may be ringing already
            self._is_over = True
            self._let_go()

    def _begin(self) -> None:
        self._alarm = self._alarms.set(self._ends_at - time.monotonic(), self._cut)

    def _cut(self) -> None:
        with self._lock:
            if self._is_over:
                return
            self.passed = True
            if self._line is not None:
                with suppress(OSError):
                    self._line.shutdown(socket.SHUT_RDWR)
            self._let_go()

    def _hold_on_to(self, line: socket.socket) -> None:
        with self._lock:
            self._let_go()
            if self._is_over:
                return
            self._line = line.dup()
            if self.passed:
                self._cut()

    def _let_go(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()

    @classmethod
    def at_most(cls, seconds: float) -> float:
        """Return ``seconds``, or what is left when that is less."""
        current = getattr(cls._of_thread, "current", None)
        return seconds if current is None else max(min(seconds, current._ends_at - time.monotonic()), 0.01)

    @classmethod
    def owner_of_thread(cls) -> str | None:
        """Return whose exchange this thread is at."""
        current: Deadline | None = getattr(cls._of_thread, "current", None)
        return None if current is None else current._owner

    @classmethod
    def watch(cls, line: socket.socket) -> Deadline | None:
        """Make ``line`` the connection that is cut, also when it was closed meanwhile; return by whom.

        None when this thread has no deadline. Raises OSError when there is no room for another handle:
        http.client closes a connection as soon as an answer says that it is the last one, and its body
        goes on, so the deadline has one of its own.
        """
        current: Deadline | None = getattr(cls._of_thread, "current", None)
        if current is not None:
            current._hold_on_to(line)
        return current
