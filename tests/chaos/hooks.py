"""The receivers of webhooks, one process: some answer well, some badly, some late, some never.

What a receiver does with an arrival is drawn from the seed, the path it came to (``/<account>/<operation>``)
and how often, so a run can be repeated. Every arrival that was read whole is one JSON line in a file, its
signature checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook

from tests.chaos.child import Child

LATE = (2.6, 4.5)  # seconds; the sender waits for 2
DRIP_EVERY = 0.3
HUGE = 200_000_000

# What each kind of receiver does, by weight.
MANNERS: dict[str, dict[str, float]] = {
    "fine": {"204": 1},
    "flaky": {"204": 60, "500": 15, "429": 5, "503": 5, "302": 5, "reset": 10},
    "late": {"204": 60, "late": 30, "never": 10},
    "hostile": {"204": 15, "drip": 20, "dripbody": 20, "huge": 20, "halfopen": 10, "reset": 10, "410": 5},
}
_ANSWERS = {
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "302": b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n",
    "410": b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
    "429": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    "500": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "503": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
}
# The receiver has it and says so in time; or has it and says so too late, or never.
ANSWERED = frozenset({"204", "huge"})
LATE_MANNERS = frozenset({"late", "never", "drip", "dripbody"})


@dataclass(frozen=True)
class Arrival:
    """One webhook that was read whole: when (Unix s), which, for whom, and what came of it.

    ``request_id`` is that of the batch when it tells of a whole one.
    """

    at: float
    delivery_id: str
    request_id: str
    account: str
    valid: bool
    manner: str
    digest: str


class Hooks:
    """What the process listens with and how it is minded."""

    def __init__(self, ports: Mapping[str, int], log: Path, seed: str) -> None:
        self.ports = ports
        self.seed = seed
        self.secrets: dict[str, str] = {}
        self.forced = ""
        self.closed = False
        self._seen: Counter[str] = Counter()
        self._log = log.open("a", buffering=1)
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        for kind, port in self.ports.items():
            self._servers.append(
                await asyncio.start_server(
                    lambda reader, writer, kind=kind: self._serve(kind, reader, writer),  # type: ignore[misc]
                    "127.0.0.1",
                    port,
                )
            )

    def close(self) -> None:
        """Refuse connections, and end those there are."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for writer in list(self._writers):
            writer.transport.abort()

    async def obey(self, command: Mapping[str, Any]) -> None:
        self.secrets.update(command.get("secrets", {}))
        self.forced = command.get("manner", self.forced)
        if command.get("open") is False and self._servers:
            self.close()
        if command.get("open") and not self._servers:
            await self.open()

    async def _serve(self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            while await self._one(kind, reader, writer):
                pass
        self._writers.discard(writer)
        writer.close()

    async def _one(self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Take one POST; return whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
        exact = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
        path = head[0].split(" ")[1]
        manner = self.forced or self._draw(kind, path)
        if manner == "halfopen":
            await asyncio.sleep(10)
            return False
        body = await reader.readexactly(int(headers["content-length"]))
        account = path.split("/")[1]
        signature = next(value for name, value in exact.items() if name.lower() == "webhook-signature")
        self._note(account, headers, signature, body, manner)
        return await self._answer(manner, writer)

    def _draw(self, kind: str, path: str) -> str:
        self._seen[path] += 1
        rng = random.Random(f"{self.seed}:{path}:{self._seen[path]}")
        manners = MANNERS[kind]
        return rng.choices(list(manners), list(manners.values()))[0]

    def _note(
        self, account: str, headers: Mapping[str, str], signature: str, body: bytes, manner: str
    ) -> None:
        moment = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        expected = Webhook(self.secrets[account]).sign(headers["webhook-id"], moment, body.decode())
        told = json.loads(body)
        arrival = Arrival(
            time.time(),
            headers["webhook-id"],
            told.get("requestId") or told["batchId"],
            account,
            expected in signature.split(" "),
            manner,
            hashlib.sha256(body).hexdigest()[:16],
        )
        self._log.write(json.dumps(asdict(arrival)) + "\n")

    async def _answer(self, manner: str, writer: asyncio.StreamWriter) -> bool:
        if manner in _ANSWERS:
            writer.write(_ANSWERS[manner])
            await writer.drain()
            return True
        if manner == "reset":
            writer.transport.abort()
        elif manner == "late":
            await asyncio.sleep(random.uniform(*LATE))
            writer.write(_ANSWERS["204"])
        elif manner == "never":
            await asyncio.sleep(20)
        elif manner == "huge":
            await _huge(writer)
        else:
            await _drip(writer, b"HTTP/1.1 200 OK\r\n" if manner == "drip" else _LONG_HEAD)
        return False


_LONG_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


async def _huge(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % HUGE)
    for _ in range(HUGE // 65_536):
        writer.write(bytes(65_536))
        await writer.drain()


async def _drip(writer: asyncio.StreamWriter, start: bytes) -> None:
    writer.write(start)
    for _ in range(30):
        await asyncio.sleep(DRIP_EVERY)
        writer.write(b"x")
        await writer.drain()


async def _main(ports: Mapping[str, int], log: Path, seed: str) -> None:
    hooks = Hooks(ports, log, seed)
    await hooks.open()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    print("ready", flush=True)
    while line := await reader.readline():
        await hooks.obey(json.loads(line))
        print("ok", flush=True)


class Receivers(Child):
    """The receivers' process, seen from the one that injects. ``ports`` are by kind."""

    def __init__(self, ports: Mapping[str, int], log: Path, seed: int) -> None:
        self.ports = ports
        self.log = log
        super().__init__("tests.chaos.hooks", json.dumps(ports), str(log), str(seed))

    def tell(self, **command: Any) -> None:
        """``secrets`` by account, ``manner`` for all ("" is each its own), ``open`` the ports or not."""
        self.command(**command)

    def arrivals(self) -> Iterator[Arrival]:
        """Yield what has arrived, in order."""
        with self.log.open() as lines:
            for line in lines:
                if line.endswith("\n"):
                    yield Arrival(**json.loads(line))


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
