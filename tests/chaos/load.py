"""The customers: threads that call the API as fast as they may, and write down what they saw.

Every call has one of three outcomes, as Jepsen has it: ``ok`` (answered), ``failed`` (refused for certain)
or ``unknown`` (no answer, or one that does not say whether it was done). Who has a key asks again.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.chaos.operations import (
    CANCEL,
    CANCELLED_BATCH,
    POLL,
    REPLAY,
    SYNC,
    WATCH,
    WATCHED_EVERY,
    Operation,
)
from tests.e2e.clients import Customer

OK = "ok"
FAILED = "failed"
UNKNOWN = "unknown"

CALL_LIMIT = 12.0
PERSISTENCE = 150.0  # seconds for which a call with a key is repeated
POLL_LIMIT = 30.0
BACKLOG_MOST = 400  # open requests; the customers wait behind it

# A 5xx with these codes is about the request, not about the call.
_FINAL_CODES = frozenset({"upstream_blocked", "upstream_error", "upstream_timeout"})


@dataclass(frozen=True)
class Call:
    """One call as its caller saw it. ``at`` is Unix seconds, when it began."""

    at: float
    operation: int
    account: int
    what: str
    outcome: str
    status: int = 0
    code: str = ""
    request_id: str = ""  # or that of the batch or watch
    final: str = ""  # the envelope's status when it was final, with its code or outcome
    key: str = ""
    webhook: bool = False


class History:
    """All calls, in a file of JSON lines and in memory."""

    def __init__(self, path: Path) -> None:
        self.calls: list[Call] = []
        self._file = path.open("w", buffering=1)
        self._lock = threading.Lock()

    def add(self, call: Call) -> Call:
        with self._lock:
            self.calls.append(call)
            self._file.write(json.dumps(asdict(call)) + "\n")
        return call

    def close(self) -> None:
        self._file.close()


class Gate:
    """Lets operations go at a rate, and not while too many requests are open."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._waiting: Iterator[Operation] = iter(operations)
        self._lock = threading.Lock()
        self.rate = 1.0
        self.open_requests = 0
        self.taken = 0
        self._next_at = time.monotonic()

    def take(self) -> Operation | None:
        """Return the next operation when it is its time, None after the last."""
        with self._lock:
            operation = next(self._waiting, None)
            if operation is None:
                return None
            self.taken += 1
            while self.open_requests > BACKLOG_MOST:
                time.sleep(0.02)  # between two looks
            now = time.monotonic()
            self._next_at = max(self._next_at + 1 / self.rate, now - 1)
            time.sleep(max(0.0, self._next_at - now))  # the rate
            return operation


