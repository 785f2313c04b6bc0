"""What is kept of media: their names, their types, and the words for what could not be kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

from service.domain.errors import MediaNotFound, StoryhookError, UpstreamTimeout

OTHER = "bin"
OTHER_TYPE = "application/octet-stream"
TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "heic": "image/heic",
    "mp4": "video/mp4",
    OTHER: OTHER_TYPE,
}
_SUFFIXES = {content_type: suffix for suffix, content_type in TYPES.items()} | {"image/jpg": "jpg"}
_NAME = re.compile(rf"([0-9a-f]{{64}})\.({'|'.join(TYPES)})", re.ASCII)

# Why an item has no archiveUrl: `archiveError`.
MEDIA_NOT_FOUND = "media_not_found"
TOO_LARGE = "too_large"
UNAVAILABLE = "archive_unavailable"
TIMEOUT = "timeout"
UPSTREAM = "upstream_error"
FULL = "archive_full"
ACCOUNT_FULL = "archive_share_full"


class NotKept(Exception):
    """A file could not be kept; ``why`` is one of the words above."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class Kept:
    """A file in the archive: SHA-256 of its bytes in hex, size in bytes, end of its life in Unix seconds."""

    digest: str
    suffix: str
    size: int
    until: int

    @property
    def name(self) -> str:
        return f"{self.digest}.{self.suffix}"

    @property
    def content_type(self) -> str:
        return TYPES[self.suffix]


@dataclass(frozen=True)
class Owner:
    """Whose a file is: the id of an Instagram user, and the lower-case names the user was seen under."""

    user_id: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Room:
    """How many bytes the archive may hold in all, and of what one account asked to keep; 0 for any number."""

    most: int = 0
    account: int = 0


UNLIMITED = Room()


@dataclass(frozen=True)
class Reservation:
    """Room that is kept free, for an account, for a file of at most ``size`` bytes on its way.

    ``in_all`` is what it takes of the whole archive: nothing for a file that is there.
    """

    token: str
    account_id: str
    size: int
    in_all: int

    @property
    def member(self) -> str:
        return f"{self.token}|{self.account_id}|{self.size}|{self.in_all}"

    @property
    def announced(self) -> str:
        """What stands in its place once the file itself counts in all."""
        return f"{self.token}|{self.account_id}|{self.size}|0"


@dataclass(frozen=True)
class Totals:
    """How much the archive holds."""

    files: int
    size: int


def suffix_of(content_type: str) -> str:
    """Return the ending of a file of that type; ``bin`` for one that is not known."""
    return _SUFFIXES.get(content_type.partition(";")[0].strip().lower(), OTHER)


def parse_name(name: str) -> tuple[str, str] | None:
    """Return digest and suffix of a file's name; None when it is none."""
    match = _NAME.fullmatch(name)
    return (match[1], match[2]) if match else None


def path_of(name: str) -> str:
    """Return where a file lies below the archive's root: ``ab/cd/abcd....jpg``."""
    return f"{name[:2]}/{name[2:4]}/{name}"


def why_not(error: StoryhookError) -> str:
    """Return the word for an error that kept the bytes from coming."""
    if isinstance(error, MediaNotFound):
        return MEDIA_NOT_FOUND
    return TIMEOUT if isinstance(error, UpstreamTimeout) else UPSTREAM
