"""A client of the HTTP API: where the server is, and a call that outlasts its troubles.

Needs nothing but the server's URL and a key. Durations are seconds.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import random
import threading
import time
import tomllib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import requests

from service import __version__
from service.domain.deliveries import parse_retry_after
from service.domain.errors import ConfigurationError

READY = Path("var") / "ready.json"
USER_AGENT = f"storyhook/{__version__}"

HOLD_MOST = 25.0  # as long as the server waits by itself; proxies on the way may not like longer
CONNECT_LIMIT = 5.0
ANSWER_LIMIT = 10.0  # for the answer itself, once the server no longer waits
BACKOFF_FIRST = 0.5
BACKOFF_MOST = 8.0

# About this call only; every other refusal would meet the next name as well.
_OF_ONE_CALL = frozenset({402, 422})

Send = Callable[[float], requests.Response]


@dataclass(frozen=True)
class Server:
    """A service and a key for it; "" is unknown.

    ``simulated`` is where its simulated Instagram listens: media are fetched from there then.
    """

    url: str = ""
    api_key: str = field(default="", repr=False)
    simulated: str = ""


@dataclass(frozen=True)
class Answer:
    """An envelope: the bytes as they came, what they say, and how long to leave the request alone."""

    body: bytes
    envelope: dict[str, Any]
    pause: float = 0.0

    @property
    def ended(self) -> bool:
        return "finishedAt" in self.envelope

    @property
    def succeeded(self) -> bool:
        return self.ended and self.envelope.get("success") is True

    @property
    def items(self) -> list[dict[str, Any]]:
        """The raw stories in it."""
        data = self.envelope.get("data")
        items = data.get("items") if isinstance(data, dict) else None
        return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


class NoAnswer(Exception):
    """The server gave no envelope.

    ``code`` is its own word for why, or ``unreachable``; ``everywhere`` says that the next name would
    fare no better, ``passes`` that the same call may work after ``retry_after`` seconds.
    """

    def __init__(
        self,
        message: str,
        code: str = "unreachable",
        *,
        everywhere: bool = True,
        passes: bool = True,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.everywhere = everywhere
        self.passes = passes
        self.retry_after = retry_after


class Stopped(Exception):
    """The run ended before this call did."""


# --- which server, which key -----------------------------------------------------------------------


def find_server(url: str | None, api_key: str | None) -> Server:
    """Fill up what was given from the config file, then from what `make run` left in this folder.

    A key in a file is for the URL beside it and goes to no other. Raises ConfigurationError.
    """
    known = Server(normal_url(url, "--server") if url else "", (api_key or "").strip())
    if not (known.url and known.api_key):
        known = _filled(known, _configured())
    running = _running()
    known = _filled(known, running)
    if not (known.url and known.api_key):
        what = "No server is known" if not known.url else f"No API key is known for {known.url}"
        raise ConfigurationError(
            f"{what}: give --server and --key, set STORYHOOK_URL and STORYHOOK_API_KEY, or write "
            f'url = "..." and api_key = "..." into {config_file()}.'
        )
    if not (known.api_key.isascii() and known.api_key.isprintable()) or " " in known.api_key:
        raise ConfigurationError("An API key is printable ASCII without spaces.")
    return Server(known.url, known.api_key, _simulated(known, running))


def _filled(known: Server, file: Server) -> Server:
    url = known.url or file.url
    return Server(url, known.api_key or (file.api_key if file.url in {"", url} else ""))


def _simulated(known: Server, running: Server) -> str:
    """Return where a local server's simulated Instagram is. Raises ConfigurationError when not here."""
    named = os.environ.get("SIMULATED_INSTAGRAM_URL", "")
    if not is_loopback(known.url):
        return ""
    if not named:
        return running.simulated if running.url == known.url else ""
    named = normal_url(named, "SIMULATED_INSTAGRAM_URL")
    if not is_loopback(named):
        raise ConfigurationError("SIMULATED_INSTAGRAM_URL must be on loopback.")
    return named


def config_file() -> Path:
    """Return where the config file is looked for (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):  # the specification: relative ones are ignored
        base = os.path.expanduser("~/.config")
    return Path(base) / "storyhook" / "config.toml"


def _configured() -> Server:
    """Return what the config file says. Raises ConfigurationError when others may read it."""
    path = config_file()
    try:
        with path.open("rb") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                raise ConfigurationError(f"Others may read {path}, and it is for a key: chmod 600 {path}")
            content = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return Server()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigurationError(f"{path} is no TOML: {error}.") from None
    url, api_key = content.get("url", ""), content.get("api_key", "")
    if not (isinstance(url, str) and isinstance(api_key, str)):
        raise ConfigurationError(f"{path}: url and api_key are strings.")
    return Server(normal_url(url, f"url in {path}") if url else "", api_key.strip())


def _running() -> Server:
    """Return the stack `make run` runs in this folder. A folder's file names no server elsewhere."""
    try:
        ready = json.loads(READY.read_text())
        url = normal_url(str(ready["url"]), str(READY))
        simulated = str(ready.get("simulatedInstagram") or "")
        if simulated:
            simulated = normal_url(simulated, str(READY))
        if is_loopback(url) and (not simulated or is_loopback(simulated)):
            return Server(url, str(ready["apiKey"]), simulated)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ConfigurationError):
        pass  # nothing runs here, or it is just starting
    return Server()


