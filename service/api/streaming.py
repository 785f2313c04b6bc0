"""Media files handed through from Instagram's CDN, a piece at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import orjson
from flask import Response, request

from service.api.bodies import sent
from service.api.context import place_needed, services
from service.api.results import result_of
from service.domain.credits import ADJUSTMENT
from service.domain.errors import FetchError
from service.domain.operations import DOWNLOAD
from service.domain.options import Options
from service.domain.ports.media import MediaStream
from service.domain.requests import RequestRecord
from service.domain.targets import Target

# One range, as players and resumed downloads ask for; anything else is answered with the whole file.
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})|bytes=-(\d{1,15})")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def streamed(
    target: Target, options: Options, *, charged: Callable[[int], None] = lambda _: None
) -> Response:
    """Return a story's file, or the part of it that the caller's Range names.

    Raises what finding it ended with, RangeNotSatisfiable, StoreUnavailable when too many are under way.
    ``charged`` is told what it cost.
    """
    with ExitStack() as held:
        # For as long as the file is sent, which is after this function has returned.
        held.enter_context(place_needed())
        asked = _range()
        found = result_of(DOWNLOAD, target, replace(options, first_byte=_first_byte(asked)))
        file = orjson.loads(found[1])["data"]
        stream = held.enter_context(_opened(found[0], file["url"], asked))
        charged(found[0].charged)
        return _response(stream, file["filename"], held.pop_all())


@contextmanager
def _opened(record: RequestRecord, url: str, asked: str | None) -> Iterator[MediaStream]:
    """Open a file that was there a moment ago; what nobody gets costs nothing. Raises FetchError."""
    with ExitStack() as held:
        try:
            stream = held.enter_context(services().media.open(url, asked))
        except FetchError:
            if record.charged:
                note = f"{record.request_id}: its file could not be sent"
                services().credits.add(record.account_id, record.charged, entry_type=ADJUSTMENT, note=note)
            raise
        yield stream


def _response(stream: MediaStream, filename: str, held: ExitStack) -> Response:
    # Its time is that of the stream, see `service.media`.
    response = sent(stream.chunks(), held, stream.status, content_type=stream.content_type)
    headers = {
        "Content-Length": stream.content_length,
        "Content-Range": stream.content_range,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{_UNSAFE.sub("_", filename)}"',
        "X-Content-Type-Options": "nosniff",
    }
    for name, value in headers.items():
        if value is not None:
            response.headers[name] = str(value)
    return response


def _range() -> str | None:
    given = request.headers.get("Range", "").replace(" ", "")
    return given if _RANGE.fullmatch(given) else None


def _first_byte(asked: str | None) -> int:
    match = _RANGE.fullmatch(asked) if asked else None
    return int(match[1]) if match and match[1] else 0
