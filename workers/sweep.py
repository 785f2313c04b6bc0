"""Finds what was stranded, and what is due, and publishes it (again).

A Celery message may vanish or come twice; the store knows what is open. Safe in any number of
copies: the claim decides who works.
"""

from __future__ import annotations

import structlog

from service.domain.dispatch import hand_over, hint, publish_all
from service.domain.ports import Services
from service.domain.requests import BULK, QUEUED, Owed, RequestRecord
from workers import scrape, watch

AT_ONCE = 500  # per shard
WATCHES_AT_ONCE = 20  # per shard
ROUNDS = 20
BACKLOG = 500  # messages in a queue
CALLED_AT_ONCE = 4

log = structlog.get_logger(__name__)


def sweep_requests(services: Services) -> int:
    """Publish requests that were accepted and not picked up, or whose worker died; return how many.

    Behind a backlog a request that waits has most likely its message there too: it is looked at
    again later instead of being published a second time. What was published ``sweep_limit`` times
    in vain, over hours, is ended and costs nothing. While what is found only waits its turn, the look goes
    on: behind the thousands of a batch somebody's lost request must not wait for them.
    """
    published = 0
    for _ in range(ROUNDS):
        found = services.requests.stranded(AT_ONCE)
        published += _published_again(services, found)
        if len(found) < AT_ONCE or published >= AT_ONCE:
            break
    return published


def _published_again(services: Services, found: list[RequestRecord]) -> int:
    """Publish those of the open requests that do not wait behind others, or end them; return how many."""
    bulk = _not_waiting(services, [record for record in found if record.queue == BULK])
    others = [record for record in found if record.queue != BULK]
    backlogs = services.queue.depths() if others else {}
    records = bulk + [
        record for record in others if record.status != QUEUED or backlogs.get(record.queue, 0) < BACKLOG
    ]
    again = [record for record in records if not _given_up(services, record)]
    publish_all(services, again)
    if records:
        log.info("sweep.requests", published=len(again), given_up=len(records) - len(again))
    return len(records)


def _not_waiting(services: Services, records: list[RequestRecord]) -> list[RequestRecord]:
    """Return those that do not stand in the bulk queue; the others wait their turn, and are left to it."""
    absent = set(services.bulk.absent([record.request_id for record in records]))
    services.requests.leave([record.request_id for record in records if record.request_id not in absent])
    return [record for record in records if record.request_id in absent]


def _given_up(services: Services, record: RequestRecord) -> bool:
    """Count that a request is published anew; end it when that was done too often."""
    if services.requests.postpone(record.request_id) <= services.policy.sweep_limit:
        return False
    scrape.give_up(services, record)
    return True


def run_overdue_watches(services: Services) -> int:
    """Run watches that beat, or a message that got lost, has missed; return how many."""
    overdue = services.watches.overdue(WATCHES_AT_ONCE)
    for watch_id in overdue:
        watch.run(services, watch_id)
    if overdue:
        log.info("sweep.watches", run=len(overdue))
    return len(overdue)


def pump_bulk(services: Services) -> int:
    """Call workers for the bulk queue when nobody is on the way; return how many requests wait in it."""
    waiting = services.bulk.waiting()
    if waiting and not services.queue.depths().get(BULK, 0):
        hint(services, min(waiting, CALLED_AT_ONCE * services.policy.reels_at_once))
    return waiting


def pump_deliveries(services: Services) -> int:
    """Publish deliveries whose time has come, host by host; return how many.

    A host gets only as many as it has places free, so one that answers slowly or not at all keeps
    its backlog to itself.
    """
    published = 0
    for shard, host in services.deliveries.due_hosts():
        free, wait = services.hosts.room(host)
        due = [Owed(name, host) for name in services.deliveries.due_of_host(shard, host, free, wait)]
        published += len(due)
        if not hand_over(services, due, together=1):  # each of the places that are free is for one
            break
    return published
