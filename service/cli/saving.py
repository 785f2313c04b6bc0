"""Stories as files: DIR/<username>/<taken_at>_<pk>.<ending>, and each envelope beside them."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import requests

from service.cli.client import Answer
from service.cli.media_sources import ArchiveSource, CdnSource, MediaError, MediaSource, StoryFile
from service.cli.parts import Parts, remove_old_parts
from service.cli.servers import Server
from service.cli.transport import backoff, reason
from service.domain.archive import TYPES, suffix_of
from service.domain.errors import ConfigurationError

CHUNK = 64 * 1024
MEDIA_MAX = 512 * 1024 * 1024  # bytes; a story is a minute at most
MEDIA_LIMIT = 300.0  # seconds for one file
TRIES = 3

_SAVED = re.compile(rf"\d{{8}}T\d{{6}}Z_(\d+)\.(?:{'|'.join(TYPES)})")
_PK = re.compile(r"[0-9]{1,32}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


@dataclass
class Saved:
    """What became of a reel: files that are new, and one sentence for each that is missing."""

    files: list[Path] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def stem(item: dict[str, Any]) -> str:
    """Return ``20261121T010011Z_3870...``. Raises MediaError for an item without pk or time."""
    pk, taken_at = str(item.get("pk")), item.get("taken_at")
    try:
        if not _PK.fullmatch(pk) or not isinstance(taken_at, int):
            raise ValueError
        moment = datetime.fromtimestamp(taken_at, UTC)
    except (ValueError, OverflowError, OSError):
        raise MediaError("it has no pk or no taken_at", elsewhere=False) from None
    return f"{moment:%Y%m%dT%H%M%SZ}_{pk}"


class Saver:
    """Saves reels under ``root``; threads may share it, each with a name of its own.

    Files come from the archive of ``server``, and from the CDN what is not there; with a simulated
    Instagram that gets what is meant for the CDN, as the service itself sends there what is meant for
    Instagram. Raises ConfigurationError when ``root`` is of no use.
    """

    def __init__(self, root: Path, server: Server, *, stop: threading.Event) -> None:
        self._root = root
        self._server = server
        self._stop = stop
        self.parts = Parts()
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"--save {root}: {error.strerror}.") from None
        if not os.access(root, os.W_OK | os.X_OK):
            raise ConfigurationError(f"--save {root}: nothing may be written there.")

    def save(self, name: str, answer: Answer) -> Saved:
        """Save what is new of a reel, and its envelope."""
        saved = Saved()
        try:
            folder = self._folder(name)
            there = _pks(folder)
            with (
                closing(ArchiveSource(self._server)) as archive,
                closing(CdnSource(self._server.simulated)) as cdn,
            ):
                for item in answer.items:
                    if str(item.get("pk")) not in there:
                        self._save_item((archive, cdn), folder, item, saved)
            self._keep(folder, answer)
        except (MediaError, OSError) as error:
            saved.failures.append(f"not saved: {error}")
        return saved

    def _folder(self, name: str) -> Path:
        if not name.strip("."):
            raise MediaError(f"{name} is no name for a folder")
        folder = self._root / name
        folder.mkdir(exist_ok=True)
        remove_old_parts(folder)
        return folder

    def _keep(self, folder: Path, answer: Answer) -> None:
        request_id = str(answer.envelope["requestId"])
        if not _REQUEST_ID.fullmatch(request_id):
            raise MediaError(f"{request_id[:80]!r} is no id of a request")
        with self.parts.written(folder / f"{request_id}.json") as file:
            file.write(answer.body)

    def _save_item(
        self, sources: Sequence[MediaSource], folder: Path, item: dict[str, Any], saved: Saved
    ) -> None:
        """Save one story from the first source that gives it.

        One that cannot be saved is no reason to leave out the others. Raises OSError.
        """
        failures = []
        for source in sources:
            try:
                file = source.find(item)
                if file is None:
                    continue
                saved.files.append(self._download(source, file, folder / stem(item)))
                return
            except MediaError as error:
                failures.append(str(error))
                if not error.elsewhere:
                    break
        told = "; ".join(failures)
        saved.failures.append(f"story {str(item.get('pk'))[:32]} not saved: {told}")

    def _download(self, source: MediaSource, file: StoryFile, base: Path) -> Path:
        """Write a file to ``base`` with its ending, in up to TRIES tries. Raises MediaError, OSError."""
        tries = 0
        while True:
            tries += 1
            try:
                return self._received(source, file, base)
            except requests.RequestException as error:
                failure = MediaError(reason(error), passes=True)
            except MediaError as error:
                failure = error
            if not failure.passes or tries == TRIES or self._stop.wait(backoff(tries - 1)):
                raise failure

    def _received(self, source: MediaSource, file: StoryFile, base: Path) -> Path:
        with source.opened(file.url) as response:
            path = base.with_name(f"{base.name}.{_ending(response, file, source.name)}")
            with self.parts.written(path) as written:
                _copy(response, file, written, source.name)
        return path


def _ending(response: requests.Response, file: StoryFile, source: str) -> str:
    """Return the ending of the file that comes: an address of the CDN does not tell it.

    Raises MediaError for a response that is no file, or a photo in a video's place.
    """
    status = response.status_code
    if status != requests.codes.ok:
        passes = status == requests.codes.too_many_requests or status >= 500
        raise MediaError(f"{source} answered {status}", passes=passes)
    content_type = response.headers.get("Content-Type", "")
    if not content_type.lower().startswith(f"{file.kind}/"):
        raise MediaError(f"{source} sent {content_type[:80]!r} in place of the {file.kind}")
    return suffix_of(content_type)


def _copy(response: requests.Response, file: StoryFile, written: IO[bytes], source: str) -> None:
    """Copy a body in chunks, and see that it is the right one.

    Raises MediaError, requests.RequestException when it is cut short.
    """
    digest, size, until = hashlib.sha256(), 0, time.monotonic() + MEDIA_LIMIT
    for chunk in response.iter_content(CHUNK):
        size += len(chunk)
        if size > MEDIA_MAX or time.monotonic() > until:
            raise MediaError(f"given up after {size} bytes")
        digest.update(chunk)
        written.write(chunk)
    if file.digest and digest.hexdigest() != file.digest:
        raise MediaError(f"{source} sent other bytes than it kept", passes=True, elsewhere=False)
    if not size:
        raise MediaError(f"{source} sent nothing", passes=True)


def _pks(folder: Path) -> set[str]:
    """Return the pk of every story that is in a folder already."""
    return {match[1] for entry in os.scandir(folder) if (match := _SAVED.fullmatch(entry.name))}
