"""A file made as large as a test wants it; JPEG and MP4 both bear bytes behind their end."""

from __future__ import annotations

import io
from typing import Any


class Padded(io.RawIOBase):
    """``body``, followed by zeros until there are ``least`` bytes; the zeros are made as they are read."""

    def __init__(self, body: bytes, least: int = 0) -> None:
        self._body = body
        self._at = 0
        self.size = max(len(body), least)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        self._at = offset
        return offset

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer) as room:
            wanted = min(len(room), max(self.size - self._at, 0))
            room[:wanted] = self._body[self._at : self._at + wanted].ljust(wanted, b"\0")
        self._at += wanted
        return wanted
