"""Thin Celery tasks around the modules that do the work."""

from __future__ import annotations

from celery import shared_task

from service.domain.requests import DELIVER, GATHER, SCRAPE, Owed
from service.domain.watches import RUN
from workers import deliver, gather, schedule, scrape, watch
from workers.runtime import runtime


@shared_task(name=SCRAPE)
def scrape_task(request_id: str) -> None:
    parts = runtime()
    scrape.run(parts.services, parts.source, request_id, parts.stopping.is_set)


@shared_task(name=GATHER)
def gather_task() -> None:
    parts = runtime()
    gather.run(parts.services, parts.source, parts.bulk_places, parts.stopping.is_set)


@shared_task(name=DELIVER)
def deliver_task(*names: str) -> None:
    """Each delivery's id, then its host."""
    parts = runtime()
    owed = [Owed(*pair) for pair in zip(names[::2], names[1::2], strict=False)]
    deliver.run(parts.services, parts.sender, owed)


@shared_task(name=RUN)
def watch_task(watch_id: str) -> None:
    watch.run(runtime().services, watch_id)


@shared_task(name=schedule.HOUSEKEEP)
def housekeep_task() -> None:
    schedule.housekeep(runtime().services)


@shared_task(name=schedule.MEND)
def mend_task() -> None:
    schedule.mend_schedule(runtime().services)
