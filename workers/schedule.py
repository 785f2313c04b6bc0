"""What beat runs, through celery-redbeat: the schedule is in the store, of several beats one leads."""

from __future__ import annotations

import signal
from contextlib import suppress
from threading import Event
from types import SimpleNamespace
from typing import Any

import structlog
from celery import Celery
from celery.apps import beat
from redbeat import RedBeatScheduler
from redbeat.schedulers import acquire_distributed_beat_lock
from redis.exceptions import LockError, RedisError

from service.actions.tidy import tidy_ledger
from service.domain import ids
from service.domain.errors import BrokenRow
from service.domain.ports import Services
from service.domain.requests import BULK
from service.queue import CeleryQueue
from service.schedules import configure_redbeat
from service.stores.connection import open_store

HOUSEKEEP = "housekeep"
HOUSEKEEP_EVERY = 3_600.0
MEND = "mend_schedule"

RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Beat(beat.Beat):
    """Celery's, which ends when it is told to; its own asks for its scheduler then, which waits."""

    def start_scheduler(self) -> None:
        """Run until told to end; Celery's own would show a traceback of what its caller tells in a line."""
        service = self.Service(app=self.app, max_interval=self.max_interval, scheduler_cls=self.scheduler_cls)
        self.setup_logging()
        self.install_sync_handler(service)
        service.start()

    def install_sync_handler(self, service: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)


# Set when beat is told to end.
giving_up = Event()
ASK_AGAIN = 2.0  # seconds


def _end(*_: object) -> None:
    """End with an exception. One may be lost, in a finalizer for instance: then another follows."""
    giving_up.set()
    signal.signal(signal.SIGALRM, _end)
    signal.setitimer(signal.ITIMER_REAL, ASK_AGAIN)
    raise SystemExit(0)


class LastingScheduler(RedBeatScheduler):
    """RedBeat's scheduler, except that it waits a store's outage out, and leads again after it."""

    lock: Any = None
    _mended = False

    def setup_schedule(self) -> None:
        """Write the schedule into the store, when it takes it."""
        while True:
            try:
                return super().setup_schedule()
            except RedisError as error:
                log.warning("beat.store_unavailable", error=str(error))
            if giving_up.wait(RETRY_SECONDS):
                raise SystemExit(0)

    def close(self) -> None:
        """Give the lead back, if the store takes it; else it ends by itself."""
        with suppress(RedisError):
            super().close()
        self.lock = None

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Do one round; return the seconds until the next."""
        try:
            return self._lead_or_follow(*args, **kwargs)
        except RedisError as error:
            log.warning("beat.store_unavailable", error=str(error))
        return RETRY_SECONDS

    def _lead_or_follow(self, *args: Any, **kwargs: Any) -> float:
        if self.lock is None:
            # Celery keeps what went wrong to itself when the lead was asked for at the start.
            acquire_distributed_beat_lock(SimpleNamespace(scheduler=self))
        try:
            wait: float = super().tick(*args, **kwargs)
            self._have_it_mended()
            return wait
        except LockError:
            # The lead ended while the store was out. Whoever takes it now has it.
            led = self.lock.acquire(blocking=False)
            log.warning("beat.lead_lost", regained=bool(led))
        return RETRY_SECONDS

    def _have_it_mended(self) -> None:
        """Have the watches' entries put back that are missing when a beat first leads, as after a restore."""
        if not self._mended:
            self._mended = CeleryQueue(self.app).enqueue(MEND, BULK)


def configure_beat(app: Celery, redis_url: str) -> None:
    """Give the app its schedule."""
    schedule: dict[str, Any] = {
        HOUSEKEEP: {"task": HOUSEKEEP, "schedule": HOUSEKEEP_EVERY, "options": {"queue": BULK}}
    }
    app.Beat = app.subclass_with_self(Beat)
    app.conf.update(
        beat_scheduler="workers.schedule:LastingScheduler",
        beat_schedule=schedule,
        beat_max_loop_interval=5,
    )
    configure_redbeat(app, redis_url, open_store(redis_url))


def housekeep(services: Services) -> None:
    """Trim lists (a submit trims its own) and ledgers, drop old budgets and files, mend beat's schedule."""
    accounts = [account.account_id for account in services.accounts.all()]
    lists = (services.requests, services.deliveries, services.batches)
    trimmed = sum(each.trim(account_id) for account_id in accounts for each in lists)
    tidied = sum(tidy_ledger(services, account_id) for account_id in accounts)
    mend_schedule(services)
    budgets, files = services.sessions.prune(), services.archive.expire()
    log.info("housekeeping.done", trimmed=trimmed, tidied=tidied, budgets=budgets, files=files)


def mend_schedule(services: Services) -> None:
    """Give each active watch its entry, and take away entries of no such watch."""
    entries, active, put = services.schedules.entries(), set(), 0
    for watches in services.watches.active():
        for watch in watches:
            active.add(watch.watch_id)
            if watch.watch_id not in entries:
                services.schedules.put(watch)
                put += 1
    left = [watch_id for watch_id in entries - active if not _is_active(services, watch_id)]
    for watch_id in left:
        services.schedules.remove(watch_id)
    if put or left:
        log.info("schedule.mended", put=put, removed=len(left))


def _is_active(services: Services, watch_id: str) -> bool:
    """Look again: a watch may have been added since the active ones were read."""
    if ids.shard_of(watch_id, ids.WATCH) is None:
        return False
    try:
        watch = services.watches.get(watch_id)
    except BrokenRow:
        return False
    return watch is not None and watch.is_active
