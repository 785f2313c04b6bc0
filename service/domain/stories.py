"""Raw reels made safe for every JSON parser: ids become strings, all else stays as it was sent."""

from __future__ import annotations

import re
from typing import Any

# JavaScript keeps integers exactly only up to 2^53 - 1 (Number.MAX_SAFE_INTEGER).
MAX_SAFE_INTEGER = 2**53 - 1

_ID_KEY = re.compile(r"^(pk|id|strong_id__|.*_(pk|id|pks|ids)|.*fbid(_v2)?)$")


def with_string_ids(value: Any, *, is_id: bool = False) -> Any:
    """Return a copy of decoded JSON in which every id is a string, at every depth.

    An id is an integer under a key such as ``pk``, ``id``, ``media_ids``, ``fbid_v2``, also inside
    a list. Integers elsewhere stay numbers unless they pass 2^53, where a JavaScript parser would
    change them silently.
    """
    if isinstance(value, dict):
        return {key: with_string_ids(inner, is_id=bool(_ID_KEY.match(key))) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_string_ids(inner, is_id=is_id) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool) and (is_id or abs(value) > MAX_SAFE_INTEGER):
        return str(value)
    return value


def owner_of(data: dict[str, Any]) -> tuple[str, str]:
    """Return the id and lower-case name of the account a result is about, "" for what it does not say."""
    user = data.get("user")
    user = user if isinstance(user, dict) else {}
    return str(user.get("pk") or user.get("id") or data.get("id") or ""), str(
        user.get("username") or ""
    ).lower()
