"""Sticker arrays of story items, in the shapes of recorded answers (typed models where none was recorded).

Ordinary items carry at most one sticker; the ``stickers`` scene carries every kind on every item.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .cdn import avatar_url
from .ids import digest, media_pk, shortcode, user_id_of
from .world import Item, Person

Json = dict[str, Any]

_FRIENDS = ("lena.sim", "oskar_sim", "mira.sim", "tom_sim")


def stickers(person: Person, item: Item, now: float) -> Json:
    """The sticker keys of an item; those it has not are absent."""
    if person.scene.name == "stickers":
        return _every_kind(item, now)
    chance = digest("sticker", item.owner_id, item.index) % 4
    if chance == 0:
        return {"story_link_stickers": [_link(item)]}
    return {"reel_mentions": [_mention(item, now)]} if chance == 1 else {}


def _every_kind(item: Item, now: float) -> Json:
    return {
        "sponsor_tags": [_sponsor(now)],
        "is_paid_partnership": True,
        "reel_mentions": [_mention(item, now)],
        "story_link_stickers": [_link(item)],
        "story_hashtags": [
            _placed(item, 2) | {"hashtag": {"id": _number(item, 3), "name": "simulated", "media_count": 42}}
        ],
        "story_locations": [_placed(item, 4) | {"location": _LOCATION}],
        "story_polls": [_placed(item, 5) | {"poll_sticker": _poll(item)}],
        "story_questions": [_placed(item, 6) | {"question_sticker": _question(item, now)}],
        "story_feed_media": [_feed_media(item)],
        "story_bloks_stickers": [_bloks_mention(item, now)],
        "story_music_stickers": [_placed(item, 8) | {"music_asset_info": _MUSIC}],
    }


_LOCATION = {
    "pk": 290_118_004,
    "name": "Harbour Bridge Café",
    "address": "1 Quay Street",
    "city": "Simville",
    "short_name": "Harbour Bridge",
    "lng": 9.99,
    "lat": 53.55,
    "external_source": "facebook_places",
    "facebook_places_id": 100_290_118_004_001,
}
_MUSIC = {
    "title": "Loopback Serenade",
    "display_artist": "The Local Hosts",
    "should_mute_audio": False,
    "should_mute_audio_reason": "",
    "audio_asset_id": "718000000000001",
}


def _placed(item: Item, kind: int) -> Json:
    """Where a sticker sits, in fractions of the screen, and how long it shows."""
    return {
        "id": _number(item, kind),
        "x": 0.5,
        "y": round(0.1 + 0.08 * kind, 2),
        "z": 0,
        "width": 0.4,
        "height": 0.07,
        "rotation": 0.0,
        "is_pinned": 0,
        "is_hidden": 0,
        "is_sticker": 1,
        "is_fb_sticker": 0,
        "start_time_ms": 0.0,
        "end_time_ms": 86_400.0,
    }


def _number(item: Item, kind: int) -> str:
    return str(18_000_000_000_000_000 + digest("sticker id", item.pk, kind) % 10**14)


def _friend(username: str, now: float) -> Json:
    user_id = user_id_of(username)
    return {
        "strong_id__": str(user_id),
        "pk": user_id,
        "pk_id": str(user_id),
        "id": str(user_id),
        "username": username,
        "full_name": username.replace(".", " ").replace("_", " ").title(),
        "is_private": False,
        "is_verified": False,
        "profile_pic_id": f"{media_pk(user_id, 127, 1_700_000_000)}_{user_id}",
        "profile_pic_url": avatar_url(user_id, 150, now),
    }


def _mentioned(item: Item) -> str:
    return _FRIENDS[digest("friend", item.owner_id, item.index) % len(_FRIENDS)]


def _mention(item: Item, now: float) -> Json:
    # Mentions put into the text of a story have no place of their own: recorded answers carry zeros.
    nowhere = dict.fromkeys(("x", "y", "width", "height"), 0.0)
    return _placed(item, 0) | nowhere | {"user": _friend(_mentioned(item), now)}


def _bloks_mention(item: Item, now: float) -> Json:
    friend = _friend(_mentioned(item), now)
    mention = {key: friend[key] for key in ("username", "full_name", "profile_pic_url")}
    return _placed(item, 7) | {
        "bloks_sticker": {
            "id": "bloks_sticker_id",
            "app_id": "com.bloks.www.ig.mention.sticker",
            "sticker_data": {"ig_mention": mention | {"account_id": friend["id"]}},
            "bloks_sticker_type": "mention",
        }
    }


def _link(item: Item) -> Json:
    page = f"https://example.com/story/{item.index}?utm_source=ig"
    return _placed(item, 1) | {
        "story_link": {
            "url": f"https://l.instagram.com/?u={quote(page, safe='')}&e=AT{digest('e', item.pk):x}",
            "link_title": "Visit Link",
            "link_type": "web",
            "display_url": page.removeprefix("https://"),
        }
    }


def _sponsor(now: float) -> Json:
    return {
        "permission": False,
        "sponsor_id": None,
        "username": None,
        "is_pending": False,
        "sponsor": _friend("brand.sim", now)
        | {"is_unpublished": False, "follower_count": 120_450, "friendship_status": {"following": False}},
    }


def _poll(item: Item) -> Json:
    return {
        "id": "polling_sticker_v2",
        "poll_id": _number(item, 5),
        "question": "Tea or coffee?",
        "tallies": [
            {"text": text, "font_size": 35.0, "count": count} for text, count in (("Tea", 7), ("Coffee", 11))
        ],
        "promotion_tallies": None,
        "viewer_can_vote": True,
        "is_shared_result": False,
        "finished": False,
    }


def _question(item: Item, now: float) -> Json:
    return {
        "question_type": "text",
        "question_id": int(_number(item, 6)),
        "question": "Ask me anything",
        "media_id": item.pk,
        "text_color": "#000000",
        "background_color": "#ffffff",
        "viewer_can_interact": True,
        "profile_pic_url": avatar_url(item.owner_id, 150, now),
    }


def _feed_media(item: Item) -> Json:
    pk = media_pk(item.owner_id, 126, item.taken_at - 3600)
    return _placed(item, 9) | {
        "media_id": str(pk),
        "product_type": "feed",
        "media_code": shortcode(pk),
        "media_compound_str": f"{pk}_{item.owner_id}",
    }
