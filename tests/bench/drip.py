"""Slow clients, a process of their own: `python -m tests.bench.drip` with its plan on standard input.

The plan, JSON: ``address`` (host:port), ``clients``, ``seconds``, ``head`` (text that is sent at once),
``ahead`` (how many bytes of a list of names are sent at once after it), ``pieces`` (texts that are sent one
after the other, again and again, one ``every`` so many seconds), ``read`` (bytes that are read at a time;
0: none, null: all there is) and ``read_every`` (seconds between two reads).

Prints JSON: ``statuses`` (counts; ``none`` of clients that were sent no status, or did not read it), and
``cut`` (seconds until the server hung up, of each client that saw it).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

SMALL_BUFFER = 4_096  # bytes the kernel takes for a client who does not read
LINE = b"ab\n"


class Client:
    """One of them."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._plan = plan
        self.received = b""
        self.cut: float | None = None

    async def run(self) -> None:
        """Be slow until the time is over or the server hangs up."""
        loop = asyncio.get_running_loop()
        host, _, port = self._plan["address"].rpartition(":")
        with socket.socket() as line:
            line.setblocking(False)
            if self._plan["read"] is not None:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            begun = time.monotonic()
            try:
                await loop.sock_connect(line, (host, int(port)))
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._send(line))
                    both.create_task(self._read(line))
                await asyncio.Event().wait()  # who has nothing more to send or read stays as well
            except* OSError:
                self.cut = time.monotonic() - begun
            finally:
                if not self.received:  # who reads nothing looks in the end
                    with suppress(OSError):
                        self.received = line.recv(64)

    async def _send(self, line: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        ahead = LINE * (self._plan["ahead"] // len(LINE))
        await loop.sock_sendall(line, self._plan["head"].encode() + ahead)
        if not self._plan["pieces"]:
            return
        for piece in itertools.cycle(self._plan["pieces"]):
            await asyncio.sleep(self._plan["every"])
            await loop.sock_sendall(line, piece.encode())

    async def _read(self, line: socket.socket) -> None:
        loop, size = asyncio.get_running_loop(), self._plan["read"]
        while size != 0:
            piece = await loop.sock_recv(line, size or 65_536)
            if not piece:
                raise ConnectionError("the server has hung up")
            self.received = (self.received + piece)[:64]
            await asyncio.sleep(self._plan["read_every"] if size else 0)

    @property
    def status(self) -> str:
        words = self.received.split(b"\r\n")[0].split()
        return words[1].decode() if len(words) > 1 and len(words[1]) == 3 else "none"


async def _all(plan: Mapping[str, Any]) -> dict[str, Any]:
    clients = [Client(plan) for _ in range(plan["clients"])]
    with suppress(TimeoutError):
        async with asyncio.timeout(plan["seconds"]):
            await asyncio.gather(*(client.run() for client in clients))
    return {
        "statuses": Counter(client.status for client in clients),
        "cut": [client.cut for client in clients if client.cut is not None],
    }


if __name__ == "__main__":
    json.dump(asyncio.run(_all(json.load(sys.stdin))), sys.stdout)
