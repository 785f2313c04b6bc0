"""Files that get their names once they are whole."""

from __future__ import annotations

import glob
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PART_LIFE = 3_600.0  # seconds; what is older was left by a run that was killed


class Parts:
    """The half-written files of one run; threads may share it."""

    def __init__(self) -> None:
        self._paths: set[Path] = set()

    @contextmanager
    def written(self, path: Path) -> Iterator[IO[bytes]]:
        """Write a file that gets its name at the end; otherwise it is removed. Raises OSError."""
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        self._paths.add(part)
        try:
            with part.open("xb") as file:
                yield file
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
            self._paths.discard(part)

    def abandon(self) -> None:
        """Remove what is half written; the process ends now."""
        for part in list(self._paths):
            part.unlink(missing_ok=True)


def remove_old_parts(folder: Path, name: str | None = None) -> None:
    """Remove what killed runs left in a folder, of all files or of the one of this name."""
    for part in folder.glob(f".{'*' if name is None else glob.escape(name)}.{'[0-9a-f]' * 32}.part"):
        with suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > PART_LIFE:
                part.unlink()
