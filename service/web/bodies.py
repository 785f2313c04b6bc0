"""Reads the body of a call, and sends that of its answer, at the pace of the other side: no thread waits.

Whoever is slower than that is cut off. Bodies in memory are counted: what is under way at a time is bounded,
and shared among those who send and read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from service.domain.admission import PIECE, Places
from service.domain.errors import BodyTimeout

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PIECE_SECONDS = 10.0  # for each of them, in both directions
SMALL = PIECE  # what is not larger is not counted: the number of connections bounds it
DISCARD_MOST = 8 * 1024 * 1024  # of a body that is too large: then the sender hears why


class Gone(Exception):
    """The caller has hung up."""


class Body:
    """The body of a call, as it arrives."""

    def __init__(self, receive: Receive, held: Places, holder: str, most: int) -> None:
        self._receive = receive
        self._held = held
        self._holder = holder
        self._most = most
        self._pieces: list[bytes] = []
        self._size = 0
        self._kept = 0
        self._counted = 0
        self.whole = False

    async def read(self) -> bytes:
        """Return the body; of one that is larger than ``most`` one byte more than that.

        Raises BodyTimeout, RateLimited, TooBusy, Gone.
        """
        while not self.whole:
            await self._read_some()
            if self._size > DISCARD_MOST:
                break
        return b"".join(self._pieces)

    async def _read_some(self) -> None:
        """Read at least a piece, or what there is up to the end, in the time for one."""
        due = self._size + PIECE
        try:
            async with asyncio.timeout(PIECE_SECONDS):
                while not self.whole and self._size < due:
                    message = await self._receive()
                    if message["type"] != "http.request":
                        raise Gone
                    self._add(message["body"])
                    self.whole = not message["more_body"]
        except TimeoutError:
            raise BodyTimeout from None

    def _add(self, data: bytes) -> None:
        kept = data[: self._most + 1 - self._kept]
        self._size += len(data)
        self._kept += len(kept)
        self._pieces.append(kept)
        uncounted = self._kept - SMALL - self._counted
        if uncounted > 0:
            if not self._held.take(self._holder, uncounted):
                raise self._held.refusal(self._holder)
            self._counted += uncounted

    def release(self) -> None:
        """Let go of what was counted."""
        self._pieces.clear()
        if self._counted:
            self._held.give(self._holder, self._counted)
            self._counted = 0


async def send_in_time(send: Send, data: bytes, *, more: bool) -> None:
    """Send a part of a body, a piece at a time. Raises TimeoutError for a reader that is too slow."""
    last = max(len(data) - 1, 0) // PIECE * PIECE
    for start in range(0, last + 1, PIECE):
        piece = data if not last else data[start : start + PIECE]
        async with asyncio.timeout(PIECE_SECONDS):
            await send({"type": "http.response.body", "body": piece, "more_body": more or start < last})
