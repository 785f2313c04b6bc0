"""A file on its way into the archive: written under a passing name while its hash is taken."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from service.domain.archive import TOO_LARGE, NotKept, suffix_of
from service.domain.errors import ArchiveUnavailable
from service.domain.ports.media import MediaFiles, MediaStream


@dataclass(frozen=True)
class Staged:
    """A complete file: where it lies, the SHA-256 of its bytes in hex, its size in bytes."""

    path: Path
    digest: str
    suffix: str
    size: int


@contextmanager
def opened(media: MediaFiles, url: str, most: int) -> Iterator[MediaStream]:
    """Open a file of at most ``most`` bytes, as far as it tells. Raises NotKept, FetchError."""
    with media.open(url) as stream:
        if (stream.content_length or 0) > most:
            raise NotKept(TOO_LARGE)
        yield stream


@contextmanager
def staged_from(stream: MediaStream, folder: Path, most: int, tick: Callable[[], None]) -> Iterator[Staged]:
    """Fetch a file of at most ``most`` bytes into ``folder``; it is gone at the end, unless it was moved.

    ``tick`` is called with each chunk; what it raises ends the download. Raises NotKept, FetchError and
    ArchiveUnavailable.
    """
    path = folder / uuid.uuid4().hex
    try:
        with _writing(path) as file:
            digest, size = _copy(stream.chunks(), file, most, tick)
        yield Staged(path, digest, suffix_of(stream.content_type), size)
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[_Writer]:
    """Open a file to be on the disk at the end. Raises ArchiveUnavailable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = path.open("xb")
    except OSError as error:
        raise ArchiveUnavailable from error
    with _Writer(file) as writer:
        yield writer


class _Writer:
    """Tells trouble with the disk from trouble with what is written there."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, chunk: bytes) -> None:
        try:
            self._file.write(chunk)
        except OSError as error:
            raise ArchiveUnavailable from error

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise ArchiveUnavailable from error


def _copy(chunks: Iterator[bytes], file: _Writer, most: int, tick: Callable[[], None]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        tick()
        size += len(chunk)
        if size > most:
            raise NotKept(TOO_LARGE)
        digest.update(chunk)
        file.write(chunk)
    return digest.hexdigest(), size
