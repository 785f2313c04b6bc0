"""Raw bodies of the website: ``web_profile_info`` and reels query, as the client's public path reads them."""

from __future__ import annotations

from typing import Any

from .cdn import avatar_url, photo_url, video_url
from .payload_items import PHOTO_SIZES, VIDEO_CODEC, VIDEO_SIZE
from .world import DAY, Item, Person

Json = dict[str, Any]


def profile_info(person: Person, now: float) -> Json:
    """Body of ``/api/v1/users/web_profile_info/``; ids are strings on the web."""
    user: Json = {
        "id": str(person.id),
        "username": person.username,
        "full_name": person.full_name,
        "biography": f"{person.full_name}, a simulated account",
        "bio_links": [],
        "external_url": None,
        "is_private": person.is_private,
        "is_verified": person.is_verified,
        "is_business_account": False,
        "business_email": None,
        "business_phone_number": None,
        "category_name": None,
        "profile_pic_url": avatar_url(person.id, 150, now),
        "profile_pic_url_hd": avatar_url(person.id, 320, now),
        "edge_owner_to_timeline_media": _edge(person.number("posts", 3, 2_000)),
        "edge_followed_by": _edge(person.number("followers", 40, 900_000)),
        "edge_follow": _edge(person.number("following", 5, 900)),
        "highlight_reel_count": 0,
    }
    return {"data": {"user": user}, "status": "ok"}


def reels(found: list[tuple[Person, list[Item]]], now: float) -> Json:
    """Body of the reels query; people without stories are left out, as on the website."""
    return {
        "data": {"reels_media": [_reel(person, items, now) for person, items in found if items]},
        "status": "ok",
    }


def _edge(count: int) -> Json:
    return {"count": count, "page_info": {"has_next_page": False, "end_cursor": None}, "edges": []}


def _reel(person: Person, items: list[Item], now: float) -> Json:
    owner = {
        "__typename": "GraphUser",
        "id": str(person.id),
        "username": person.username,
        "profile_pic_url": avatar_url(person.id, 150, now),
        "followed_by_viewer": False,
        "requested_by_viewer": False,
    }
    return {
        "__typename": "GraphReel",
        "id": str(person.id),
        "latest_reel_media": items[-1].taken_at,
        "expiring_at": items[-1].taken_at + DAY,
        "seen": None,
        "can_reply": False,
        "owner": owner,
        "user": owner,
        "items": [_item(person, item, now) for item in items],
    }


def _item(person: Person, item: Item, now: float) -> Json:
    width, height = PHOTO_SIZES[0]
    body: Json = {
        "__typename": "GraphStoryVideo" if item.is_video else "GraphStoryImage",
        "id": str(item.pk),
        "owner": {"id": str(person.id), "username": person.username},
        "dimensions": {"width": width, "height": height},
        "display_url": photo_url(item, width, height, now),
        "display_resources": [
            {"src": photo_url(item, wide, high, now), "config_width": wide, "config_height": high}
            for wide, high in reversed(PHOTO_SIZES[:3])
        ],
        "taken_at_timestamp": item.taken_at,
        "expiring_at_timestamp": item.taken_at + DAY,
        "is_video": item.is_video,
        "tappable_objects": [],
        "story_cta_url": None,
    }
    if item.is_video:
        body |= {
            "has_audio": False,
            "video_duration": float(item.seconds),
            "video_resources": [
                {
                    "src": video_url(item, now),
                    "config_width": VIDEO_SIZE[0],
                    "config_height": VIDEO_SIZE[1],
                    "mime_type": f'video/mp4; codecs="{VIDEO_CODEC}"',
                    "profile": "BASELINE",
                }
            ],
        }
    return body
