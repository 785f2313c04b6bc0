"""The Instagram sessions the service works with: their states, and what makes one well formed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any
from urllib.parse import unquote

from service.domain.errors import ValidationFailed

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_SESSION_ID = re.compile(r"\d+%3A.+")
_SESSION_ID_LEAST = 16


class Missing(Enum):
    """The type of `NOT_FOUND`: a username known not to exist."""

    NOT_FOUND = "not_found"


NOT_FOUND = Missing.NOT_FOUND


@dataclass(frozen=True)
class Known:
    """What is remembered of a username: its id and, if it was seen lately, its raw user object.

    ``user`` holds at least a bool ``is_private``. It is remembered for public accounts and for private
    ones that the session which saw them did not follow: what such an account shows is the same to all.
    """

    user_id: str
    user: dict[str, Any] | None = None


class SessionState(StrEnum):
    """Where a session stands."""

    ACTIVE = "active"
    RESTING = "resting"  # comes back by itself
    QUARANTINED = "quarantined"  # comes back when a person says so


# How soon it is worth asking again for a session that another worker holds, seconds.
BUSY_SECONDS = 1.0


@dataclass(frozen=True)
class Pace:
    """How many calls a session may make, and a proxy may carry, a minute and an hour; 0 is no limit."""

    session_minute: int = 0
    session_hour: int = 0
    proxy_minute: int = 0
    proxy_hour: int = 0


UNLIMITED = Pace()


@dataclass(frozen=True)
class SessionRecord:
    """What may be shown of a session; it holds no secret.

    Times are Unix milliseconds, 0 for never. ``failure`` is the reason word of the latest failure
    and ``failures`` how often it came in a row; both are empty after a fetch that went well. The calls
    are those counted in the windows of now; nothing is counted where there is no limit.
    """

    name: str
    state: SessionState
    reason: str
    rested_until: int
    leased: bool
    has_proxy: bool
    version: int
    uses: int
    last_used: int
    added_at: int
    failure: str
    failures: int
    calls_minute: int = 0
    calls_hour: int = 0


@dataclass(frozen=True)
class Leased:
    """A session in the hands of one worker until its lease runs out.

    ``settings`` are what instagrapi's ``get_settings()`` gives, ``proxy`` is a URL. ``version``
    changes whenever either does. ``failure`` and ``failures`` are as in `SessionRecord`. ``granted`` is
    how many calls may be made with it.
    """

    name: str
    token: str
    version: int
    settings: dict[str, Any] = field(repr=False)
    proxy: str | None = field(repr=False, default=None)
    failure: str = ""
    failures: int = 0
    granted: int = 1


@dataclass(frozen=True)
class Unavailable:
    """No session may be used now.

    ``retry_in`` is in seconds, None when the pool is empty or all of it in quarantine. ``busy``
    counts the sessions that others hold; each may come back earlier than ``retry_in``. ``paced`` tells that
    the next one to come back rests by its budgets alone.
    """

    retry_in: float | None
    busy: int
    paced: bool = False

    @property
    def wait(self) -> float | None:
        """When it is worth asking again, seconds; None when none comes back by itself."""
        if self.retry_in is None:
            return None
        return min(self.retry_in, BUSY_SECONDS) if self.busy else self.retry_in


def check_name(name: str) -> str:
    """Return a session's name as it came. Raises ValidationFailed."""
    if not _NAME.fullmatch(name):
        problem = (
            "Use 1 to 64 letters, digits and the characters . _ @ + -, beginning with a letter or digit."
        )
        raise ValidationFailed(details={"name": [problem]})
    return name


def settings_from_sessionid(sessionid: str) -> dict[str, Any]:
    """Return the least settings that work: those of a browser's ``sessionid`` cookie.

    The cookie begins with the account's numeric id and a colon (``%3A`` when URL-encoded, as it
    usually is). Raises ValidationFailed.
    """
    encoded = unquote(sessionid.strip()).replace(":", "%3A")
    if len(encoded) < _SESSION_ID_LEAST or not _SESSION_ID.fullmatch(encoded):
        raise ValidationFailed(
            details={"sessionid": ["This is not the value of Instagram's sessionid cookie."]}
        )
    authorization = {
        "ds_user_id": encoded.partition("%3A")[0],
        "sessionid": encoded,
        "should_use_header_over_cookies": True,
    }
    return {"authorization_data": authorization}


def check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as they came if they carry a login. Raises ValidationFailed."""
    for part in ("authorization_data", "cookies"):
        values = settings.get(part)
        if isinstance(values, dict) and values.get("sessionid"):
            return settings
    raise ValidationFailed(details={"settings": ["These settings hold no Instagram login (no sessionid)."]})
