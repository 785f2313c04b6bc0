"""Finds what was stranded, and what is due, and publishes it (again).

A Celery message may vanish or come twice; the store knows what is open. Safe in any number of
copies: the claim decides who works.
"""

from __future__ import annotations

import structlog

from service.domain.ports import Services
from service.domain.requests import DELIVER, DELIVERIES, QUEUED, SCRAPE, RequestRecord
from workers import scrape

AT_ONCE = 100  # per shard
BACKLOG = 500  # messages in a queue

log = structlog.get_logger(__name__)


def sweep_requests(services: Services) -> int:
    """Publish requests that were accepted and not picked up, or whose worker died; return how many.

    Behind a backlog a request that waits has most likely its message there too: it is looked at
    again later instead of being published a second time. What was published ``sweep_limit`` times
    in vain, over hours, is ended and costs nothing.
    """
    found = services.requests.stranded(AT_ONCE)
    backlogs = services.queue.depths() if found else {}
    records = [
        record for record in found if record.status != QUEUED or backlogs.get(record.queue, 0) < BACKLOG
    ]
    for record in records:
        _publish_again(services, record)
    if records:
        log.info("sweep.requests", published=len(records))
    return len(records)


def _publish_again(services: Services, record: RequestRecord) -> None:
    if services.requests.postpone(record.request_id) > services.policy.sweep_limit:
        scrape.give_up(services, record.request_id)
    else:
        services.queue.enqueue(SCRAPE, record.queue, record.request_id)


def pump_deliveries(services: Services) -> int:
    """Publish deliveries whose time has come, host by host; return how many.

    A host gets only as many as it has places free, so one that answers slowly or not at all keeps
    its backlog to itself.
    """
    published = 0
    for shard, host in services.deliveries.due_hosts():
        free, wait = services.hosts.room(host)
        for delivery_id in services.deliveries.due_of_host(shard, host, free, wait):
            services.queue.enqueue(DELIVER, DELIVERIES, delivery_id, host)
            published += 1
    return published
