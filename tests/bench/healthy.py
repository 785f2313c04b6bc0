"""A well-behaved customer, a process of its own: `python -m tests.bench.healthy`, its plan on standard input.

The plan, JSON: ``address`` (host:port), ``seconds``, ``keys`` (API keys, taken in turn, so that nobody
reaches a limit), ``first`` (the first number names are made of) and ``calls``: by name ``per_second``,
``method``, ``path``, ``body`` (an object or null; ``{}`` in its username becomes a number) and ``status``
(what is expected). Each call goes over a connection of its own and is begun at its time, however late the
others are; its latency counts from that time on. Prints JSON: by name ``ms``, in which what is not answered
within `PATIENCE` stands with that, and ``statuses``.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

PATIENCE = 10.0
THREADS = 128


class Healthy:
    """All calls of one plan."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._plan = plan
        self._keys: list[str] = plan["keys"]

    def run(self) -> dict[str, Any]:
        """Call until the time is over and all are answered, or have waited long enough."""
        for key in self._keys:
            self._introduce(key)
        self._begun = time.monotonic()
        times = sorted(
            (number / call["per_second"], name, number)
            for name, call in self._plan["calls"].items()
            for number in range(int(self._plan["seconds"] * call["per_second"]))
        )
        with ThreadPoolExecutor(THREADS) as threads:
            asked = []
            for at, name, number in times:
                time.sleep(max(self._begun + at - time.monotonic(), 0))  # its time
                asked.append((name, threads.submit(self._one, name, number, self._begun + at)))
            answers = [(name, each.result()) for name, each in asked]
        return {
            name: {
                "ms": [ms for each, (ms, _) in answers if each == name],
                "statuses": Counter(status for each, (_, status) in answers if each == name),
            }
            for name in self._plan["calls"]
        }

    def _introduce(self, key: str) -> None:
        """Call once, not measured: a key is new to a process only once."""
        self._status("GET", "/api/credits", None, {"Authorization": f"Bearer {key}"}, PATIENCE)

    def _one(self, name: str, number: int, due: float) -> tuple[float, str]:
        call = self._plan["calls"][name]
        key = self._keys[number % len(self._keys)]
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        body = None
        if call["body"] is not None:
            username = call["body"]["username"].format(f"{self._plan['first'] + number:07d}")
            body = json.dumps({**call["body"], "username": username})
        left = due + PATIENCE - time.monotonic()
        status = self._status(call["method"], call["path"], body, headers, left) if left > 0 else "none"
        taken = time.monotonic() - due
        return min(taken, PATIENCE) * 1_000 if status != "none" else PATIENCE * 1_000, status

    def _status(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str], patience: float
    ) -> str:
        connection = http.client.HTTPConnection(self._plan["address"], timeout=patience)
        with closing(connection):
            try:
                connection.request(method, path, body, dict(headers))
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return "none"
            return str(answer.status)


if __name__ == "__main__":
    json.dump(Healthy(json.load(sys.stdin)).run(), sys.stdout)
