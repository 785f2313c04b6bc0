"""What a caller may name a call by, so that it is done once however often it is sent."""

from __future__ import annotations

KEY_MAX = 255
KEY_RULE = f"An idempotency key is 1 to {KEY_MAX} printable ASCII characters."


def is_key(text: str) -> bool:
    """Tell whether a text keeps `KEY_RULE`."""
    return 0 < len(text) <= KEY_MAX and text.isascii() and text.isprintable()
