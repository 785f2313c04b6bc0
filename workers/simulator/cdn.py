"""CDN addresses: everything the media server needs is in the path, and the query signs it for a while.

A photo is ``/i/t51.2885-15/<owner>_<pk>_<width>x<height>_n.jpg`` (pk 0: the avatar), a video
``/v/t66.30100-16/<owner>_<pk>_n.mp4``. As on the real CDN ``oe`` is the expiry (hex seconds) and ``oh`` the
signature over path and expiry; a picture of an item says in ``ig_cache_key`` whose it is.
"""

from __future__ import annotations

import re
from base64 import b64encode
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import quote

from .ids import digest
from .world import DAY, Item

HOST = "scontent-sim1-1.cdninstagram.com"
AVATAR_PK = 0

# For how many seconds the addresses of the call that is being answered last; 0: as long as Instagram's do.
lifetime: ContextVar[int] = ContextVar("lifetime", default=0)

_PHOTO_PATH = re.compile(r"/i/t51\.2885-15/(\d{1,19})_(\d{1,19})_(\d{2,4})x(\d{2,4})_n\.jpg")
_VIDEO_PATH = re.compile(r"/v/t66\.30100-16/(\d{1,19})_(\d{1,19})_n\.mp4")


@dataclass(frozen=True)
class Asset:
    """What a CDN path asks for; a video has no size."""

    owner_id: int
    pk: int
    width: int = 0
    height: int = 0


def photo_url(item: Item, width: int, height: int, now: float) -> str:
    """The address of an item's picture at one size."""
    path = f"/i/t51.2885-15/{item.owner_id}_{item.pk}_{width}x{height}_n.jpg"
    cache_key = b64encode(str(item.pk).encode()).decode() + ".3-ccb7-5"
    return _signed(path, item_expiry(item, now), f"&ig_cache_key={quote(cache_key, safe='')}")


def video_url(item: Item, now: float) -> str:
    """The address of an item's MP4."""
    return _signed(f"/v/t66.30100-16/{item.owner_id}_{item.pk}_n.mp4", item_expiry(item, now))


def avatar_url(owner_id: int, side: int, now: float) -> str:
    """The address of a profile picture; changes once a day, as it must expire some time."""
    return _signed(
        f"/i/t51.2885-15/{owner_id}_{AVATAR_PK}_{side}x{side}_n.jpg", _at_most(_some_days_on(now), now)
    )


def asset_of(path: str) -> Asset | None:
    """What lies behind a path, or None."""
    match = _PHOTO_PATH.fullmatch(path) or _VIDEO_PATH.fullmatch(path)
    return Asset(*map(int, match.groups())) if match else None


def complaint(path: str, oh: str | None, oe: str | None, now: float) -> str | None:
    """Why the CDN refuses this address, in its own words, or None when it serves it."""
    if not oh or not oe:
        return "Bad URL hash"
    if oh != _signature(path, oe):
        return "URL signature mismatch"
    return "URL signature expired" if int(oe, 16) <= now else None


def item_expiry(item: Item, now: float) -> int:
    """When the addresses of an item end: a day after the story itself, for old items some days from now."""
    after_story = item.taken_at + 2 * DAY
    return _at_most(after_story if after_story > now + DAY else _some_days_on(now), now)


def _some_days_on(now: float) -> int:
    return (int(now) // DAY + 4) * DAY


def _at_most(expiry: int, now: float) -> int:
    return min(expiry, int(now) + lifetime.get()) if lifetime.get() else expiry


def _signed(path: str, expiry: int, more: str = "") -> str:
    oe = f"{expiry:X}"
    return f"https://{HOST}{path}?_nc_ht={HOST}&_nc_cat=1&efg=e30{more}&oh={_signature(path, oe)}&oe={oe}"


def _signature(path: str, oe: str) -> str:
    return f"00_{digest('signature', path, oe):016x}"
