"""WSGI (PEP 3333) as a call of a function: an environment in, an answer out; it runs in a thread."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Any]
Headers = list[tuple[bytes, bytes]]


@dataclass
class Answer:
    """Status and headers, and a body that is whole, or comes in pieces."""

    status: int
    headers: Headers
    body: bytes = b""
    pieces: Iterator[bytes] | None = None  # instead of ``body``
    close: Callable[[], None] = lambda: None

    @property
    def retry_after(self) -> float:
        """The seconds of ``Retry-After``, 0 without."""
        return next((float(value) for name, value in self.headers if name == b"retry-after"), 0.0)


def environ_of(scope: Mapping[str, Any]) -> Environ:
    """Return the environment of a call without its body.

    A header whose name has an underscore is left out, as nginx does: in an environment it cannot be told from
    the one with a hyphen, and would pass for what a proxy says.
    """
    client, server = scope.get("client") or ("", 0), scope.get("server") or ("", 0)
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "REMOTE_ADDR": client[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input": io.BytesIO(),
        "wsgi.input_terminated": True,
    }
    for name, value in scope["headers"]:
        if b"_" not in name:
            _add(environ, name.decode("latin-1"), value.decode("latin-1"))
    return environ


def _add(environ: Environ, name: str, value: str) -> None:
    key = name.upper().replace("-", "_")
    if key not in ("CONTENT_LENGTH", "CONTENT_TYPE"):
        key = f"HTTP_{key}"
        if key in environ:
            value = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{value}"
    environ[key] = value


def call(app: App, environ: Environ, in_pieces: Callable[[Environ], bool]) -> Answer:
    """Run ``app``; a body stays in pieces where ``in_pieces`` of the environment says so afterwards."""
    answer = Answer(500, [])

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
        answer.status = int(status[:3])
        answer.headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
        ]

    body = app(environ, start_response)
    close = getattr(body, "close", lambda: None)
    if in_pieces(environ):
        answer.pieces, answer.close = iter(body), close
        return answer
    try:
        answer.body = b"".join(body)
    finally:
        close()
    return answer
