"""What is held and charged, and how an operator changes the prices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.credits import DEFAULT_PRICES, Balance, price_list
from service.domain.errors import ConfigurationError, FetchError
from service.domain.operations import CACHED, EMPTY, FOUND, NOTHING_NEW, STORIES

outcomes = st.sampled_from(sorted(DEFAULT_PRICES[STORIES]))
changes = st.dictionaries(outcomes, st.integers(0, 1000))


def test_stories_and_their_absence_cost_one_credit_and_all_else_is_free() -> None:
    prices = price_list({})
    charged = {name for name in DEFAULT_PRICES[STORIES] if prices.charge_for(STORIES, name, held=1)}
    assert charged == {FOUND, EMPTY, CACHED}


def test_the_stories_of_an_account_end_in_these_ways() -> None:
    found = {FOUND, EMPTY, CACHED, NOTHING_NEW}
    failed = {"account_private", "user_not_found", "opted_out"}
    assert set(DEFAULT_PRICES[STORIES]) == found | failed | {
        "upstream_blocked", "upstream_timeout", "upstream_error"
    }  # fmt: skip


@pytest.mark.parametrize("error", FetchError.__subclasses__())
def test_every_way_a_fetch_can_end_has_a_price(error: type[FetchError]) -> None:
    assert any(error.code in prices for prices in DEFAULT_PRICES.values())


def test_an_outcome_nobody_priced_is_free() -> None:
    assert price_list({}).charge_for(STORIES, "internal_error", held=1) == 0


def test_the_most_an_operation_can_cost_is_held() -> None:
    assert price_list({STORIES: {FOUND: 3, "account_private": 7}}).hold_for(STORIES) == 7


@given(changes, outcomes)
def test_what_was_held_at_acceptance_covers_every_charge(changed: dict[str, int], outcome: str) -> None:
    prices = price_list({STORIES: changed})
    held = prices.hold_for(STORIES)
    wanted = changed.get(outcome, DEFAULT_PRICES[STORIES][outcome])
    assert prices.charge_for(STORIES, outcome, held) == wanted


@given(changes, outcomes, st.integers(0, 1000))
def test_a_price_raised_later_never_charges_more_than_was_held(
    changed: dict[str, int], outcome: str, held: int
) -> None:
    assert 0 <= price_list({STORIES: changed}).charge_for(STORIES, outcome, held) <= held


def test_changes_leave_the_other_prices_and_the_defaults_alone() -> None:
    prices = price_list({STORIES: {FOUND: 5}})
    assert prices.charge_for(STORIES, EMPTY, held=9) == 1
    assert price_list({}).charge_for(STORIES, FOUND, held=9) == 1


@pytest.mark.parametrize("price", [-1, 0.5, 1.0, "1", None, True, [1]])
def test_a_price_that_is_no_whole_number_is_refused_by_name(price: object) -> None:
    with pytest.raises(ConfigurationError, match=r"stories\.found"):
        price_list({STORIES: {FOUND: price}})  # type: ignore[dict-item]


def test_an_unknown_operation_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"'reels'.*known: stories, .*highlights.*hiker_"):
        price_list({"reels": {FOUND: 1}})


def test_an_unknown_outcome_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="'fuond'"):
        price_list({STORIES: {"fuond": 1}})


def test_what_is_held_is_not_available() -> None:
    assert Balance(balance=10, held=4).available == 6
