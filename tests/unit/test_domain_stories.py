"""Raw reels: ids become strings, all else stays."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.stories import MAX_SAFE_INTEGER, integer_ids, owner_of, with_string_ids
from workers.simulator import world
from workers.simulator.payload_reels import story_feed
from workers.simulator.payload_users import user_full
from workers.simulator.state import State
from workers.sources.contract import reel_found

BIG = 3_741_925_019_028_375_123

keys = st.sampled_from(
    ["pk", "id", "media_ids", "user_pk", "fbid_v2", "taken_at", "width", "items", "is_paid"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "key",
    ["pk", "id", "strong_id__", "user_id", "media_pk", "story_ids", "media_pks",
     "interop_messaging_user_fbid", "fbid_v2", "page_fbid_v2"],
)  # fmt: skip
def test_an_integer_under_an_ids_name_becomes_a_string(key: str) -> None:
    assert with_string_ids({key: 42}) == {key: "42"}


@pytest.mark.parametrize(
    "key", ["taken_at", "width", "is_paid", "valid", "pkg", "media_type", "idx", "video_duration"]
)
def test_an_integer_under_another_name_stays_a_number(key: str) -> None:
    assert with_string_ids({key: 42}) == {key: 42}


def test_ids_are_found_at_every_depth() -> None:
    raw = {"items": [{"reel_mentions": [{"user": {"pk": BIG, "friends": [[{"id": 7}]]}}]}]}
    made = with_string_ids(raw)
    user = made["items"][0]["reel_mentions"][0]["user"]
    assert user == {"pk": str(BIG), "friends": [[{"id": "7"}]]}


def test_ids_in_lists_and_in_lists_of_lists_become_strings() -> None:
    assert with_string_ids({"media_ids": [1, [2, None], "3"]}) == {"media_ids": ["1", ["2", None], "3"]}


def test_an_object_under_an_ids_name_is_judged_by_its_own_keys() -> None:
    assert with_string_ids({"media_ids": [{"count": 5, "pk": 6}]}) == {"media_ids": [{"count": 5, "pk": "6"}]}


@pytest.mark.parametrize("value", [True, False, None, "17", 1.5, [], {}])
def test_what_is_no_integer_stays_what_it_is_under_an_ids_name(value: object) -> None:
    made = with_string_ids({"pk": value})
    assert made == {"pk": value}
    assert type(made["pk"]) is type(value)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (MAX_SAFE_INTEGER, MAX_SAFE_INTEGER), (-MAX_SAFE_INTEGER, -MAX_SAFE_INTEGER),
        (2**53, str(2**53)), (-(2**53), str(-(2**53))), (BIG, str(BIG)),
    ],
)  # fmt: skip
def test_an_integer_javascript_cannot_keep_becomes_a_string_wherever_it_stands(
    number: int, expected: object
) -> None:
    assert with_string_ids({"count": number}) == {"count": expected}
    assert with_string_ids([number]) == [expected]


@given(trees)
def test_what_was_given_is_not_changed(tree: Any) -> None:
    before = copy.deepcopy(tree)
    with_string_ids(tree)
    assert tree == before


@given(trees)
def test_doing_it_twice_changes_nothing_more(tree: Any) -> None:
    once = with_string_ids(tree)
    assert with_string_ids(once) == once


@given(trees)
def test_only_integers_change_and_the_shape_stays(tree: Any) -> None:
    def same(before: Any, after: Any) -> bool:
        if isinstance(before, dict):
            return list(before) == list(after) and all(same(before[key], after[key]) for key in before)
        if isinstance(before, list):
            return len(before) == len(after) and all(map(same, before, after))
        return before == after or (type(before) is int and after == str(before))

    assert same(tree, with_string_ids(tree))


@given(trees)
def test_the_result_survives_a_parser_that_knows_doubles_only(tree: Any) -> None:
    made = with_string_ids(tree)
    assert json.loads(json.dumps(made), parse_int=lambda digits: int(float(digits))) == made


def reel_data(user_id: str, user: dict[str, Any], reel: dict[str, Any] | None) -> dict[str, Any]:
    """What an envelope shows of a reel."""
    shown: dict[str, Any] = with_string_ids(reel_found(user_id, user, reel).data)
    return shown


def test_a_reel_is_passed_on_with_its_own_user_and_id() -> None:
    reel = {"id": 1, "user": {"pk": 2, "username": "anna"}, "items": [{"pk": 3}], "latest_reel_media": 4}
    assert reel_data("9", {"pk": 9}, reel) == {
        "id": "1", "user": {"pk": "2", "username": "anna"}, "items": [{"pk": "3"}], "latest_reel_media": 4,
    }  # fmt: skip


def test_no_reel_gives_an_empty_one_of_the_same_shape() -> None:
    assert reel_data("9", {"pk": 9}, None) == {"id": "9", "user": {"pk": "9"}, "items": []}


def test_what_a_reel_lacks_is_filled_in_from_the_user() -> None:
    assert reel_data("9", {"pk": 9}, {"items": [{}]}) == {"id": "9", "user": {"pk": "9"}, "items": [{}]}


@pytest.mark.parametrize("missing", ["id", "user"])
def test_what_a_reel_has_as_null_is_filled_in_like_what_it_lacks(missing: str) -> None:
    reel = {"id": "9", "user": {"pk": "9"}, "items": [{}]}
    assert reel_data("9", {"pk": 9}, reel | {missing: None}) == reel


def test_making_data_of_a_reel_does_not_change_the_reel() -> None:
    reel = {"items": [{"pk": 3}]}
    reel_data("9", {"pk": 9}, reel)
    assert reel == {"items": [{"pk": 3}]}


NOON = 1_800_000_000


def feed(username: str) -> dict[str, Any]:
    person = State().person_named(username)
    return story_feed(person, world.stories(person, NOON), NOON)


@pytest.mark.parametrize("username", ["nasa", "instagram", "huge_fan", "stickers_anna", "empty_ben"])
def test_a_story_feed_gets_back_the_integers_it_came_with(username: str) -> None:
    body = feed(username)
    made = integer_ids(with_string_ids(body))
    assert made == body
    assert json.dumps(made) == json.dumps(body)


def test_a_profile_gets_back_the_integers_it_came_with() -> None:
    body = user_full(State().person_named("nasa"), NOON)
    assert integer_ids(with_string_ids(body)) == body


@pytest.mark.parametrize("key", ["pk", "fbid", "fbid_v2", "interop_messaging_user_fbid", "question_id"])
def test_an_id_that_the_mobile_api_sends_as_an_integer_becomes_one(key: str) -> None:
    assert integer_ids({"a": [{key: "42"}]}) == {"a": [{key: 42}]}
    assert integer_ids({key: ["1", None, "1_2", 3]}) == {key: [1, None, "1_2", 3]}


@pytest.mark.parametrize("key", ["id", "strong_id__", "pk_id", "media_id", "poll_id", "code", "username"])
def test_what_the_mobile_api_sends_as_text_stays_text(key: str) -> None:
    assert integer_ids({key: "42"}) == {key: "42"}


def test_the_id_of_a_reel_is_an_integer_and_that_of_a_highlight_is_not() -> None:
    assert integer_ids({"id": "42", "reel_type": "user_reel"})["id"] == 42
    assert integer_ids({"id": "highlight:42", "reel_type": "highlight_reel"})["id"] == "highlight:42"


@pytest.mark.parametrize("text", ["", "007", "-1", "1.5", "12a", "٣", "1" * 21, "1" * 5000, " 1"])
def test_what_is_not_all_digits_of_an_id_stays_text(text: str) -> None:
    assert integer_ids({"pk": text}) == {"pk": text}


@given(trees)
def test_ids_as_integers_and_as_text_are_the_same_ids(tree: Any) -> None:
    text = with_string_ids(tree)
    before = copy.deepcopy(text)
    assert with_string_ids(integer_ids(text)) == text
    assert text == before


@pytest.mark.parametrize(
    ("data", "owner"),
    [
        ({"id": "5", "user": {"pk": "5", "id": "5", "username": "Anna.B"}}, ("5", "anna.b")),
        ({"id": "5", "user": {"pk": BIG, "username": "anna"}}, (str(BIG), "anna")),
        ({"id": "5", "user": {"id": "6"}}, ("6", "")),
        ({"id": "5", "user": {}}, ("5", "")),
        ({"id": "5", "user": None}, ("5", "")),
        ({"id": "5"}, ("5", "")),
        ({"id": "highlight:17", "user": {"pk": "5", "username": "anna"}, "items": []}, ("5", "anna")),
        ({"id": "highlight:17", "user": {"username": "anna"}}, ("", "anna")),
        ({"id": "highlight:17"}, ("", "")),
        ({"user": {"username": None, "pk": None}}, ("", "")),
        ({}, ("", "")),
    ],
)
def test_a_result_tells_whose_it_is(data: dict[str, Any], owner: tuple[str, str]) -> None:
    assert owner_of(data) == owner
