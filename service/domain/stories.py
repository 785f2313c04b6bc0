"""Raw reels made safe for every JSON parser: ids become strings, all else stays. And the way back."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

# JavaScript keeps integers exactly only up to 2^53 - 1 (Number.MAX_SAFE_INTEGER).
MAX_SAFE_INTEGER = 2**53 - 1

_PLAIN = frozenset({str, bool, float, type(None)})
_ID_KEY = re.compile(r"^(pk|id|strong_id__|.*_(pk|id|pks|ids)|.*fbid(_v2)?)$")

# What the mobile API sends as integers; strong_id__, pk_id, "pk_owner" and the ids of stickers are text.
_INTEGER_KEYS = frozenset(
    {
        "pk", "media_ids", "fbid", "fbid_v2", "interop_messaging_user_fbid", "facebook_places_id",
        "question_id", "quiz_id", "slider_id", "countdown_id",
    }
)  # fmt: skip
_DIGITS = re.compile(r"0|[1-9][0-9]{0,19}")


def with_string_ids(value: Any, *, is_id: bool = False) -> Any:
    """Return a copy of decoded JSON in which every id is a string, at every depth.

    An id is an integer under a key such as ``pk``, ``id``, ``media_ids``, ``fbid_v2``, also inside
    a list. Integers elsewhere stay numbers unless they pass 2^53, where a JavaScript parser would
    change them silently.
    """
    # Most of a reel is text: what stays as it is is passed by without a call, a fifth of a worker's time.
    if isinstance(value, dict):
        return {
            key: inner if type(inner) in _PLAIN else with_string_ids(inner, is_id=_names_an_id(key))
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [inner if type(inner) in _PLAIN else with_string_ids(inner, is_id=is_id) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool) and (is_id or abs(value) > MAX_SAFE_INTEGER):
        return str(value)
    return value


@lru_cache(maxsize=4_096)
def _names_an_id(key: str) -> bool:
    return _ID_KEY.match(key) is not None


def integer_ids(value: Any, *, is_id: bool = False) -> Any:
    """Return a copy of a raw answer in which ids are integers where the mobile API sends integers.

    The inverse of `with_string_ids` for answers of the mobile API. An id that is not all digits stays text.
    """
    if isinstance(value, dict):
        names = _INTEGER_KEYS | _integer_keys_of(value)
        return {key: integer_ids(inner, is_id=key in names) for key, inner in value.items()}
    if isinstance(value, list):
        return [integer_ids(inner, is_id=is_id) for inner in value]
    if is_id and isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return value


def _integer_keys_of(value: dict[str, Any]) -> frozenset[str]:
    """Return the keys that are integers in this kind of object only: elsewhere they are text."""
    if "reel_type" in value:
        return frozenset({"id"})
    return frozenset({"media_id"}) if "question_id" in value else frozenset()


def owner_of(data: dict[str, Any]) -> tuple[str, str]:
    """Return the id and lower-case name of the account a result is about, "" for what it does not say."""
    user = data.get("user")
    user = user if isinstance(user, dict) else {}
    owner = str(user.get("pk") or user.get("id") or data.get("id") or "")
    # The id of a highlight, "highlight:17", is nobody's.
    return owner if owner.isdecimal() else "", str(user.get("username") or "").lower()
