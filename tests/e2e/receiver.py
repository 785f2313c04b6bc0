"""A receiver of webhooks that answers as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks import Webhook

from tests.conftest import await_true


@dataclass(frozen=True)
class Arrival:
    """One POST as it came: exact bytes, headers, and when (Unix seconds)."""

    body: bytes
    headers: Mapping[str, str]
    answered: int
    at: float = field(default_factory=time.time)

    @property
    def delivery_id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> dict[str, Any]:
        """Return the envelope; raises WebhookVerificationError when the signature does not hold."""
        Webhook(secret).verify(self.body, dict(self.headers))
        envelope: dict[str, Any] = json.loads(self.body)
        return envelope


class Receiver:
    """Listens on loopback. ``answers`` are the statuses of the next POSTs, after them it is 204."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.arrivals: list[Arrival] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def about(self, request_id: str) -> list[Arrival]:
        """Return what came about a request."""
        return [each for each in list(self.arrivals) if json.loads(each.body)["requestId"] == request_id]

    def wait_for(self, request_id: str, count: int = 1, seconds: float = 60) -> list[Arrival]:
        """Return what came about a request once it is at least ``count``."""
        await_true(lambda: len(self.about(request_id)) >= count, seconds)
        return self.about(request_id)

    def take(self, body: bytes, headers: Mapping[str, str]) -> int:
        """Note a POST and return the status to answer."""
        with self._lock:
            status = self.answers.pop(0) if self.answers else 204
            self.arrivals.append(Arrival(body, headers, status))
        return status


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(receiver.take(body, dict(self.headers.items())))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """The tests look at ``arrivals``."""

    return Handler
