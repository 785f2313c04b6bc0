"""Where the archive's files lie: a folder, or whatever else fsspec reaches, such as S3."""

from __future__ import annotations

import importlib.util
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.callbacks import Callback

from service.domain.archive import TYPES, NotKept, path_of
from service.domain.errors import ArchiveUnavailable, ConfigurationError, LeaseLost, NotFound

# Bytes handed out at a time, and bytes asked of a remote store at a time.
CHUNK = 64 * 1024
BLOCK = 1024 * 1024
# S3 takes parts of 5 MiB or more; one is in memory at a time, two for a file that is not larger.
PART = 5 * 1024 * 1024
# What was left behind by a crash is deleted when it is that old, seconds.
LEFT_AFTER = 86_400

# A store that hangs must not hold a worker: s3fs tries five times.
S3_CONFIG = {
    "connect_timeout": 3,
    "read_timeout": 15,
    "retries": {"max_attempts": 0},
    # What is S3-compatible often does not know the checksums botocore adds by default.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}


class Files:
    """Files by name below one root.

    ``url`` is a folder, ``file:///folder`` or ``s3://bucket/prefix``; nothing is touched before it is used.
    Every method raises ArchiveUnavailable when the files cannot be reached.
    """

    def __init__(self, url: str, s3_endpoint: str = "", *, filesystem: Any = None) -> None:
        self._url = url
        self._s3_endpoint = s3_endpoint
        self._opened = filesystem
        self._opening = threading.Lock()
        parts = urlsplit(url)
        self.is_local = parts.scheme in {"", "file"}
        if self.is_local:
            self._root = str(Path(parts.path if parts.scheme else url).absolute())
            # In the same file system, so that a file is moved to its place in one step.
            self.staging = Path(self._root) / "tmp"
        else:
            self._root = f"{parts.netloc}{parts.path}".rstrip("/")
            self.staging = Path(tempfile.gettempdir()) / "storyhook-archive"
        if parts.scheme == "s3" and importlib.util.find_spec("s3fs") is None:
            raise ConfigurationError("ARCHIVE_URL names S3, which takes: pip install 'storyhook[s3]'")

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes; None when it is not there."""
        with _trouble():
            try:
                return int(self._filesystem.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def publish(self, staged: Path, name: str, tick: Callable[[], None]) -> None:
        """Give a complete local file its name, in one step: nobody ever sees a part of it.

        ``tick`` is called now and then while it is sent; what it raises ends that.
        """
        path = self._path(name)
        with _trouble():
            if self.is_local:
                self._filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._filesystem.mv(str(staged), path)
                return
            options = {"chunksize": PART, "max_concurrency": 1, "ContentType": TYPES[name.rpartition(".")[2]]}
            self._filesystem.put_file(str(staged), path, callback=_Progress(tick), **options)

    def open(self, name: str) -> OpenFile:
        """Raises NotFound."""
        with _trouble():
            try:
                return OpenFile(self._filesystem.open(self._path(name), "rb", block_size=BLOCK))
            except FileNotFoundError:
                raise NotFound("This file is no longer in the archive.") from None

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        with _trouble(), suppress(FileNotFoundError):
            self._filesystem.rm_file(self._path(name))

    def clear_staging(self) -> None:
        """Delete what crashes left behind on this machine."""
        with _trouble():
            for path in self.staging.glob("*"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < time.time() - LEFT_AFTER:
                        path.unlink()

    def _path(self, name: str) -> str:
        return f"{self._root}/{path_of(name)}"

    @property
    def _filesystem(self) -> Any:
        with self._opening:
            if self._opened is None:
                self._opened = _open(self._url, self._s3_endpoint)
            return self._opened


def _open(url: str, s3_endpoint: str) -> Any:
    scheme = urlsplit(url).scheme or "file"
    if scheme != "s3":
        return fsspec.filesystem(scheme, skip_instance_cache=True)
    return fsspec.filesystem(
        "s3",
        endpoint_url=s3_endpoint or None,
        config_kwargs=S3_CONFIG,
        use_listings_cache=False,
        skip_instance_cache=True,
    )


class OpenFile:
    """StoredFile over a file of fsspec."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.size = int(file.size)

    def chunks(self, first: int, last: int) -> Iterator[bytes]:
        """Yield the bytes from ``first`` to ``last``; a file that ends early raises ArchiveUnavailable."""
        left = last + 1 - first
        try:
            with _trouble():
                self._file.seek(first)
                while left > 0:
                    chunk = self._file.read(min(CHUNK, left))
                    if not chunk:
                        raise EOFError("the file is shorter than it was")
                    left -= len(chunk)
                    yield chunk
        finally:
            self.close()

    def close(self) -> None:
        self._file.close()


class _Progress(Callback):
    """Calls ``tick`` after each part that was sent."""

    def __init__(self, tick: Callable[[], None]) -> None:
        super().__init__()
        self._tick = tick

    def relative_update(self, inc: int = 1) -> None:
        self._tick()


@contextmanager
def _trouble() -> Iterator[None]:
    """Raise whatever a file system comes up with as ArchiveUnavailable: each has errors of its own."""
    try:
        yield
    except (NotFound, NotKept, LeaseLost):
        raise
    except Exception as error:
        raise ArchiveUnavailable from error
