"""Much at a time.

What the store holds in memory for a request: queued, finished (with its result, delivery and log, and the
reel others may be shown) and expired (what is left once every key with a lifetime has run out; the lists of
an account, which the housekeeping trims by age, are still whole). The time to drain so many queued requests
for unknown names, and the resident memory of each process after that. Then how long a POST takes with 0 and
with many queued: two stacks side by side, in turn, one of them with a queue handed in by batches of 10,000;
the empty one is the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

from tests.bench.accept import CALLERS, bodies
from tests.bench.figures import VALUE, Figure, Goal
from tests.bench.lab import OURS, Lab, Service, in_turn, wait_until
from tests.bench.proc import resident_bytes

AT_ONCE = 10_000
HOOK = "http://127.0.0.1:9999/storyhook/results"


def measure(lab: Lab) -> list[Figure]:
    """Measure on one stack that is filled, beside one that stays empty."""
    with lab.service("store", "web") as full, lab.service("store", "web") as empty:
        for service in (full, empty):
            _post(lab, service, 100)  # until the scripts are loaded and every thread has its connection
        figures = list(_lives(lab, full))
        at_none = _posting(lab, empty)
        queued = 0
        for most in lab.sizes.queued:
            before = full.store_bytes()
            _fill(full, queued, most)
            each = (full.store_bytes() - before) / (most - queued)
            queued = most
            none, many = in_turn(lab.sizes.rounds, at_none, _posting(lab, full))
            figures += [
                Figure(
                    f"store per item of a batch, {queued:,} queued", each, "bytes", None, Goal(1_536, VALUE)
                ),
                Figure(f"a POST at {queued:,} queued: median", many, "ms", none, Goal(1.2)),
            ]
    return figures


def _lives(lab: Lab, service: Service) -> Iterator[Figure]:
    """Follow some requests from queued over finished to expired."""
    count = lab.sizes.jobs
    service.have_sessions(64)
    empty = service.store_bytes()
    hooks = _post(lab, service, count)
    yield Figure(
        "store per queued request", (service.store_bytes() - empty) / count, "bytes", None, Goal(1_536, VALUE)
    )
    service.stack.start("instagram", "worker", "deliverer", "beat")
    received = lab.received(hooks)
    yield Figure(f"time to drain {count:,} queued", max(received) - min(received), "s")
    wait_until(lambda: not service.services.deliveries.backlog()[0])
    yield Figure("store per finished request", (service.store_bytes() - empty) / count, "bytes")
    for name in (*OURS, "store"):
        yield Figure(f"resident memory: {name}", resident_bytes(service.stack.pid(name)) / 1e6, "MB")
    service.stack.end("beat", "worker", "deliverer", "instagram")
    _expire(service)
    yield Figure("store per expired request", (service.store_bytes() - empty) / count, "bytes")


def _post(lab: Lab, service: Service, count: int) -> list[str]:
    """Queue so many requests; return their webhooks."""
    asked = bodies(lab, count)
    service.post(asked, CALLERS, status=202)
    return [body["webhookUrl"] for body in asked]


def _expire(service: Service) -> None:
    redis = service.stack.redis
    for key in redis.scan_iter(count=1_000):
        if redis.ttl(key) > 0:
            redis.unlink(key)


def _fill(service: Service, start: int, end: int) -> None:
    for first in range(start, end, AT_ONCE):
        names = [f"queued_person_{number:07d}" for number in range(first, min(first + AT_ONCE, end))]
        service.batch(names, webhookUrl=HOOK, webhookMode="each")


def _posting(lab: Lab, service: Service) -> Callable[[], float]:
    """Return a function that POSTs one after the other and returns the median (ms)."""

    def posts() -> float:
        load = service.post(bodies(lab, max(lab.sizes.posts // 8, 2)), 1, status=202)
        return median(load.times) * 1_000

    return posts
