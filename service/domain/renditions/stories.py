"""A raw story item as HikerAPI's v1 ``Story``.

Source: recorded pairs of both forms, and HikerAPI's OpenAPI description. Unknown values that v1's schema
lets be null are null; the others are empty, so that a client with types reads the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from service.domain.renditions import stickers
from service.domain.renditions.moments import UNKNOWN, iso
from service.domain.renditions.payload import Payload
from service.domain.renditions.people import user_short
from service.domain.renditions.web import mobile_form
from service.domain.shortcodes import born_at, code_of, media_id, pk_of

Json = dict[str, Any]

VIDEO = 2
PHOTO = 1


def story(
    item: Mapping[str, Any], owner: Mapping[str, Any] | None = None, warnings: list[str] | None = None
) -> Json:
    """Return the v1 ``Story`` of a raw item of the mobile API or the website.

    Ids may be text or integers. ``owner`` is the raw user who fills in what the item does not say of its
    own. What could not be read is appended to ``warnings`` as ``path: problem``; nothing raises.
    """
    noted = [] if warnings is None else warnings
    return story_of(Payload(item, "", noted), Payload(owner, "user", noted))


def stories(
    items: object, owner: Mapping[str, Any] | None = None, warnings: list[str] | None = None
) -> list[Json]:
    """Return the v1 ``Story`` of each raw item of a list; what is no object is left out."""
    noted = [] if warnings is None else warnings
    reel = Payload({"items": items, "user": owner}, "", noted)
    return [story_of(item, reel.part("user")) for item in reel.parts("items")]


def story_of(raw: Payload, owner: Payload) -> Json:
    """Return the v1 ``Story`` of an item that is being read already."""
    item = mobile_form(raw)
    user = user_short(item.part("user"), owner)
    if not user["pk"]:
        item.warn("user", "no id")
    pk = _pk(item)
    media = _media(item)
    return {
        "pk": pk,
        "id": _full_id(item, pk, user["pk"]),
        "code": item.text("code") or (code_of(int(pk)) if pk else ""),
        "taken_at": _taken_at(item, pk),
        "media_type": media.type,
        "product_type": item.text("product_type") or "story",
        "thumbnail_url": media.thumbnail_url,
        "user": user,
        "video_url": media.video_url,
        "video_duration": item.number("video_duration") or 0.0,
        "sponsor_tags": stickers.sponsors(item),
        "mentions": stickers.mentions(item),
        "links": stickers.swipe_up_links(item),
        "hashtags": stickers.hashtags(item),
        "locations": stickers.locations(item),
        "stickers": stickers.link_stickers(item),
        "medias": stickers.feed_medias(item),
    }


class Media(NamedTuple):
    """What is shown, and where it can be fetched."""

    type: int
    thumbnail_url: str | None
    video_url: str | None


def _media(item: Payload) -> Media:
    thumbnail_url = _largest(item.part("image_versions2").parts("candidates"))
    video_url = _largest(item.parts("video_versions"))
    media_type = item.integer("media_type") or (VIDEO if video_url else PHOTO)
    if not thumbnail_url:
        item.warn("image_versions2", "no URL of a picture")
    if media_type == VIDEO and not video_url:
        item.warn("video_versions", "no URL of the video")
    return Media(media_type, thumbnail_url, video_url)


def _pk(item: Payload) -> str:
    for key in ("pk", "id", "strong_id__"):
        told = item.identifier(key)
        if told and (pk := media_id(told.partition("_")[0])):
            return pk
    pk = pk_of(item.text("code") or "")
    if pk is None:
        item.warn("pk", "missing")
    return pk or ""


def _full_id(item: Payload, pk: str, owner_pk: str) -> str:
    told = item.identifier("id") or ""
    if "_" in told or not pk:
        return told
    return f"{pk}_{owner_pk}" if owner_pk else pk


def _taken_at(item: Payload, pk: str) -> str:
    told = iso(item.number("taken_at"))
    if told is None:
        item.warn("taken_at", "missing or no time")
    return told or (iso(born_at(int(pk))) if pk else None) or UNKNOWN


def _largest(versions: list[Payload]) -> str | None:
    """Return the URL with the most pixels: the last of equals, and the first where no sizes are told."""
    sized = [(url, _area(version)) for version in versions if (url := version.text("url"))]
    most = max((area for _, area in sized), default=0.0)
    best = [url for url, area in sized if area == most]
    if not best:
        return None
    return best[-1] if most else best[0]


def _area(version: Payload) -> float:
    return max(version.number("width") or 0.0, 0.0) * max(version.number("height") or 0.0, 0.0)
