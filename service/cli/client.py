"""The calls of the HTTP API that the command line makes. Needs nothing but a server's URL and a key.

Durations are seconds. Every call raises NoAnswer and Stopped.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests

from service.cli.servers import Server
from service.cli.transport import HOLD_MOST, NoAnswer, Reply, Send, Transport, manner

CALL_LIMIT = 60.0  # for trying a call that does not wait for anything
SUBMIT_LIMIT = 120.0  # for trying to hand in a batch
TAKE_LIMIT = 60.0  # for the server's answer to one: 10,000 names take it a moment
PAGE = 25  # results at a time: the largest envelopes are about a megabyte
LIST_PAGE = 100
LOOK_LEAST = 0.5  # from one look at a batch to the next, where the server does not hold the call


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


@dataclass(frozen=True)
class List:
    """A batch's body with its content type, and its options as they go into the query."""

    body: bytes
    content_type: str
    options: dict[str, str]


class Api:
    """The calls of one run; threads may share it.

    A name's call, with all its retries, is one request: its Idempotency-Key is made of run and name.
    What waits for an end does so for ``wait`` seconds at most, or until ``stop`` is set.
    """

    def __init__(self, server: Server, *, wait: float, stop: threading.Event) -> None:
        self._transport = Transport(server, stop=stop)
        self._wait = wait
        self._run = uuid.uuid4()
        self._archives = True  # until the server says otherwise

    # --- stories -----------------------------------------------------------------------------------

    def stories(self, name: str, max_age: int | None = None, *, archive: bool = False) -> Answer:
        """Return the envelope of a name's stories, also one that has not ended in time.

        ``max_age`` None is the server's own. ``archive`` has the media kept, by a server that does that.
        """
        deadline = time.monotonic() + self._wait
        body = {"username": name, **({} if max_age is None else {"maxAge": max_age})}
        with self._transport.session() as session:
            answer = self._submitted(session, body, deadline, archive=archive)
            look = self._look(session, f"/api/requests/{answer.envelope['requestId']}")
            while not answer.ended and (left := deadline - time.monotonic()) > 0:
                if self._transport.pause(min(answer.pause, left)):
                    break
                answer = self._envelope(look, deadline, names_one=True)
        return answer

    def _submitted(
        self, session: requests.Session, body: dict[str, Any], deadline: float, *, archive: bool
    ) -> Answer:
        if archive and self._archives:
            try:
                return self._envelope(self._submission(session, {**body, "archive": True}), deadline)
            except NoAnswer as refusal:
                if refusal.status != requests.codes.unprocessable or "archive" not in refusal.details:
                    raise
                self._archives = False
        return self._envelope(self._submission(session, body), deadline)

    def _envelope(self, send: Send, deadline: float, *, names_one: bool = False) -> Answer:
        reply = self._transport.ask(send, deadline, is_answer=_is_envelope, names_one=names_one)
        return Answer(reply.body, reply.content, reply.pause)

    def _submission(self, session: requests.Session, body: dict[str, Any]) -> Send:
        url = f"{self._transport.url}/api/instagram/stories"
        key = str(uuid.uuid5(self._run, body["username"]))

        def send(hold: float) -> requests.Response:
            headers = {"Idempotency-Key": key, "Prefer": f"wait={int(hold)}"}
            return session.post(url, json=body, headers=headers, **manner(hold))

        return send

    def _look(self, session: requests.Session, path: str) -> Send:
        def send(hold: float) -> requests.Response:
            url = f"{self._transport.url}{path}"
            return session.get(url, params={"wait": f"{hold:.1f}"}, **manner(hold))

        return send

    # --- batches -----------------------------------------------------------------------------------

    def submit_batch(self, given: List, key: str) -> Reply:
        """Hand a list in, with all retries as one batch; return what became of its lines."""

        def send(_: float) -> requests.Response:
            return session.post(
                f"{self._transport.url}/api/instagram/stories/batch",
                params=given.options,
                data=given.body,
                headers={"Idempotency-Key": key, "Content-Type": given.content_type},
                **manner(0, TAKE_LIMIT),
            )

        with self._transport.session() as session:
            return self._transport.ask(
                send,
                time.monotonic() + min(SUBMIT_LIMIT, self._wait),
                is_answer=lambda said, status: status in {200, 202} and isinstance(said.get("batchId"), str),
            )

    def batch(self, batch_id: str, *, hold: float = HOLD_MOST) -> Iterator[dict[str, Any]]:
        """Yield a batch as it goes on, until it has ended or the time is up."""
        deadline = time.monotonic() + self._wait
        with self._transport.session() as session:
            look = self._look(session, f"/api/batches/{_part(batch_id)}")
            while True:
                next_look = time.monotonic() + LOOK_LEAST
                reply = self._transport.ask(look, deadline, hold=hold, is_answer=_is_batch)
                yield reply.content
                now = time.monotonic()
                if has_ended(reply.content) or now >= deadline:
                    return
                pause = max(reply.pause, next_look - now, 0.0)
                if self._transport.pause(min(pause, deadline - now)):
                    return

    def results(self, batch_id: str) -> Iterator[list[dict[str, Any]]]:
        """Return the envelopes of a batch in the order of its list, a page at a time.

        Pages, not the server's stream: what is in memory is as bounded, and a page that is cut short is
        asked for again by its cursor, where a stream would begin anew.
        """
        return self._pages(f"/api/batches/{_part(batch_id)}/results", "results", PAGE)

    def _pages(self, path: str, what: str, limit: int) -> Iterator[list[dict[str, Any]]]:
        cursor = ""
        with self._transport.session() as session:
            while True:
                query = {"limit": str(limit), **({"cursor": cursor} if cursor else {})}
                said = self._get_page(session, path, what, query).content
                before, cursor = cursor, said.get("nextCursor") or ""
                yield said.pop(what)  # not kept while the next one comes
                if not cursor:
                    return
                if cursor == before:
                    raise NoAnswer(f"{self._transport.url}{path} goes in circles", "bad_answer", passes=False)

    def _get_page(self, session: requests.Session, path: str, what: str, query: dict[str, str]) -> Reply:
        def send(_: float) -> requests.Response:
            return session.get(f"{self._transport.url}{path}", params=query, **manner(0, HOLD_MOST))

        return self._transport.ask(
            send,
            time.monotonic() + CALL_LIMIT,
            is_answer=lambda said, status: status == requests.codes.ok and isinstance(said.get(what), list),
        )

    # --- watches -----------------------------------------------------------------------------------

    def add_watch(self, fields: dict[str, Any]) -> Reply:
        """Make a watch; return it."""
        return self._call("POST", "/api/watches", json=fields)

    def watches(self) -> Iterator[dict[str, Any]]:
        """Yield all watches."""
        for page in self._pages("/api/watches", "watches", LIST_PAGE):
            yield from page

    def change_watch(self, watch_id: str, verb: str) -> Reply:
        """``pause`` or ``resume`` a watch, which is returned, or ``run`` it: the request is returned."""
        return self._call("POST", f"/api/watches/{_part(watch_id)}/{verb}")

    def remove_watch(self, watch_id: str) -> None:
        """Remove a watch."""
        self._call("DELETE", f"/api/watches/{_part(watch_id)}")

    def _call(self, method: str, path: str, **what: Any) -> Reply:
        """Make a call that does not wait, again with the same key where its answer was lost."""
        headers = {"Idempotency-Key": str(uuid.uuid4())} if method == "POST" else {}
        sent = 0

        def send(_: float) -> requests.Response:
            nonlocal sent
            sent += 1
            url = f"{self._transport.url}{path}"
            return session.request(method, url, headers=headers, **what, **manner(0))

        def is_answer(said: dict[str, Any], status: int) -> bool:
            # What is gone at the second try went at the first one, whose answer was lost.
            gone = method == "DELETE" and sent > 1 and status == requests.codes.not_found
            return gone or status == requests.codes.no_content or (bool(said) and status in {200, 201, 202})

        until = time.monotonic() + min(CALL_LIMIT, self._wait)
        with self._transport.session() as session:
            return self._transport.ask(send, until, is_answer=is_answer)


def has_ended(batch: dict[str, Any]) -> bool:
    """Tell whether nothing of a batch is under way."""
    return batch.get("status") != "processing"


def _is_envelope(content: dict[str, Any], status: int) -> bool:
    """Tell a request's envelope, ended or under way, from a refusal of the call."""
    return "requestId" in content and ("finishedAt" in content or status in {200, 202})


def _is_batch(content: dict[str, Any], status: int) -> bool:
    return status == requests.codes.ok and "batchId" in content and isinstance(content.get("states"), dict)


def _part(text: str) -> str:
    """Return a text as one part of a path."""
    return quote(text, safe="")
