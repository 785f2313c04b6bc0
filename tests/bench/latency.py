"""From accepted to received.

From the moment a caller has the 202 to the moment the receiver has the webhook, with a simulated Instagram
that answers at once: one request every 200 ms to an idle service, then a steady load of half the jobs per
second that the same stack did just before. The floor is the time of one bare ``private_request`` and one
bare ``requests.Session.post``, the work in between that nobody can leave out; it has no hop between
processes in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from tests.bench import job
from tests.bench.accept import CALLERS
from tests.bench.figures import Figure, percentile
from tests.bench.lab import Lab, Service

IDLE_RATE = 5.0


def measure(lab: Lab) -> list[Figure]:
    """Measure on an idle service, then at half load."""
    with lab.service() as service:
        known = service.know(lab.sizes.jobs)
        names = list(known)
        job.run(lab, service, names)  # until everything is warm
        half = job.run(lab, service, names)["per second"] / 2
        idle = _latencies(lab, service, names, IDLE_RATE)
        busy = _latencies(lab, service, names, half)
        body = job.envelope_of(service, names[0])
        floor = sum(job.bare_calls(lab, service, list(known.values()), body)[1])
    return [
        Figure("idle: median", median(idle), "ms", floor),
        Figure("idle: p99", percentile(idle, 99), "ms", floor),
        Figure(f"half load, {half:.0f}/s: median", median(busy), "ms", floor),
        Figure(f"half load, {half:.0f}/s: p99", percentile(busy, 99), "ms", floor),
    ]


def _latencies(lab: Lab, service: Service, names: Sequence[str], rate: float) -> list[float]:
    """Return the milliseconds from each 202 to its webhook; a webhook may be there before the 202 is."""
    count = min(max(int(lab.sizes.seconds * rate), 2), len(names))
    asked = job.fresh(lab, names[:count])
    load = service.post(asked, CALLERS, rate=rate, status=202)
    received = lab.received([body["webhookUrl"] for body in asked])
    return [(came - at) * 1_000 for came, at in zip(received, load.answered, strict=True)]
