"""Accepting a request.

A POST with a ``webhookUrl`` answered 202, from 16 keep-alive connections, with no worker running. The floor
is a bare Flask route that does nothing but publish a Celery task by ``delay``
(`tests/bench/floors/front.py`), served by the same server with the same threads, its broker another
database of the same store. CPU is that of all web processes; the store's is told apart.
"""

from __future__ import annotations

from statistics import median

from tests.bench.figures import Figure, Goal
from tests.bench.lab import FLOOR_DATABASE, Front, Lab, Service
from tests.bench.proc import cpu_seconds

FRONT, TASKS = "tests.bench.floors.front:app", "tests.bench.floors.tasks:celery"
CALLERS = 16

# Milliseconds of CPU a request of the front end and of the store, requests a second.
Cost = tuple[float, float, float]


def measure(lab: Lab) -> list[Figure]:
    """Measure both in turn."""
    with lab.service("store", "web") as service:
        broker = service.store_url(FLOOR_DATABASE)
        with lab.serving(FRONT, "/stories", BROKER_URL=broker) as floor:
            _ours(lab, service, 200)
            _floor(lab, service, floor, 200)
            rounds = [
                (_ours(lab, service, lab.sizes.posts), _floor(lab, service, floor, lab.sizes.posts))
                for _ in range(lab.sizes.rounds)
            ]
    ours, bare = ([median(each) for each in zip(*side, strict=True)] for side in zip(*rounds, strict=True))
    return [
        Figure("CPU per request", ours[0], "ms", bare[0], Goal(1.3)),
        Figure("requests per second and core", 1_000 / ours[0], "/s", 1_000 / bare[0]),
        Figure("the store's CPU per request", ours[1], "ms", bare[1]),
        Figure(f"requests per second from {CALLERS} callers", ours[2], "/s", bare[2]),
    ]


def bodies(lab: Lab, count: int) -> list[dict[str, str]]:
    """Return what is POSTed: a name and a webhook each."""
    return [
        {"username": f"person{number:06d}", "webhookUrl": hook}
        for number, hook in enumerate(lab.hooks(count))
    ]


def _ours(lab: Lab, service: Service, count: int) -> Cost:
    before = service.cpu()
    load = service.post(bodies(lab, count), CALLERS, status=202)
    after = service.cpu()
    web, store = ((after[name] - before[name]) / count * 1_000 for name in ("web", "store"))
    return web, store, load.per_second


def _floor(lab: Lab, service: Service, floor: Front, count: int) -> Cost:
    store = service.stack.pid("store")
    before, store_before = cpu_seconds(floor.pid), cpu_seconds(store)
    load = floor.post(bodies(lab, count), CALLERS)
    used, store_used = cpu_seconds(floor.pid) - before, cpu_seconds(store) - store_before
    return used / count * 1_000, store_used / count * 1_000, load.per_second
