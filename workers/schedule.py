"""What beat runs, through celery-redbeat: the schedule is in the store, of several beats one leads."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import structlog
from celery import Celery
from redbeat import RedBeatScheduler
from redbeat.schedulers import acquire_distributed_beat_lock
from redis.exceptions import LockError, RedisError

from service.broker import SOCKET_TIMEOUT
from service.domain.ports import Services
from service.domain.requests import BULK

HOUSEKEEP = "housekeep"
HOUSEKEEP_EVERY = 3_600.0

# How soon another beat leads when the first was killed, seconds.
LEADER_LEASE = 30
RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


class LastingScheduler(RedBeatScheduler):
    """RedBeat's scheduler, except that it waits a store's outage out, and leads again after it."""

    def setup_schedule(self) -> None:
        """Write the schedule into the store, when it takes it."""
        while True:
            try:
                return super().setup_schedule()
            except RedisError as error:
                log.warning("beat.store_unavailable", error=str(error))
                time.sleep(RETRY_SECONDS)

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
            return wait
        except LockError:
            # The lead ended while the store was out. Whoever takes it now has it.
            led = self.lock.acquire(blocking=False)
            log.warning("beat.lead_lost", regained=bool(led))
        return RETRY_SECONDS


def configure_beat(app: Celery, redis_url: str) -> None:
    """Give the app its schedule."""
    schedule: dict[str, Any] = {
        HOUSEKEEP: {"task": HOUSEKEEP, "schedule": HOUSEKEEP_EVERY, "options": {"queue": BULK}}
    }
    app.conf.update(
        beat_scheduler="workers.schedule:LastingScheduler",
        beat_schedule=schedule,
        beat_max_loop_interval=5,
        redbeat_redis_url=redis_url,
        redbeat_key_prefix="g:beat:",
        redbeat_lock_timeout=LEADER_LEASE,
        redbeat_redis_options={"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": SOCKET_TIMEOUT},
    )


def housekeep(services: Services) -> None:
    """Trim the lists of accounts that have stopped calling (a submit trims its own), and drop old budgets."""
    accounts = [account.account_id for account in services.accounts.all()]
    trimmed = sum(services.requests.trim(each) + services.deliveries.trim(each) for each in accounts)
    log.info("housekeeping.done", trimmed=trimmed, budgets=services.sessions.prune())
