"""Whoever besieges, a process of its own: `python -m tests.bench.besiege` with its plan on standard input.

The plan, JSON: ``address`` (host:port), ``seconds``, ``callers`` (connections, each with one call at a time),
``holding`` (how many of them may be in calls that hold), ``first`` (the first number of those calls are told
apart by), ``credentials`` (texts for the header Authorization, taken in turn; an empty one sends none) and
``calls`` (`heaviest.Call` as objects). Each caller picks calls by chance, the same ones in every run. Prints
JSON: by the call's name the number of answers by status; ``none`` had no answer, ``unfinished`` had none yet
when the time was over.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import socket
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tests.bench.heaviest import NUMBER

TIMEOUT = 90.0
ENDING_LIMIT = 10.0  # seconds; who is still connecting then ends with the process
KEPT = 4_096  # bytes of an answer that are looked at


class Caller:
    """One keep-alive connection, made anew when it broke."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: http.client.HTTPConnection | None = None
        # http.client lets go of it before an answer that ends the connection is read.
        self._line: socket.socket | None = None
        self._buffer = bytearray(65_536)

    def call(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[str, bytes]:
        """Return the status and the beginning of the answer; ``none`` where there is no whole answer.

        A server may close a connection between two calls: then the call is made once more, on a new one.
        """
        used = self._connection is not None
        found = self._once(method, path, body, headers)
        return self._once(method, path, body, headers) if used and found[0] == "none" else found

    def _once(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[str, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT)
        try:
            if self._connection.sock is None:
                self._connection.connect()
            self._line = self._connection.sock
            with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before it hung up
                self._connection.request(method, path, body or None, dict(headers))
            answer = self._connection.getresponse()
            return str(answer.status), self._read(answer)
        except (OSError, http.client.HTTPException):
            self.hang_up()
            return "none", b""

    def _read(self, answer: http.client.HTTPResponse) -> bytes:
        kept = b""
        while count := answer.readinto(self._buffer):
            if len(kept) < KEPT:
                kept += self._buffer[: min(count, KEPT)]
        return kept

    def hang_up(self) -> None:
        self._line = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def let_go(self) -> None:
        """End what another thread waits for here."""
        if (line := self._line) is not None:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


class Siege:
    """All callers of one plan."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._seconds: float = plan["seconds"]
        self._calls: list[dict[str, Any]] = plan["calls"]
        self._credentials: list[str] = plan["credentials"]
        self._numbers = itertools.count(plan["first"])
        self._holding = threading.BoundedSemaphore(plan["holding"])
        self._callers = [Caller(plan["address"]) for _ in range(plan["callers"])]
        self._statuses: dict[str, Counter[str]] = defaultdict(Counter)
        self._lock = threading.Lock()

    def run(self) -> dict[str, dict[str, int]]:
        """Call until the time is over."""
        self._until = time.monotonic() + self._seconds
        threads = [
            threading.Thread(target=self._work, args=(number, caller), daemon=True)
            for number, caller in enumerate(self._callers)
        ]
        for thread in threads:
            thread.start()
        time.sleep(self._seconds)  # the time it is about
        given_up = self._until + ENDING_LIMIT
        while any(thread.is_alive() for thread in threads) and time.monotonic() < given_up:
            for caller in self._callers:
                caller.let_go()
            threads[-1].join(0.1)
        with self._lock:
            return {name: dict(counts) for name, counts in self._statuses.items()}

    def _work(self, number: int, caller: Caller) -> None:
        chance = random.Random(number)
        while time.monotonic() < self._until:
            call = chance.choice(self._calls)
            if not call["holds"]:
                self._one(caller, call)
            elif self._holding.acquire(blocking=False):
                try:
                    self._one(caller, call)
                finally:
                    self._holding.release()
            else:
                time.sleep(0.001)  # so that choosing takes no CPU worth speaking of
        caller.hang_up()

    def _one(self, caller: Caller, call: Mapping[str, Any]) -> None:
        number = next(self._numbers)
        digits = f"{number:0{len(NUMBER)}d}"
        headers = {name: value.replace(NUMBER, digits) for name, value in call["headers"].items()}
        if credential := self._credentials[number % len(self._credentials)]:
            headers["Authorization"] = credential
        body = call["body"].replace(NUMBER, digits).encode("latin-1")
        sent = {**headers, "Content-Type": call["content_type"]} if body else headers
        status, answer = caller.call(call["method"], call["path"].replace(NUMBER, digits), body, sent)
        self._count(f"{call['method']} {call['route']}: {call['what']}", status)
        if call["then"] and status.startswith("2"):
            wanted, method, path = call["then"]
            status, _ = caller.call(method, path.format(json.loads(answer)[wanted]), b"", headers)
            self._count(f"{method} {path}: afterwards", status)

    def _count(self, name: str, status: str) -> None:
        if status == "none" and time.monotonic() >= self._until:
            status = "unfinished"
        with self._lock:
            self._statuses[name][status] += 1


if __name__ == "__main__":
    json.dump(Siege(json.load(sys.stdin)).run(), sys.stdout)
