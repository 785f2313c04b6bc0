"""Throughput, CPU and memory of a file passed through: `python -m tests.bench.downloads`.

A local server sends a file of 50 MB again and again. `Media.open` reads it in a process of its own, then
`requests.get(stream=True).iter_content(64 KiB)` does, in another. Memory is by how much the most that a
process held grew from before its first file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.table import Table

from service.media import Media
from tests.bench.proc import cpu_seconds_of

MEGABYTE = 1_000_000
SIZE = 50 * MEGABYTE
COUNT = 40
CHUNK = 64 * 1024
URL = "https://scontent.cdninstagram.com/v/file.mp4"
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Figures:
    """What so many copies took: seconds, CPU seconds of who copied, growth of its peak memory in bytes."""

    files: int
    bytes: int
    seconds: float
    cpu: float
    memory: int

    @property
    def speed(self) -> float:
        """Megabytes a second."""
        return self.bytes / self.seconds / MEGABYTE

    @property
    def cpu_per_gigabyte(self) -> float:
        """CPU seconds for each gigabyte."""
        return self.cpu / self.bytes * 1e9


def measured(copy: Callable[[], Iterator[bytes]], count: int, pid: int | None = None) -> Figures:
    """Make ``count`` copies here and measure process ``pid``, by default this one."""
    pid = pid or os.getpid()
    held, cpu, begun = peak(pid), cpu_seconds_of(pid), time.monotonic()
    size = sum(len(chunk) for _ in range(count) for chunk in copy())
    seconds = time.monotonic() - begun
    return Figures(count, size, seconds, cpu_seconds_of(pid) - cpu, peak(pid) - held)


def peak(pid: int) -> int:
    """Return the most memory a process has held, bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) * 1024


def by_requests(url: str, headers: Mapping[str, str] | None = None) -> Callable[[], Iterator[bytes]]:
    """Return what copies ``url`` with a session of requests; also from a whole service."""
    session = requests.Session()
    session.trust_env = False

    def copy() -> Iterator[bytes]:
        with session.get(url, headers=headers, stream=True, timeout=60) as answer:
            answer.raise_for_status()
            yield from answer.iter_content(CHUNK)

    return copy


def by_media(server: str) -> Callable[[], Iterator[bytes]]:
    """Return what copies a file as the service does."""
    media = Media(redirect_to=server, connect_timeout=5, idle_timeout=60)

    def copy() -> Iterator[bytes]:
        with media.open(URL) as file:
            yield from file.chunks()

    return copy


def _one(name: str, server: str, count: int) -> Figures:
    copy = by_media(server) if name == "Media.open" else by_requests(f"{server}/v/file.mp4")
    for _ in copy():  # imports, authorities and the connection are there from now on
        break
    return measured(copy, count)


def alone(name: str, server: str, count: int) -> Figures:
    """Measure one way in a process of its own."""
    with _SPAWN.Pool(1) as pool:
        return pool.apply(_one, (name, server, count))


@contextmanager
def file_server(size: int = SIZE) -> Iterator[str]:
    """Run a process that answers every GET with as many bytes; yield its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        process = _SPAWN.Process(target=_serve, args=(listening, size), daemon=True)
        process.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            process.terminate()
            process.join(10)


def _serve(listening: socket.socket, size: int) -> None:
    while True:
        threading.Thread(target=_talk, args=(listening.accept()[0], size), daemon=True).start()


def _talk(line: socket.socket, size: int) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {size}\r\n\r\n".encode()
    piece = memoryview(b"x" * (1024 * 1024))
    try:
        with line:
            while line.recv(65_536):
                line.sendall(head)
                for sent in range(0, size, len(piece)):
                    line.sendall(piece[: size - sent])
    except ConnectionError:
        return


def measure(count: int) -> dict[str, Figures]:
    with file_server() as server:
        return {name: alone(name, server, count) for name in ("requests", "Media.open", "requests again")}


def show(found: Mapping[str, Figures]) -> None:
    table = Table("", "MB/s", "CPU s per GB", "memory MB", title=f"files of {SIZE // MEGABYTE} MB")
    for name, figures in found.items():
        grown = figures.memory / MEGABYTE
        table.add_row(name, f"{figures.speed:,.0f}", f"{figures.cpu_per_gigabyte:.2f}", f"{grown:.1f}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT, help="files for each way")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    found = measure(given.count)
    if given.json:
        plain: dict[str, Any] = {name: asdict(figures) for name, figures in found.items()}
        json.dump(plain, sys.stdout, indent=2)
        return
    show(found)


if __name__ == "__main__":
    main()
