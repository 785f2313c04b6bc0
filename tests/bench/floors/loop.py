"""What the bare loops share: a plan on standard input, figures as JSON on standard output.

``cpu`` (seconds) is this process's own, user and system, from the first measured step to the last;
``times`` are the seconds each step took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Step = Callable[[], object]


def plan() -> dict[str, Any]:
    """Return what this process was told to do."""
    told: dict[str, Any] = json.load(sys.stdin)
    return told


def measure(steps: Sequence[Step], each: int, warm: int = 2) -> None:
    """Take every step ``each`` times on a thread of its own, and tell; before that ``warm`` times."""
    with ThreadPoolExecutor(len(steps)) as threads:
        list(threads.map(_times, steps, [warm] * len(steps)))
        cpu = time.process_time()
        times = [seconds for part in threads.map(_times, steps, [each] * len(steps)) for seconds in part]
        used = time.process_time() - cpu
    json.dump({"cpu": used, "times": times}, sys.stdout)


def _times(step: Step, count: int) -> list[float]:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return times
