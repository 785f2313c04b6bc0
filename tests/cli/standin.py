"""A server that speaks the batches and watches of the HTTP contract, and makes trouble when told to."""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from service.domain.errors import ValidationFailed
from service.domain.requests import parse_username
from tests.cli.support import KEY, OTHER_KEY, answer, failed, found, refused

BATCH = "/api/instagram/stories/batch"
NOW = "2026-11-21T01:00:11.298Z"

Handler = Callable[[Request], Response]


def cut(response: Response) -> Response:
    """Return a response whose body ends in the middle."""
    body = response.get_data()
    headers = {"Content-Length": str(len(body))}
    half = [body[: len(body) // 2]]  # as a list, or werkzeug sets the length right
    return Response(half, response.status, headers, content_type=response.content_type)


def trickle(response: Response, step: threading.Event) -> Response:
    """Return a response that stops in the middle until ``step`` is set."""
    body = response.get_data()

    def pieces() -> Iterator[bytes]:
        yield body[: len(body) // 2]
        step.wait(60)
        yield body[len(body) // 2 :]

    return Response(
        pieces(), response.status, {"Content-Length": str(len(body))}, content_type=response.content_type
    )


class Batches:
    """Batches in memory. Names that begin with ``private`` or ``missing`` end otherwise than found.

    ``trouble`` maps "submit", "look" or "results" to what becomes of the next calls: a function gets the
    true answer and returns the one that is sent. ``looks`` is how often a batch is still processing.
    KEY and OTHER_KEY are of two accounts. Of the names in ``erased`` the results are gone.
    """

    def __init__(self, server: HTTPServer) -> None:
        self.url = server.url_for("").rstrip("/")
        self.requests: list[Request] = []
        self.batches: dict[str, dict[str, Any]] = {}
        self.watches: dict[str, dict[str, Any]] = {}
        self.trouble: dict[str, list[Callable[[Response], Response]]] = {}
        self.looks = 1
        self.credits = 10_000
        self.erased: set[str] = set()
        self.big = 0  # bytes in every envelope
        self._by_key: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._lock = threading.Lock()
        server.expect_request(BATCH, method="POST").respond_with_handler(self._route("submit", self._submit))
        server.expect_request("/api/batches", method="GET").respond_with_handler(
            self._route("list", lambda _: answer({"batches": [self._shown(id_) for id_ in self.batches]}))
        )
        server.expect_request(re.compile("/api/batches/.+")).respond_with_handler(self._of_batch)
        server.expect_request("/api/watches").respond_with_handler(self._route("watches", self._watches))
        server.expect_request(re.compile("/api/watches/.+")).respond_with_handler(
            self._route("watch", self._of_watch)
        )

    def submissions(self) -> list[Request]:
        return [request for request in self.requests if request.path == BATCH]

    def _route(self, what: str, handler: Handler) -> Handler:
        def handle(request: Request) -> Response:
            request.get_data()
            with self._lock:
                self.requests.append(request)
                if _caller(request) not in {KEY, OTHER_KEY}:
                    return answer(refused("unauthorized", "Send a valid key."), 401)
                given = handler(request)
                waiting = self.trouble.get(what)
                trouble = waiting.pop(0) if waiting else lambda response: response
            return trouble(given)

        return handle

    # --- batches -----------------------------------------------------------------------------------

    def _submit(self, request: Request) -> Response:
        body, key = request.get_data(), (_caller(request), request.headers["Idempotency-Key"])
        asked = body + request.query_string
        if key in self._by_key:
            before, batch_id = self._by_key[key]
            if before != asked:
                return answer(refused("idempotency_key_reuse", "Used with another body."), 422)
            return self._accepted(batch_id, Idempotency_Replayed="true")
        try:
            lines = list(_names(request.mimetype, body.decode()))
        except KeyError:
            return answer(refused("unsupported_media_type"), 415)
        names: dict[str, str | None] = {}
        duplicates, invalid = [], []
        for line, text, external in lines:
            try:
                name = parse_username(text)
            except ValidationFailed as error:
                invalid.append({"line": line, "value": text, "error": (error.details or {})["username"][0]})
                continue
            if name in names:
                duplicates.append({"line": line, "username": name})
            else:
                names[name] = external
        if not names or (invalid and request.args.get("strict") == "true"):
            told = {f"line {each['line']}": [each["error"]] for each in invalid}
            details = told or {"usernames": ["There is no name in it."]}
            return answer({**refused("validation_error", "See 'details'."), "details": details}, 422)
        unpaid = list(names)[self.credits :]
        if unpaid and request.args.get("onInsufficientCredits") != "clamp":
            short = f"{len(names)} credits are needed, {self.credits} are there."
            return answer(refused("insufficient_credits", short), 402)
        batch_id = f"bat_07{len(self.batches) + 1:04}"
        paid = {name: external for name, external in names.items() if name not in unpaid}
        self.batches[batch_id] = {
            "owner": _caller(request),
            "names": paid,
            "looks": self.looks,
            "options": request.args.to_dict(),
            "told": {"duplicates": duplicates, "invalid": invalid, "unpaid": unpaid},
        }
        self._by_key[key] = (asked, batch_id)
        return self._accepted(batch_id)

    def _accepted(self, batch_id: str, **headers: str) -> Response:
        batch = self.batches[batch_id]
        body = {
            "success": True,
            "batchId": batch_id,
            "status": "processing",
            "accepted": len(batch["names"]),
            "creditsHeld": len(batch["names"]),
            **batch["told"],
            "results": f"/api/batches/{batch_id}/results",
            "createdAt": NOW,
        }
        return answer(body, 202, Location=f"/api/batches/{batch_id}", Retry_After="0", **headers)

    def _of_batch(self, request: Request) -> Response:
        what = "results" if request.path.endswith("/results") else "look"
        return self._route(what, self._results if what == "results" else self._look)(request)

    def _look(self, request: Request) -> Response:
        batch_id = request.path.split("/")[3]
        if self.batches.get(batch_id, {}).get("owner") != _caller(request):
            return answer(refused("not_found", "There is nothing here."), 404)
        shown = self._shown(batch_id)
        self.batches[batch_id]["looks"] -= 1
        return answer(shown, **({"Retry_After": "0"} if shown["status"] == "processing" else {}))

    def _shown(self, batch_id: str) -> dict[str, Any]:
        batch = self.batches[batch_id]
        runs = batch["looks"] > 0
        ends = [] if runs else [_end(name) for name in batch["names"]]
        good = sum(end in {"found", "empty"} for end in ends)
        total = len(batch["names"])
        return {
            "success": True,
            "batchId": batch_id,
            "status": "processing" if runs else "completed",
            "total": total,
            "states": {
                "queued": 0,
                "processing": total - len(ends),
                "succeeded": good,
                "failed": len(ends) - good,
                "cancelled": 0,
            },
            "outcomes": {end: ends.count(end) for end in set(ends)},
            "cached": 0,
            "progress": 0.0 if runs else 1.0,
            "itemCount": good,
            "creditsHeld": total - len(ends),
            "creditsCharged": good,
            "webhookUrl": batch["options"].get("webhookUrl"),
            "webhookMode": batch["options"].get("webhookMode", "each"),
            "maxAge": int(batch["options"].get("maxAge", 60)),
            "createdAt": NOW,
            "startedAt": NOW,
            "finishedAt": None if runs else NOW,
            "eta": None,
            "results": f"/api/batches/{batch_id}/results",
        }

    def _results(self, request: Request) -> Response:
        batch_id = request.path.split("/")[3]
        envelopes = [
            self._envelope(batch_id, name, external)
            for name, external in self.batches[batch_id]["names"].items()
        ]
        start = int(request.args.get("cursor", "0"))
        limit = int(request.args.get("limit", "50"))
        assert 1 <= limit <= 200
        more = start + limit < len(envelopes)
        page = envelopes[start : start + limit]
        return answer({"results": page, "nextCursor": str(start + limit) if more else None})

    def _envelope(self, batch_id: str, name: str, external: str | None) -> dict[str, Any]:
        if name in self.erased:
            return {
                "success": False,
                "requestId": f"req_{name}",
                "batchId": batch_id,
                "error": "The result of this request has passed its lifetime, or was deleted.",
                "code": "not_found",
            }
        end = _end(name)
        envelope = found(name) if end == "empty" else failed(name, end)
        given = {} if external is None else {"externalId": external}
        return {**envelope, "batchId": batch_id, **given, **({"filler": "x" * self.big} if self.big else {})}

    # --- watches -----------------------------------------------------------------------------------

    def _watches(self, request: Request) -> Response:
        if request.method == "GET":
            ids = list(self.watches)
            start = int(request.args.get("cursor", "0"))
            page = [self.watches[each] for each in ids[start : start + 2]]
            more = str(start + 2) if start + 2 < len(ids) else None
            return answer({"watches": page, "nextCursor": more})
        said = request.get_json()
        if said["every"] == "1s":
            details = {"every": ["The least is 300 seconds."]}
            return answer({**refused("validation_error"), "details": details}, 422)
        watch_id = f"wat_07{len(self.watches) + 1:04}"
        self.watches[watch_id] = {
            "success": True,
            "watchId": watch_id,
            **said,
            "status": "active",
            "pauseReason": None,
            "createdAt": NOW,
            "nextRunAt": NOW,
            "lastRunAt": None,
            "lastRequestId": None,
            "lastOutcome": None,
            "runs": 0,
            "itemsDelivered": 0,
        }
        return answer(self.watches[watch_id], 201, Location=f"/api/watches/{watch_id}")

    def _of_watch(self, request: Request) -> Response:
        _, _, _, watch_id, *verb = request.path.split("/")
        watch = self.watches.get(watch_id)
        if watch is None:
            return answer(refused("not_found", "There is nothing here."), 404)
        if request.method == "DELETE":
            del self.watches[watch_id]
            return Response(status=204)
        if verb == ["run"]:
            running = {"success": True, "requestId": "req_07", "status": "processing", "watchId": watch_id}
            return answer(running, 202, Location="/api/requests/req_07")
        active = verb != ["pause"]
        watch.update(status="active" if active else "paused", pauseReason=None if active else "by_hand")
        return answer(watch)


def _caller(request: Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _end(name: str) -> str:
    return {"private": "account_private", "missing": "user_not_found"}.get(name.partition("_")[0], "empty")


def _names(kind: str, text: str) -> Iterator[tuple[int, str, str | None]]:
    """Yield (line, name, external id) of a body. Raises KeyError for a content type that is none."""
    readers = {"text/plain": _in_text, "text/csv": _in_csv, "application/x-ndjson": _in_ndjson}
    return readers[kind](text)


def _in_text(text: str) -> Iterator[tuple[int, str, str | None]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip(), None


def _in_csv(text: str) -> Iterator[tuple[int, str, str | None]]:
    for number, row in enumerate(csv.DictReader(io.StringIO(text)), 2):
        yield number, row["username"], row.get("externalId")


def _in_ndjson(text: str) -> Iterator[tuple[int, str, str | None]]:
    for number, line in enumerate(text.splitlines(), 1):
        said = json.loads(line)
        yield (
            (number, said, None)
            if isinstance(said, str)
            else (
                number,
                said["username"],
                said.get("externalId"),
            )
        )
