"""The ``drift`` scene: fields missing or null in ways seen on the web or feared on the mobile API.

Each item drifts in one way of its own (by its index), so a tolerant reader can be shown to cope with each
alone.
"""

from __future__ import annotations

from typing import Any

from .ids import split_media_pk

Json = dict[str, Any]


def drifted(reel: Json) -> Json:
    """Break a reel (in place) and return it."""
    del reel["user"]["full_name"]
    for item in reel["items"]:
        drifted_item(item)
    return reel


def drifted_item(item: Json) -> None:
    """Break an item (in place) in its own way."""
    _, index, _ = split_media_pk(item["pk"])
    if index == 0:
        item["sponsor_tags"] = None
    elif index == 1:
        for version in item["video_versions"]:
            del version["height"], version["width"]
    elif index == 2:
        del item["image_versions2"]
    elif index == 3:
        item["reel_mentions"] = None
        item["story_link_stickers"] = None
    elif index == 4:
        del item["user"]["full_name"]
        item["pk"] = str(item["pk"])
    else:
        item["code"] = None
        item["a_field_nobody_knows"] = {"nested": [1, 2, 3]}
