"""Waiting for the result.

What a synchronous call takes beyond the upstream's own 100 ms, from 1, 16 and 64 callers with a keep-alive
connection each. Every call makes exactly one call upstream (checked by the simulated Instagram's counter):
ids are known, no result is shared. The floor is instagrapi's bare ``private_request`` for the same reels
with as many threads in one process. So that 64 callers do not wait for threads, the worker has 64 and the
front end 128; callers wait for nothing else. Cached: the same call where a result of less than an hour is
taken; its floor is a bare Flask route.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from statistics import median
from typing import Any

from tests.bench import programs
from tests.bench.accept import FRONT, bodies
from tests.bench.figures import VALUE, Figure, Goal, percentile
from tests.bench.lab import FLOOR_DATABASE, Front, Lab, Service

LATENCY_MS = 100.0
CALLERS = (1, 16, 64)
NAMES = 2 * max(CALLERS)  # so that no two callers ever ask for the same one at a time
SETTINGS = {"SYNC_WAITERS": "128", "WORKER_THREADS": "64"}
GOALS = {16: (Goal(10, VALUE), Goal(50, VALUE))}

Times = list[float]  # ms


def measure(lab: Lab) -> list[Figure]:
    """Measure ours and the bare client's in turn for each number of callers, then cached results."""
    with lab.service(**SETTINGS) as service:
        service.have_sessions(2 * max(CALLERS))
        known = service.know(NAMES)
        sync(service, list(known), 64, 256)  # until every thread has a client
        service.simulator.knobs(latency_ms=LATENCY_MS)
        figures = [figure for callers in CALLERS for figure in _overhead(lab, service, known, callers)]
        with lab.serving(FRONT, "/answer", BROKER_URL=service.store_url(FLOOR_DATABASE)) as front:
            return figures + _cached(lab, service, front, list(known))


def _overhead(lab: Lab, service: Service, known: dict[str, str], callers: int) -> list[Figure]:
    ours: Times = []
    bare: Times = []
    for _ in range(2):
        calls = max(lab.sizes.calls // (8 if callers > 16 else 2), 1) * callers
        service.simulator.reset()
        service.simulator.knobs(latency_ms=LATENCY_MS)
        ours += [each - LATENCY_MS for each in sync(service, list(known), callers, calls)]
        asked = service.simulator.calls()["by_endpoint"]
        assert asked == {"story_feed": calls}, f"not one upstream call each: {asked}"
        bare += [
            each - LATENCY_MS for each in _private_requests(service, list(known.values()), callers, calls)
        ]
    return _figures(f"overhead, callers: {callers}", ours, bare, *GOALS.get(callers, (None, None)))


def _cached(lab: Lab, service: Service, front: Front, names: Sequence[str]) -> list[Figure]:
    sync(service, names, 16, len(names), max_age=3_600)
    figures = []
    for callers in CALLERS:
        calls = max(lab.sizes.posts // 3, 2)
        ours: Times = []
        bare: Times = []
        for _ in range(2):
            ours += sync(service, names, callers, calls, max_age=3_600)
            bare += [each * 1_000 for each in front.post(bodies(lab, calls), callers).times]
        figures += _figures(f"cached, callers: {callers}", ours, bare)
    return figures


def _figures(
    name: str, ours: Times, bare: Times, middle: Goal | None = None, tail: Goal | None = None
) -> list[Figure]:
    return [
        Figure(f"{name}, median", median(ours), "ms", median(bare), middle),
        Figure(f"{name}, p99", percentile(ours, 99), "ms", percentile(bare, 99), tail),
    ]


def sync(service: Service, names: Sequence[str], callers: int, calls: int, max_age: int = 0) -> Times:
    """Return how long each of so many synchronous calls took."""
    asked: list[dict[str, Any]] = [
        {"username": name, "maxAge": max_age} for name in islice(cycle(names), calls)
    ]
    return [each * 1_000 for each in service.post(asked, callers, status=200).times]


def _private_requests(service: Service, user_ids: Sequence[str], callers: int, calls: int) -> Times:
    plan = {"url": service.simulator.url, "ids": user_ids, "callers": callers, "each": calls // callers}
    return [each * 1_000 for each in programs.ask("tests.bench.floors.instagram", plan)["times"]]
