"""What follows an attempt: the whole schedule, and what a receiver may ask for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.domain.deliveries import (
    BAD_ANSWER,
    BLOCKED,
    BLOCKED_ADDRESS,
    CONNECT_TIMEOUT,
    CONNECTION_FAILED,
    DEFAULT_SCHEDULE,
    DELIVERED,
    DNS_NOT_FOUND,
    DNS_UNAVAILABLE,
    EXHAUSTED,
    GONE,
    OWN_TROUBLE_WAIT,
    PENDING,
    RESULT_EXPIRED,
    SPARED_MOST,
    TIMEOUT,
    TLS_ERROR,
    Attempt,
    longest,
    parse_retry_after,
    plan,
    spread,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

schedules = st.lists(st.integers(1, 200_000), max_size=12)
chances = st.floats(0, 1, exclude_max=True)
waits_asked_for = st.none() | st.floats(0, 1e9)
retried_statuses = st.integers(100, 599).filter(lambda status: not 200 <= status < 300 and status != 410)
retried_errors = st.sampled_from([
    DNS_NOT_FOUND, CONNECT_TIMEOUT, CONNECTION_FAILED, TLS_ERROR, TIMEOUT, BAD_ANSWER,
])  # fmt: skip
failures = st.builds(Attempt, st.just(0), st.just(0.1), retried_statuses, retry_after=waits_asked_for)
failures |= st.builds(Attempt, st.just(0), st.just(0.1), error=retried_errors)


def answer(status: int = 0, error: str = "", retry_after: float | None = None) -> Attempt:
    return Attempt(at=0, duration=0.1, status=status, error=error, retry_after=retry_after)


# --- the schedule --------------------------------------------------------------------------------


@given(schedules, chances, st.lists(failures, min_size=13, max_size=13))
def test_the_whole_schedule_is_walked_in_its_order_and_then_it_is_exhausted(
    schedule: list[int], chance: float, attempts: list[Attempt]
) -> None:
    for tries, base in enumerate(schedule, start=1):
        then = plan(attempts[tries - 1], tries, schedule, chance)
        assert (then.status, then.counts) == (PENDING, True)
        assert 0.8 * base * (1 - 1e-9) <= then.wait <= 2 * base
    last = plan(attempts[len(schedule)], len(schedule) + 1, schedule, chance)
    assert (last.status, last.wait) == (EXHAUSTED, 0)


@given(st.integers(1, len(DEFAULT_SCHEDULE)), retried_statuses, chances)
def test_without_a_wish_of_the_receiver_the_wait_is_within_20_percent(
    tries: int, status: int, chance: float
) -> None:
    base = DEFAULT_SCHEDULE[tries - 1]
    wait = plan(answer(status), tries, DEFAULT_SCHEDULE, chance).wait
    assert wait == spread(base, chance)
    assert 0.8 * base * (1 - 1e-9) <= wait < 1.2 * base * (1 + 1e-9)


@given(chances, chances)
def test_more_chance_is_a_longer_wait(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert spread(100, low) <= spread(100, high)
    assert spread(100, 0) == pytest.approx(80)
    assert spread(100, 0.5) == 100
    assert spread(100, 0.999999) == pytest.approx(120, abs=1e-3)


def test_the_default_schedule_is_that_of_standard_webhooks() -> None:
    hours = 3_600
    waits = [5, 300, 1_800, 2 * hours, 5 * hours, 10 * hours, 14 * hours, 20 * hours, 24 * hours]
    assert list(DEFAULT_SCHEDULE) == waits
    assert sum(DEFAULT_SCHEDULE) / hours == pytest.approx(75.6, abs=0.1)


@given(schedules, st.lists(st.tuples(failures, chances), min_size=13, max_size=13))
def test_nothing_a_receiver_does_outlasts_the_longest(
    schedule: list[int], attempts: list[tuple[Attempt, float]]
) -> None:
    total = sum(plan(*attempts[n][:1], n + 1, schedule, attempts[n][1]).wait for n in range(len(schedule)))
    assert total <= longest(schedule) * (1 + 1e-9)


# --- Retry-After ---------------------------------------------------------------------------------


@given(st.integers(1, 200_000), retried_statuses, chances, st.floats(0, 1e12))
@example(300, 503, 0.0, 300.0)
@example(300, 503, 0.999, 601.0)
@example(300, 429, 0.0, 0.0)
def test_a_wish_is_met_within_once_and_twice_the_wait(
    base: int, status: int, chance: float, asked: float
) -> None:
    wait = plan(answer(status, retry_after=asked), 1, [base], chance).wait
    if asked >= 2 * base:
        assert wait == 2 * base
    elif asked >= 1.2 * base:
        assert wait == asked
    elif asked >= base:
        assert asked <= wait <= 1.2 * base
    else:
        assert wait == max(spread(base, chance), asked)


@given(waits_asked_for, chances)
def test_a_wish_does_not_make_the_last_attempt_one_more(asked: float | None, chance: float) -> None:
    assert plan(answer(503, retry_after=asked), 3, [5, 5], chance).status == EXHAUSTED


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("007", 7.0),
        ("9" * 400, 999_999_999.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        ("Sat, 21 Nov 2026 12:01:00 GMT", 60.0),
        ("Saturday, 21-Nov-26 12:01:00 GMT", 60.0),
        ("Sat Nov 21 12:01:00 2026", 60.0),
        ("Sat, 21 Nov 2026 14:01:00 +0200", 60.0),
        ("Sat, 21 Nov 2026 12:01:00 -0000", 60.0),
        ("Fri, 20 Nov 2026 12:00:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float) -> None:
    assert parse_retry_after(text, NOW) == seconds


@pytest.mark.parametrize(
    "text",
    [
        None, "", " ", "-1", "+5", "1.5", "1e3", "5, 10", "0x10", "soon", "٣", "½", "NaN", "inf", ":", ",",
        "GMT",
        "Sat, 99 Nov 2026 12:00:00 GMT", "Sat, 21 Nov 99999 12:00:00 GMT", "Sat, 21 Nov 2026 25:61:61 GMT",
        "Sat, 21 Nov 2026 12:00:00 +9999", "Sat, 21 Nov 2026 12:00:00 +99999999999999999999", "\x00", "5\x00",
    ],
)  # fmt: skip
def test_what_is_neither_is_no_wish(text: str | None) -> None:
    assert parse_retry_after(text, NOW) is None


dates = st.datetimes(timezones=st.just(UTC)).map(lambda moment: format_datetime(moment, usegmt=True))
mangled = st.builds(
    lambda date, at, piece: date[:at] + piece + date[at:], dates, st.integers(0, 29), st.text()
)
numbers = st.integers().map(str)
zones = st.builds("Sat, 21 Nov 2026 12:00:00 {}{}".format, st.sampled_from("+-"), st.integers(0))


@given(st.text() | dates | mangled | numbers | zones)
@example("Sat, 21 Nov 2026 12:00:00 +9999999999999999")
def test_whatever_a_receiver_says_is_a_wish_or_none(text: str) -> None:
    wish = parse_retry_after(text, NOW)
    assert wish is None or 0 <= wish < 1e12


# --- ends ----------------------------------------------------------------------------------------


@given(st.integers(200, 299), st.integers(1, 20), schedules, chances, waits_asked_for)
def test_any_2xx_delivers(
    status: int, tries: int, schedule: list[int], chance: float, asked: float | None
) -> None:
    assert plan(answer(status, retry_after=asked), tries, schedule, chance).status == DELIVERED


@given(st.integers(1, 20), schedules, chances, waits_asked_for)
def test_410_and_a_forbidden_address_end_it_at_once(
    tries: int, schedule: list[int], chance: float, asked: float | None
) -> None:
    assert plan(answer(410, retry_after=asked), tries, schedule, chance).status == GONE
    assert plan(answer(error=BLOCKED_ADDRESS), tries, schedule, chance).status == BLOCKED
    assert plan(answer(error=RESULT_EXPIRED), tries, schedule, chance).status == EXHAUSTED


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_tried_again(status: int) -> None:
    assert plan(answer(status), 1, DEFAULT_SCHEDULE, 0.5).status == PENDING


def test_one_that_is_not_to_be_repeated_is_not() -> None:
    assert plan(answer(503), 1, (), 0.5).status == EXHAUSTED
    assert plan(answer(error=DNS_UNAVAILABLE), 1, (), 0.5).status == EXHAUSTED


# --- trouble of our own --------------------------------------------------------------------------


@given(st.integers(1, 20), schedules.filter(len), chances, st.integers(0, SPARED_MOST - 1))
def test_trouble_that_may_be_our_own_uses_up_no_attempt(
    tries: int, schedule: list[int], chance: float, spared: int
) -> None:
    then = plan(answer(error=DNS_UNAVAILABLE), tries, schedule, chance, spared=spared)
    assert (then.status, then.counts) == (PENDING, False)
    assert 0.8 * OWN_TROUBLE_WAIT * (1 - 1e-9) <= then.wait <= 1.2 * OWN_TROUBLE_WAIT


@given(schedules, chances)
def test_but_a_name_that_hangs_for_good_comes_to_an_end_with_the_schedule(
    schedule: list[int], chance: float
) -> None:
    """It came back every 30 seconds for six days, with an entry in the log for each."""
    tries = spared = 0
    waited = 0.0
    while True:
        then = plan(answer(error=DNS_UNAVAILABLE), tries + 1, schedule, chance, spared=spared)
        tries, spared, waited = tries + then.counts, spared + (not then.counts), waited + then.wait
        if then.status != PENDING:
            break
    assert then.status == EXHAUSTED
    assert tries == len(schedule) + 1
    assert spared == (SPARED_MOST if schedule else 0)
    assert waited <= longest(schedule) + SPARED_MOST * OWN_TROUBLE_WAIT * 1.2


# --- what an attempt says about its host ---------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "failed", "in_trouble"),
    [
        (answer(200), False, False),
        (answer(302), False, False),
        (answer(401), False, False),
        (answer(404), False, False),
        (answer(410), False, False),
        (answer(429), True, True),
        (answer(500), True, False),
        (answer(502), True, True),
        (answer(503), True, True),
        (answer(504), True, True),
        (answer(error=TIMEOUT), True, True),
        (answer(error=CONNECT_TIMEOUT), True, True),
        (answer(error=CONNECTION_FAILED), True, False),
        (answer(error=TLS_ERROR), True, False),
        (answer(error=BAD_ANSWER), True, False),
        (answer(error=DNS_NOT_FOUND), True, False),
        (answer(error=DNS_UNAVAILABLE), False, False),
        (answer(error=BLOCKED_ADDRESS), False, False),
        (answer(error=RESULT_EXPIRED), False, False),
    ],
)
def test_what_an_attempt_says_about_its_host(attempt: Attempt, failed: bool, in_trouble: bool) -> None:
    assert (attempt.host_failed, attempt.host_in_trouble) == (failed, in_trouble)


@pytest.mark.parametrize(
    ("attempt", "again"),
    [
        (Attempt(0, 0.9, error=CONNECTION_FAILED), True),
        (Attempt(0, 1.1, error=CONNECTION_FAILED), False),
        (Attempt(0, 0.1, error=TIMEOUT), False),
        (Attempt(0, 0.1, error=BLOCKED_ADDRESS), False),
        (Attempt(0, 0.1, status=503), False),
        (Attempt(0, 0.1, status=200), False),
    ],
)
def test_only_a_connection_that_failed_within_a_second_is_tried_again_at_once(
    attempt: Attempt, again: bool
) -> None:
    assert attempt.worth_an_instant_retry is again
