"""Identifiers: a prefix that names the kind, the account's shard, a sortable random part.

``req_07`` + 26 characters of ULID in lower case (https://github.com/ulid/spec): 48 bits of
milliseconds, 80 bits of randomness. Ids of one shard sort by time, so an id doubles as a cursor.
"""

from __future__ import annotations

import re
import secrets
from threading import Lock

ACCOUNT = "acc"
REQUEST = "req"
DELIVERY = "msg"
BATCH = "bat"
WATCH = "wat"
EXCHANGE = "http"  # one HTTP exchange that created no request

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]  # all widths are even
_SHAPE = re.compile(r"([a-z]+)_([0-9a-f]{2})([0-9a-hjkmnp-tv-z]{26})")


def new_id(kind: str, shard: int, now_ms: int) -> str:
    """Return a new id of ``kind`` in ``shard`` (0..255) made at ``now_ms`` (Unix milliseconds).

    Of two that a process makes in the same millisecond the later one sorts after the other, as in a monotonic
    ULID (github.com/ulid/spec).
    """
    return f"{kind}_{shard:02x}{_base32(now_ms, 10)}{_base32(_newest.after(now_ms), 16)}"


class _Newest:
    """The random part of the id made last."""

    def __init__(self) -> None:
        self._ms = -1
        self._random = 0
        self._lock = Lock()

    def after(self, now_ms: int) -> int:
        """Return 80 random bits, above those of the id before it when that is of the same millisecond."""
        with self._lock:
            above = self._random + _STEP + secrets.randbits(60)
            self._random = above if now_ms == self._ms and above >> 80 == 0 else secrets.randbits(79)
            self._ms = now_ms
            return self._random


_STEP = 32**4  # so that two also differ in front of the digits which a batch leaves to its items
_newest = _Newest()


def floor_id(kind: str, shard: int, at_ms: int) -> str:
    """Return a string that sorts before every id of ``kind`` made at or after ``at_ms``."""
    return f"{kind}_{shard:02x}{_base32(max(at_ms, 0), 10)}"


def born_ms(identifier: str) -> int:
    """Return when an id was made, in Unix milliseconds."""
    value = 0
    for letter in identifier.split("_", 1)[1][2:12]:
        value = value * 32 + _CROCKFORD.index(letter)
    return value


def shard_in(identifier: str) -> int:
    """Return the shard named by an id that this service made."""
    return int(identifier.split("_", 1)[1][:2], 16)


_ITEM_DIGITS = 4


def new_batch_id(shard: int, now_ms: int) -> str:
    """Return a new id of a batch; it leaves room for the ids of its items."""
    return new_id(BATCH, shard, now_ms)[:-_ITEM_DIGITS] + "0" * _ITEM_DIGITS


def item_of(batch_id: str, number: int) -> str:
    """Return the id of the request that is item ``number`` (from 1) of a batch."""
    return REQUEST + batch_id.removeprefix(BATCH)[:-_ITEM_DIGITS] + _base32(number, _ITEM_DIGITS)


def batch_of(request_id: str) -> str:
    """Return the id of the batch of which this is an item, if it is one; the inverse of `item_of`."""
    return BATCH + request_id.removeprefix(REQUEST)[:-_ITEM_DIGITS] + "0" * _ITEM_DIGITS


def delivery_of(identifier: str) -> str:
    """Return the id of the one delivery a request or batch owes; nothing needs to remember it."""
    return f"{DELIVERY}_{identifier.split('_', 1)[1]}"


def request_of(delivery_id: str) -> str:
    """Return the id of the request a delivery tells of; the inverse of `delivery_of`."""
    return REQUEST + delivery_id.removeprefix(DELIVERY)


def shard_of(identifier: str, kind: str) -> int | None:
    """Return the shard an id names, or None when it is no id of ``kind``."""
    match = _SHAPE.fullmatch(identifier)
    if match is None or match.group(1) != kind:
        return None
    return int(match.group(2), 16)


def _base32(value: int, width: int) -> str:
    pairs = []
    for _ in range(width // 2):
        value, pair = divmod(value, 1_024)
        pairs.append(_PAIRS[pair])
    return "".join(reversed(pairs))
