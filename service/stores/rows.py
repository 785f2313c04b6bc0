"""Reads rows of the store, one or many: what is broken is told and counts as not there."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import structlog

from service.domain.errors import BrokenRow
from service.domain.rows import Tell, reading
from service.stores.commands import hashes
from service.stores.connection import Client

T = TypeVar("T")
Parse = Callable[[str, Any], T | None]

log = structlog.get_logger(__name__)


def log_broken(broken: BrokenRow) -> None:
    """Tell of a row that was passed over where nobody else hears of it."""
    log.warning("store.broken_row", row=broken.where, what=broken.what)


def read(parse: Parse[T], name: str, row: Any, tell: Tell = log_broken) -> T | None:
    """Return what stands in a row, None when there is none or it is broken."""
    try:
        return parse(name, row)
    except BrokenRow as broken:
        tell(broken)
        return None


def readable(
    parse: Parse[T], names: Iterable[str], rows: Iterable[Any], tell: Tell = log_broken
) -> list[T | None]:
    """Return what stands in each of several rows."""
    return [read(parse, name, row, tell) for name, row in zip(names, rows, strict=True)]


def look_up(
    redis: Client, key: Callable[[str], str], parse: Parse[T], names: Sequence[str], tell: Tell = log_broken
) -> list[T | None]:
    """Return what stands in the hashes of these names, whose keys ``key`` makes, in one round trip.

    Names come out of lists in the store: one that is none is broken as well.
    """

    def key_of(name: str, _: object) -> str:
        with reading("id", repr(name)):
            return key(name)

    known = readable(key_of, names, names, tell)
    rows = iter(hashes(redis, [each for each in known if each is not None]))
    return [None if each is None else read(parse, name, next(rows), tell)
            for name, each in zip(names, known, strict=True)]  # fmt: skip


def unpacked(name: str, packed: bytes | None) -> bytes | None:
    """Return a result as it was before it was packed, None when there is none. Raises BrokenRow."""
    with reading("result of", name):
        try:
            return packed and gzip.decompress(packed)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(str(error)) from error
