"""Users as they stand in v1 answers."""

from __future__ import annotations

from typing import Any

from service.domain.renditions.payload import Payload

_ID_KEYS = ("pk", "id", "pk_id", "strong_id__", "user_id", "account_id")


def user_short(user: Payload, owner: Payload | None = None) -> dict[str, Any]:
    """Return a v1 user of exactly eight keys.

    ``owner`` tells what ``user`` lacks, where they are the same: the user of a highlight's item is little
    more than an id. The pk is empty where only a name is known, as in mentions on the web.
    """
    pk = user.identifier(*_ID_KEYS)
    other = owner.identifier(*_ID_KEYS) if owner else None
    sources = [user, owner] if owner and (pk or other) == other else [user]
    pk = pk or other
    return {
        "pk": pk or "",
        "id": pk,
        "username": _first_text("username", sources),
        "full_name": _first_text("full_name", sources) or "",
        "profile_pic_url": _first_text("profile_pic_url", sources),
        "profile_pic_url_hd": _first_text("profile_pic_url_hd", sources),
        "is_private": _first_flag("is_private", sources),
        "is_verified": _first_flag("is_verified", sources),
    }


def _first_text(key: str, sources: list[Payload]) -> str | None:
    return next((text for source in sources if (text := source.text(key))), None)


def _first_flag(key: str, sources: list[Payload]) -> bool | None:
    return next((flag for source in sources if (flag := source.flag(key)) is not None), None)
