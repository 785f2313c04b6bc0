"""What a caller chose, and how it is kept."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.operations import SHAPES, STORY_SHAPE
from service.domain.options import PLAIN, Options

every_choice = st.builds(
    Options,
    amount=st.integers(0, 10_000),
    shape=st.sampled_from(SHAPES),
    archive=st.booleans(),
    force=st.booleans(),
    tariff=st.sampled_from(["", "hiker_stories_by_user_id"]),
    first_byte=st.integers(0, 2**40),
)


@given(every_choice)
def test_what_was_chosen_comes_back(options: Options) -> None:
    assert Options.of(options.text) == options


@given(every_choice, every_choice)
def test_the_text_is_one_choice_alone(one: Options, other: Options) -> None:
    assert (one.text == other.text) == (one == other)


@pytest.mark.parametrize("text", [None, ""])
def test_who_chose_nothing_gets_the_defaults(text: str | None) -> None:
    assert Options.of(text) is PLAIN
    assert (PLAIN, PLAIN.text) == (Options(), "")
    assert Options(amount=0, shape="raw", archive=False, force=False, tariff="", first_byte=0) == PLAIN


def test_only_what_differs_from_the_default_is_kept() -> None:
    assert json.loads(Options(amount=3, shape=STORY_SHAPE).text) == {"amount": 3, "shape": "story"}


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"colour": 1}'])
def test_what_is_no_choice_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        Options.of(text)
