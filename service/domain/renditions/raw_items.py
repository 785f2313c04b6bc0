"""The way back: a v1 ``Story`` in the form of a raw item, for sources that have nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.domain.renditions.moments import epoch
from service.domain.renditions.payload import Payload

Json = dict[str, Any]

_VIDEO_VERSION = 101


def raw_item(story: Mapping[str, Any]) -> Json:
    """Return a raw item that renders to ``story`` again; one that is raw already comes back as it is.

    There is no ``expiring_at``, as v1 does not tell it, and no array that would be empty, as in the
    answers of the mobile API.
    """
    if "image_versions2" in story:
        return dict(story)
    same = ("pk", "id", "code", "media_type", "product_type", "user")
    thumbnail_url = story.get("thumbnail_url")
    return {
        **{key: story.get(key) for key in same},
        "taken_at": epoch(story.get("taken_at")),
        "image_versions2": {"candidates": [{"url": thumbnail_url}] if thumbnail_url else []},
        **_video(story),
        **{key: made for key, made in _stickers(Payload(story, "", [])).items() if made},
    }


def _video(story: Mapping[str, Any]) -> Json:
    duration, url = story.get("video_duration"), story.get("video_url")
    versions = {"video_versions": [{"type": _VIDEO_VERSION, "url": url}]} if url else {}
    return versions | ({"video_duration": duration} if duration else {})


def _stickers(story: Payload) -> dict[str, list[Any]]:
    links = story.values("links")
    return {
        "sponsor_tags": [{"sponsor": user} for user in story.values("sponsor_tags")],
        "reel_mentions": story.values("mentions"),
        "story_cta": [{"links": links}] if links else [],
        "story_hashtags": story.values("hashtags"),
        "story_locations": story.values("locations"),
        "story_link_stickers": story.values("stickers"),
        "story_feed_media": [_feed_media(media) for media in story.values("medias")],
    }


def _feed_media(media: Any) -> Any:
    if not isinstance(media, Mapping):
        return media
    rest = {key: value for key, value in media.items() if key != "media_pk"}
    return rest | {"media_id": media.get("media_pk")}
