"""What is answered while the service waits for its store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from service.web.wsgi import Environ


class Starting:
    """A WSGI app: alive, not ready, and it says what is waited for."""

    def __init__(self) -> None:
        self.waits_for = "the store"

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/healthz":
            return _json(start_response, "200 OK", {"status": "ok"})
        if environ["PATH_INFO"] == "/readyz":
            missing = {"status": "not ready", "checks": {"store": "down"}, "waitingFor": self.waits_for}
            return _json(start_response, "503 Service Unavailable", missing)
        sentence = f"The service is starting: it waits for {self.waits_for}. Try again shortly."
        body = {"success": False, "status": "failed", "error": sentence, "code": "service_unavailable"}
        return _json(start_response, "503 Service Unavailable", body)


def _json(start_response: Callable[..., Any], status: str, body: dict[str, Any]) -> Iterable[bytes]:
    data = json.dumps(body).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
    if not status.startswith("200"):
        headers.append(("Retry-After", "2"))
    start_response(status, headers)
    return [data]
