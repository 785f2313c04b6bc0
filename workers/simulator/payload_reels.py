"""Raw reels of the mobile API: the story feed, the highlights tray, a highlight with its items."""

from __future__ import annotations

from typing import Any

from .cdn import photo_url
from .payload_items import story_item
from .payload_users import friendship, reel_user
from .world import DAY, Highlight, Item, Person

Json = dict[str, Any]

_REPLIES_OFF = ["story_remix_reply", "story_selfie_reply", "story_voice_reply"]


def story_feed(person: Person, items: list[Item], now: float) -> Json:
    """Body of ``feed/user/{id}/story/``; reel null when there is nothing to see."""
    return {
        "broadcast": None,
        "reel": user_reel(person, items, now) if items else None,
        "unviewable_authors_info": None,
        "status": "ok",
    }


def user_reel(person: Person, items: list[Item], now: float) -> Json:
    """The stories of one person."""
    latest = items[-1].taken_at
    return {
        "id": person.id,
        "strong_id__": str(person.id),
        "expiring_at": latest + DAY,
        "latest_reel_media": latest,
        "seen": 0,
        "reel_type": "user_reel",
        **_reel_flags(),
        "user": reel_user(person, now) | {"friendship_status": friendship(person)},
        "items": [story_item(person, item, now) for item in items],
        "is_nux": False,
        "has_besties_media": False,
        "media_count": len(items),
        "media_ids": [item.pk for item in items],
        "has_fan_club_media": False,
        "show_fan_club_stories_teaser": False,
        "is_cacheable": True,
        "disabled_reply_types": list(_REPLIES_OFF),
        "is_archived": False,
        "show_expiration_tray_signal": False,
    }


def highlight_tray_entry(person: Person, highlight: Highlight, now: float) -> Json:
    """A highlight as the tray lists it: no items."""
    return {
        "id": highlight.id,
        "strong_id__": highlight.id,
        "latest_reel_media": highlight.items[-1].taken_at,
        "seen": None,
        "reel_type": "highlight_reel",
        **_reel_flags(),
        "cover_media": {
            "cropped_image_version": {
                "width": 150,
                "height": 150,
                "url": photo_url(highlight.items[0], 150, 150, now),
                "scans_profile": "",
            },
            "crop_rect": None,
            "media_id": None,
            "full_image_version": None,
            "upload_id": None,
        },
        "user": reel_user(person, now),
        "ranked_position": -highlight.created_at,
        "seen_ranked_position": -highlight.created_at,
        "updated_timestamp": highlight.created_at,
        "title": highlight.title,
        "created_at": highlight.created_at,
        "is_nux": False,
        "is_pinned_highlight": False,
        "media_count": len(highlight.items),
        "is_converted_to_clips": False,
        "highlight_reel_type": "DEFAULT",
        "is_archived": False,
    }


def highlight_reel(person: Person, highlight: Highlight, now: float) -> Json:
    """A highlight with its items, as ``feed/reels_media/`` answers it."""
    return highlight_tray_entry(person, highlight, now) | {
        "items": [story_item(person, item, now) for item in highlight.items],
        "media_ids": [item.pk for item in highlight.items],
        "is_cacheable": True,
        "disabled_reply_types": list(_REPLIES_OFF),
        "is_added_to_main_grid": False,
        "show_expiration_tray_signal": False,
    }


def _reel_flags() -> Json:
    return {
        "can_reply": False,
        "can_gif_quick_reply": True,
        "can_reshare": True,
        "ad_expiry_timestamp_in_millis": None,
        "is_cta_sticker_available": None,
        "should_treat_link_sticker_as_cta": None,
        "pool_refresh_ttl_in_sec": None,
        "can_react_with_avatar": False,
        "prefetch_count": 0,
    }
