"""Which version of an item's media is the best."""

from __future__ import annotations

from typing import Any

import pytest

from service.domain.archive import OTHER, parse_name, path_of, suffix_of
from service.domain.media import best_media

NAME = f"{'0a' * 32}.mp4"


def image(*sizes: tuple[int, int]) -> dict[str, Any]:
    return {
        "candidates": [
            {"url": f"i{width}x{height}", "width": width, "height": height} for width, height in sizes
        ]
    }


def videos(*sizes: tuple[int, int]) -> list[dict[str, Any]]:
    return [{"url": f"v{width}x{height}", "width": width, "height": height} for width, height in sizes]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"image_versions2": image((640, 1138), (1080, 1920), (750, 1333))}, "i1080x1920"),
        (
            {"image_versions2": image((9999, 9999)), "video_versions": videos((480, 853), (720, 1280))},
            "v720x1280",
        ),
        ({"image_versions2": image((1, 1)), "video_versions": []}, "i1x1"),
        ({"image_versions2": image((1, 1)), "video_versions": None}, "i1x1"),
        ({"video_versions": [{"url": "unsized"}]}, "unsized"),
        ({"video_versions": [{"url": "unsized"}, *videos((1, 1))]}, "v1x1"),
        ({"video_versions": [{"url": "odd", "width": "720", "height": None}]}, "odd"),
        ({"video_versions": [None, "x", *videos((1, 1))]}, "v1x1"),
        ({}, None),
        ({"image_versions2": {}}, None),
        ({"image_versions2": {"candidates": None}}, None),
        ({"image_versions2": []}, None),
        ({"video_versions": [{"width": 1, "height": 1}]}, None),
        ({"video_versions": [{"url": None}]}, None),
        ({"video_versions": [{"url": ""}]}, None),
    ],
)
def test_the_best_version(item: dict[str, Any], expected: str | None) -> None:
    assert best_media(item) == expected


@pytest.mark.parametrize(
    "name",
    [
        "",
        NAME.upper(),
        f"{NAME}\n",
        f" {NAME}",
        NAME[1:],
        f"0{NAME}",
        NAME.replace("mp4", "exe"),
        f"../{NAME}",
        "a.mp4",
    ],
)
def test_what_is_no_name_of_a_file(name: str) -> None:
    assert parse_name(name) is None


def test_the_name_of_a_file_tells_where_it_lies() -> None:
    assert parse_name(NAME) == ("0a" * 32, "mp4")
    assert path_of(NAME) == f"0a/0a/{NAME}"
    assert suffix_of("video/MP4 ; codecs=x") == "mp4"
    assert suffix_of("application/x-unknown") == OTHER
