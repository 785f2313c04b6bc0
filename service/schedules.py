"""When watches run: intervals and cron expressions, and their entries in beat's schedule (celery-redbeat).

An entry is only a timer that is made from the watch's record: what is lost of it is put back by the
housekeeping, and what beat misses the sweep runs.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any

from celery import Celery
from celery.schedules import ParseException, crontab, schedule
from redbeat import RedBeatSchedulerEntry

from service.domain.requests import BULK
from service.domain.watches import RUN, Watch, bad_every, check_gap, interval
from service.stores import topology
from service.stores.commands import pages
from service.stores.connection import Client, store_adapter

# In one slot: RedBeat writes an entry and its place in the schedule in one step.
PREFIX = "{beat}:"
# How soon another beat leads when the first was killed, seconds.
LEADER_LEASE = 30

UNREADABLE = (
    "Give an interval such as '90s', '15m', '2h' or '1d', or a cron expression of 5 fields in UTC such as "
    "'*/15 8-20 * * mon-fri': minute, hour, day of the month, month, day of the week (0 or sun is Sunday)."
)
_DAY_MINUTES = 24 * 60
# The calendar repeats after this long (but for 2100): every 29 February meets every day of the week.
_CYCLE = range(date(2024, 1, 1).toordinal(), date(2052, 1, 1).toordinal())
_RAREST = 366  # days

_ENTRY = "watch:"
_NUMBER = r"\d{1,2}"
_MONTH = rf"(?:{_NUMBER}|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_WEEKDAY = rf"(?:{_NUMBER}|sun|mon|tue|wed|thu|fri|sat)"


def _field(value: str) -> str:
    part = rf"(?:\*|{value}(?:-{value})?)(?:/[1-9]\d?)?"
    return rf"{part}(?:,{part})*"


# Celery's own parser overlooks what follows a part, and takes the name of a day for a minute.
_CRON = re.compile(" ".join(_field(each) for each in (_NUMBER, _NUMBER, _NUMBER, _MONTH, _WEEKDAY)), re.ASCII)


def configure_redbeat(app: Celery, redis_url: str, redis: Client) -> None:
    """Tell an app where beat's schedule is; whoever writes entries and beat itself say the same.

    ``redis`` is a client of it: RedBeat opens none of its own, whose URLs would be others than ours.
    """
    app.conf.update(
        redbeat_redis_url=_shown(redis_url),
        redbeat_key_prefix=PREFIX,
        redbeat_lock_timeout=LEADER_LEASE,
        redbeat_redis_options={},
    )
    app.redbeat_redis = redis


def _shown(redis_url: str) -> str:
    """Return what RedBeat shows when it starts, without the password; it cannot read several hosts."""
    where = topology.parse(redis_url)
    return where.server(where.nodes[0])


@store_adapter
class BeatSchedules:
    """Schedules over celery-redbeat."""

    def __init__(self, app: Celery, redis: Client, redis_url: str) -> None:
        configure_redbeat(app, redis_url, redis)
        self._app = app
        self._redis = redis

    def check(self, every: str, least: int) -> str:
        """Return ``every`` as it is kept: names in small letters, single spaces."""
        text = " ".join(every.lower().split())
        seconds = interval(text)
        return check_gap(text, _shortest_gap(text) if seconds is None else seconds, least)

    def next_after(self, every: str, at_ms: int) -> int:
        seconds = interval(every)
        return _next_firing(_cron(every), at_ms) if seconds is None else at_ms + seconds * 1000

    def put(self, watch: Watch) -> None:
        entry = self._entry(watch.watch_id, watch.every)
        # What a beat that was just about to run a deleted entry left behind would hold the first run up.
        entry.delete()
        entry.last_run_at = _last_run(watch)
        entry.save()

    def remove(self, watch_id: str) -> None:
        self._entry(watch_id, "1d").delete()

    def entries(self) -> frozenset[str]:
        names = self._redis.zrange(f"{PREFIX}:schedule", 0, -1)
        # Beat leaves such a hash behind when an entry is deleted while it runs it.
        for page in pages(self._redis, f"{PREFIX}{_ENTRY}*", 1_000):
            names += page
        start = PREFIX + _ENTRY
        return frozenset(name.removeprefix(start) for name in names if name.startswith(start))

    def _entry(self, watch_id: str, every: str) -> RedBeatSchedulerEntry:
        seconds = interval(every)
        timer = _cron(every) if seconds is None else schedule(timedelta(seconds=seconds))
        timer.app = self._app
        # A message that is not taken in time is forgotten: one run makes up for all that were missed.
        options: dict[str, Any] = {"queue": BULK, "expires": min(seconds or _DAY_MINUTES * 60, 300)}
        return RedBeatSchedulerEntry(
            _ENTRY + watch_id, RUN, timer, args=[watch_id], options=options, app=self._app
        )


def _last_run(watch: Watch) -> datetime | None:
    """Return from when beat is to count; None, for a watch that is new, resumed or overdue, is at once."""
    if watch.next_run_at <= time.time() * 1000:
        return None
    return datetime.fromtimestamp(watch.last_run_at / 1000, UTC)


def _cron(every: str) -> crontab:
    """Return a cron expression as beat has it. Raises ValidationFailed for what is none."""
    if not _CRON.fullmatch(every):
        raise bad_every(UNREADABLE)
    try:
        return crontab.from_string(every)
    except (ValueError, KeyError, ParseException) as error:
        raise bad_every(f"This is no cron expression: {str(error).rstrip('. ')}. {UNREADABLE}") from None


@lru_cache(maxsize=1024)
def _shortest_gap(every: str) -> int:
    """Return the shortest time between two firings of a cron expression, in seconds.

    Raises ValidationFailed for what is none, and for one that does not fire for more than a year.
    """
    cron = _cron(every)
    times = _times(cron)
    days = [day for day in _CYCLE if _fires_on(cron, date.fromordinal(day))]
    gaps = [later - earlier for earlier, later in pairwise(days)]
    if not gaps or max(gaps) > _RAREST:
        raise bad_every("Give a cron expression that fires at least once a year.")
    across = min(gaps) * _DAY_MINUTES + times[0] - times[-1]
    return 60 * min([across, *(later - earlier for earlier, later in pairwise(times))])


def _next_firing(cron: crontab, at_ms: int) -> int:
    """Return the first firing after ``at_ms``, both in Unix milliseconds."""
    day = datetime.fromtimestamp(at_ms / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for _ in range(_RAREST + 2):
        if _fires_on(cron, day.date()):
            start = int(day.timestamp()) * 1000
            for minute in _times(cron):
                if (moment := start + minute * 60_000) > at_ms:
                    return moment
        day += timedelta(days=1)
    raise AssertionError("it was checked that this fires once a year")


def _fires_on(cron: crontab, day: date) -> bool:
    return (
        day.month in cron.month_of_year
        and day.day in cron.day_of_month
        and day.isoweekday() % 7 in cron.day_of_week
    )


def _times(cron: crontab) -> list[int]:
    """Return when it fires on a day, in minutes from midnight."""
    return sorted(hour * 60 + minute for hour in cron.hour for minute in cron.minute)