def normal_url(text: str, where: str) -> str:
    """Return a server's URL without its last slash. Raises ConfigurationError naming ``where``."""
    url = text.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or any(mark in url for mark in " \\@?#"):
        raise ConfigurationError(f"{where}: give a URL such as https://storyhook.example.com.")
    return url


def is_loopback(url: str) -> bool:
    """Tell whether a URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# --- calling it ------------------------------------------------------------------------------------


class Api:
    """The calls of one run; threads may share it.

    A name's call, with all its retries, is one request: its Idempotency-Key is made of run and name.
    Each ends after ``wait`` seconds, or when ``stop`` is set.
    """

    def __init__(self, server: Server, *, wait: float, stop: threading.Event) -> None:
        self._server = server
        self._wait = wait
        self._stop = stop
        self._run = uuid.uuid4()

    def stories(self, name: str, max_age: int | None = None) -> Answer:
        """Return the envelope of a name's stories, also one that has not ended in time.

        ``max_age`` None is the server's own. Raises NoAnswer, Stopped.
        """
        deadline = time.monotonic() + self._wait
        with self._session() as session:
            answer = self._ask(self._submission(session, name, max_age), deadline)
            look = self._look(session, str(answer.envelope["requestId"]))
            while not answer.ended and (left := deadline - time.monotonic()) > 0:
                if self._stop.wait(min(answer.pause, left)):
                    break
                answer = self._ask(look, deadline)
        return answer

    def _submission(self, session: requests.Session, name: str, max_age: int | None) -> Send:
        body = {"username": name, **({} if max_age is None else {"maxAge": max_age})}
        key = str(uuid.uuid5(self._run, name))

        def send(hold: float) -> requests.Response:
            headers = {"Idempotency-Key": key, "Prefer": f"wait={int(hold)}"}
            url = f"{self._server.url}/api/instagram/stories"
            return session.post(url, json=body, headers=headers, **_manner(hold))

        return send

    def _look(self, session: requests.Session, request_id: str) -> Send:
        def send(hold: float) -> requests.Response:
            url = f"{self._server.url}/api/requests/{request_id}"
            return session.get(url, params={"wait": f"{hold:.1f}"}, **_manner(hold))

        return send

    def _session(self) -> requests.Session:
        session = requests.Session()
        session.headers["User-Agent"] = USER_AGENT
        # As `auth`, because requests would put what a .netrc holds over a plain header.
        session.auth = self._authorize
        session.trust_env = not is_loopback(self._server.url)  # no proxy leads to this machine
        return session

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._server.api_key}"
        return request

    def _ask(self, send: Send, deadline: float) -> Answer:
        """Send until there is an envelope, or no time for another try. Raises NoAnswer, Stopped."""
        for tries in itertools.count():
            try:
                return self._judged(send, deadline)
            except NoAnswer as error:
                pause = max(error.retry_after, backoff(tries))
                if not error.passes or time.monotonic() + pause > deadline:
                    raise
            if self._stop.wait(pause):
                break
        raise Stopped

    def _judged(self, send: Send, deadline: float) -> Answer:
        """Send once, asking the server to wait; return the envelope. Raises NoAnswer."""
        started = time.monotonic()
        try:
            response = send(min(max(deadline - started, 0.0), HOLD_MOST))
        except requests.RequestException as error:
            passes = not isinstance(error, requests.exceptions.SSLError)
            raise NoAnswer(
                f"{self._server.url} could not be reached: {reason(error)}", passes=passes
            ) from None
        envelope = _object(response.content)
        retry_after = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC)) or 0.0
        if _is_envelope(envelope, response.status_code):
            pause = max(retry_after - (time.monotonic() - started), 0.0)
            return Answer(response.content, envelope, pause)
        raise self._refusal(response, envelope, retry_after)

    def _refusal(self, response: requests.Response, said: dict[str, Any], retry_after: float) -> NoAnswer:
        status = response.status_code
        code = str(said.get("code") or f"http_{status}")
        sentence = said.get("error") or "this is no answer of Storyhook"
        if response.is_redirect:
            sentence = f"give its new address, {response.headers['Location']}"
        elif isinstance(details := said.get("details"), dict):
            sentence = "; ".join(f"{name}: {' '.join(map(str, told))}" for name, told in details.items())
        return NoAnswer(
            f"{self._server.url} refused: {sentence} ({code})",
            code,
            everywhere=status not in _OF_ONE_CALL,
            passes=status == requests.codes.too_many_requests or status >= 500,
            retry_after=retry_after,
        )


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


def _manner(hold: float) -> dict[str, Any]:
    return {"timeout": (CONNECT_LIMIT, hold + ANSWER_LIMIT), "allow_redirects": False}


def _object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in ``body``, an empty one when there is none."""
    try:
        content = orjson.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _is_envelope(content: dict[str, Any], status: int) -> bool:
    """Tell a request's envelope, ended or under way, from a refusal of the call."""
    return "requestId" in content and ("finishedAt" in content or status in {200, 202})
