"""A server for the command line: it answers what a test has put into its queue."""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

KEY = "sk_live_for_tests"
OTHER_KEY = "sk_live_of_another_account"
CDN = "https://scontent-fra5-1.cdninstagram.com"


class NoSleep(threading.Event):
    """Notes how long it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0)
        return self.is_set()


class Service:
    """Answers calls about a name from its queue, the last one again and again; others are `found`."""

    def __init__(self, server: HTTPServer) -> None:
        self.server = server
        self.url = server.url_for("").rstrip("/")
        self.requests: list[Request] = []
        self._answers: defaultdict[str, deque[Response]] = defaultdict(deque)
        server.expect_request("/api/instagram/stories", method="POST").respond_with_handler(self._submit)

    def will(self, name: str, *answers: Response) -> None:
        self._answers[name].extend(answers)

    def looks(self, request_id: str, *answers: Response) -> None:
        """Answer looks at a request."""
        self._answers[request_id].extend(answers)
        path = f"/api/requests/{request_id}"
        self.server.expect_request(path).respond_with_handler(lambda request: self._next(request, request_id))

    def names(self) -> list[str]:
        return [request.get_json()["username"] for request in self.requests if request.method == "POST"]

    def keys(self) -> list[str]:
        return [request.headers["Idempotency-Key"] for request in self.requests if request.method == "POST"]

    def _submit(self, request: Request) -> Response:
        return self._next(request, request.get_json()["username"])

    def _next(self, request: Request, about: str) -> Response:
        self.requests.append(request)
        answers = self._answers[about]
        if not answers:
            return answer(found(about))
        return answers.popleft() if len(answers) > 1 else answers[0]


def answer(body: Any, status: int = 200, **headers: str) -> Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(
        body if isinstance(body, str) else json.dumps(body), status, given, content_type="application/json"
    )


def found(name: str, *items: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the envelope of a success."""
    return {
        "success": True,
        "requestId": f"req_{name}",
        "status": "succeeded",
        "outcome": "found" if items else "empty",
        "operation": "stories",
        "username": name,
        "data": {"id": "1", "items": list(items)},
        "itemCount": len(items),
        "source": "instagrapi",
        "cached": False,
        "age": 0,
        "creditsCharged": 1,
        "createdAt": "2026-11-21T01:00:11.298Z",
        "finishedAt": "2026-11-21T01:00:11.370Z",
        **changes,
    }


def failed(name: str, code: str) -> dict[str, Any]:
    """Return the envelope of a request that ended otherwise."""
    return {
        "success": False,
        "requestId": f"req_{name}",
        "status": "failed",
        "error": f"This is {code}.",
        "code": code,
        "operation": "stories",
        "username": name,
        "creditsCharged": 0,
        "finishedAt": "2026-11-21T01:00:11.370Z",
    }


def running(name: str) -> dict[str, Any]:
    about = {"operation": "stories", "username": name}
    return {"success": True, "requestId": f"req_{name}", "status": "processing", **about}


def refused(code: str, error: str = "No.") -> dict[str, Any]:
    """Return what the service says when it does not accept a call."""
    return {"success": False, "requestId": "req_x", "status": "failed", "error": error, "code": code}


def photo(pk: int, *sizes: tuple[int, int], host: str = CDN, taken_at: int = 1_795_222_811) -> dict[str, Any]:
    """Return a raw story; its candidates are at /i/<pk>_<width>x<height>.jpg."""
    candidates = [{"width": w, "height": h, "url": f"{host}/i/{pk}_{w}x{h}.jpg?oe=1"} for w, h in sizes]
    return {"pk": str(pk), "taken_at": taken_at, "image_versions2": {"candidates": candidates}}


def video(pk: int, *sizes: tuple[int, int]) -> dict[str, Any]:
    versions = [{"width": w, "height": h, "url": f"{CDN}/v/{pk}_{w}x{h}.mp4"} for w, h in sizes]
    return {**photo(pk, (1080, 1920)), "video_versions": versions}
