"""What the simulator was asked: totals by endpoint, session and username, for tests to assert on."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

# Beyond this many different keys further ones are added up under OTHERS, so a long load test stays bounded.
MOST_KEYS = 200_000
OTHERS = "(others)"


class Calls:
    """Thread-safe counters; ``next`` also numbers the calls, which the failure injection draws from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self._total = 0
            self._by: dict[str, Counter[str]] = {
                "endpoint": Counter(),
                "session": Counter(),
                "username": Counter(),
            }

    def next(self, endpoint: str, session: str) -> int:
        """Count a call and return its number, starting at 1."""
        with self._lock:
            self._total += 1
            self._add("endpoint", endpoint)
            self._add("session", session)
            return self._total

    def about(self, username: str) -> None:
        """Note whom the current call is about (several people in a batch)."""
        with self._lock:
            self._add("username", username)

    def report(self) -> dict[str, Any]:
        """``{"total": n, "by_endpoint": {...}, "by_session": {...}, "by_username": {...}}``"""
        with self._lock:
            return {"total": self._total} | {
                f"by_{what}": dict(counter) for what, counter in self._by.items()
            }

    def _add(self, what: str, key: str) -> None:
        counter = self._by[what]
        counter[key if key in counter or len(counter) < MOST_KEYS else OTHERS] += 1
