"""A connection of the front end: the time and size of a call's head, and how many there are.

Uvicorn knows no limit for either: whoever sends a head a byte at a time, or one without end, would keep a
connection, or fill the memory.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_SECONDS = 10.0
HEAD_MOST = 65_536  # bytes
KEEP_ALIVE = 75  # seconds a connection may be idle between two calls

LINE = "storyhook.line"  # key of the scope's extensions

_STATUS, _CONTINUE = b"HTTP/1.1 ", b"HTTP/1.1 100 "
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def connections_most() -> int:
    """Raise the soft limit of open files as far as may be; return how many connections that allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8_192 if hard == resource.RLIM_INFINITY else min(hard, 8_192)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(wanted // 2, soft // 2) if wanted < 4_096 else 2_048


class Corked:
    """A transport that sends the head of an answer together with the first of its body.

    Uvicorn writes them one after the other; a write is a system call, and was a fifth of this process's time.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.heads_due = 0  # answers whose head was not written yet

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self.heads_due and data.startswith(_STATUS) and not data.startswith(_CONTINUE):
            self.heads_due -= 1
            self._head = data
            return
        head, self._head = self._head, b""
        self._transport.write(head + data)

    def close(self) -> None:
        if self._head:
            self.write(b"")
        self._transport.close()


class Line:
    """What the app may do with the connection of a call, besides sending."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    @property
    def gone(self) -> bool:
        """The caller has hung up."""
        return self._cycle.disconnected

    def hang_up(self, *, at_once: bool) -> None:
        """End the connection in the middle of an answer; what was written is still sent, or not."""
        self._cycle.disconnected = True  # so that nobody misses the rest of the answer
        if at_once:
            self._cycle.transport.abort()
        else:
            self._cycle.transport.close()


class Connection(HttpToolsProtocol):
    """Uvicorn's connection with these limits; the app may hang up on it."""

    most = connections_most()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= self.most and not self._make_room():
            transport.abort()
        self._corked = Corked(transport)
        super().connection_made(cast(asyncio.Transport, self._corked))
        self._head_begins()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_ends()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_timer is not None:
            self._head_size += len(data)
            if self._head_size > HEAD_MOST:
                self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_begins()

    def on_headers_complete(self) -> None:
        self._head_ends()
        self._corked.heads_due += 1
        super().on_headers_complete()
        self.scope["extensions"] = {LINE: Line(self.cycle)}  # type: ignore[dict-item]

    def _head_begins(self) -> None:
        if self._head_timer is None:
            self._head_size = 0
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._refuse, _TOO_SLOW)

    def _head_ends(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, answer: bytes) -> None:
        self._head_ends()
        if not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(answer)
            self.transport.close()

    def _make_room(self) -> bool:
        """Close a connection that waits for its next call; False when each is at work."""
        for each in self.connections:
            if isinstance(each, Connection) and each.timeout_keep_alive_task and not each._head_size:
                each.transport.abort()
                return True
        return False
