"""How much one worker process does at a time.

Jobs per second with upstream latencies of 100, 300 and 1,000 ms and one worker with its 16 threads. The
floor is the limit of these threads: 16 divided by the latency. Synchronous calls (24 callers) take one
upstream call each, so the ratio says how near to the limit they come. Asynchronous jobs are fetched up to
30 in a call by half of the threads, so they may pass it; their time is from the first POST to the last
webhook.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench import job
from tests.bench.figures import Figure
from tests.bench.lab import Lab, Service
from tests.bench.sync import sync

LATENCIES_MS = (100.0, 300.0, 1_000.0)
CALLERS = 24  # half again the threads, so that none of them waits for work
SECONDS = 4.0


def measure(lab: Lab) -> list[Figure]:
    """Measure both kinds of jobs at each latency."""
    with lab.service() as service:
        service.have_sessions(2 * CALLERS)
        names = list(service.know(max(lab.sizes.jobs, CALLERS) // CALLERS * CALLERS))
        sync(service, names, CALLERS, 5 * CALLERS)  # until every thread has a client
        figures = []
        for latency_ms in LATENCIES_MS:
            service.simulator.knobs(latency_ms=latency_ms)
            limit = job.THREADS / latency_ms * 1_000
            calls = int(max(SECONDS * limit, 4 * job.THREADS))
            waited = _sync_per_second(service, names, calls)
            queued = job.run(lab, service, names)["per second"]
            figures += [
                Figure(f"sync, {latency_ms:.0f} ms upstream", waited, "/s", limit),
                Figure(f"async, {latency_ms:.0f} ms upstream", queued, "/s", limit),
            ]
    return figures


def _sync_per_second(service: Service, names: Sequence[str], calls: int) -> float:
    asked = [{"username": names[number % len(names)], "maxAge": 0} for number in range(calls)]
    return service.post(asked, CALLERS, status=200).per_second
