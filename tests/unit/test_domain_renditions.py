"""Raw items of the mobile API and the website, in the form of HikerAPI's v1."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from service.domain.renditions import highlight, raw_item, stories, story
from service.domain.stories import with_string_ids
from tests.unit.raw_items import HIGHLIGHT_PK, PK, USER, V1_USER, photo, video, web_item, web_user

Json = dict[str, Any]

STORY_KEYS = [
    "pk", "id", "code", "taken_at", "media_type", "product_type", "thumbnail_url", "user", "video_url",
    "video_duration", "sponsor_tags", "mentions", "links", "hashtags", "locations", "stickers", "medias",
]  # fmt: skip
HIGHLIGHT_KEYS = [
    "pk", "id", "latest_reel_media", "cover_media", "user", "title", "created_at", "is_pinned_highlight",
    "media_count", "media_ids", "items",
]  # fmt: skip
LINK = {
    "id": "18062921705692032", "type": "gif", "x": 0.5, "y": 0.8, "z": 0, "width": 0.4, "height": 0.07,
    "rotation": 0.0,
    "story_link": {"url": "https://l.instagram.com/?u=https%3A%2F%2Fexample.com&e=X",
                   "link_title": "Visit Link", "link_type": "web", "display_url": "example.com"},
    "extra": {},
}  # fmt: skip


def noted(item: Json) -> list[str]:
    warnings: list[str] = []
    story(item, None, warnings)
    return warnings


def test_a_photo_is_rendered_as_hikerapi_does() -> None:
    made = story(photo())
    assert list(made) == STORY_KEYS
    assert made == {
        "pk": str(PK), "id": f"{PK}_900000001", "code": "DPt_PqvVUYT", "taken_at": "2026-04-07T17:31:03Z",
        "media_type": 1, "product_type": "story", "thumbnail_url": "https://cdn.example/large.jpg",
        "user": V1_USER, "video_url": None, "video_duration": 0.0, "sponsor_tags": [], "mentions": [],
        "links": [], "hashtags": [], "locations": [], "stickers": [LINK], "medias": [],
    }  # fmt: skip
    assert list(made["stickers"][0]) == list(LINK)
    assert list(made["user"]) == list(V1_USER)
    assert noted(photo()) == []


def test_ids_as_text_and_as_integers_render_alike() -> None:
    for item in (photo(), video(), web_item()):
        assert story(with_string_ids(item)) == story(item)


def test_a_video_has_its_largest_file_and_its_length() -> None:
    made = story(video())
    assert made["media_type"] == 2
    assert made["video_url"] == "https://cdn.example/720.mp4"
    assert made["video_duration"] == 14.966
    assert made["sponsor_tags"] == [V1_USER | {"pk": "900000007", "id": "900000007", "username": "brand"}]


def test_a_mention_has_no_rotation() -> None:
    (mention,) = story(video())["mentions"]
    assert list(mention) == ["user", "x", "y", "width", "height"]
    assert mention["user"]["username"] == "friend"
    assert (mention["x"], mention["height"]) == (0.5, 0.0)


def test_a_rendition_leaves_what_it_was_given_alone() -> None:
    for item in (photo(), video(), web_item()):
        before = copy.deepcopy(item)
        made = story(item)
        made["stickers"].clear()
        assert item == before


# --- who is mentioned -----------------------------------------------------------------------------


def bloks(**mention: str) -> Json:
    place = {"x": 0.4, "y": 0.3, "width": 0.5, "height": 0.1, "rotation": 0, "id": "8"}
    return place | {"bloks_sticker": {"sticker_data": {"ig_mention": mention}, "id": "9"}}


def test_mentions_of_the_newer_kind_are_given_too() -> None:
    item = photo(story_bloks_stickers=[bloks(account_id="7", username="lena", full_name="Lena")])
    (mention,) = story(item)["mentions"]
    assert mention["user"]["pk"] == mention["user"]["id"] == "7"
    assert (mention["user"]["username"], mention["x"], mention["height"]) == ("lena", 0.4, 0.1)


def test_a_mention_on_the_web_has_a_name_and_no_id() -> None:
    (mention,) = story(photo(story_bloks_stickers=[bloks(username="lena", full_name="Lena")]))["mentions"]
    assert (mention["user"]["pk"], mention["user"]["id"], mention["user"]["username"]) == ("", None, "lena")


@pytest.mark.parametrize("same", [{"account_id": "900000003"}, {"username": "friend"}])
def test_who_is_mentioned_in_both_forms_is_given_once(same: Json) -> None:
    assert story(video(story_bloks_stickers=[bloks(**same)])) == story(video())


def test_a_bloks_sticker_of_another_kind_is_no_mention_and_nothing_to_note() -> None:
    item = photo(story_bloks_stickers=[{"bloks_sticker": {"sticker_data": {"ig_weather": {}}}}])
    assert story(item)["mentions"] == []
    assert noted(item) == []


# --- other stickers -------------------------------------------------------------------------------


def test_hashtags_locations_posts_and_links_are_rendered() -> None:
    place = {"x": 0.5, "y": 0.6, "z": 0, "width": 0.4, "height": 0.1, "rotation": 0.2, "is_pinned": 0,
             "is_sticker": 1}  # fmt: skip
    made = story(
        photo(
            story_hashtags=[place | {"hashtag": {"id": 178, "name": "sea", "media_count": 3}}],
            story_locations=[place | {"location": {"pk": 21, "name": "Pier", "lat": 53.5, "lng": "9.9"}}],
            story_feed_media=[place | {"media_id": f"{PK}_9", "media_code": "X", "product_type": "clips"}],
            story_cta=[{"links": [{"linkType": 1, "webUri": "https://example.com/"}]}],
        )
    )
    spot = {"x": 0.5, "y": 0.6, "width": 0.4, "height": 0.1}
    assert made["hashtags"] == [
        {"hashtag": {"id": "178", "name": "sea", "media_count": 3, "allow_following": None,
                     "profile_pic_url": None}, **spot}
    ]  # fmt: skip
    assert made["locations"] == [
        {"location": {"pk": 21, "name": "Pier", "phone": "", "website": "", "category": "", "hours": {},
                      "address": "", "city": "", "zip": "", "lng": 9.9, "lat": 53.5, "external_id": None,
                      "external_id_source": None}, **spot}
    ]  # fmt: skip
    assert made["medias"] == [
        {**spot, "z": 0.0, "rotation": 0.2, "is_pinned": False, "is_hidden": None, "is_sticker": True,
         "is_fb_sticker": None, "media_pk": str(PK), "user_id": None, "product_type": "clips",
         "media_code": "X"}
    ]  # fmt: skip
    assert [link["webUri"] for link in made["links"]] == ["https://example.com/"]


def test_a_post_on_the_web_is_known_by_its_code() -> None:
    (media,) = story(photo(story_feed_media=[{"id": "6", "media_code": "DPt_PqvVUYT"}]))["medias"]
    assert (media["media_pk"], media["x"], media["width"]) == (str(PK), 0.5, 0.8)


# --- what is missing or wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    ["sponsor_tags", "reel_mentions", "story_link_stickers", "story_bloks_stickers", "story_feed_media",
     "story_hashtags", "story_locations", "story_cta", "video_versions", "video_duration", "code"],
)  # fmt: skip
def test_null_is_as_good_as_absent(key: str) -> None:
    item = photo()
    item.pop(key, None)
    assert story(item | {key: None}) == story(item)
    assert noted(item | {key: None}) == []


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"sponsor_tags": {}}, "sponsor_tags: not a list"),
        ({"sponsor_tags": [7]}, "sponsor_tags[0]: not an object"),
        ({"sponsor_tags": [{}]}, "sponsor_tags[0].sponsor: missing"),
        ({"reel_mentions": [{"user": {}}]}, "reel_mentions[0].user: neither id nor name"),
        ({"story_hashtags": [{"hashtag": {"name": 7}}]}, "story_hashtags[0].hashtag.name: not a text"),
        ({"story_hashtags": [{}]}, "story_hashtags[0].hashtag: without a name"),
        ({"story_locations": [{"location": 1}]}, "story_locations[0].location: not an object"),
        (
            {"story_feed_media": [{"id": "6"}]},
            "story_feed_media[0].media_id: missing, and no code to tell it",
        ),
        ({"story_cta": [{"links": [{}]}]}, "story_cta[0].links[0].webUri: missing"),
        ({"story_link_stickers": [{"x": "left"}]}, "story_link_stickers[0].x: not a number"),
        ({"story_link_stickers": [{"x": float("nan")}]}, "story_link_stickers[0].x: not a number"),
        ({"story_link_stickers": [{"x": 10**400}]}, "story_link_stickers[0].x: not a number"),
        ({"user": {"pk": 1, "is_private": "no"}}, "user.is_private: not true or false"),
        ({"user": None}, "user: no id"),
        ({"taken_at": "yesterday"}, "taken_at: not a number"),
        ({"taken_at": 10**17}, "taken_at: missing or no time"),
        ({"image_versions2": None}, "image_versions2: no URL of a picture"),
        ({"media_type": 2}, "video_versions: no URL of the video"),
        ({"pk": [], "id": None, "strong_id__": None, "code": None}, "pk: missing"),
    ],
)
def test_what_cannot_be_read_is_left_out_and_named(change: Json, warning: str) -> None:
    assert warning in noted(photo() | change)
    assert list(story(photo() | change)) == STORY_KEYS


def test_warnings_name_the_item_of_the_list() -> None:
    warnings: list[str] = []
    made = stories([photo(), video(sponsor_tags=3), "x"], USER, warnings)
    assert len(made) == 2
    assert set(warnings) == {"items[1].sponsor_tags: not a list", "items[2]: not an object"}
    assert stories("no list", None, warnings) == []
    assert warnings[-1] == "items: not a list"


def test_a_missing_pk_is_found_in_id_or_code() -> None:
    bare = photo()
    del bare["pk"]
    assert story(bare) == story(photo())
    del bare["id"], bare["strong_id__"]
    assert story(bare)["pk"] == str(PK)
    assert story(bare)["id"] == f"{PK}_900000001"


@pytest.mark.parametrize("code", [None, "", 7])
def test_a_missing_code_is_computed(code: object) -> None:
    assert story(photo(code=code))["code"] == "DPt_PqvVUYT"


def test_a_missing_time_is_that_of_the_pk() -> None:
    item = photo()
    del item["taken_at"]
    assert story(item)["taken_at"] == "2025-10-12T18:04:04Z"
    assert story({})["taken_at"] == "1970-01-01T00:00:00Z"


def test_the_largest_picture_is_taken_whatever_the_order_and_the_first_without_sizes() -> None:
    versions = [{"url": "a", "width": 1, "height": 2}, {"url": "b", "width": 3, "height": 1}, {"url": "c"}]
    for order in (versions, versions[::-1]):
        assert story(photo(image_versions2={"candidates": order}))["thumbnail_url"] == "b"
    bare = [{"type": 101, "url": "first"}, {"type": 102, "url": "second"}, {"url": None}]
    assert story(video(video_versions=bare))["video_url"] == "first"


def test_what_the_item_does_not_tell_of_its_user_is_told_by_the_owner() -> None:
    item = photo(user={"pk": 900000001, "id": "900000001", "is_private": False})
    assert story(item, USER)["user"] == V1_USER
    assert story(item)["user"]["username"] is None
    assert story(photo(user=None), USER)["user"] == V1_USER


def test_another_owner_tells_nothing() -> None:
    item = photo(user={"pk": 5})
    assert story(item, USER)["user"]["username"] is None


# --- the website ----------------------------------------------------------------------------------


def test_an_item_of_the_web_renders_like_one_of_the_mobile_api() -> None:
    made = story(web_item(), web_user())
    assert made["user"] == V1_USER
    assert made["thumbnail_url"] == "https://cdn.example/large.jpg"
    assert made["video_url"] == "https://cdn.example/101.mp4"
    assert [mention["user"]["username"] for mention in made["mentions"]] == ["friend"]
    assert list(made) == STORY_KEYS
    assert noted(web_item()) == []


def test_an_item_of_the_older_web_form_is_rendered_too() -> None:
    item = {
        "__typename": "GraphStoryVideo", "id": str(PK), "owner": {"id": "900000001", "username": "sim_user"},
        "dimensions": {"width": 1080, "height": 1920}, "display_url": "https://cdn.example/large.jpg",
        "display_resources": [
            {"src": "https://cdn.example/s.jpg", "config_width": 640, "config_height": 1136}
        ],
        "taken_at_timestamp": 1775583063, "is_video": True, "video_duration": 5.0,
        "video_resources": [
            {"src": "https://cdn.example/480.mp4", "config_width": 480, "config_height": 853},
            {"src": "https://cdn.example/240.mp4", "config_width": 240, "config_height": 427},
        ],
        "story_cta_url": "https://example.com/",
        "edge_media_to_sponsor_user": {"edges": [{"node": {"sponsor": {"id": "7", "username": "brand"}}}]},
        "tappable_objects": [
            {"__typename": "GraphTappableMention", "x": 0.5, "y": 0.6, "width": 0.4, "height": 0.1,
             "username": "friend", "full_name": "Friend", "is_private": False},
            {"__typename": "GraphTappableHashtag", "name": "sea"},
            {"__typename": "GraphTappableLocation", "id": "21", "name": "Pier"},
            {"__typename": "GraphTappableFeedMedia", "media": {"id": "5", "shortcode": "F"}},
            {"__typename": "GraphTappableFallback"},
        ],
    }  # fmt: skip
    warnings: list[str] = []
    made = story(item, None, warnings)
    assert warnings == []
    assert (made["id"], made["code"], made["taken_at"]) == (
        f"{PK}_900000001",
        "DPt_PqvVUYT",
        "2026-04-07T17:31:03Z",
    )
    assert (made["media_type"], made["video_url"]) == (2, "https://cdn.example/480.mp4")
    assert made["thumbnail_url"] == "https://cdn.example/large.jpg"
    assert (made["mentions"][0]["user"]["username"], made["mentions"][0]["y"]) == ("friend", 0.6)
    assert made["hashtags"][0]["hashtag"]["name"] == "sea"
    assert made["locations"][0]["location"]["pk"] == 21
    assert (made["medias"][0]["media_pk"], made["medias"][0]["media_code"]) == ("5", "F")
    assert made["links"][0]["webUri"] == "https://example.com/"
    assert made["sponsor_tags"][0]["username"] == "brand"


# --- highlights -----------------------------------------------------------------------------------


def tray_entry(**changes: Any) -> Json:
    cover = {
        "crop_rect": None, "media_id": None, "upload_id": None, "full_image_version": None,
        "cropped_image_version": {"height": 150, "width": 150, "url": "https://cdn.example/c.jpg"},
    }  # fmt: skip
    entry = {
        "strong_id__": f"highlight:{HIGHLIGHT_PK}", "id": f"highlight:{HIGHLIGHT_PK}", "title": "Travel",
        "reel_type": "highlight_reel", "created_at": 1764846391, "is_pinned_highlight": False,
        "cover_media": cover, "media_count": 12, "latest_reel_media": 1766242839, "user": USER,
    }  # fmt: skip
    return entry | changes


def test_an_entry_of_the_tray_is_a_highlight_without_items() -> None:
    warnings: list[str] = []
    made = highlight(tray_entry(), warnings)
    assert warnings == []
    assert list(made) == HIGHLIGHT_KEYS
    assert made == {
        "pk": HIGHLIGHT_PK, "id": f"highlight:{HIGHLIGHT_PK}", "latest_reel_media": 1766242839,
        "cover_media": tray_entry()["cover_media"], "user": V1_USER, "title": "Travel",
        "created_at": "2025-12-04T11:06:31Z", "is_pinned_highlight": False, "media_count": 12,
        "media_ids": [], "items": [],
    }  # fmt: skip


def test_the_items_of_a_highlight_are_stories_of_its_owner() -> None:
    items = [photo(user={"pk": 900000001, "id": "900000001"}), video()]
    made = highlight(tray_entry(items=items, media_ids=[str(PK), PK + 1]))
    assert [item["user"] for item in made["items"]] == [V1_USER, V1_USER]
    assert made["media_ids"] == [PK, PK + 1]


def test_a_highlight_of_the_web_without_cover_and_count_is_rendered() -> None:
    warnings: list[str] = []
    raw = tray_entry(
        cover_media=None, media_count=None, title=None, items=[photo(sponsor_tags=1)], media_ids=["x"]
    )
    made = highlight(raw, warnings)
    assert (made["cover_media"], made["media_count"], made["title"]) == ({}, 1, "")
    assert warnings == ["items[0].sponsor_tags: not a list"]


@pytest.mark.parametrize(
    "told", [{"pk": int(HIGHLIGHT_PK)}, {"id": HIGHLIGHT_PK}, {"strong_id__": f"highlight:{HIGHLIGHT_PK}"}]
)
def test_the_number_of_a_highlight_is_found_wherever_it_stands(told: Json) -> None:
    assert highlight(told)["id"] == f"highlight:{HIGHLIGHT_PK}"
    assert highlight(told)["pk"] == HIGHLIGHT_PK


def test_nothing_at_all_is_still_a_highlight_of_the_right_form() -> None:
    warnings: list[str] = []
    made = highlight({}, warnings)
    assert list(made) == HIGHLIGHT_KEYS
    assert (made["id"], made["created_at"], warnings) == ("", "1970-01-01T00:00:00Z", ["id: missing"])


# --- the way back ---------------------------------------------------------------------------------


@pytest.mark.parametrize("item", [photo(), video(), web_item()])
def test_a_raw_item_made_of_a_story_renders_to_that_story(item: Json) -> None:
    made = story(item, USER)
    back = raw_item(made)
    assert story(back) == made
    assert back["taken_at"] == 1775583063
    assert "expiring_at" not in back
    assert ("video_versions" in back) == (made["media_type"] == 2)


def test_what_a_story_does_not_have_is_absent_from_its_raw_item() -> None:
    assert set(raw_item(story(photo()))) == {
        "pk", "id", "code", "taken_at", "media_type", "product_type", "user", "image_versions2",
        "story_link_stickers",
    }  # fmt: skip


def test_what_is_raw_already_stays_as_it_is() -> None:
    assert raw_item(photo()) == photo()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2026-04-07T17:31:03Z", 1775583063), ("2026-04-07T17:31:03+00:00", 1775583063),
     ("2026-04-07T17:31:03", 1775583063), ("2026-04-07T19:31:03.5+02:00", 1775583063),
     ("yesterday", None), (None, None), (7, None)],
)  # fmt: skip
def test_a_time_of_v1_is_read_in_every_spelling(text: object, seconds: int | None) -> None:
    assert raw_item({"pk": "1", "taken_at": text})["taken_at"] == seconds
