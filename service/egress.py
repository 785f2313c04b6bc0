"""The way out to addresses that callers chose: bounded in time and size, never redirected or proxied."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import requests

ANSWER_MAX = 64 * 1024  # bytes of an answer that are read


class EgressError(Exception):
    """The exchange was ended by us; ``code`` says why."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the headers, and at most ANSWER_MAX bytes of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Egress:
    """Sends requests to callers' addresses. Threads may share it; each has its own connections."""

    def __init__(self, *, connect_timeout: float, total_timeout: float) -> None:
        self._connect_timeout = connect_timeout
        self._total_timeout = total_timeout
        self._local = threading.local()

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """POST ``body`` and return the answer. Raises EgressError, requests.RequestException."""
        timeout = (self._connect_timeout, self._total_timeout)
        with self._session().post(
            url, data=body, headers=dict(headers), timeout=timeout, allow_redirects=False, stream=True
        ) as response:
            content = response.raw.read(ANSWER_MAX, decode_content=False)
            return Answer(response.status_code, response.headers, content)

    def _session(self) -> requests.Session:
        session = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False  # no proxies, no netrc from the environment
            self._local.session = session
        return session
