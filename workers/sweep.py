"""Finds what was stranded, and what is due, and publishes it (again).

A Celery message may vanish or come twice; the store knows what is open. Safe in any number of
copies: the claim decides who works.
"""

from __future__ import annotations

import structlog

from service.domain.ports import Services
from service.domain.requests import DELIVER, DELIVERIES, SCRAPE

AT_ONCE = 100  # per shard

log = structlog.get_logger(__name__)


def sweep_requests(services: Services) -> int:
    """Publish requests that were accepted and not picked up, or whose worker died; return how many."""
    records = services.requests.stranded(AT_ONCE)
    for record in records:
        services.queue.enqueue(SCRAPE, record.request_id, record.queue)
    if records:
        log.info("sweep.requests", published=len(records))
    return len(records)


def pump_deliveries(services: Services) -> int:
    """Publish deliveries whose time has come; return how many."""
    due = services.deliveries.due(AT_ONCE)
    for delivery_id in due:
        services.queue.enqueue(DELIVER, delivery_id, DELIVERIES)
    return len(due)
