"""Media bytes, drawn when first asked for and kept while there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import UTC, datetime

from .cdn import AVATAR_PK, Asset
from .ids import digest, split_media_pk
from .jpeg import draw_photo
from .mp4 import draw_video
from .world import video_seconds

CACHE_BYTES = 32 * 1024 * 1024
_HIGHLIGHTS_FROM = 100


class ByteCache:
    """Least recently used out first, bounded by bytes; thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[object, bytes] = OrderedDict()
        self.size = 0

    def get(self, key: object) -> bytes | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: object, body: bytes) -> None:
        with self._lock:
            self.size += len(body) - len(self._kept.pop(key, b""))
            self._kept[key] = body
            while self.size > self._limit:
                self.size -= len(self._kept.popitem(last=False)[1])


_cache = ByteCache(CACHE_BYTES)


def content(asset: Asset, username: str) -> bytes:
    """The JPEG or MP4 behind an asset; the same bytes for the same asset and name."""
    key = (asset, username)
    body = _cache.get(key)
    if body is None:
        body = _draw(asset, username)
        _cache.put(key, body)
    return body


def _draw(asset: Asset, username: str) -> bytes:
    hue = digest("hue", asset.owner_id, asset.pk) % 360
    if asset.pk == AVATAR_PK:
        return draw_photo(asset.width, asset.height, hue, [username[:1].upper()])
    _, index, taken_at = split_media_pk(asset.pk)
    number = f"#{index % _HIGHLIGHTS_FROM + 1}"
    if not asset.width:
        return draw_video(hue, [username, number], video_seconds(asset.pk))
    moment = datetime.fromtimestamp(taken_at, UTC)
    return draw_photo(
        asset.width, asset.height, hue, [username, number, f"{moment:%Y-%m-%d}", f"{moment:%H:%M:%S} UTC"]
    )
