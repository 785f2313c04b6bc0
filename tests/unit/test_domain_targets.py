"""What a request is about, how it is stored, and what it is called for short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import targets
from service.domain.targets import KINDS, MEDIA_URL, STORY_ID, USER_ID, USERNAME, Target, named

usernames = st.from_regex(r"[a-z0-9._]{1,30}", fullmatch=True)
numbers = st.from_regex(r"[1-9][0-9]{0,19}", fullmatch=True)
urls = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=200).map(
    "https://scontent-1.cdninstagram.com/{}".format
)
every_target = st.one_of(
    usernames.map(named),
    st.builds(
        Target, st.sampled_from([kind for kind in KINDS if kind not in (USERNAME, MEDIA_URL)]), numbers
    ),
    urls.map(lambda url: Target(MEDIA_URL, url)),
)


def test_a_name_is_the_target_of_an_account() -> None:
    assert named("anna") == Target(USERNAME, "anna")


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_names_its_target_in_a_field_of_that_kind(kind: str) -> None:
    fields = {"account": "acc", "owner": "7", "owner_name": "anna", "hold": "1", kind: "42"}
    assert Target.of(fields) == Target(kind, "42")


def test_a_record_about_nothing_has_no_target() -> None:
    with pytest.raises(KeyError):
        Target.of({"account": "acc", "owner": "7", "owner_name": "anna"})


def test_no_kind_is_named_twice() -> None:
    assert len(set(KINDS)) == len(KINDS) == 5


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (named("anna"), "anna"),
        (Target(USER_ID, "7"), "user_id:7"),
        (Target(STORY_ID, "3741925019028375123"), "story_id:3741925019028375123"),
        (Target(MEDIA_URL, "https://a.cdninstagram.com/b.jpg"), "media_url:https://a.cdninstagram.com/b.jpg"),
    ],
)
def test_a_short_target_reads_as_kind_and_value_and_a_name_as_itself(target: Target, text: str) -> None:
    assert target.text == text


@given(every_target)
def test_the_text_is_short_however_long_the_value(target: Target) -> None:
    assert len(target.text) <= len(target.kind) + 1 + 64


@given(every_target, every_target)
def test_the_text_is_the_targets_alone(one: Target, other: Target) -> None:
    assert (one.text == other.text) == (one == other)


@pytest.mark.parametrize("most", [64, 65])
def test_long_values_that_begin_and_end_alike_have_texts_of_their_own(most: int) -> None:
    base = "https://scontent.cdninstagram.com/"
    made = [Target(MEDIA_URL, f"{base}{letter * (most - len(base) - 1)}z") for letter in "ab"]
    assert {len(each.value) for each in made} == {most}
    assert made[0].text != made[1].text
    assert (made[0].text == f"media_url:{made[0].value}") == (most == targets._TEXT_MOST)
