"""The files of a raw story item: which of its versions is the best."""

from __future__ import annotations

from typing import Any

VIDEO, IMAGE = "mp4", "jpg"


def best_version(item: dict[str, Any]) -> tuple[object, str] | None:
    """Return what stands as the URL of an item's largest video, or else image, and VIDEO or IMAGE.

    None when it has neither. A version without a size counts as the smallest.
    """
    images = item.get("image_versions2")
    sources = {
        VIDEO: item.get("video_versions"),
        IMAGE: images.get("candidates") if isinstance(images, dict) else None,
    }
    for kind, versions in sources.items():
        found = [each for each in versions if isinstance(each, dict)] if isinstance(versions, list) else []
        if found:
            return max(found, key=_area).get("url"), kind
    return None


def best_media(item: dict[str, Any]) -> str | None:
    """Return the URL of an item's best version; None when there is none."""
    best = best_version(item)
    return best[0] if best and isinstance(best[0], str) and best[0] else None


def best_image(item: dict[str, Any]) -> str | None:
    """Return the URL of an item's largest image, also of a video's cover; None when there is none."""
    return best_media({"image_versions2": item.get("image_versions2")})


def _area(version: dict[str, Any]) -> int:
    width, height = version.get("width"), version.get("height")
    return width * height if isinstance(width, int) and isinstance(height, int) else 0
