"""A load generator, a process of its own: `python -m tests.bench.load` with its plan on standard input.

Keep-alive connections over bare sockets, so that it takes little of the machine it shares with what it
measures. The plan, JSON: ``address`` (host:port), ``path``, ``headers``, ``bodies`` (strings, each POSTed
once), ``callers`` (connections; each sends every so-many-th body, one after the other) and ``rate``
(POSTs a second, all callers together; null: as fast as answers come). Prints JSON: ``times`` (seconds) and
``answered`` (Unix seconds) in the order of ``bodies``, ``statuses`` (counts) and ``seconds`` in all.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

TIMEOUT = 90.0


class Caller:
    """One keep-alive connection."""

    def __init__(self, address: str, path: str, headers: Mapping[str, str]) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = [f"POST {path} HTTP/1.1", f"Host: {address}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._head = "\r\n".join(lines)

    def post(self, body: str) -> int:
        """Send one and read its answer; return the status. Raises OSError when there is none."""
        self._socket.sendall(f"{self._head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._more()
        head = answer[:end].lower()
        _, found, rest = head.partition(b"\r\ncontent-length:")
        left = int(rest.partition(b"\r\n")[0]) - (len(answer) - end - 4) if found else 0
        while left > 0:
            left -= len(self._more())
        return int(head.split(None, 2)[1])

    def _more(self) -> bytes:
        received = self._socket.recv(1 << 18)
        if not received:
            raise ConnectionError("hung up before the whole answer came")
        return received

    def close(self) -> None:
        self._socket.close()


class Load:
    """All callers of one plan."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._bodies: list[str] = plan["bodies"]
        self._rate: float | None = plan.get("rate")
        self._count: int = min(plan["callers"], len(self._bodies))
        self._callers = [
            Caller(plan["address"], plan["path"], plan.get("headers", {})) for _ in range(self._count)
        ]
        self._times = [0.0] * len(self._bodies)
        self._answered = [0.0] * len(self._bodies)
        self._statuses = [0] * len(self._bodies)
        self._errors: list[BaseException] = []

    def run(self) -> dict[str, Any]:
        """Send everything. Raises what a caller stumbled over."""
        self._begun = time.perf_counter()
        threads = [threading.Thread(target=self._work, args=(number,)) for number in range(self._count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - self._begun
        if self._errors:
            raise self._errors[0]
        return {
            "times": self._times,
            "answered": self._answered,
            "statuses": Counter(map(str, self._statuses)),
            "seconds": seconds,
        }

    def _work(self, number: int) -> None:
        caller = self._callers[number]
        try:
            for index in range(number, len(self._bodies), self._count):
                self._one(caller, index)
        except Exception as error:  # noqa: BLE001 - told by run(), in the main thread
            self._errors.append(error)
        finally:
            caller.close()

    def _one(self, caller: Caller, index: int) -> None:
        if self._rate:
            time.sleep(max(self._begun + index / self._rate - time.perf_counter(), 0))  # the rate
        started = time.perf_counter()
        self._statuses[index] = caller.post(self._bodies[index])
        self._times[index] = time.perf_counter() - started
        self._answered[index] = time.time()


if __name__ == "__main__":
    json.dump(Load(json.load(sys.stdin)).run(), sys.stdout)
