"""One raw story item of the mobile API: structure as in recorded answers, all values invented.

Ids are integers beyond 2**53; sticker arrays which are empty are absent, and a photo has none of the video
keys.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from .cdn import photo_url, video_url
from .ids import digest, shortcode
from .payload_users import fbid, item_user
from .stickers import stickers
from .world import DAY, Item, Person

Json = dict[str, Any]

PHOTO_SIZES = ((1080, 1920), (750, 1333), (640, 1138), (480, 853), (320, 569), (240, 427))
VIDEO_SIZE = (720, 1280)
VIDEO_CODEC = "avc1.42C01F"


def story_item(person: Person, item: Item, now: float) -> Json:
    """One item of a reel."""
    return {
        "strong_id__": item.id,
        "id": item.id,
        "pk": item.pk,
        "fbid": fbid("fbid", item.pk),
        "code": shortcode(item.pk),
        "taken_at": item.taken_at,
        "expiring_at": item.taken_at + DAY,
        "device_timestamp": item.taken_at * 1_000_000 + digest("device", item.pk) % 1_000_000,
        "client_cache_key": b64encode(str(item.pk).encode()).decode() + ".3",
        "media_type": 2 if item.is_video else 1,
        "original_media_type": 2 if item.is_video else 1,
        "product_type": "story",
        "user": item_user(person, now),
        "caption": None,
        "original_width": PHOTO_SIZES[0][0],
        "original_height": PHOTO_SIZES[0][1],
        "image_versions2": {"candidates": _candidates(item, now)},
        **(_video_keys(item, now) if item.is_video else {}),
        **_item_flags(),
        **stickers(person, item, now),
    }


def _candidates(item: Item, now: float) -> list[Json]:
    return [
        {
            "width": width,
            "height": height,
            "url": photo_url(item, width, height, now),
            "scans_profile": "e35" if width > 640 else "e15",
            "estimated_scans_sizes": [width * height // 90 * scan for scan in range(1, 10)],
            "is_spatial_image": False,
        }
        for width, height in PHOTO_SIZES
    ]


def _video_keys(item: Item, now: float) -> Json:
    width, height = VIDEO_SIZE
    version = {
        "bandwidth": 180_000,
        "height": height,
        "id": f"{digest('version', item.pk) % 10**16}v",
        "url": video_url(item, now),
        "url_expiration_timestamp_us": None,
        "width": width,
        "fallback": None,
    }
    return {
        "is_dash_eligible": 1,
        "video_dash_manifest": _dash_manifest(item),
        "video_codec": VIDEO_CODEC,
        "number_of_qualities": 1,
        "video_versions": [version | {"type": kind} for kind in (101, 102, 103)],
        "video_duration": float(item.seconds),
        "has_audio": False,
    }


def _dash_manifest(item: Item) -> str:
    width, height = VIDEO_SIZE
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        f'mediaPresentationDuration="PT{item.seconds}S">'
        f'<Period><AdaptationSet contentType="video"><Representation id="{item.pk}v" codecs="{VIDEO_CODEC}" '
        f'width="{width}" height="{height}"/></AdaptationSet></Period></MPD>\n'
    )


def _item_flags() -> Json:
    return dict.fromkeys(_FALSE_FLAGS, False) | {
        "is_reel_media": True,
        "supports_reel_reactions": True,
        "commenting_disabled_for_viewer": True,
        "can_reshare": True,
        "mezql_token": "",
        "integrity_review_decision": "pending",
        "fundraiser_tag": {"has_standalone_fundraiser": False},
        "sharing_friction_info": {
            "bloks_app_url": None,
            "should_have_sharing_friction": False,
            "sharing_friction_payload": None,
        },
        "gen_ai_detection_method": {"detection_method": "NONE"},
        "coauthor_producers": [],
        "cutout_sticker_info": [],
        "media_overlay_info": None,
        "music_metadata": None,
        "organic_tracking_token": "",
        "filter_type": 0,
        "deleted_reason": 0,
        "archive_story_deletion_ts": 0,
    }


_FALSE_FLAGS = (
    "is_paid_partnership",
    "has_liked",
    "has_privately_liked",
    "has_translation",
    "can_reply",
    "can_hype",
    "can_viewer_save",
    "can_send_prompt",
    "can_mention_back",
    "can_mention_share",
    "can_see_insights_as_brand",
    "can_play_spotify_audio",
    "caption_is_edited",
    "is_superlative",
    "is_viewer_mentioned",
    "is_quicksnap_recap",
    "is_story_image_with_music",
    "is_terminal_video_segment",
    "is_open_to_public_submission",
    "ig_media_sharing_disabled",
    "profile_grid_control_enabled",
    "should_request_ads",
    "subscribe_cta_visible",
)
