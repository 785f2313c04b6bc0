"""The front door before a small app of the test's, on a port of its own, and raw connections to it."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Any
from urllib.parse import unquote

from service.api.costs import cost_of, is_public
from service.domain.admission import PIECES, PLACE, REFUSAL, Admission
from service.domain.errors import Unauthorized
from service.web.front import Front, House
from service.web.server import Server, configured, listen
from service.web.wsgi import Environ
from tests.conftest import await_true

KEY = "sk_live_known"
ACCOUNT = "acc_known"
BODY_MOST = 100_000


@dataclass
class Behind:
    """What the app behind the door does, by path, and what it saw."""

    seen: list[Environ] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    running: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    closed: int = 0
    go_on: Event = field(default_factory=Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get(REFUSAL) is not None:
            return _refused(environ[REFUSAL], start_response)
        path = environ["PATH_INFO"]
        with self.lock:
            self.running[path] += 1
            self.most[path] = max(self.most[path], self.running[path])
        try:
            return self._answer(path, environ, start_response)
        finally:
            with self.lock:
                self.running[path] -= 1

    def _answer(self, path: str, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read()
        with self.lock:
            self.seen.append(environ)
            self.bodies.append(body)
        if environ["QUERY_STRING"] == "hold":
            assert self.go_on.wait(60)
        if environ["QUERY_STRING"] == "wait":
            environ[PLACE].leave()
            assert self.go_on.wait(60)
        if environ["QUERY_STRING"].startswith("pieces"):
            environ[PIECES] = unquote(environ["QUERY_STRING"].partition("=")[2])
            start_response("200 OK", [])
            return _Pieces(self)
        if environ["QUERY_STRING"] == "limited":
            start_response("429 Too Many", [("Retry-After", "7"), ("Content-Length", "0")])
            return []
        if environ["QUERY_STRING"] == "unauthorized":
            start_response("401 Unauthorized", [("Content-Length", "0")])
            return []
        sized = environ["QUERY_STRING"].startswith("size=")
        size = int(environ["QUERY_STRING"].removeprefix("size=")) if sized else 11
        answer = b"HTTP/1.1 ok".ljust(size)[:size]  # looks like a head, and is none
        start_response("200 OK", [("Content-Length", str(size))])
        return [answer]


class _Pieces:
    """A body without end."""

    def __init__(self, behind: Behind) -> None:
        self._behind = behind

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._behind.lock:
                self._behind.running["piece"] += 1
                count = self._behind.running["piece"]
                self._behind.most["piece"] = max(self._behind.most["piece"], count)
            piece = b"x" * 65_536
            with self._behind.lock:
                self._behind.running["piece"] -= 1
            yield piece

    def close(self) -> None:
        with self._behind.lock:
            self._behind.closed += 1


def _refused(error: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
    headers = [("Retry-After", str(error.retry_after))] if error.retry_after else []
    body = json.dumps({"code": error.code, "error": error.message}).encode()
    start_response(f"{error.status} Refused", [*headers, ("Content-Length", str(len(body)))])
    return [body]


@dataclass
class Door:
    """A front door under test."""

    port: int
    front: Front
    behind: Behind
    admission: Admission

    def connect(self, data: bytes = b"") -> socket.socket:
        line = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        line.sendall(data)
        return line

    def ask(
        self, path: str = "/x", *, method: str = "GET", body: bytes = b"", key: str = KEY, **headers: str
    ) -> Answer:
        """Make a call on a connection of its own."""
        with self.connect(call(path, method=method, body=body, key=key, **headers)) as line:
            return read_answer(line)

    def idle(self) -> bool:
        """Nothing is held by anybody."""
        kinds = [*self.admission.gates.values(), self.admission.bodies]
        return all(places.free == places.total for places in kinds)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    path: str = "/x", *, method: str = "GET", body: bytes = b"", key: str = KEY, **headers: str
) -> bytes:
    """Return the bytes of a call. A Content-Length that is given is not that of ``body``."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    if body and "Content_Length" not in headers and "Transfer_Encoding" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def read_answer(line: socket.socket) -> Answer:
    """Read one answer with a length, or one that ends with the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += some(line)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
    length = int(headers.get("content-length", "0"))
    while len(body) < length:
        body += some(line)
    return Answer(int(first.split()[1]), headers, body)


def some(line: socket.socket) -> bytes:
    data = line.recv(65_536)
    if not data:
        raise ConnectionError("the connection was closed")
    return data


def ends(line: socket.socket) -> bool:
    """Tell that the other side ends the connection; what comes before is read and dropped."""
    try:
        while line.recv(65_536):
            pass
    except ConnectionError:
        pass
    return True


def _authenticate(admission: Admission, environ: Environ) -> None:
    key = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ")
    if key != "sk_live_new":
        raise Unauthorized
    admission.callers.remember(key, "acc_new")


@contextmanager
def opened(waiters: int = 8) -> Iterator[Door]:
    """Run a front door with an app behind it; callers with `KEY` are known."""
    admission = Admission(waiters)
    admission.callers.remember(KEY, ACCOUNT)
    house = House(
        cost_of=cost_of,
        is_public=is_public,
        credential_of=lambda environ: environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer "),
        address_of=lambda environ: environ.get("HTTP_X_TEST_ADDRESS", environ["REMOTE_ADDR"]),
        body_most=lambda path: BODY_MOST,
    )
    front = Front(admission, house)
    behind = front.app = Behind()
    front.authenticate = partial(_authenticate, admission)
    listener = listen("127.0.0.1", 0)
    server = Server(configured(front), Event())
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        await_true(lambda: server.started)
        yield Door(listener.getsockname()[1], front, behind, admission)
    finally:
        behind.go_on.set()
        server.should_exit = True
        server.force_exit = True
        thread.join(60)
        assert not thread.is_alive()
