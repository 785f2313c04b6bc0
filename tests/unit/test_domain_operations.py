"""The table of what can be asked for: it is complete, priced, and says whose answers are one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.credits import DEFAULT_PRICES, PAID, price_list, tariff_of
from service.domain.errors import FetchError
from service.domain.operations import (
    CACHED,
    DOWNLOAD,
    EMPTY,
    FOUND,
    HIGHLIGHT,
    HIGHLIGHTS,
    NOTHING_NEW,
    OPERATIONS,
    STORIES,
    STORY,
    USER,
    Ask,
    Operation,
)
from service.domain.options import Options
from service.domain.targets import HIGHLIGHT_ID, KINDS, MEDIA_URL, STORY_ID, USER_ID, USERNAME, Target, named
from tests.unit.test_domain_targets import every_target

TROUBLE = {"upstream_blocked", "upstream_timeout", "upstream_error", "opted_out"}

every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
every_tariff = pytest.mark.parametrize(
    ("operation", "kind"), [(each, kind) for each in OPERATIONS.values() for kind in each.reqs]
)
asks = st.builds(Ask, st.sampled_from(sorted(OPERATIONS)), every_target, st.booleans())


# --- the table -----------------------------------------------------------------------------------


def test_an_operation_is_found_by_its_name() -> None:
    assert list(OPERATIONS) == [STORIES, STORY, HIGHLIGHTS, HIGHLIGHT, USER, DOWNLOAD]
    assert [each.name for each in OPERATIONS.values()] == list(OPERATIONS)


def test_every_kind_of_target_is_one_that_something_can_be_asked_about() -> None:
    assert {kind for each in OPERATIONS.values() for kind in each.targets} == set(KINDS)


@every_operation
def test_an_entry_fits_together(operation: Operation) -> None:
    assert operation.summary
    assert operation.data
    assert set(operation.reqs) <= set(operation.targets)
    assert operation.counted or not operation.listed, "only a list can be empty"
    assert operation.counted or not operation.shaped


# --- what it costs -------------------------------------------------------------------------------


@every_operation
def test_whatever_an_operation_ends_with_has_a_price(operation: Operation) -> None:
    paid = {FOUND, CACHED} | ({EMPTY} if operation.listed else set())
    assert set(operation.prices) == paid | set(operation.endings) | TROUBLE
    assert {name for name, price in operation.prices.items() if price} == paid
    assert DEFAULT_PRICES[operation.name] == operation.prices


def codes(error: type[FetchError]) -> set[str]:
    return {error.code}.union(*(codes(each) for each in error.__subclasses__()))


def test_what_an_operation_ends_with_is_what_a_fetch_can_fail_with() -> None:
    known = set().union(*(codes(each) for each in FetchError.__subclasses__()))
    endings = {code for each in OPERATIONS.values() for code in each.endings}
    assert endings - {NOTHING_NEW} | TROUBLE == known


def test_only_a_watch_finds_nothing_new_and_it_watches_stories() -> None:
    assert [name for name, each in OPERATIONS.items() if NOTHING_NEW in each.endings] == [STORIES]


@pytest.mark.parametrize(
    ("operation", "kind", "reqs"),
    [
        (STORIES, USER_ID, 2),
        (STORIES, USERNAME, 3),
        (STORY, STORY_ID, 1),
        (HIGHLIGHTS, USER_ID, 2),
        (HIGHLIGHTS, USERNAME, 3),
        (HIGHLIGHT, HIGHLIGHT_ID, 1),
        (DOWNLOAD, STORY_ID, 1),
        (DOWNLOAD, MEDIA_URL, 1),
    ],
)
def test_a_compatible_call_costs_what_it_costs_there(operation: str, kind: str, reqs: int) -> None:
    chosen = Options(tariff=tariff_of(operation, kind))
    prices = price_list({})
    assert prices.hold_for(operation, chosen) == reqs
    assert prices.charge_for(operation, FOUND, reqs, chosen) == reqs
    assert prices.charge_for(operation, CACHED, reqs, chosen) == reqs, "shared or not"
    assert prices.charge_for(operation, "upstream_error", reqs, chosen) == 0


@every_tariff
def test_a_tariff_prices_every_end_of_its_operation(operation: Operation, kind: str) -> None:
    tariff = DEFAULT_PRICES[tariff_of(operation.name, kind)]
    assert set(tariff) == set(operation.prices) - {NOTHING_NEW}
    assert {name: price for name, price in tariff.items() if price} == {
        name: operation.reqs[kind] for name in operation.prices if name in PAID and name != NOTHING_NEW
    }


def test_there_are_no_other_prices() -> None:
    tariffs = [tariff_of(each.name, kind) for each in OPERATIONS.values() for kind in each.reqs]
    assert sorted(DEFAULT_PRICES) == sorted([*OPERATIONS, *tariffs])


@every_tariff
def test_force_is_one_less_by_a_tariff_and_nothing_less_otherwise(operation: Operation, kind: str) -> None:
    prices, reqs = price_list({}), operation.reqs[kind]
    forced = Options(force=True, tariff=tariff_of(operation.name, kind))
    assert prices.hold_for(operation.name, forced) == reqs - 1
    assert prices.charge_for(operation.name, FOUND, reqs, forced) == reqs - 1
    assert prices.charge_for(operation.name, "upstream_error", reqs, forced) == 0
    assert prices.hold_for(operation.name, Options(force=True)) == 1
    assert prices.charge_for(operation.name, FOUND, 9, Options(force=True)) == 1


def test_an_operator_prices_a_tariff_without_touching_the_operation() -> None:
    tariff = tariff_of(STORIES, USER_ID)
    prices = price_list({tariff: {FOUND: 9}})
    assert prices.hold_for(STORIES, Options(tariff=tariff)) == 9
    assert prices.hold_for(STORIES) == 1
    assert prices.hold_for(STORIES, Options(tariff=tariff_of(STORIES, USERNAME))) == 3


# --- whose answers are one -----------------------------------------------------------------------


@given(asks, asks)
def test_two_asks_share_exactly_when_one_answer_does_for_both(one: Ask, other: Ask) -> None:
    assert (one.key == other.key) == (one == other)


def test_no_two_asks_about_things_with_like_values_share() -> None:
    about = [Target(kind, value) for kind in KINDS for value in ("7", "77", "anna", "user", "user_id")]
    made = [Ask(*parts) for parts in itertools.product(OPERATIONS, about, (False, True))]
    assert len({each.key for each in made}) == len(made)


def test_the_stories_of_a_name_are_known_by_the_name_and_all_else_by_what_is_no_name() -> None:
    assert Ask(STORIES, named("anna")).key == "anna"
    others = [Ask(name, named("anna"), force) for name in OPERATIONS for force in (False, True)]
    others += [Ask(STORIES, Target(kind, "7")) for kind in KINDS if kind != USERNAME]
    others.remove(Ask(STORIES, named("anna")))
    assert all(":" in each.key for each in others)
