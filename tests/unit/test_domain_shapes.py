"""The forms a result comes in: as Instagram sends it, or as HikerAPI's v1 renders it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.operations import RAW, SHAPES, STORY_SHAPE
from service.domain.renditions import highlight, stories
from service.domain.shapes import KEPT, shaped
from service.domain.stories import with_string_ids
from tests.unit.raw_items import HIGHLIGHT_PK, PK, USER, photo, video, web_item

Json = dict[str, Any]

KEEP = {"archiveUrl": "https://x.example/archive/a.jpg", "archive": {"size": 5}}
REEL: Json = {"id": "900000001", "user": USER, "items": [photo(), video()], "latest_reel_media": 5}
HIGHLIGHT: Json = {
    "id": f"highlight:{HIGHLIGHT_PK}",
    "user": USER,
    "title": "Best of",
    "items": [photo(), video()],
    "created_at": 1_775_583_063,
}
TRAY: Json = {
    "id": "900000001",
    "user": USER,
    "tray": [{"id": f"highlight:{HIGHLIGHT_PK}", "title": "Best of", "user": USER, "media_count": 2}],
    "more": 1,
}
ACCOUNT: Json = {"id": "900000001", "user": USER}

every_result = pytest.mark.parametrize("data", [REEL, HIGHLIGHT, TRAY], ids=["reel", "highlight", "tray"])


def test_there_are_two_and_the_first_is_what_instagram_sends() -> None:
    assert SHAPES == (RAW, STORY_SHAPE)


@pytest.mark.parametrize("data", [REEL, HIGHLIGHT, TRAY, ACCOUNT])
def test_raw_is_the_very_same(data: Json) -> None:
    assert shaped(data, RAW) is data


@every_result
def test_what_is_shaped_is_not_touched(data: Json) -> None:
    before = copy.deepcopy(data)
    shaped(data, STORY_SHAPE)
    assert data == before


def test_the_items_of_a_reel_become_stories_beside_id_and_user() -> None:
    made = shaped(REEL, STORY_SHAPE)
    assert made == with_string_ids({"id": REEL["id"], "user": USER, "items": stories(REEL["items"], USER)})
    assert [item["pk"] for item in made["items"]] == [str(PK), str(PK)]


def test_an_empty_reel_stays_empty() -> None:
    empty = {"id": REEL["id"], "user": with_string_ids(USER), "items": []}
    assert shaped({**REEL, "items": []}, STORY_SHAPE) == empty


def test_every_id_of_a_shaped_highlight_is_text() -> None:
    made = shaped({**HIGHLIGHT, "media_ids": [str(PK)]}, STORY_SHAPE)
    assert made["media_ids"] == [str(PK)]


def test_a_highlight_becomes_a_highlight_with_its_stories() -> None:
    made = shaped(HIGHLIGHT, STORY_SHAPE)
    assert made == highlight(HIGHLIGHT)
    assert (made["id"], made["title"], len(made["items"])) == (HIGHLIGHT["id"], "Best of", 2)


def test_a_tray_becomes_highlights_without_items() -> None:
    made = shaped(TRAY, STORY_SHAPE)
    assert set(made) == {"id", "user", "tray"}
    assert [(each["pk"], each["media_count"], each["items"]) for each in made["tray"]] == [
        (HIGHLIGHT_PK, 2, [])
    ]


@pytest.mark.parametrize("data", [REEL, HIGHLIGHT], ids=["reel", "highlight"])
def test_what_the_archive_added_stays_with_its_item(data: Json) -> None:
    kept = {**data, "items": [photo(**KEEP), video(archiveError="no_media"), web_item()]}
    first, second, third = shaped(kept, STORY_SHAPE)["items"]
    assert {name: first[name] for name in KEPT if name in first} == KEEP
    assert {name: second[name] for name in KEPT if name in second} == {"archiveError": "no_media"}
    assert not set(KEPT) & set(third)


@pytest.mark.parametrize("data", [REEL, HIGHLIGHT], ids=["reel", "highlight"])
@pytest.mark.parametrize("odd", [None, 5, "item", []])
def test_an_item_that_is_none_is_left_out_and_the_others_keep_theirs(data: Json, odd: object) -> None:
    """What is drifted upstream must not end a request that has more to show."""
    spoiled = {**data, "items": [odd, photo(**KEEP), odd, video(archiveError="no_media")]}
    first, second = shaped(spoiled, STORY_SHAPE)["items"]
    assert (first["archiveUrl"], second["archiveError"]) == (KEEP["archiveUrl"], "no_media")
    assert "archiveUrl" not in second


@pytest.mark.parametrize("odd", [None, 5, "entry", []])
def test_an_entry_of_a_tray_that_is_none_is_left_out(odd: object) -> None:
    assert len(shaped({**TRAY, "tray": [odd, *TRAY["tray"]]}, STORY_SHAPE)["tray"]) == 1


@every_result
def test_ids_are_strings_in_either_shape(data: Json) -> None:
    safe = with_string_ids(data)
    made = shaped(safe, STORY_SHAPE)
    assert isinstance(made["id"], str)
    for each in made.get("items", made.get("tray", [])):
        assert isinstance(each["pk"], str)
        assert isinstance(each["user"]["pk"], str)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(["items", "tray"]), st.lists(values, max_size=4), st.sampled_from(["5", "highlight:5"])
)
def test_whatever_stands_in_a_list_nothing_is_raised(
    counted: str, listed: list[Any], identifier: str
) -> None:
    data = {"id": identifier, "user": {}, counted: listed}
    made = shaped(data, STORY_SHAPE)
    assert len(made[counted]) == sum(isinstance(each, dict) for each in listed)
