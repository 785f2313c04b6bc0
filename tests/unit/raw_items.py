"""Raw items of our own, on the structure of recorded answers."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

PK = 3_741_925_019_028_375_059
HIGHLIGHT_PK = "17983616051768088"

USER: Json = {
    "strong_id__": "900000001", "pk": 900_000_001, "pk_id": "900000001", "id": "900000001",
    "username": "sim_user", "full_name": "Sim User", "is_private": False, "is_verified": True,
    "profile_pic_id": "3865702555259028436_900000001", "profile_pic_url": "https://cdn.example/p.jpg",
    "account_badges": [], "friendship_status": {"following": False},
}  # fmt: skip
V1_USER: Json = {
    "pk": "900000001", "id": "900000001", "username": "sim_user", "full_name": "Sim User",
    "profile_pic_url": "https://cdn.example/p.jpg", "profile_pic_url_hd": None, "is_private": False,
    "is_verified": True,
}  # fmt: skip
_PLACE: Json = {
    "x": 0.5, "y": 0.8, "z": 0, "width": 0.4, "height": 0.07, "rotation": 0.0, "is_pinned": 0,
    "is_hidden": 0, "is_sticker": 1, "is_fb_sticker": 0, "start_time_ms": 0.0, "end_time_ms": 86400.0,
}  # fmt: skip
_PICTURES: Json = {
    "candidates": [
        {"width": 1080, "height": 1920, "url": "https://cdn.example/large.jpg", "scans_profile": "e35"},
        {"width": 640, "height": 1136, "url": "https://cdn.example/small.jpg", "scans_profile": "e15"},
    ]
}


def _friend(pk: int, username: str) -> Json:
    return USER | {"pk": pk, "id": str(pk), "pk_id": str(pk), "strong_id__": str(pk), "username": username}


def photo(**changes: Any) -> Json:
    """Return a photo of the mobile API with a link sticker."""
    link = {"url": "https://l.instagram.com/?u=https%3A%2F%2Fexample.com&e=X", "link_title": "Visit Link",
            "link_type": "web", "display_url": "example.com", "click_id": "c"}  # fmt: skip
    item = {
        "strong_id__": f"{PK}_900000001", "id": f"{PK}_900000001", "pk": PK, "code": "DPt_PqvVUYT",
        "taken_at": 1775583063, "expiring_at": 1775669463, "media_type": 1, "product_type": "story",
        "user": USER, "caption": None, "image_versions2": _PICTURES,
        "story_link_stickers": [_PLACE | {"id": "18062921705692032", "story_link": link}],
    }  # fmt: skip
    return item | changes


def video(**changes: Any) -> Json:
    """Return a video of the mobile API with a sponsor and somebody mentioned in its text."""
    sizes = ((360, 640), (720, 1280), (480, 854))
    item = photo() | {
        "media_type": 2, "video_duration": 14.966, "has_audio": True,
        "video_versions": [{"type": 101, "width": width, "height": height,
                            "url": f"https://cdn.example/{width}.mp4"} for width, height in sizes],
        "sponsor_tags": [{"permission": False, "sponsor": _friend(900_000_007, "brand")}],
        "reel_mentions": [_PLACE | {"id": "1517189826474103", "user": _friend(900_000_003, "friend"),
                                    "width": 0.0, "height": 0.0}],
    }  # fmt: skip
    del item["story_link_stickers"]
    return item | changes


def web_item(**changes: Any) -> Json:
    """Return a video of the website's newer form: ids as text, null for what is absent, no sizes."""
    absent = ("story_link_stickers", "story_hashtags", "story_locations", "story_feed_media", "story_cta",
              "sponsor_tags", "caption", "carousel_media", "story_music_stickers")  # fmt: skip
    mention = {"x": 0.5, "y": 0.5, "width": 0.5, "height": 0.5, "rotation": 0, "id": "8000000000000100"}
    data = {"ig_mention": {"full_name": "Friend", "username": "friend"}}
    item = dict.fromkeys(absent) | {
        "__typename": "XDTMediaDict", "id": f"{PK}_900000001", "pk": str(PK), "code": "DPt_PqvVUYT",
        "taken_at": 1775583063, "expiring_at": 1775669463, "media_type": 2, "product_type": "story",
        "user": {"pk": "900000001", "id": "900000001"}, "image_versions2": _PICTURES, "video_duration": 16,
        "video_versions": [{"type": kind, "url": f"https://cdn.example/{kind}.mp4"} for kind in (101, 102)],
        "story_bloks_stickers": [mention | {"bloks_sticker": {"sticker_data": data, "id": "81"}}],
    }  # fmt: skip
    return item | changes


def web_user() -> Json:
    """Return the user of a reel of the website's newer form."""
    return {
        "pk": "900000001", "id": "900000001", "username": "sim_user", "full_name": "Sim User",
        "__typename": "XDTUserDict", "profile_pic_url": "https://cdn.example/p.jpg", "is_private": False,
        "is_verified": True, "friendship_status": {"following": False},
    }  # fmt: skip
