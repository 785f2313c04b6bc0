"""A receiver in a process of its own that does next to nothing: `python -m tests.webhooks.fast_receiver`.

It is given the ports it answers at (204) and those where it takes connections and never says a word.
`GET /seen` at any of the former tells all that came, `GET /count/<start of a path>` how much came there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import requests

from service.cli.demo import free_ports
from tests.conftest import await_true


class Seen:
    """What came so far, by webhook-id and by path, and how many connections the silent ports hold."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self.paths: dict[str, float] = {}
        self.count = 0
        self.held = 0


class Quick(asyncio.Protocol):
    """Answers 204 to whatever is POSTed."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = int(_header(head, b"content-length") or 0)
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(self._answer(head))

    def _answer(self, head: bytes) -> bytes:
        path = head.split(b" ", 2)[1].decode()
        if head.startswith(b"get"):
            body = json.dumps(self._report(path)).encode()
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        now = time.time()
        self._seen.count += 1
        self._seen.at.setdefault(_header(head, b"webhook-id").decode(), now)
        self._seen.paths.setdefault(path, now)
        return b"HTTP/1.1 204 No Content\r\n\r\n"

    def _report(self, path: str) -> Any:
        if path == "/seen":
            return vars(self._seen)
        start = path.removeprefix("/count")
        return sum(each.startswith(start) for each in self._seen.paths)


class Silent(asyncio.Protocol):
    """Accepts and never answers."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._seen.held += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._seen.held -= 1


def _header(head: bytes, name: bytes) -> bytes:
    _, found, rest = head.partition(b"\r\n" + name + b": ")
    return rest.partition(b"\r\n")[0] if found else b""


async def _serve(ports: Sequence[int], silent: Sequence[int]) -> None:
    loop, seen, over = asyncio.get_running_loop(), Seen(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    for port in ports:
        await loop.create_server(lambda: Quick(seen), "127.0.0.1", port, backlog=512)
    for port in silent:
        await loop.create_server(lambda: Silent(seen), "127.0.0.1", port, backlog=512)
    await over.wait()


class FastReceiver:
    """The process, as whoever started it sees it."""

    def __init__(self, ports: Sequence[int], silent: Sequence[int]) -> None:
        self.hosts = [f"127.0.0.1:{port}" for port in ports]
        self.silent = [f"127.0.0.1:{port}" for port in silent]

    def seen(self) -> dict[str, Any]:
        """Return ``at`` and ``paths`` (when each webhook-id and path came first), ``count`` and ``held``."""
        found: dict[str, Any] = self._ask("/seen")
        return found

    def count(self, start: str) -> int:
        """Return how many different paths with this start something came to."""
        return int(self._ask(f"/count{start}"))

    def _ask(self, path: str) -> Any:
        with closing(requests.Session()) as session:
            session.trust_env = False
            return session.get(f"http://{self.hosts[0]}{path}", timeout=10).json()

    def answers(self) -> bool:
        with suppress(requests.RequestException):
            return bool(self.seen())
        return False


@contextmanager
def fast_receiver(ports: int = 1, silent: int = 0) -> Iterator[FastReceiver]:
    """Run one with so many ports, and end it."""
    free = free_ports(ports + silent)
    arguments = ["--ports", *map(str, free[:ports]), "--silent", *map(str, free[ports:])]
    process = subprocess.Popen([sys.executable, "-m", "tests.webhooks.fast_receiver", *arguments])
    try:
        receiver = FastReceiver(free[:ports], free[ports:])
        await_true(receiver.answers, 20)
        yield receiver
    finally:
        process.terminate()
        process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ports", nargs="*", type=int, default=[])
    parser.add_argument("--silent", nargs="*", type=int, default=[])
    given = parser.parse_args()
    asyncio.run(_serve(given.ports, given.silent))


if __name__ == "__main__":
    main()
