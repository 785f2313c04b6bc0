"""Whose request it is: the session in its headers, and how many calls a session may make in a minute."""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping

from werkzeug.datastructures import Headers

from .knobs import canonical_session

ANONYMOUS = "anonymous"
_BEARER = "Bearer IGT:2:"


def session_of(headers: Headers, cookies: Mapping[str, str]) -> str | None:
    """The sessionid of a request in canonical form, from its Authorization or its cookie; None without."""
    bearer = headers.get("Authorization", "")
    found = (
        _from_bearer(bearer.removeprefix(_BEARER)) if bearer.startswith(_BEARER) else cookies.get("sessionid")
    )
    session = canonical_session(found or "")
    return session if user_id_in(session) else None


def user_id_in(session: str) -> int | None:
    """The account's own user id, which a sessionid starts with."""
    digits, separator, _ = session.partition("%3A")
    return int(digits) if separator and digits.isdecimal() and len(digits) <= 19 else None


def _from_bearer(token: str) -> str | None:
    try:
        sessionid = json.loads(base64.b64decode(token, validate=True))["sessionid"]
    except (binascii.Error, ValueError, KeyError, TypeError):
        return None
    return sessionid if isinstance(sessionid, str) else None


class SessionLimits:
    """Calls of each session within the last minute; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recent: defaultdict[str, deque[float]] = defaultdict(deque)

    def exceeded(self, session: str, per_minute: int) -> bool:
        """Count a call; True when the session has used up its minute. Zero means no limit."""
        if not per_minute:
            return False
        now = time.monotonic()
        with self._lock:
            recent = self._recent[session]
            while recent and recent[0] <= now - 60:
                recent.popleft()
            if len(recent) >= per_minute:
                return True
            recent.append(now)
            return False

    def reset(self) -> None:
        with self._lock:
            self._recent.clear()
