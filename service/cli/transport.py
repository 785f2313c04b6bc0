"""A call of the HTTP API that outlasts its troubles. Durations are seconds."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import requests

from service import __version__
from service.cli.servers import Server, is_loopback
from service.domain.deliveries import parse_retry_after

USER_AGENT = f"storyhook/{__version__}"

HOLD_MOST = 25.0  # as long as the server waits by itself; proxies on the way may not like longer
CONNECT_LIMIT = 5.0
ANSWER_LIMIT = 10.0  # for the answer itself, once the server no longer waits
BACKOFF_FIRST = 0.5
BACKOFF_MOST = 8.0
DONE = frozenset({200, 201, 202, 204})

# About this call only; every other refusal would meet the next name as well.
_OF_ONE_CALL = frozenset({402, 409, 422})

Send = Callable[[float], requests.Response]


@dataclass(frozen=True)
class Reply:
    """What the server said: the bytes as they came, the object in them, how long to leave it alone."""

    status: int
    body: bytes
    content: dict[str, Any]
    pause: float = 0.0


class NoAnswer(Exception):
    """The server gave no answer to the call.

    ``code`` is its own word for why, or ``unreachable``, and ``status`` its HTTP status, 0 without one;
    ``details`` are its sentences by field or line. ``everywhere`` says that the next name would fare no
    better, ``passes`` that the same call may work after ``retry_after`` seconds.
    """

    def __init__(
        self,
        message: str,
        code: str = "unreachable",
        *,
        status: int = 0,
        details: dict[str, str] | None = None,
        everywhere: bool = True,
        passes: bool = True,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.details = details or {}
        self.everywhere = everywhere
        self.passes = passes
        self.retry_after = retry_after


class Stopped(Exception):
    """The run ended before this call did."""


def is_done(content: dict[str, Any], status: int) -> bool:
    """Tell an answer from a refusal of the call."""
    return status in DONE and (bool(content) or status == requests.codes.no_content)


class Transport:
    """Calls one server with one key; threads may share it. Nothing is begun once ``stop`` is set."""

    def __init__(self, server: Server, *, stop: threading.Event) -> None:
        self.url = server.url
        self._server = server
        self._stop = stop

    def session(self) -> requests.Session:
        """Return a session that sends the key, and nobody else's."""
        session = session_without_key(self._server)
        session.auth = self._authorize
        return session

    def pause(self, seconds: float) -> bool:
        """Wait; return whether the run ends meanwhile."""
        return self._stop.wait(seconds)

    def ask(
        self,
        send: Send,
        deadline: float,
        *,
        hold: float = HOLD_MOST,
        is_answer: Callable[[dict[str, Any], int], bool] = is_done,
        names_one: bool = False,
    ) -> Reply:
        """Send until there is an answer, or no time for another try before ``deadline`` (monotonic).

        ``send`` gets the seconds the server may hold the call, ``hold`` at most. ``names_one`` says that a
        thing's id is in the address: a 404 is about that thing. Raises NoAnswer, Stopped.
        """
        for tries in itertools.count():
            started = time.monotonic()
            try:
                response = self._sent(send, min(max(deadline - started, 0.0), hold))
                return _judged(response, self.url, started, is_answer)
            except NoAnswer as error:
                if names_one and error.status == requests.codes.not_found:
                    error.everywhere = False
                pause = max(error.retry_after, backoff(tries))
                if not error.passes or time.monotonic() + pause > deadline:
                    raise
            if self.pause(pause):
                break
        raise Stopped

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._server.api_key}"
        return request

    def _sent(self, send: Send, hold: float) -> requests.Response:
        try:
            return send(hold)
        except requests.RequestException as error:
            passes = not isinstance(error, requests.exceptions.SSLError)
            raise NoAnswer(f"{self.url} could not be reached: {reason(error)}", passes=passes) from None


def session_without_key(server: Server) -> requests.Session:
    """Return a session for what a server gives to everybody: no key is sent, and no password of a .netrc."""
    session = requests.Session()
    session.headers["User-Agent"] = USER_AGENT
    # As `auth`, because requests would put what a .netrc holds over a plain header.
    session.auth = lambda request: request
    session.trust_env = not is_loopback(server.url)  # no proxy leads to this machine
    session.verify = server.ca_file or True
    return session


def manner(hold: float, answer_limit: float = ANSWER_LIMIT) -> dict[str, Any]:
    """Return how a call is made that the server may hold so long: limits, and no redirects."""
    return {"timeout": (CONNECT_LIMIT, hold + answer_limit), "allow_redirects": False}


def backoff(tries: int) -> float:
    """Return the seconds before the next try: about twice as long each time, never two callers alike."""
    return min(BACKOFF_FIRST * 2.0 ** min(tries, 16), BACKOFF_MOST) * random.uniform(0.5, 1.0)  # noqa: S311


def reason(error: requests.RequestException) -> str:
    """Return why a call did not come about, without the address that urllib3 repeats before it."""
    if isinstance(error, requests.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    cause = error.args[0] if error.args else error
    return str(getattr(cause, "reason", cause)).rpartition(": ")[2] or type(error).__name__


def _judged(
    response: requests.Response,
    url: str,
    started: float,
    is_answer: Callable[[dict[str, Any], int], bool],
) -> Reply:
    """Return what a response says. Raises NoAnswer when it is a refusal."""
    content = _object(response.content)
    retry_after = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC)) or 0.0
    if is_answer(content, response.status_code):
        pause = max(retry_after - (time.monotonic() - started), 0.0)
        return Reply(response.status_code, response.content, content, pause)
    raise _refusal(response, url, content, retry_after)


def _refusal(response: requests.Response, url: str, said: dict[str, Any], retry_after: float) -> NoAnswer:
    status = response.status_code
    code = str(said.get("code") or f"http_{status}")
    sentence = said.get("error") or "this is no answer of Storyhook"
    details = _details(said)
    if response.is_redirect:
        sentence = f"give its new address, {response.headers['Location']}"
    elif details:
        sentence = "; ".join(f"{name}: {told}" for name, told in details.items())
    return NoAnswer(
        f"{url} refused: {sentence} ({code})",
        code,
        status=status,
        details=details,
        everywhere=status not in _OF_ONE_CALL,
        passes=status == requests.codes.too_many_requests or status >= 500,
        retry_after=retry_after,
    )


def _details(said: dict[str, Any]) -> dict[str, str]:
    """Return a refusal's sentences by field; a server's list of them becomes one text."""
    details = said.get("details")
    if not isinstance(details, dict):
        return {}
    return {
        str(name): " ".join(map(str, told)) if isinstance(told, list) else str(told)
        for name, told in details.items()
    }


def _object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in ``body``, an empty one when there is none."""
    try:
        content = orjson.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
