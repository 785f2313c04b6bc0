"""Our renditions beside those of instagrapi, on what the simulated Instagram answers."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from instagrapi.extractors import extract_highlight_v1, extract_story_gql, extract_story_v1

from service.domain.renditions import highlight, raw_item, stories, story
from service.domain.stories import with_string_ids
from workers.simulator import web, world
from workers.simulator.payload_items import story_item
from workers.simulator.payload_reels import highlight_reel, highlight_tray_entry
from workers.simulator.payload_users import user_full
from workers.simulator.state import State

Json = dict[str, Any]

NOON = 1_800_000_000
USER_KEYS = (
    "pk", "id", "username", "full_name", "profile_pic_url", "profile_pic_url_hd", "is_private", "is_verified",
)  # fmt: skip
NAMES = ["nasa", "instagram", "huge_fan", "stickers_anna", *(f"person{number}" for number in range(20))]


def person(username: str) -> world.Person:
    return State().person_named(username)


def items_of(username: str) -> list[Json]:
    owner = person(username)
    return [story_item(owner, item, NOON) for item in world.stories(owner, NOON)]


def known(user: Json) -> Json:
    """Return one of instagrapi's users with what HikerAPI keeps of it."""
    return {key: user["pk"] if key == "id" else user[key] for key in USER_KEYS}


def as_hikerapi(item: Json) -> Json:
    """Return what instagrapi makes of an item, without what HikerAPI's v1 is known to do differently."""
    body = json.loads(extract_story_v1(copy.deepcopy(item)).model_dump_json())
    for key in ("imported_taken_at", "is_paid_partnership", "polls"):
        del body[key]
    body["links"] = []
    body["user"] = known(body["user"])
    body["sponsor_tags"] = [known(user) for user in body["sponsor_tags"]]
    for mention in body["mentions"]:
        mention["user"] = known(mention["user"])
    for sticker in body["mentions"] + body["hashtags"] + body["locations"]:
        del sticker["rotation"]
    for sticker in body["hashtags"]:
        sticker["hashtag"]["allow_following"] = None
    for media in body["medias"]:
        media["media_pk"] = str(media["media_pk"])
    return body


@pytest.mark.parametrize("username", NAMES)
def test_a_story_is_what_instagrapi_makes_of_it(username: str) -> None:
    warnings: list[str] = []
    for item in items_of(username):
        assert story(item, None, warnings) == as_hikerapi(item)
        assert story(with_string_ids(item), None, warnings) == as_hikerapi(item)
    assert warnings == []


def test_the_comparison_saw_every_kind_of_sticker() -> None:
    seen = [story(item) for name in NAMES for item in items_of(name)]
    for key in ("sponsor_tags", "mentions", "hashtags", "locations", "stickers", "medias"):
        assert any(made[key] for made in seen), key
    assert {made["media_type"] for made in seen} == {1, 2}


def test_a_highlight_is_what_instagrapi_makes_of_it() -> None:
    owner = person("nasa")
    for entry in world.highlights(owner):
        for raw in (highlight_reel(owner, entry, NOON), highlight_tray_entry(owner, entry, NOON)):
            expected = json.loads(extract_highlight_v1(copy.deepcopy(raw)).model_dump_json())
            expected["user"] = known(expected["user"])
            expected["items"] = [as_hikerapi(item) for item in raw.get("items", [])]
            assert highlight(raw) == expected
            assert highlight(with_string_ids(raw)) == expected


@pytest.mark.parametrize("username", ["nasa", "stickers_anna", "person1", "person2"])
def test_an_item_of_the_website_is_what_instagrapi_makes_of_it(username: str) -> None:
    owner = person(username)
    (reel,) = web.reels([(owner, world.stories(owner, NOON))], NOON)["data"]["reels_media"]
    for raw in reel["items"]:
        expected = json.loads(extract_story_gql(copy.deepcopy(raw)).model_dump_json())
        made = story(raw, reel["owner"])
        different = {"user", "video_duration"}
        assert {key: expected[key] for key in set(made) - different} == {
            key: made[key] for key in set(made) - different
        }
        assert made["user"]["username"] == username
        assert made["user"]["profile_pic_url"] == reel["owner"]["profile_pic_url"]


def test_items_that_instagrapi_fails_on_are_rendered() -> None:
    owner = person("stickers_anna")
    whole = items_of("stickers_anna")
    broken = [
        whole[0] | {"sponsor_tags": None}, whole[0] | {"reel_mentions": None},
        whole[0] | {"story_link_stickers": None},
        whole[1] | {"video_versions": [{"type": 101, "url": "https://cdn.example/v.mp4"}]},
    ]  # fmt: skip
    for item in broken:
        with pytest.raises((TypeError, KeyError)):
            extract_story_v1(copy.deepcopy(item))
    made = stories(broken, user_full(owner, NOON))
    assert [len(item["mentions"]) for item in made] == [1, 1, 1, 1]
    assert [len(item["stickers"]) for item in made] == [1, 1, 0, 1]
    assert made[0]["sponsor_tags"] == []
    assert made[3]["video_url"] == "https://cdn.example/v.mp4"


@pytest.mark.parametrize("username", NAMES)
def test_the_way_back_loses_nothing(username: str) -> None:
    for item in items_of(username):
        made = story(item)
        assert story(raw_item(made)) == made
        assert story(raw_item(json.loads(json.dumps(made)))) == made
