"""Byte ranges of a file, as a client asks for them (RFC 9110, section 14)."""

from __future__ import annotations

import re

from service.domain.errors import RangeNotSatisfiable

# More digits than any file has bytes: such a header is ignored, as one that cannot be read.
_RANGE = re.compile(r"[Bb][Yy][Tt][Ee][Ss]=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII)


def parse(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first and the last byte a ``Range`` asks for of a file of ``size`` bytes.

    None for the whole file: without a header, with one that cannot be read, of another unit, or with
    several ranges (which a server may leave unheeded). Raises RangeNotSatisfiable when there is no such byte.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        first, last = max(size - int(match[2]), 0), size - 1
    else:
        first, last = int(match[1]), int(match[2]) if match[2] else size - 1
        if match[2] and last < first:
            return None
    if first >= size:
        raise RangeNotSatisfiable
    return first, min(last, size - 1)
