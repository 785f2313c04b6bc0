"""Half an hour of steady work.

20 asynchronous jobs a second with webhooks and 5 synchronous calls a second; the resident memory of every
process is looked at after every round of 8 s. The floor is its median over the first fifth after the
warm-up (the first third of the time), the value that over the last fifth. The store's grows with the
results it keeps for 8 days.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from tests.bench import job
from tests.bench.accept import CALLERS
from tests.bench.figures import Figure, Goal
from tests.bench.lab import OURS, Lab, Service
from tests.bench.proc import resident_bytes

LEAST_ROUNDS = 6
JOBS_RATE, CALLS_RATE = 20.0, 5.0
NO_GROWTH = Goal(1.05)


def measure(lab: Lab) -> list[Figure]:
    """Work for ``soak_minutes``; returns a figure a process."""
    seen: list[dict[str, float]] = []
    with lab.service() as service:
        names = list(service.know(lab.sizes.jobs))
        ends = time.monotonic() + lab.sizes.soak_minutes * 60
        while time.monotonic() < ends or len(seen) < LEAST_ROUNDS:
            _round(lab, service, names)
            seen.append({name: resident_bytes(service.stack.pid(name)) / 1e6 for name in (*OURS, "store")})
    warm = seen[len(seen) // 3 :]
    fifth = max(len(warm) // 5, 1)
    return [
        Figure(
            f"resident memory: {name}", _level(warm[-fifth:], name), "MB", _level(warm[:fifth], name),
            NO_GROWTH if name in OURS else None,
        )
        for name in (*OURS, "store")
    ]  # fmt: skip


def _level(rounds: Sequence[dict[str, float]], name: str) -> float:
    return median(each[name] for each in rounds)


def _round(lab: Lab, service: Service, names: Sequence[str]) -> None:
    waited, queued = (int(rate * lab.sizes.seconds) for rate in (CALLS_RATE, JOBS_RATE))
    calls = [{"username": name, "maxAge": 0} for name in names[:waited]]
    jobs = job.fresh(lab, names[waited : waited + queued])
    with ThreadPoolExecutor(2) as both:
        loads = [
            both.submit(service.post, jobs, CALLERS, rate=JOBS_RATE, status=202),
            both.submit(service.post, calls, CALLERS, rate=CALLS_RATE, status=200),
        ]
        for load in loads:
            load.result()
    lab.received([body["webhookUrl"] for body in jobs])
