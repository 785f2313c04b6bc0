"""One story as HikerAPI's v1 renders it: what its highlights hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]


def story_v1(raw: Json) -> Json:
    """The v1 ``Story`` of a raw item; no sticker kinds but mentions, links and hashtags."""
    versions = raw.get("video_versions") or []
    return {
        "pk": str(raw["pk"]),
        "id": raw["id"],
        "code": raw["code"],
        "taken_at": f"{datetime.fromtimestamp(raw['taken_at'], UTC):%Y-%m-%dT%H:%M:%SZ}",
        "media_type": raw["media_type"],
        "product_type": raw["product_type"],
        "thumbnail_url": raw["image_versions2"]["candidates"][0]["url"],
        "user": _user(raw["user"]),
        "video_url": versions[0]["url"] if versions else None,
        "video_duration": raw.get("video_duration", 0.0),
        "sponsor_tags": [],
        "mentions": [
            {"user": _user(each["user"]), **{side: each[side] for side in ("x", "y", "width", "height")}}
            for each in raw.get("reel_mentions", [])
        ],
        "links": [],
        "hashtags": raw.get("story_hashtags", []),
        "locations": [],
        "stickers": [_link(each) for each in raw.get("story_link_stickers", [])],
        "medias": [],
    }


def _user(raw: Json) -> Json:
    return {
        "pk": str(raw["pk"]),
        "id": str(raw["pk"]),
        "username": raw["username"],
        "full_name": raw["full_name"],
        "profile_pic_url": raw["profile_pic_url"],
        "profile_pic_url_hd": None,
        "is_private": raw["is_private"],
        "is_verified": raw["is_verified"],
    }


def _link(raw: Json) -> Json:
    place = {side: raw[side] for side in ("x", "y", "z", "width", "height", "rotation")}
    return {"id": raw["id"], "type": "gif", **place, "story_link": raw["story_link"], "extra": {}}
