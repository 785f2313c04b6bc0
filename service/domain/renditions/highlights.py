"""A raw highlight as HikerAPI's v1 ``Highlight``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.domain.renditions.moments import UNKNOWN, iso
from service.domain.renditions.payload import Payload
from service.domain.renditions.people import user_short
from service.domain.renditions.stories import story_of
from service.domain.shortcodes import media_id

PREFIX = "highlight:"


def highlight(raw: Mapping[str, Any], warnings: list[str] | None = None) -> dict[str, Any]:
    """Return the v1 ``Highlight`` of an entry of the tray (no items), or of a whole highlight.

    ``media_ids`` are integers, as v1 has them. What could not be read is appended to ``warnings`` as
    ``path: problem``; nothing raises.
    """
    reel = Payload(raw, "", [] if warnings is None else warnings)
    owner = reel.part("user" if reel.value("user") is not None else "owner")
    items = [story_of(item, owner) for item in reel.parts("items")]
    media_ids = _media_ids(reel)
    pk = _pk(reel)
    return {
        "pk": pk,
        "id": f"{PREFIX}{pk}" if pk else "",
        "latest_reel_media": reel.integer("latest_reel_media") or 0,
        "cover_media": reel.mapping("cover_media"),
        "user": user_short(owner),
        "title": reel.text("title") or "",
        "created_at": iso(reel.number("created_at")) or UNKNOWN,
        "is_pinned_highlight": reel.flag("is_pinned_highlight") or False,
        "media_count": reel.integer("media_count") or len(media_ids) or len(items),
        "media_ids": media_ids,
        "items": items,
    }


def _pk(reel: Payload) -> str:
    for key in ("pk", "id", "strong_id__"):
        told = reel.identifier(key)
        if told and (pk := media_id(told.removeprefix(PREFIX))):
            return pk
    reel.warn("id", "missing")
    return ""


def _media_ids(reel: Payload) -> list[int]:
    told = (media_id(identifier.partition("_")[0]) for identifier in reel.identifiers("media_ids"))
    return [int(pk) for pk in told if pk]
