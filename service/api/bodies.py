"""Bodies that are sent a piece at a time.

What such a body is made of stays open for as long as its reader takes: so each reader has a place
(`service.api.context.place_needed`) and a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from flask import Response, request

from service.domain.admission import FREE, PIECE, PIECES
from service.domain.errors import StreamTimeout


def sent(pieces: Iterator[bytes], held: ExitStack, *args: Any, cost: str = FREE, **options: Any) -> Response:
    """Return a response with ``pieces`` as its body; what is ``held`` is let go of once that was sent.

    Or once the caller has gone, or the body has broken off. Each piece is made as a call of ``cost`` would
    be. What else is given is as for `Response`.
    """
    request.environ[PIECES] = cost
    response = Response(_holding(pieces, held), *args, **options)
    response.call_on_close(held.close)  # also when nobody asked for the first piece
    return response


def _holding(pieces: Iterator[bytes], held: ExitStack) -> Iterator[bytes]:
    with held:
        yield from pieces


def in_pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines joined to pieces of about `PIECE` bytes: each is a step of its own to send."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        piece.append(line)
        size += len(line)
        if size >= PIECE:
            yield b"".join(piece)
            piece, size = [], 0
    if piece:
        yield b"".join(piece)


def in_time(
    pieces: Iterator[bytes], seconds: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[bytes]:
    """Yield the pieces; raises StreamTimeout before the first one that is asked for after ``seconds``.

    A caller who reads too little asks for none: the front door hangs up on that one.
    """
    ends_at = clock() + seconds
    for piece in pieces:
        if clock() > ends_at:
            raise StreamTimeout
        yield piece
