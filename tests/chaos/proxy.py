"""A TCP forwarder, its own process, on whose links the store's traffic is held up, cut and lost.

Each of the service's processes has a link of its own to the store and to the broker, so that one of
them can be cut off while the others work. Commands are JSON lines on standard input, one answer each.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.child import Child

PASS = "pass"
HELD = "held"  # what the client sends waits, and is lost when its connection ends
DEAF = "deaf"  # what the client sends arrives, the replies are lost

CONNECT_LIMIT = 2.0


@dataclass
class Link:
    """One listening port and its connections. ``target`` is the port it leads to."""

    target: int
    mode: str = PASS
    pipes: set[Pipe] = field(default_factory=set)


class Pipe(asyncio.Protocol):
    """The client's half of a connection; opens the other half."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.client: asyncio.Transport | None = None
        self.server: asyncio.Transport | None = None
        self.waiting: list[bytes] = []
        self.lost_a_reply = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.client = transport  # type: ignore[assignment]
        self.link.pipes.add(self)
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                transport, _ = await loop.create_connection(lambda: Back(self), "127.0.0.1", self.link.target)
        except (OSError, TimeoutError):
            self.close()
            return
        self.server = transport
        if self.client is None or self.client.is_closing():
            transport.close()
        self.let_go()

    def data_received(self, data: bytes) -> None:
        if self.server is None or self.waiting or self.link.mode == HELD:
            self.waiting.append(data)
        else:
            self.server.write(data)

    def let_go(self) -> None:
        """Send what waited."""
        if self.server is not None and self.link.mode != HELD:
            for data in self.waiting:
                self.server.write(data)
            self.waiting.clear()

    def reply(self, data: bytes) -> None:
        """Pass a reply on. Once one was lost those after it are too: TCP has no gaps."""
        if self.link.mode == DEAF:
            self.lost_a_reply = True
        if not self.lost_a_reply and self.client is not None:
            self.client.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.close()

    def close(self) -> None:
        self.link.pipes.discard(self)
        for transport in (self.client, self.server):
            if transport is not None:
                transport.close()


class Back(asyncio.Protocol):
    """The server's half of a connection."""

    def __init__(self, front: Pipe) -> None:
        self.front = front

    def data_received(self, data: bytes) -> None:
        self.front.reply(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.front.close()


class Forwarder:
    """All links of this process."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}

    async def listen(self, ports: Mapping[str, int], target: int) -> None:
        loop = asyncio.get_running_loop()
        for name, port in ports.items():
            link = self.links[name] = Link(target)
            await loop.create_server(lambda link=link: Pipe(link), "127.0.0.1", port)  # type: ignore[misc]

    def obey(self, command: Mapping[str, Any]) -> int:
        """Carry a command out on the links it names; return how many connections they have."""
        chosen = [self.links[name] for name in command.get("links") or self.links]
        for link in chosen:
            link.mode = command.get("mode", link.mode)
            link.target = command.get("target", link.target)
            for pipe in list(link.pipes):
                if command.get("cut") and (not command.get("lossy") or pipe.lost_a_reply):
                    pipe.close()
                else:
                    pipe.let_go()
        return sum(len(link.pipes) for link in chosen)


async def _serve(ports: Mapping[str, int], target: int) -> None:
    forwarder = Forwarder()
    await forwarder.listen(ports, target)
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    print("ready", flush=True)
    while line := await reader.readline():
        print(forwarder.obey(json.loads(line)), flush=True)


class Proxy(Child):
    """The forwarder's process, seen from the one that injects. ``ports`` are the links' by name."""

    def __init__(self, ports: Mapping[str, int], target: int) -> None:
        self.ports = ports
        super().__init__("tests.chaos.proxy", json.dumps(ports), str(target))

    def links_of(self, process: str) -> list[str]:
        return [name for name in self.ports if name.rpartition("-")[0] == process]

    def set_mode(self, mode: str, links: Sequence[str] = ()) -> None:
        """Put links (all of them by default) into a mode."""
        self.command(mode=mode, links=list(links))

    def cut(self, links: Sequence[str] = ()) -> int:
        """Close the connections of links; return how many stay open."""
        return int(self.command(cut=True, links=list(links)))

    def cut_those_that_lost_a_reply(self) -> None:
        """End what cannot go on, so that its client hears of it at once."""
        self.command(cut=True, lossy=True)

    def lead_to(self, target: int) -> None:
        """Let all links lead to another port; their connections are closed."""
        self.command(target=target, cut=True)

    def heal(self) -> None:
        """Let everything pass again."""
        self.command(mode=PASS)
        self.cut_those_that_lost_a_reply()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1]), int(sys.argv[2])))
