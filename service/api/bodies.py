"""Bodies that are sent a piece at a time.

Who reads one holds a thread of the server, however slowly they read: so each has a place
(`service.api.context.place_needed`) and a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from flask import Response

from service.domain.errors import StreamTimeout


def sent(pieces: Iterator[bytes], held: ExitStack, *args: Any, **options: Any) -> Response:
    """Return a response with ``pieces`` as its body; what is ``held`` is let go of once that was sent.

    Or once the caller has gone, or the body has broken off. What else is given is as for `Response`.
    """
    response = Response(_holding(pieces, held), *args, **options)
    response.call_on_close(held.close)  # also when nobody asked for the first piece
    return response


def _holding(pieces: Iterator[bytes], held: ExitStack) -> Iterator[bytes]:
    with held:
        yield from pieces


def in_time(
    pieces: Iterator[bytes], seconds: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[bytes]:
    """Yield the pieces; raises StreamTimeout before the first one that is asked for after ``seconds``.

    A caller who reads nothing at all asks for none: that one keeps the place until the connection ends.
    """
    ends_at = clock() + seconds
    for piece in pieces:
        if clock() > ends_at:
            raise StreamTimeout
        yield piece
