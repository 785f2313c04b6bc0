"""A deadline and the connection it cuts, with a clock that is turned by hand."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from service.egress.alarms import Alarm
from service.egress.deadline import Deadline


class Clock:
    """Alarms that ring when they are told to."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def set(self, seconds: float, call: Callable[[], None]) -> Alarm:
        self.calls.append(call)
        return Alarm(call)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(Deadline, "_alarms", clock)
    return clock


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def is_cut(theirs: socket.socket) -> bool:
    """Tell whether the other end hears that the connection was shut down."""
    theirs.setblocking(False)
    with suppress(BlockingIOError):
        return theirs.recv(1) == b""
    return False


def test_what_is_watched_is_cut_even_when_it_was_closed(
    clock: Clock, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    with Deadline(60) as deadline:
        handle = ours.dup()
        Deadline.watch(handle)
        handle.close()
        clock.calls[0]()
        assert deadline.passed
        assert is_cut(theirs)


def test_what_is_connected_when_the_time_is_up_is_cut_at_once(
    clock: Clock, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    with Deadline(60):
        clock.calls[0]()
        Deadline.watch(ours)
        assert is_cut(theirs)


def test_an_alarm_that_is_late_finds_nothing_to_cut(
    clock: Clock, pair: tuple[socket.socket, socket.socket]
) -> None:
    """The alarm was taken out to be rung, and what it was for came to its end meanwhile."""
    ours, theirs = pair
    with Deadline(60) as deadline:
        Deadline.watch(ours)
        deadline.cancel()
        clock.calls[0]()
        assert not deadline.passed
        assert not is_cut(theirs)


def test_nothing_is_cut_after_cancelling(clock: Clock) -> None:
    """One that comes while the connection is being cut waits until that is done."""
    cutting, cut_on, done = threading.Event(), threading.Event(), []

    class Handle:
        def dup(self) -> Handle:
            return self

        def shutdown(self, _how: int) -> None:
            cutting.set()
            assert cut_on.wait(30)
            done.append("cut")

        def close(self) -> None:
            """It is none."""

    with Deadline(60) as deadline:
        Deadline.watch(Handle())  # type: ignore[arg-type]
        ringing = threading.Thread(target=clock.calls[0])
        ringing.start()
        assert cutting.wait(30)

        def cancel() -> None:
            deadline.cancel()
            done.append("cancelled")

        cancelling = threading.Thread(target=cancel)
        cancelling.start()
        cancelling.join(0.1)  # one that does not wait would be through by now
        cut_on.set()
        for thread in (ringing, cancelling):
            thread.join(30)
    assert done == ["cut", "cancelled"]


@pytest.mark.parametrize("rings", [False, True])
def test_no_handle_is_left_open(clock: Clock, rings: bool) -> None:
    handles: list[Counted] = []

    class Counted:
        is_open = True

        def dup(self) -> Counted:
            handles.append(Counted())
            return handles[-1]

        def shutdown(self, _how: int) -> None:
            """It is none."""

        def close(self) -> None:
            self.is_open = False

    with Deadline(60) as deadline:
        for _ in range(3):  # a connection is watched anew with each request
            Deadline.watch(Counted())  # type: ignore[arg-type]
        if rings:
            clock.calls[0]()
            Deadline.watch(Counted())  # type: ignore[arg-type]
        deadline.cancel()
        Deadline.watch(Counted())  # type: ignore[arg-type]
    assert len(handles) == 3 + rings
    assert not any(handle.is_open for handle in handles)
