"""Items of the website's older GraphQL form, rewritten to the form of the mobile API.

The newer web form (``XDTMediaDict``) has the mobile keys already.
"""

from __future__ import annotations

from typing import Any

from service.domain.renditions.payload import Payload

Json = dict[str, Any]

_PLACE = ("x", "y", "z", "width", "height", "rotation")


def mobile_form(item: Payload) -> Payload:
    """Return an item with the keys of the mobile API; one that has them comes back as it is."""
    if item.value("taken_at_timestamp") is None and item.value("display_url") is None:
        return item
    return item.rewritten(
        {
            "pk": item.value("id"),
            "code": item.value("code"),
            "user": item.value("owner"),
            "taken_at": item.value("taken_at_timestamp"),
            "media_type": 2 if item.flag("is_video") else 1,
            "image_versions2": {"candidates": _pictures(item)},
            "video_versions": _resources(item, "video_resources"),
            "video_duration": item.value("video_duration"),
            "sponsor_tags": _sponsor_tags(item),
            "story_cta": _swipe_up(item),
            **_tappables(item),
        }
    )


def _pictures(item: Payload) -> list[Json]:
    size = item.part("dimensions")
    whole = {"url": item.value("display_url"), "width": size.value("width"), "height": size.value("height")}
    return [*_resources(item, "display_resources"), whole]


def _resources(item: Payload, key: str) -> list[Json]:
    names = {"url": "src", "width": "config_width", "height": "config_height"}
    return [{name: part.value(old) for name, old in names.items()} for part in item.parts(key)]


def _sponsor_tags(item: Payload) -> list[Any]:
    return [edge.value("node") for edge in item.part("edge_media_to_sponsor_user").parts("edges")]


def _swipe_up(item: Payload) -> list[Json]:
    url = item.value("story_cta_url")
    return [{"links": [{"webUri": url}]}] if url else []


def _tappables(item: Payload) -> dict[str, list[Json]]:
    stickers: dict[str, list[Json]] = {}
    for tappable in item.parts("tappable_objects"):
        key, body = _sticker(tappable)
        if key:
            place = {name: tappable.value(name) for name in _PLACE}
            stickers.setdefault(key, []).append(place | body)
    return stickers


def _sticker(tappable: Payload) -> tuple[str, Json]:
    """Return the mobile key of a sticker and what it says; no key for a kind that v1 does not know."""
    match tappable.text("__typename"):
        case "GraphTappableMention":
            keys = ("username", "full_name", "is_private", "profile_pic_url")
            return "reel_mentions", {"user": {key: tappable.value(key) for key in keys}}
        case "GraphTappableHashtag":
            return "story_hashtags", {"hashtag": {"name": tappable.value("name")}}
        case "GraphTappableLocation":
            return "story_locations", {
                "location": {"pk": tappable.value("id"), "name": tappable.value("name")}
            }
        case "GraphTappableFeedMedia":
            media = tappable.part("media")
            return "story_feed_media", {
                "media_id": media.value("id"),
                "media_code": media.value("shortcode"),
            }
    return "", {}
