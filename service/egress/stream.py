"""An answer whose body is read as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Self

from urllib3 import BaseHTTPResponse

from service.egress.deadline import Deadline
from service.egress.errors import in_our_words

CHUNK = 64 * 1024  # bytes; how much of a body is in memory at a time


class Stream:
    """A status, headers, and a body that is still to come. To be closed, or used in a ``with`` block."""

    def __init__(self, response: BaseHTTPResponse, deadline: Deadline) -> None:
        self._response = response
        self._deadline = deadline
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in pieces of up to CHUNK bytes, as sent; then the stream is closed.

        Raises EgressError when it does not come to its end.
        """
        try:
            while chunk := self._next():
                yield chunk
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the connection; one whose body was read to its end is kept for the next request."""
        self._deadline.cancel()
        self._response.close()

    def _next(self) -> bytes:
        with in_our_words(self._deadline):
            # One read of the socket: whoever drips is not waited for until a whole chunk is there.
            return self._response.read1(CHUNK, decode_content=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
