"""Stories as files: DIR/<username>/<taken_at>_<pk>.<jpg|mp4>, and each envelope beside them."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

from service.cli.client import Answer
from service.cli.parts import Parts, remove_old_parts
from service.cli.transport import USER_AGENT, backoff, reason
from service.domain.errors import ConfigurationError
from service.domain.media import best_version

CHUNK = 64 * 1024
MEDIA_MAX = 512 * 1024 * 1024  # bytes; a story is a minute at most
MEDIA_LIMIT = 300.0  # seconds for one file
TIMEOUTS = (5.0, 20.0)  # seconds to connect, and between two chunks
TRIES = 3
REDIRECTS_MOST = 3

# The whole authority at once: no user, no port but 443, and a label ends before the suffix begins.
_AUTHORITY = re.compile(r"([a-z0-9-]+\.)*(cdninstagram\.com|fbcdn\.net)(:443)?", re.IGNORECASE)
_SAVED = re.compile(r"\d{8}T\d{6}Z_(\d+)\.(?:jpg|mp4)")
_PK = re.compile(r"[0-9]{1,32}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_CONTENT = {"jpg": "image/", "mp4": "video/"}


class MediaError(Exception):
    """A story that cannot be saved, and why. ``passes`` says that trying again may help."""

    def __init__(self, message: str, *, passes: bool = False) -> None:
        super().__init__(message)
        self.passes = passes


@dataclass
class Saved:
    """What became of a reel: files that are new, and one sentence for each that is missing."""

    files: list[Path] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def check_media_url(url: object) -> str:
    """Return a URL that is on Instagram's CDN, by https. Raises MediaError for any other."""
    # Readers differ on backslashes and on what is not printed: neither is in a URL of the CDN.
    if isinstance(url, str) and url.isascii() and url.isprintable() and not set(url) & set(" \\"):
        with suppress(ValueError):
            parts = urlsplit(url)
            if parts.scheme == "https" and _AUTHORITY.fullmatch(parts.netloc):
                return url
    raise MediaError(f"this is no address of Instagram's CDN: {str(url)[:200]!r}")


def best(item: dict[str, Any]) -> tuple[str, str]:
    """Return (URL, "mp4" or "jpg") of an item's largest video, or else image. Raises MediaError."""
    version = best_version(item)
    if version is None:
        raise MediaError("it has neither video nor image")
    url, ending = version
    return check_media_url(url), ending


def file_name(item: dict[str, Any], ending: str) -> str:
    """Return ``20261121T010011Z_3870....jpg``. Raises MediaError for an item without pk or time."""
    pk, taken_at = str(item.get("pk")), item.get("taken_at")
    try:
        if not _PK.fullmatch(pk) or not isinstance(taken_at, int):
            raise ValueError
        moment = datetime.fromtimestamp(taken_at, UTC)
    except (ValueError, OverflowError, OSError):
        raise MediaError("it has no pk or no taken_at") from None
    return f"{moment:%Y%m%dT%H%M%SZ}_{pk}.{ending}"


class Saver:
    """Saves reels under ``root``; threads may share it, each with a name of its own.

    ``simulated`` (``http://host:port``, "" for none) gets what is meant for the CDN, as the service
    itself sends there what is meant for Instagram. Raises ConfigurationError when ``root`` is of no use.
    """

    def __init__(self, root: Path, *, simulated: str, stop: threading.Event) -> None:
        self._root = root
        self._simulated = simulated
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
            with self._session() as session:
                for item in answer.items:
                    if str(item.get("pk")) not in there:
                        self._save_item(session, folder, item, saved)
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

    def _save_item(self, session: requests.Session, folder: Path, item: dict[str, Any], saved: Saved) -> None:
        """Save one story; one that cannot be is no reason to leave out the others. Raises OSError."""
        try:
            url, ending = best(item)
            path = folder / file_name(item, ending)
            self._download(session, url, ending, path)
            saved.files.append(path)
        except MediaError as error:
            saved.failures.append(f"story {str(item.get('pk'))[:32]} not saved: {error}")

    def _download(self, session: requests.Session, url: str, ending: str, path: Path) -> None:
        """Write what is at ``url`` to ``path``, in up to TRIES tries. Raises MediaError, OSError."""
        for tries in range(TRIES):
            try:
                with self._opened(session, url) as response, self.parts.written(path) as file:
                    self._copy(response, ending, file)
                return
            except requests.RequestException as error:
                failure = MediaError(reason(error), passes=True)
            except MediaError as error:
                failure = error
            if not failure.passes or tries == TRIES - 1 or self._stop.wait(backoff(tries)):
                raise failure

    def _copy(self, response: requests.Response, ending: str, file: IO[bytes]) -> None:
        """Copy a body in chunks. Raises MediaError, requests.RequestException when it is cut short."""
        status = response.status_code
        if status != requests.codes.ok:
            passes = status == requests.codes.too_many_requests or status >= 500
            raise MediaError(f"the CDN answered {status}", passes=passes)
        kind = response.headers.get("Content-Type", "")
        if not kind.startswith(_CONTENT[ending]):
            raise MediaError(f"the CDN sent {kind[:80]!r} for {ending}")
        size, until = 0, time.monotonic() + MEDIA_LIMIT
        for chunk in response.iter_content(CHUNK):
            size += len(chunk)
            if size > MEDIA_MAX or time.monotonic() > until:
                raise MediaError(f"given up after {size} bytes")
            file.write(chunk)
        if not size:
            raise MediaError("the CDN sent nothing", passes=True)

    @contextmanager
    def _opened(self, session: requests.Session, url: str) -> Iterator[requests.Response]:
        """Ask for ``url``; redirects are followed on the CDN only. Raises MediaError, RequestException."""
        for _ in range(REDIRECTS_MOST + 1):
            target, headers = self._route(check_media_url(url))
            response = session.get(
                target, headers=headers, stream=True, allow_redirects=False, timeout=TIMEOUTS
            )
            with response:
                if not response.is_redirect:
                    yield response
                    return
                url = urljoin(url, response.headers["Location"])
        raise MediaError("the CDN redirects in circles")

    def _route(self, url: str) -> tuple[str, dict[str, str]]:
        """Return where to ask for ``url``, and with which headers."""
        if not self._simulated:
            return url, {}
        meant, there = urlsplit(url), urlsplit(self._simulated)
        return urlunsplit(meant._replace(scheme=there.scheme, netloc=there.netloc)), {"Host": meant.netloc}

    def _session(self) -> requests.Session:
        session = requests.Session()
        session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
        session.auth = lambda request: request  # nobody's key or .netrc goes to the CDN
        session.trust_env = not self._simulated
        return session


def _pks(folder: Path) -> set[str]:
    """Return the pk of every story that is in a folder already."""
    return {match[1] for entry in os.scandir(folder) if (match := _SAVED.fullmatch(entry.name))}
