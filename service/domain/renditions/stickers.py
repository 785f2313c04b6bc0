"""What lies on a story: mentions, links, hashtags, places, posts, sponsors, in v1's form.

What v1's schema requires is always there; what it lets be null is null when Instagram did not send it.
Source of fields and defaults: HikerAPI's OpenAPI description, ``Story*`` of ``/v1/user/stories``.
"""

from __future__ import annotations

from typing import Any

from service.domain.renditions.payload import Payload
from service.domain.renditions.people import user_short
from service.domain.shortcodes import media_id, pk_of

Json = dict[str, Any]

_LINK_PLACE = {
    "x": 0.5126011,
    "y": 0.5168225,
    "z": 0.0,
    "width": 0.50998676,
    "height": 0.25875,
    "rotation": 0.0,
}
_MEDIA_PLACE = {"x": 0.5, "y": 0.4997396, "z": 0.0, "width": 0.8, "height": 0.60572916, "rotation": 0.0}
_STICKER_Z = 1_000_005


def mentions(item: Payload) -> list[Json]:
    """Return who is mentioned: in ``reel_mentions``, and in the newer ``story_bloks_stickers``.

    Who stands in both is given once.
    """
    made = [_mention(sticker, sticker.part("user")) for sticker in item.parts("reel_mentions")]
    known = {key for mention in made if mention for key in _names(mention)}
    for sticker in item.parts("story_bloks_stickers"):
        data = sticker.part("bloks_sticker").part("sticker_data")
        if data.value("ig_mention") is None:
            continue  # a sticker of another kind
        mention = _mention(sticker, data.part("ig_mention"))
        if mention and known.isdisjoint(_names(mention)):
            made.append(mention)
    return [mention for mention in made if mention]


def _mention(sticker: Payload, user: Payload) -> Json | None:
    short = user_short(user)
    if not short["pk"] and not short["username"]:
        sticker.warn("user", "neither id nor name")
        return None
    return {"user": short, **_place(sticker)}


def _names(mention: Json) -> set[str]:
    return {name for name in (mention["user"]["pk"], mention["user"]["username"]) if name}


def hashtags(item: Payload) -> list[Json]:
    """Return the hashtag stickers; one without a name is left out."""
    made = []
    for sticker in item.parts("story_hashtags"):
        hashtag = sticker.part("hashtag")
        name = hashtag.text("name")
        if not name:
            sticker.warn("hashtag", "without a name")
            continue
        body = {
            "id": hashtag.identifier("id"),
            "name": name,
            "media_count": hashtag.integer("media_count"),
            "allow_following": hashtag.flag("allow_following"),
            "profile_pic_url": hashtag.text("profile_pic_url"),
        }
        made.append({"hashtag": body, **_place(sticker)})
    return made


def locations(item: Payload) -> list[Json]:
    """Return the location stickers; one without a name is left out."""
    made = []
    for sticker in item.parts("story_locations"):
        location = sticker.part("location")
        name = location.text("name")
        if not name:
            sticker.warn("location", "without a name")
            continue
        made.append({"location": _location(location, name), **_place(sticker)})
    return made


def _location(location: Payload, name: str) -> Json:
    return {
        "pk": location.integer("pk"),
        "name": name,
        "phone": location.text("phone") or "",
        "website": location.text("website") or "",
        "category": location.text("category") or "",
        "hours": location.mapping("hours"),
        "address": location.text("address") or "",
        "city": location.text("city") or "",
        "zip": location.text("zip") or "",
        "lng": location.number("lng"),
        "lat": location.number("lat"),
        "external_id": location.identifier("external_id"),
        "external_id_source": location.text("external_id_source"),
    }


def link_stickers(item: Payload) -> list[Json]:
    """Return the link stickers, which v1 calls stickers of type ``gif``."""
    return [_link_sticker(sticker) for sticker in item.parts("story_link_stickers")]


def _link_sticker(sticker: Payload) -> Json:
    z, link = sticker.integer("z"), sticker.part("story_link")
    keys = ("url", "link_title", "link_type", "display_url")
    return {
        "id": sticker.identifier("id"),
        "type": sticker.text("type") or "gif",
        "x": sticker.number("x") or 0.0,
        "y": sticker.number("y") or 0.0,
        "z": _STICKER_Z if z is None else z,
        "width": sticker.number("width") or 0.0,
        "height": sticker.number("height") or 0.0,
        "rotation": sticker.number("rotation") or 0.0,
        "story_link": {key: link.text(key) for key in keys} if link else None,
        "extra": sticker.mapping("extra"),
    }


def swipe_up_links(item: Payload) -> list[Json]:
    """Return the links of the older kind, reached by swiping up."""
    made = []
    for action in item.parts("story_cta"):
        for link in action.parts("links"):
            if url := link.text("webUri"):
                made.append({"webUri": url, **_place_with(link, _LINK_PLACE)})
            else:
                link.warn("webUri", "missing")
    return made


def feed_medias(item: Payload) -> list[Json]:
    """Return the posts that the story shows; one of which no id is known is left out."""
    made = []
    for sticker in item.parts("story_feed_media"):
        pk = _media_pk(sticker)
        if pk is None:
            sticker.warn("media_id", "missing, and no code to tell it")
            continue
        flags = ("is_pinned", "is_hidden", "is_sticker", "is_fb_sticker")
        made.append(
            {
                **_place_with(sticker, _MEDIA_PLACE),
                **{flag: sticker.flag(flag) for flag in flags},
                "media_pk": pk,
                "user_id": sticker.identifier("user_id"),
                "product_type": sticker.text("product_type"),
                "media_code": sticker.text("media_code"),
            }
        )
    return made


def _media_pk(sticker: Payload) -> str | None:
    told = sticker.identifier("media_id", "media_compound_str") or ""
    # On the web only the code is told: the id there is the sticker's.
    return media_id(told.partition("_")[0]) or pk_of(sticker.text("media_code") or "")


def sponsors(item: Payload) -> list[Json]:
    """Return the users who paid for the story."""
    made = []
    for tag in item.parts("sponsor_tags"):
        if sponsor := tag.part("sponsor"):
            made.append(user_short(sponsor))
        else:
            tag.warn("sponsor", "missing")
    return made


def _place(sticker: Payload) -> Json:
    return {key: sticker.number(key) for key in ("x", "y", "width", "height")}


def _place_with(sticker: Payload, defaults: dict[str, float]) -> Json:
    given = {key: sticker.number(key) for key in defaults}
    return {key: defaults[key] if number is None else number for key, number in given.items()}