class Load:
    """``threads`` customers' programs at once."""

    def __init__(
        self,
        customers: Sequence[Customer],
        hook_ports: Mapping[str, int],
        operations: Iterable[Operation],
        history: History,
        threads: int = 32,
    ) -> None:
        self.customers = customers
        self.history = history
        self.gate = Gate(operations)
        self._hook_ports = hook_ports
        self._sent: deque[tuple[int, str]] = deque(maxlen=300)  # (account, request id) with a webhook
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        self._trouble: list[BaseException] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> None:
        """Wait for the last operation. Raises what went wrong in a customer's program."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.check()
        assert not any(thread.is_alive() for thread in self._threads), "the load does not end"

    def check(self) -> None:
        if self._trouble:
            raise self._trouble[0]

    @property
    def runs(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        line = Line(self)
        try:
            while (operation := self.gate.take()) is not None:
                line.do(operation)
        except BaseException as error:
            self._trouble.append(error)
            raise

    def webhook_url(self, operation: Operation) -> str:
        parts = urlsplit(operation.receiver)
        port = self._hook_ports[parts.path.strip("/")]
        return f"{parts.scheme}://{parts.hostname}:{port}/{operation.account}/{operation.number}"

    def remember(self, account: int, request_id: str) -> None:
        self._sent.append((account, request_id))

    def some_sent(self, account: int, rng: random.Random) -> str | None:
        known = [request_id for owner, request_id in list(self._sent) if owner == account]
        return rng.choice(known) if known else None


class Line:
    """One thread's connection, and what is done over it."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._session = self._fresh()

    @staticmethod
    def _fresh() -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        return session

    def do(self, operation: Operation) -> None:
        """Carry an operation out to where its customer knows how it stands."""
        request_id = self.submit(operation)
        if not request_id:
            return
        if operation.kind == WATCH:
            return
        if operation.is_batch:
            if operation.kind == CANCELLED_BATCH:
                self.call(operation, "cancel", "POST", f"/api/batches/{request_id}/cancel")
            return
        if operation.receiver:
            self._load.remember(operation.account, request_id)
        if operation.kind == CANCEL:
            self.call(operation, "cancel", "POST", f"/api/requests/{request_id}/cancel")
        elif operation.kind == POLL:
            self._poll(operation, request_id)
        elif operation.kind == REPLAY:
            earlier = self._load.some_sent(operation.account, random.Random(operation.number))
            if earlier:
                self.replay(operation, earlier)

    def submit(self, operation: Operation, *, body: Mapping[str, Any] | None = None) -> str | None:
        """Ask for stories; with a key, again and again until it is known how that went.

        Returns the id of the request, the batch or the watch.
        """
        asked = dict(body or {"username": operation.username})
        path = STORIES
        if operation.is_batch:
            path, asked = f"{STORIES}/batch", {"usernames": operation.names, "webhookMode": operation.mode}
        if operation.kind == WATCH:
            path, asked = "/api/watches", {"username": operation.username, "every": WATCHED_EVERY}
        if operation.receiver:
            asked["webhookUrl"] = self._load.webhook_url(operation)
        headers = {"Idempotency-Key": operation.key} if operation.key else {}
        if operation.kind != SYNC and not operation.receiver:
            headers["Prefer"] = "respond-async"
        deadline = time.monotonic() + PERSISTENCE
        pause = 0.1
        while True:
            call = self.call(operation, "submit", "POST", path, json=asked, headers=headers)
            if call.outcome != UNKNOWN or not operation.key or time.monotonic() > deadline:
                return call.request_id or None
            time.sleep(pause)  # as a good client does before it asks again
            pause = min(pause * 2, 1.5)

    def replay(self, operation: Operation, request_id: str) -> Call:
        path = f"/api/webhooks/deliveries/{request_id.replace('req_', 'msg_', 1)}/replay"
        return self.call(operation, f"replay {request_id}", "POST", path)

    def _poll(self, operation: Operation, request_id: str) -> None:
        deadline = time.monotonic() + POLL_LIMIT
        while time.monotonic() < deadline:
            call = self.call(operation, "poll", "GET", f"/api/requests/{request_id}?wait=5")
            if call.final or call.outcome == FAILED:
                return
            if call.outcome == UNKNOWN:
                time.sleep(0.3)  # before it is tried again

    def call(self, operation: Operation, what: str, method: str, path: str, **options: Any) -> Call:
        customer = self._load.customers[operation.account]
        headers = {"Authorization": f"Bearer {customer.api_key}", **options.pop("headers", {})}
        seen = {"at": time.time(), "operation": operation.number, "account": operation.account, "what": what}
        seen["key"] = headers.get("Idempotency-Key", "")
        seen["webhook"] = bool(operation.receiver)
        try:
            answer = self._session.request(
                method, customer.base_url + path, headers=headers, timeout=CALL_LIMIT, **options
            )
        except requests.RequestException:
            self._session.close()
            self._session = self._fresh()
            return self._load.history.add(Call(**seen, outcome=UNKNOWN))
        return self._load.history.add(_judged(seen, answer))


def _judged(seen: dict[str, Any], answer: requests.Response) -> Call:
    body = answer.json() if answer.content else {}
    code = body.get("code", "")
    request_id = body.get("requestId") or body.get("batchId") or body.get("watchId", "")
    if not request_id.startswith(("req_", "bat_", "wat_")):
        request_id = ""  # an exchange that made no request has an id of another kind
    final = ""
    if "finishedAt" in body and "requestId" in body:
        final = f"{body['status']}:{body.get('outcome') or code}"
    if answer.ok or final:
        outcome = OK
    elif answer.status_code >= 500:
        outcome = UNKNOWN
    else:
        outcome = FAILED
    return Call(
        **seen, outcome=outcome, status=answer.status_code, code=code, request_id=request_id, final=final
    )


STORIES = "/api/instagram/stories"
