"""Watches: which items are new, what a receiver hears of, which intervals and cron expressions are taken."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import fakeredis
import pytest
from celery import Celery

from service.domain.errors import ValidationFailed
from service.domain.options import Options
from service.domain.watches import REMEMBERED, Watch, interval, new_items, remembered
from service.schedules import BeatSchedules

NOW = 1_700_000_000_000
LEAST = 300


def watch(**changes: Any) -> Watch:
    made = {"only_new": True, "heartbeat": False, "max_age": 60, **changes}
    return Watch("wat_1", "acc_1", "anna", "15m", "https://example.com/", **made)


# --- what is asked -------------------------------------------------------------------------------


def test_the_fingerprint_of_a_plain_watch_is_what_it_was() -> None:
    asked = ["watch", "anna", "15m", "https://example.com/", True, False, 60]
    assert watch().fingerprint == hashlib.sha256(json.dumps(asked).encode()).hexdigest()
    assert replace(watch(), watch_id="wat_2", status="paused", runs=3).fingerprint == watch().fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"username": "bert"},
        {"every": "16m"},
        {"webhook_url": "https://example.com/2"},
        {"only_new": False},
        {"heartbeat": True},
        {"max_age": 0},
        {"options": Options(shape="story")},
        {"options": Options(archive=True)},
    ],
)
def test_a_fingerprint_tells_what_is_asked_and_how(changes: dict[str, Any]) -> None:
    assert replace(watch(), **changes).fingerprint != watch().fingerprint


# --- items ---------------------------------------------------------------------------------------


def test_an_item_is_new_once() -> None:
    items = [{"pk": "1"}, {"pk": "2"}, {"pk": "2", "again": True}, {"pk": "3"}]
    assert new_items(items, frozenset({"1"})) == [{"pk": "2"}, {"pk": "3"}]


@pytest.mark.parametrize(
    ("item", "key"),
    [
        ({"pk": "7", "id": "7_1"}, "7"),
        ({"pk": 7}, "7"),
        ({"pk": "", "id": "7_1"}, "7_1"),
        ({"id": "7_1"}, "7_1"),
    ],
)
def test_an_item_is_known_by_its_pk_or_else_its_id(item: dict[str, Any], key: str) -> None:
    assert new_items([item], frozenset({key})) == []
    assert list(remembered([item], NOW)) == [key]


@pytest.mark.parametrize("item", [{}, {"pk": None}, {"pk": ["7"]}, {"pk": True}, {"pk": "7 8"}, {"pk": "\n"}])
def test_an_item_nobody_can_tell_from_others_is_never_skipped(item: dict[str, Any]) -> None:
    assert new_items([item, item], frozenset()) == [item, item]
    assert remembered([item], NOW) == {}


@pytest.mark.parametrize("told", [None, "soon", 0, -5, True, 1.5, 2**60])
def test_what_does_not_say_when_it_expires_is_remembered_for_two_days(told: Any) -> None:
    items = [{"pk": "1", "expiring_at": told}, {"pk": "2", "expiring_at": 1_700_086_400}]
    assert remembered(items, NOW) == {"1": NOW // 1000 + REMEMBERED, "2": 1_700_086_400}


# --- what a receiver hears of --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "silent"),
    [
        ({}, "upstream_error", True),
        ({}, "internal_error", True),
        ({}, "cancelled", True),
        ({}, "account_private", False),
        ({}, "user_not_found", False),
        ({}, "opted_out", False),
        ({"told": "account_private"}, "account_private", True),
        ({"told": "account_private"}, "user_not_found", False),
        ({"only_new": False, "told": "account_private"}, "account_private", False),
        ({"only_new": False}, "upstream_error", False),
        ({"heartbeat": True}, "upstream_error", False),
    ],
)
def test_which_failures_are_told(changes: dict[str, Any], code: str, silent: bool) -> None:
    assert watch(**changes).is_silent_about(code) is silent


# --- every ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schedules() -> BeatSchedules:
    redis = fakeredis.FakeRedis(decode_responses=True)
    return BeatSchedules(Celery("test", set_as_current=False), redis, "redis://127.0.0.1:1/0")


@pytest.mark.parametrize(("every", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86_400)])
def test_an_interval_is_a_number_and_a_unit(every: str, seconds: int) -> None:
    assert interval(every) == seconds


@pytest.mark.parametrize(
    "every", ["", "15", "m", "0m", "-5m", "1.5h", "15 m", "15min", "1w", "９m", "9" * 12 + "s"]
)
def test_other_texts_are_no_interval(every: str) -> None:
    assert interval(every) is None


@pytest.mark.parametrize(
    ("every", "kept"),
    [
        ("15m", "15m"),
        (" 5M ", "5m"),
        ("300s", "300s"),
        ("366d", "366d"),
        ("*/5 * * * *", "*/5 * * * *"),
        ("  0   8  * *   MON-FRI ", "0 8 * * mon-fri"),
        ("0,30 8-20/2 1,15 jan-mar *", "0,30 8-20/2 1,15 jan-mar *"),
        ("58 23 * * *", "58 23 * * *"),
        ("0 0 1 1 *", "0 0 1 1 *"),
        # The last firing of a day and the first of another one, which never follow each other.
        ("0,59 0,23 * * mon", "0,59 0,23 * * mon"),
    ],
)
def test_what_is_taken_and_how_it_is_kept(schedules: BeatSchedules, every: str, kept: str) -> None:
    assert schedules.check(every, LEAST) == kept


@pytest.mark.parametrize(
    "every",
    [
        "", "soon", "15", "* * * *", "* * * * * *", "@daily", "60 * * * *", "* 24 * * *", "0 0 0 * *",
        "0 0 32 * *", "0 0 * 13 *", "0 0 * * 7", "0 0 * * monday!", "1-5! * * * *", "mon * * * *",
        "0 0 * * jan", "*/0 * * * *", "*/ * * * *", "1- * * * *", ",1 * * * *", "0 0 30 feb *", "0 0 29 2 *",
        "0 0 29 2 mon", "5x * * * *", "٣ * * * *", "0\n0 * * * * *",
    ],
)  # fmt: skip
def test_what_is_unreadable_or_hardly_ever_fires_is_named(schedules: BeatSchedules, every: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        schedules.check(every, LEAST)
    assert refused.value.details is not None
    [sentence] = refused.value.details["every"]
    assert sentence[0].isupper()
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("every", "seconds"),
    [
        ("299s", 299),
        ("4m", 240),
        ("* * * * *", 60),
        ("*/4 * * * *", 240),
        ("0,58 * * * *", 120),
        ("0,59 0,23 * * *", 60),
        ("1 0,1 * * *", 3_600),
        ("0,59 0,23 * * mon,tue", 60),
        ("0,59 0,23 1,31 * *", 60),
        ("*/7 * * * *", 240),  # from minute 56 to the next hour
        ("55-59/4 * * * *", 240),
    ],
)
def test_the_shortest_time_between_two_runs_counts(
    schedules: BeatSchedules, every: str, seconds: int
) -> None:
    assert schedules.check(every, seconds) == every
    with pytest.raises(ValidationFailed, match="invalid fields") as refused:
        schedules.check(every, seconds + 1)
    assert str(seconds) in str(refused.value.details)


def test_a_year_is_the_longest_interval(schedules: BeatSchedules) -> None:
    with pytest.raises(ValidationFailed):
        schedules.check("367d", LEAST)


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("every", "at", "following"),
    [
        ("15m", ms(2026, 1, 1, 10, 7), ms(2026, 1, 1, 10, 22)),
        ("*/15 * * * *", ms(2026, 1, 1, 10, 7), ms(2026, 1, 1, 10, 15)),
        ("*/15 * * * *", ms(2026, 1, 1, 10, 15), ms(2026, 1, 1, 10, 30)),
        ("*/15 * * * *", ms(2026, 1, 1, 23, 59) + 999, ms(2026, 1, 2)),
        ("0 8 * * mon-fri", ms(2026, 1, 2, 8), ms(2026, 1, 5, 8)),
        ("0 0 31 * *", ms(2026, 4, 1), ms(2026, 5, 31)),
        ("0 0 1 1 *", ms(2026, 1, 1), ms(2027, 1, 1)),
        ("0 12 * * 0", ms(2026, 1, 1), ms(2026, 1, 4, 12)),
    ],
)
def test_when_the_next_run_is(schedules: BeatSchedules, every: str, at: int, following: int) -> None:
    assert schedules.next_after(every, at) == following
