"""Byte ranges, as RFC 9110 has them."""

from __future__ import annotations

import pytest

from service.domain.errors import RangeNotSatisfiable
from service.domain.ranges import parse

SIZE = 1000


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("bytes=0-0", (0, 0)),
        ("bytes=0-499", (0, 499)),
        ("bytes=500-", (500, 999)),
        ("bytes=0-", (0, 999)),
        ("bytes=-1", (999, 999)),
        ("bytes=-500", (500, 999)),
        ("bytes=-5000", (0, 999)),
        ("bytes=999-999", (999, 999)),
        ("bytes=999-100000", (999, 999)),
        ("bytes=00000010-00000011", (10, 11)),
        ("BYTES=1-2", (1, 2)),
        ("bytes= 1-2 ", (1, 2)),
        # What a server is to ignore: other units, what cannot be read; and what it may: several ranges.
        ("items=0-1", None),
        ("bytes", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=1-x", None),
        ("bytes=5-4", None),
        ("bytes=0-1,3-4", None),
        ("bytes=--1", None),
        ("bytes=+1-2", None),
        ("bytes=1.0-2", None),
        ("bytes=1 - 2", None),
        ("bytes=\u0661-\u0662", None),
        (f"bytes={'9' * 400}-", None),
        ("0-1", None),
    ],
)
def test_what_is_asked_for(header: str | None, expected: tuple[int, int] | None) -> None:
    assert parse(header, SIZE) == expected


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1001", "bytes=5000-", "bytes=-0"])
def test_what_is_not_there(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse(header, SIZE)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_an_empty_file_has_no_range(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse(header, 0)
