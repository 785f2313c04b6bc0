"""The retry schedule of webhooks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import deliveries
from service.domain.deliveries import (
    BLOCKED,
    DEFAULT_SCHEDULE,
    DELIVERED,
    EXHAUSTED,
    GONE,
    PENDING,
    SPARED_MOST,
    Attempt,
    longest,
    parse_retry_after,
    plan,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)

schedules = st.lists(st.integers(1, 100_000), max_size=12)
chances = st.floats(0, 1, exclude_max=True)
failures = st.sampled_from(
    [0, 100, 199, 300, 301, 302, 304, 400, 401, 404, 408, 409, 411, 429, 500, 502, 503, 599]
)


def answer(status: int, retry_after: float | None = None) -> Attempt:
    return Attempt(at=0, duration=0.1, status=status, retry_after=retry_after)


def trouble(error: str) -> Attempt:
    return Attempt(at=0, duration=0.1, error=error)


@given(st.integers(200, 299), st.integers(1, 50), schedules, chances)
def test_any_2xx_is_delivered_at_whatever_attempt(
    status: int, made: int, schedule: list[int], chance: float
) -> None:
    assert plan(answer(status), made, schedule, chance).status == DELIVERED


@given(st.integers(1, 50), schedules, chances)
def test_410_gone_ends_a_delivery_at_once(made: int, schedule: list[int], chance: float) -> None:
    assert plan(answer(410), made, schedule, chance).status == GONE


@given(failures, schedules, chances)
def test_a_delivery_that_fails_is_tried_once_more_than_the_schedule_has_waits(
    status: int, schedule: list[int], chance: float
) -> None:
    made = 1
    while plan(answer(status), made, schedule, chance).status == PENDING:
        made += 1
    assert made == len(schedule) + 1
    assert plan(answer(status), made, schedule, chance).status == EXHAUSTED


@given(failures, schedules.filter(len), chances, st.data())
def test_a_wait_stays_within_20_percent_of_the_schedule(
    status: int, schedule: list[int], chance: float, data: st.DataObject
) -> None:
    made = data.draw(st.integers(1, len(schedule)))
    after = plan(answer(status), made, schedule, chance)
    assert 0.8 * schedule[made - 1] <= after.wait * (1 + 1e-9)
    assert after.wait <= 1.2 * schedule[made - 1] * (1 + 1e-9)
    assert after.counts


def test_chance_spreads_the_wait_over_its_whole_range() -> None:
    waits = [plan(answer(500), 1, [100], chance).wait for chance in (0.0, 0.5, 0.999999)]
    assert waits == pytest.approx([80, 100, 120], rel=1e-3)


def test_an_attempt_without_an_answer_is_tried_again() -> None:
    after = plan(trouble("timeout"), 1, DEFAULT_SCHEDULE, 0.5)
    assert (after.status, after.wait) == (PENDING, 5)


def test_without_a_schedule_the_first_failure_is_the_last() -> None:
    assert plan(answer(500), 1, [], 0.5).status == EXHAUSTED


@pytest.mark.parametrize(("asked", "wait"), [(0, 100), (99, 100), (150, 150), (200, 200), (10_000, 200)])
def test_retry_after_is_honoured_up_to_twice_the_wait(asked: float, wait: float) -> None:
    assert plan(answer(429, asked), 1, [100], 0.5).wait == wait


@given(schedules, chances, st.none() | st.floats(0, 1e9))
def test_no_series_of_attempts_outlasts_the_longest(
    schedule: list[int], chance: float, asked: float | None
) -> None:
    waits = [plan(answer(503, asked), made, schedule, chance).wait for made in range(1, len(schedule) + 1)]
    assert sum(waits) <= longest(schedule) + 1e-6


def test_an_address_we_do_not_go_to_ends_a_delivery() -> None:
    assert plan(trouble("blocked"), 1, DEFAULT_SCHEDULE, 0.5).status == BLOCKED


def test_a_result_that_is_gone_ends_a_delivery() -> None:
    assert plan(trouble("result_expired"), 1, DEFAULT_SCHEDULE, 0.5).status == EXHAUSTED


def test_trouble_of_our_own_uses_up_no_attempt() -> None:
    after = plan(trouble("dns_unavailable"), 1, DEFAULT_SCHEDULE, 0.5)
    assert (after.status, after.counts) == (PENDING, False)
    assert after.wait > 0


def test_trouble_that_may_be_our_own_is_spared_so_many_times_and_then_ends_with_the_schedule() -> None:
    made = len(DEFAULT_SCHEDULE) + 1
    after = plan(trouble("dns_unavailable"), made, DEFAULT_SCHEDULE, 0.5, spared=SPARED_MOST)
    assert after.status == EXHAUSTED


def test_the_default_schedule_goes_on_for_about_76_hours() -> None:
    assert sum(DEFAULT_SCHEDULE) / 3600 == pytest.approx(75.6, abs=0.1)


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        (answer(500), True), (answer(503), True), (answer(429), True), (trouble("timeout"), True),
        (trouble("connection_failed"), True), (answer(404), False), (answer(401), False),
        (answer(410), False),
        (answer(200), False), (trouble("dns_unavailable"), False),
    ],
)  # fmt: skip
def test_only_what_the_host_did_speaks_against_the_host(attempt: Attempt, expected: bool) -> None:
    assert attempt.host_failed is expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120), (" 0 ", 0), ("Thu, 01 Jan 2026 00:02:00 GMT", 120), ("Wed, 31 Dec 2025 23:59:00 GMT",
        0), ("9" * 400, 999_999_999),
        (None, None), ("", None), ("soon", None), ("-5", None), ("1.5", None), ("٣", None),
        ("2026-01-01", None),
    ],
)  # fmt: skip
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(st.text() | st.from_regex(r"Thu, 01 Jan \d{1,6} \d\d:\d\d:\d\d [+-]\d{1,20}", fullmatch=True))
def test_whatever_a_receiver_sends_as_retry_after_is_a_wait_or_nothing(value: str) -> None:
    wait = parse_retry_after(value, NOW)
    assert wait is None or wait >= 0


def test_every_failed_state_is_a_state_and_none_of_them_is_the_goal() -> None:
    assert set(deliveries.STATES) - {PENDING, DELIVERED} == deliveries.FAILED_STATES
