"""Where the file of a story comes from: the server's archive, or Instagram's CDN."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

from service.cli.servers import Server
from service.cli.transport import session_without_key
from service.domain.archive import OTHER, TYPES, parse_name, suffix_of
from service.domain.media import best_version

TIMEOUTS = (5.0, 20.0)  # seconds to connect, and between two chunks
REDIRECTS_MOST = 3

# The whole authority at once: no user, no port but 443, and a label ends before the suffix begins.
_AUTHORITY = re.compile(r"([a-z0-9-]+\.)*(cdninstagram\.com|fbcdn\.net)(:443)?", re.IGNORECASE)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ARCHIVE_PATH = "/archive/"


class MediaError(Exception):
    """A story that cannot be saved, and why.

    ``passes`` says that trying again may help, ``elsewhere`` that another source may.
    """

    def __init__(self, message: str, *, passes: bool = False, elsewhere: bool = True) -> None:
        super().__init__(message)
        self.passes = passes
        self.elsewhere = elsewhere


@dataclass(frozen=True)
class StoryFile:
    """A file a source has: its address, "image" or "video", its SHA-256 in hex or "" for unknown."""

    url: str
    kind: str
    digest: str = ""


class MediaSource(Protocol):
    """Where files of stories are. ``name`` is what people are told; to be closed."""

    name: str

    def find(self, item: dict[str, Any]) -> StoryFile | None:
        """Return a raw story's file; None when there is none here. Raises MediaError."""
        ...

    def opened(self, url: str) -> AbstractContextManager[requests.Response]:
        """Ask for a file; its body is still to come. Raises MediaError, requests.RequestException."""
        ...

    def close(self) -> None: ...


# --- the archive -----------------------------------------------------------------------------------


class ArchiveSource:
    """The archive of the server that gave the stories. Nothing is asked of any other host."""

    name = "the archive"

    def __init__(self, server: Server) -> None:
        self._server_url = server.url
        self._session = _session(server)

    def find(self, item: dict[str, Any]) -> StoryFile | None:
        """Return the file behind an item's ``archiveUrl``; None without one that can be used."""
        told, place = item.get("archive"), archived_at(item.get("archiveUrl"))
        if place is None or item.get("archiveError") or not isinstance(told, dict):
            return None
        digest, ending = str(told.get("sha256")), suffix_of(str(told.get("contentType")))
        if not _DIGEST.fullmatch(digest) or ending == OTHER:
            return None
        return StoryFile(f"{self._server_url}{place}", _kind(ending), digest)

    @contextmanager
    def opened(self, url: str) -> Iterator[requests.Response]:
        """See `MediaSource.opened`; redirects are not followed."""
        with self._session.get(url, stream=True, allow_redirects=False, timeout=TIMEOUTS) as response:
            yield response

    def close(self) -> None:
        self._session.close()


def archived_at(url: object) -> str | None:
    """Return path and query of an ``archiveUrl``, from ``/archive/`` on; None when it is none."""
    if not (isinstance(url, str) and _is_plain(url)):
        return None
    with suppress(ValueError):
        parts = urlsplit(url)
        _, found, name = parts.path.rpartition(_ARCHIVE_PATH)
        if found and parse_name(name):
            return f"{_ARCHIVE_PATH}{name}?{parts.query}"
    return None


# --- the CDN ---------------------------------------------------------------------------------------


class CdnSource:
    """Instagram's CDN. ``simulated`` (``http://host:port``, "" for none) gets what is meant for it."""

    name = "the CDN"

    def __init__(self, simulated: str) -> None:
        self._simulated = simulated
        self._session = _session(Server(simulated))

    def find(self, item: dict[str, Any]) -> StoryFile:
        """See `best`."""
        return best(item)

    @contextmanager
    def opened(self, url: str) -> Iterator[requests.Response]:
        """See `MediaSource.opened`; redirects are followed on the CDN only."""
        for _ in range(REDIRECTS_MOST + 1):
            target, headers = self._route(check_media_url(url))
            response = self._session.get(
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

    def close(self) -> None:
        self._session.close()


def check_media_url(url: object) -> str:
    """Return a URL that is on Instagram's CDN, by https. Raises MediaError for any other."""
    if isinstance(url, str) and _is_plain(url):
        with suppress(ValueError):
            parts = urlsplit(url)
            if parts.scheme == "https" and _AUTHORITY.fullmatch(parts.netloc):
                return url
    raise MediaError(f"this is no address of Instagram's CDN: {str(url)[:200]!r}")


def best(item: dict[str, Any]) -> StoryFile:
    """Return an item's largest video, or else image. Raises MediaError."""
    version = best_version(item)
    if version is None:
        raise MediaError("it has neither video nor image")
    url, ending = version
    return StoryFile(check_media_url(url), _kind(ending))


# --- both ------------------------------------------------------------------------------------------


def _session(server: Server) -> requests.Session:
    session = session_without_key(server)
    session.headers["Accept-Encoding"] = "identity"
    return session


def _kind(ending: str) -> str:
    return TYPES[ending].partition("/")[0]


def _is_plain(url: str) -> bool:
    # Readers differ on backslashes and on what is not printed: neither is in a URL of ours or the CDN's.
    return url.isascii() and url.isprintable() and not set(url) & set(" \\")
