"""Files on Instagram's CDN."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self


@dataclass(frozen=True)
class MediaFile:
    """A photo or video as the CDN describes it; ``size`` is in bytes, None when it does not tell."""

    url: str
    content_type: str
    size: int | None


class MediaStream(Protocol):
    """A file on its way, or a range of it. To be closed, or used in a ``with`` block.

    ``status`` is 200, or 206 with a ``content_range`` as in RFC 9110; ``content_length`` is the number of
    bytes that ``chunks`` yields, None when the CDN does not tell.
    """

    status: int
    content_type: str
    content_length: int | None
    content_range: str | None

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes as they come. Raises UpstreamTimeout, UpstreamFailed when they stop coming."""
        ...

    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class MediaFiles(Protocol):
    """Fetches photos and videos by the addresses Instagram gave for them.

    Raises MediaNotFound for one that is gone or whose signature is over, UpstreamTimeout, and
    UpstreamFailed for whatever else is no photo or video of the CDN.
    """

    def probe(self, url: str) -> MediaFile:
        """Return what is known of a file without fetching it."""
        ...

    def open(self, url: str, range: str | None = None) -> MediaStream:
        """Begin to fetch a file, or the ``range`` of it as a header says it: ``bytes=0-99``.

        A range that is not a single one in bytes is ignored, as RFC 9110 allows. Raises
        RangeNotSatisfiable as well.
        """
        ...
