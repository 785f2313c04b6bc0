"""Whom a shared reel may be shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.domain.requests import RequestRecord
from service.domain.sharing import (
    FAILURE_LIFETIME,
    MAX_AGE_MOST,
    SHOWN_AFTER_MS,
    Landing,
    Shared,
    first_expiry,
)
from service.domain.targets import named

NOW = 1_700_000_100_000
FETCHED = Shared(started_at=NOW - 31_000, fetched_at=NOW - 30_000, until=NOW + 60_000, body=b"{}")


def asked(*, at: int = NOW - 100, max_age: int = 60) -> RequestRecord:
    return RequestRecord(
        "req", "acc", "stories", named("anna"), "bulk", "queued", 1, created_at=at, max_age=max_age
    )


@pytest.mark.parametrize(("max_age", "served"), [(60, True), (31, True), (30, False), (1, False), (0, False)])
def test_it_is_no_older_than_asked_for(max_age: int, served: bool) -> None:
    assert FETCHED.serves(asked(max_age=max_age), NOW) is served


def test_what_was_fetched_after_the_call_is_fetched_for_it_however_new_it_has_to_be() -> None:
    assert FETCHED.serves(asked(at=FETCHED.started_at, max_age=0), NOW)
    assert not FETCHED.serves(asked(at=FETCHED.started_at + 1, max_age=0), NOW)


def test_nothing_is_shown_past_the_first_of_its_stories() -> None:
    assert FETCHED.serves(asked(max_age=MAX_AGE_MOST), FETCHED.until - 1)
    assert not FETCHED.serves(asked(max_age=MAX_AGE_MOST), FETCHED.until)
    assert not FETCHED.serves(asked(at=0), FETCHED.until)


def test_a_failure_is_for_those_who_waited_for_that_fetch_only() -> None:
    failed = replace(FETCHED, code="upstream_error")
    assert failed.serves(asked(at=FETCHED.started_at - 1), NOW)
    assert not failed.serves(asked(max_age=MAX_AGE_MOST), NOW)


def test_the_age_is_in_whole_seconds_and_never_below_none() -> None:
    assert [FETCHED.age(now) for now in (NOW, NOW + 999, NOW - 60_000)] == [30, 30, 0]


def test_the_first_expiry_counts() -> None:
    items = [{"expiring_at": 20}, {"expiring_at": 10}, {}, {"expiring_at": None}, {"expiring_at": "5"}]
    assert first_expiry(items, 9_000) == 10_000
    assert first_expiry([], NOW) == first_expiry([{"pk": "1"}], NOW) == 0


def test_what_just_expired_is_over_and_what_expired_long_ago_is_shown_all_the_same() -> None:
    gone = NOW - SHOWN_AFTER_MS
    items = [{"expiring_at": gone // 1000}, {"expiring_at": NOW // 1000 + 60}]
    assert first_expiry(items, NOW) == NOW + 60_000
    assert first_expiry(items, NOW - 1) == gone
    assert first_expiry(items[:1], NOW) == 0, "the stories of a highlight"
    assert first_expiry(items[:1], NOW - 1) == gone


def test_a_reel_is_kept_for_as_long_as_anybody_may_ask_and_a_failure_shortly() -> None:
    assert Landing(b"{}").lifetime == MAX_AGE_MOST * 1000
    assert Landing(b"{}", code="upstream_error").lifetime == FAILURE_LIFETIME * 1000
