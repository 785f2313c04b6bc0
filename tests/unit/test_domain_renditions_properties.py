"""Whatever Instagram's answers turn into, a rendition keeps the form of v1."""

from __future__ import annotations

import copy
import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.renditions import highlight, raw_item, stories, story
from tests.unit.raw_items import USER, photo, video, web_item
from workers.simulator import web, world
from workers.simulator.payload_items import story_item
from workers.simulator.payload_reels import highlight_reel
from workers.simulator.state import State

Json = dict[str, Any]

NOON = 1_800_000_000
PERSON = State().person_named("stickers_anna")
ITEMS = [story_item(PERSON, item, NOON) for item in world.stories(PERSON, NOON)]
WEB_REEL = web.reels([(PERSON, world.stories(PERSON, NOON))], NOON)["data"]["reels_media"][0]
NASA = State().person_named("nasa")
REEL = highlight_reel(NASA, world.highlights(NASA)[0], NOON)
SOURCES = [*ITEMS, *WEB_REEL["items"], photo(), video(), web_item()]
RENDERED = [story(item) for item in SOURCES]

TEXT, NUMBER = str, (int, float)
OPTIONAL_TEXT = (str, type(None))
STORY_TYPES: dict[str, Any] = {
    "pk": TEXT, "id": TEXT, "code": TEXT, "taken_at": TEXT, "media_type": int, "product_type": TEXT,
    "thumbnail_url": OPTIONAL_TEXT, "user": dict, "video_url": OPTIONAL_TEXT, "video_duration": float,
    "sponsor_tags": list, "mentions": list, "links": list, "hashtags": list, "locations": list,
    "stickers": list, "medias": list,
}  # fmt: skip
USER_TYPES: dict[str, Any] = {
    "pk": TEXT, "id": OPTIONAL_TEXT, "username": OPTIONAL_TEXT, "full_name": TEXT,
    "profile_pic_url": OPTIONAL_TEXT, "profile_pic_url_hd": OPTIONAL_TEXT,
    "is_private": (bool, type(None)), "is_verified": (bool, type(None)),
}  # fmt: skip
HIGHLIGHT_TYPES: dict[str, Any] = {
    "pk": TEXT, "id": TEXT, "latest_reel_media": int, "cover_media": dict, "user": dict, "title": TEXT,
    "created_at": TEXT, "is_pinned_highlight": bool, "media_count": int, "media_ids": list, "items": list,
}  # fmt: skip

ODD = ["", "0", "1_2", "-", "9" * 30, "1e999", -1, 0.5, 10**17, 10**400, float("nan"), float("inf"),
       True, None, [], {}, [None], [[]], [{}]]  # fmt: skip
scalars = st.sampled_from(ODD) | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
# What every item has beside what is rendered; spoiling it would show nothing.
IDLE = {key for key, value in ITEMS[0].items() if isinstance(value, bool)} | {
    "estimated_scans_sizes", "sharing_friction_info", "gen_ai_detection_method", "fundraiser_tag",
    "story_music_stickers", "story_questions", "story_polls", "device_timestamp", "friendship_status",
}  # fmt: skip


def shaped(body: Json, types: dict[str, Any]) -> None:
    assert list(body) == list(types)
    for key, kind in types.items():
        assert isinstance(body[key], kind), (key, body[key])


def shaped_story(body: Json) -> None:
    shaped(body, STORY_TYPES)
    assert datetime.fromisoformat(body["taken_at"]).tzinfo is not None
    mentions = body["mentions"]
    for user in [body["user"], *body["sponsor_tags"], *(mention["user"] for mention in mentions)]:
        shaped(user, USER_TYPES)
    for mention in mentions:
        assert list(mention) == ["user", "x", "y", "width", "height"]
    for media in body["medias"]:
        assert media["media_pk"].isdigit()
    for sticker in body["stickers"]:
        assert isinstance(sticker["x"], float)
    json.dumps(body, allow_nan=False)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every node of a JSON value but itself, as far as it is rendered."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, child in inner:
        if key not in IDLE:
            found += [(*here, key), *paths(child, (*here, key))]
    return found


@st.composite
def spoiled(draw: st.DrawFn, sources: list[Json]) -> Json:
    """Return a good object in which a few nodes were replaced, deleted or put twice."""
    body = copy.deepcopy(draw(st.sampled_from(sources)))
    for _ in range(draw(st.integers(1, 20))):
        *way, last = draw(st.sampled_from(paths(body) or [("pk",)]))
        parent: Any = body
        for step in way:
            parent = parent[step]
        match draw(st.sampled_from(["replace", "delete", "double"])):
            case "replace":
                parent[last] = copy.deepcopy(draw(scalars))
            case "delete" if last in parent or isinstance(parent, list):
                del parent[last]
            case "double" if isinstance(parent, list):
                parent.append(copy.deepcopy(parent[last]))
    return body


@settings(max_examples=400)
@given(spoiled(SOURCES), st.sampled_from([None, USER, {}, {"pk": []}]))
def test_a_spoiled_item_still_renders_to_a_story(item: Json, owner: Json | None) -> None:
    before = copy.deepcopy(item)
    warnings: list[str] = []
    made = story(item, owner, warnings)
    shaped_story(made)
    assert repr(item) == repr(before)
    assert all(": " in warning for warning in warnings)
    shaped_story(story(raw_item(made)))


@given(spoiled([REEL]))
def test_a_spoiled_highlight_still_renders_to_a_highlight(raw: Json) -> None:
    made = highlight(raw)
    shaped(made, HIGHLIGHT_TYPES)
    shaped(made["user"], USER_TYPES)
    for item in made["items"]:
        shaped_story(item)


@given(spoiled(RENDERED))
def test_a_spoiled_story_still_becomes_a_raw_item(made: Json) -> None:
    shaped_story(story(raw_item(made)))


trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted({
        key for item in [*SOURCES, REEL] for way in paths(item) for key in way if isinstance(key, str)
    })), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@given(trees)
def test_anything_at_all_is_taken(value: Any) -> None:
    for made in stories(value, value):
        shaped_story(made)
    for made in stories([value], value):
        shaped_story(made)
    if isinstance(value, dict):
        shaped(highlight(value), HIGHLIGHT_TYPES)
        shaped_story(story(raw_item(value)))


@pytest.mark.parametrize("made", RENDERED)
def test_a_well_formed_story_survives_the_way_back_and_forth(made: Json) -> None:
    assert story(raw_item(made)) == made
