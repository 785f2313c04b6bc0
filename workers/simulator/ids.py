"""Every number the simulator hands out, and the way back from it.

Nothing here needs a table: stories, media and highlights are computed from the numbers alone, so a
simulator that was just restarted still knows what an id it gave out before means.

* user id, 15 digits: two digits of scene, thirteen digits of hash (``slow_<n>_`` keeps its seconds in the
  first two).
* media pk, 62 bits: milliseconds since Instagram's epoch, 16 bits of owner, 7 bits of index. The real one
  has the same 41 + 23 bit split, so tools which read the time out of a pk keep working. A bare pk only
  narrows its owner down; ``names`` knows who has been seen.
* highlight id, 17 digits: user id, then a two-digit index.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from .scenes import NORMAL, Scene, scene_of_code, scene_of_name

INSTAGRAM_EPOCH_MS = 1_314_220_021_721
CODE_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

_HASH_SPAN = 10**13
_SECONDS_SPAN = 10**11
_USERNAME = re.compile(r"[a-z0-9._]{1,30}")
_NAMED_BY_ID = re.compile(r"([a-z0-9]+?)_(?:\d{1,2}_)?(\d{15})")
_NAMED_BY_FOREIGN_ID = re.compile(r"id\.(\d{1,19})")


def digest(*parts: object) -> int:
    """A stable 64-bit number from anything printable; the source of all variety in the simulated world."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def is_username(name: str) -> bool:
    """Whether Instagram would allow this (already lower-case) username."""
    return _USERNAME.fullmatch(name) is not None


def user_id_of(username: str) -> int:
    """The id of a username; ``username_of`` names map back to the very id they were made from."""
    return _id_inside(username) or _hashed_id(username)


def username_of(user_id: int) -> str:
    """A plausible username for an id whose real username was never seen (or forgotten by a restart)."""
    scene = scene_of_id(user_id)
    if scene is None:
        return f"id.{user_id}"
    if scene.name == NORMAL:
        return f"user_{user_id}"
    return f"{scene.name}_{scene.seconds}_{user_id}" if scene.name == "slow" else f"{scene.name}_{user_id}"


def scene_of_id(user_id: int) -> Scene | None:
    """The scene an id carries, or None when the id was not made here (an account's own id, for example)."""
    code, rest = divmod(user_id, _HASH_SPAN)
    return scene_of_code(code, seconds=rest // _SECONDS_SPAN)


def _hashed_id(username: str) -> int:
    scene = scene_of_name(username)
    rest = digest("user", username) % _HASH_SPAN
    if scene.name == "slow":
        rest = scene.seconds * _SECONDS_SPAN + rest % _SECONDS_SPAN
    return scene.code * _HASH_SPAN + rest


def _id_inside(username: str) -> int | None:
    if match := _NAMED_BY_FOREIGN_ID.fullmatch(username):
        return int(match[1])
    if match := _NAMED_BY_ID.fullmatch(username):
        user_id = int(match[2])
        return user_id if username_of(user_id) == username else None
    return None


def media_pk(owner_id: int, index: int, taken_at: int) -> int:
    """The pk of an owner's item number ``index`` taken at that second."""
    ms = taken_at * 1000 + digest("ms", owner_id, index, taken_at) % 1000 - INSTAGRAM_EPOCH_MS
    return ms << 23 | owner_tag(owner_id) << 7 | index


def split_media_pk(pk: int) -> tuple[int, int, int]:
    """``(owner tag, index, taken_at)`` of a pk; the tag only narrows the owner down."""
    return pk >> 7 & 0xFFFF, pk & 0x7F, ((pk >> 23) + INSTAGRAM_EPOCH_MS) // 1000


def owner_tag(owner_id: int) -> int:
    """The 16 bits of an owner which fit into a media pk."""
    return digest("owner", owner_id) & 0xFFFF


def highlight_id(owner_id: int, index: int) -> int:
    return owner_id * 100 + index


def split_highlight_id(number: int) -> tuple[int, int]:
    """``(owner id, index)`` of a highlight id."""
    return divmod(number, 100)


def shortcode(pk: int) -> str:
    """Instagram's code of a pk: base 64, most significant digit first, no padding."""
    code = ""
    while pk:
        pk, digit = divmod(pk, 64)
        code = CODE_ALPHABET[digit] + code
    return code or CODE_ALPHABET[0]
