"""Turns the store's counters into Prometheus metrics.

The scripts count in the same step as they act, so the numbers survive restarts and need no sharing
between processes.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service.domain.ports import Services

# The bounds that finish.lua and delivery_record.lua count in, seconds.
JOB_BOUNDS = ("0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60")
ATTEMPT_BOUNDS = ("0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "15")

COUNTERS = (
    ("storyhook_requests_accepted", "Requests accepted", "accepted"),
    ("storyhook_requests_shared", "Requests ended with what was fetched for others", "shared"),
    ("storyhook_requests_parked", "Requests put back for a session", "parked"),
    ("storyhook_batches_accepted", "Batches accepted", "batches"),
)


class StoreCollector(Collector):
    """Collects at scrape time."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterable[Metric]:
        counters = self._services.stats.counters()
        yield _labelled("storyhook_requests", "Requests that ended", "outcome", counters, "outcome:")
        yield _labelled("storyhook_delivery_attempts", "Webhook attempts", "result", counters, "delivery:")
        for name, text, field in COUNTERS:
            yield CounterMetricFamily(name, text, value=counters.get(field, 0))
        yield _histogram("storyhook_job_seconds", "Seconds from accepted to ended", "job_seconds", JOB_BOUNDS,
                         counters, counted="outcome:")  # fmt: skip
        yield _histogram("storyhook_attempt_seconds", "Seconds of a webhook attempt", "attempt_seconds",
                         ATTEMPT_BOUNDS, counters, counted="delivery:")  # fmt: skip
        yield GaugeMetricFamily("storyhook_credits_held", "Credits held", value=counters.get("held", 0))
        yield GaugeMetricFamily("storyhook_requests_open", "Requests not ended", value=counters["open"])
        overdue, oldest = self._services.deliveries.backlog()
        yield GaugeMetricFamily("storyhook_deliveries_due", "Deliveries due and waiting", value=overdue)
        yield GaugeMetricFamily(
            "storyhook_delivery_oldest_due_seconds", "How long the oldest waits", value=oldest / 1000
        )
        circuits = len(self._services.hosts.open_circuits())
        yield GaugeMetricFamily("storyhook_circuits_open", "Receiving hosts held off", value=circuits)
        alive = len(self._services.stats.workers())
        yield GaugeMetricFamily("storyhook_workers", "Worker processes alive", value=alive)
        waiting = self._services.bulk.waiting()
        yield GaugeMetricFamily("storyhook_bulk_waiting", "Requests that wait their turn", value=waiting)
        depth = GaugeMetricFamily("storyhook_queue_depth", "Messages waiting", labels=["queue"])
        for queue, size in self._services.queue.depths().items():
            depth.add_metric([queue], size)
        yield depth


def _labelled(
    name: str, text: str, label: str, counters: dict[str, float], prefix: str
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in sorted(counters.items()):
        if key.startswith(prefix):
            family.add_metric([key.removeprefix(prefix)], value)
    return family


def _histogram(
    name: str, text: str, field: str, bounds: tuple[str, ...], counters: dict[str, float], *, counted: str
) -> HistogramMetricFamily:
    buckets, running = [], 0.0
    for bound in bounds:
        running += counters.get(f"{field}:{bound}", 0)
        buckets.append((bound, running))
    total = sum(value for key, value in counters.items() if key.startswith(counted))
    buckets.append(("+Inf", total))
    family = HistogramMetricFamily(name, text)
    family.add_metric([], buckets=buckets, sum_value=counters.get(f"{field}_sum", 0))
    return family
