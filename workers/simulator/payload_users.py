"""Raw user objects of the mobile API, as they stand in profiles, reels and items."""

from __future__ import annotations

from typing import Any

from .cdn import avatar_url
from .ids import digest, media_pk
from .world import Person

Json = dict[str, Any]


def user_short(person: Person, now: float) -> Json:
    """The keys every user object has, wherever it appears."""
    return {
        "strong_id__": str(person.id),
        "pk": person.id,
        "pk_id": str(person.id),
        "id": str(person.id),
        "username": person.username,
        "full_name": person.full_name,
        "is_private": person.is_private,
        "is_verified": person.is_verified,
        "profile_pic_id": f"{_picture_pk(person)}_{person.id}",
        "profile_pic_url": avatar_url(person.id, 150, now),
    }


def user_full(person: Person, now: float) -> Json:
    """The ``user`` of usernameinfo and info."""
    return user_short(person, now) | {
        "account_type": 2 if person.is_verified else 1,
        "address_street": "",
        "bio_links": [],
        "biography": f"{person.full_name}, a simulated account",
        "biography_with_entities": {"raw_text": f"{person.full_name}, a simulated account", "entities": []},
        "category": None,
        "external_url": "",
        "fbid_v2": fbid("fbid", person.id),
        "follower_count": person.number("followers", 40, 900_000),
        "following_count": person.number("following", 5, 900),
        "following_tag_count": 0,
        "friendship_status": friendship(person),
        "has_anonymous_profile_picture": False,
        "has_chaining": True,
        "has_highlight_reels": True,
        "hd_profile_pic_url_info": {"url": avatar_url(person.id, 1080, now), "width": 1080, "height": 1080},
        "hd_profile_pic_versions": [
            {"width": side, "height": side, "url": avatar_url(person.id, side, now)} for side in (320, 640)
        ],
        "interop_messaging_user_fbid": fbid("interop", person.id),
        "is_business": False,
        "is_favorite": False,
        "is_potential_business": False,
        "media_count": person.number("posts", 3, 2_000),
        "mutual_followers_count": 0,
        "pronouns": [],
        "public_email": "",
        "show_text_post_app_badge": False,
        "total_clips_count": person.number("clips", 0, 80),
        "total_igtv_videos": 0,
        "usertags_count": person.number("tags", 0, 500),
    }


def account(person: Person, now: float) -> Json:
    """The ``user`` of current_user: the session's own account."""
    return user_short(person, now) | {
        "biography": "",
        "birthday": None,
        "country_code": None,
        "email": f"{person.username}@example.com",
        "external_url": "",
        "fbid_v2": fbid("fbid", person.id),
        "gender": 3,
        "is_business": False,
        "national_number": None,
        "phone_number": "",
        "trusted_username": person.username,
    }


def reel_user(person: Person, now: float) -> Json:
    """The user object of a reel."""
    return user_short(person, now) | {
        "is_ring_creator": False,
        "show_ring_award": False,
        "interop_messaging_user_fbid": fbid("interop", person.id),
        "is_creator_agent_enabled": False,
        "transparency_product_enabled": False,
        "is_screenshot_blocking_enabled": False,
    }


def item_user(person: Person, now: float) -> Json:
    """The user object of an item."""
    return user_short(person, now) | {
        "fbid_v2": fbid("fbid", person.id),
        "eligible_for_text_app_activation_badge": False,
        "account_type": 2 if person.is_verified else 1,
        "account_badges": [],
        "user_activation_info": {},
    }


def friendship(person: Person) -> Json:
    """What the asking session has to do with a person: nothing."""
    status = dict.fromkeys(
        (
            "following",
            "is_bestie",
            "is_feed_favorite",
            "is_restricted",
            "incoming_request",
            "outgoing_request",
            "followed_by",
            "muting",
            "blocking",
            "is_eligible_to_subscribe",
            "subscribed",
        ),
        False,
    )
    return status | {"is_private": person.is_private}


def _picture_pk(person: Person) -> int:
    return media_pk(person.id, 127, 1_700_000_000 + person.number("picture", 0, 30_000_000))


def fbid(kind: str, number: int) -> int:
    """A Facebook-side id: 17 digits, starting as the real ones do."""
    return 17_841_000_000_000_000 + digest(kind, number) % 10**12
