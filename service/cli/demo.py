"""`storyhook demo`: the whole service tried out without a person, step by step."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import requests
from standardwebhooks import Webhook

from service.cli.output import show
from service.cli.words import say

START_LIMIT = 50.0
STEP_LIMIT = 20.0


class StepFailed(Exception):
    """A step did not match what was expected."""


@click.command()
def demo() -> None:
    """Start the stack on free ports, use it as a customer would, and show each step."""
    started = time.monotonic()
    rows: list[tuple[str, str, str]] = []
    passed = False
    with tempfile.TemporaryDirectory(prefix="storyhook-demo-") as folder:
        try:
            with _stack(Path(folder)) as ready, _receiver() as (receiver_url, received):
                for name, seen in _steps(_Client(ready), receiver_url, received):
                    rows.append((name, seen, "yes"))
            passed = True
        except (StepFailed, requests.RequestException, queue.Empty) as error:
            rows.append(("stopped", str(error) or type(error).__name__, "NO"))
    show("Storyhook demo", ("step", "what was seen", "ok"), rows, as_json=False)
    say(f"{'every step matched' if passed else 'FAILED'} in {time.monotonic() - started:.1f} s")
    sys.exit(0 if passed else 1)


class _Client:
    """A customer: an API key and a base URL, as `storyhook up` tells them."""

    def __init__(self, ready: dict[str, str]) -> None:
        self._base_url = ready["url"]
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy leads to this machine
        self._session.verify = ready["caFile"] or True
        self._session.headers["Authorization"] = f"Bearer {ready['apiKey']}"

    def call(self, method: str, path: str, expect: int, **options: Any) -> dict[str, Any]:
        answer = self._session.request(method, self._base_url + path, timeout=STEP_LIMIT, **options)
        if answer.status_code != expect:
            raise StepFailed(f"{method} {path} answered {answer.status_code}: {answer.text[:200]}")
        body: dict[str, Any] = answer.json()
        return body


def _steps(
    client: _Client, receiver_url: str, received: queue.Queue[tuple[bytes, dict[str, str]]]
) -> Iterator[tuple[str, str]]:
    """Run the steps; yield each one's name and what was seen. Raises StepFailed."""
    before = client.call("GET", "/api/credits", 200)
    yield "balance", f"{before['available']} credits available"

    wanted = {"username": "nasa", "webhookUrl": receiver_url}
    queued = client.call("POST", "/api/instagram/stories", 202, json=wanted)
    yield "submit with webhookUrl", f"202 {queued['status']} {queued['requestId']}"

    body, headers = received.get(timeout=STEP_LIMIT)
    secret = client.call("GET", "/api/webhooks/secret", 200)["secret"]
    Webhook(secret).verify(body, headers)
    delivered = json.loads(body)
    _expect(delivered["requestId"] == queued["requestId"], "the webhook is about another request")
    items = f"{delivered['itemCount']} items, {delivered['creditsCharged']} credit"
    yield "webhook received, signature verified", f"{delivered['outcome']}, {items}"

    path = f"/api/requests/{queued['requestId']}"
    _expect(client.call("GET", path, 200) == delivered, "the polled envelope differs from the webhook's")
    yield "poll the request", "the same envelope as the webhook"

    found = client.call("POST", "/api/instagram/stories", 200, json={"username": "@instagram"})
    _expect(isinstance(found["data"]["items"][0]["pk"], str), "an id is not a string")
    yield "sync call", f"200 {found['outcome']}, {found['itemCount']} items, ids are strings"

    gone = client.call("POST", "/api/instagram/stories", 404, json={"username": "missing_person"})
    yield "an account that does not exist", f"404 {gone['code']}, {gone['creditsCharged']} credits"

    entries = client.call("GET", "/api/credits/ledger", 200)["entries"]
    told = ", ".join(f"{entry['type']} {entry['amount']:+d}" for entry in reversed(entries))
    yield "ledger", told
    after = client.call("GET", "/api/credits", 200)
    _expect(
        before["balance"] - after["balance"] == 2 and after["held"] == 0, f"credits do not add up: {after}"
    )
    yield "balance", f"{after['available']} credits available, {after['held']} held"


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StepFailed(otherwise)


@contextmanager
def _stack(folder: Path) -> Iterator[dict[str, str]]:
    """Run `storyhook up` in ``folder`` on free ports; yield what it says when it is ready."""
    names = ("PORT", "SIMULATOR_PORT", "LISTEN_PORT", "STORE_PORT")
    ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
    # Its own store and the simulated Instagram, whatever this machine is set up for.
    ours = {"REDIS_URL": "", "BROKER_URL": "", "INSTAGRAM": "simulated", "LOG_LEVEL": "WARNING"}
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-m", "service.cli.main", "up", "--folder", str(folder / "var")],
            env={**os.environ, **ours, **ports},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield _await_file(folder / "var" / "ready.json", process, log)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _await_file(path: Path, process: subprocess.Popen[bytes], log: Path) -> dict[str, str]:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and (text := path.read_text()):
            ready: dict[str, str] = json.loads(text)
            return ready
        time.sleep(0.05)
    raise StepFailed("the stack did not start:\n" + log.read_text(errors="replace")[-2000:])


_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on right now, others than it has returned before: those may be used yet."""
    ports: list[int] = []
    with ExitStack() as probes:
        while len(ports) < count:
            probe = probes.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = probe.getsockname()[1]
            if port not in _given:
                _given.add(port)
                ports.append(port)
    return ports


@contextmanager
def _receiver() -> Iterator[tuple[str, queue.Queue[tuple[bytes, dict[str, str]]]]]:
    """Run a receiver; yield its URL and what it receives."""
    received: queue.Queue[tuple[bytes, dict[str, str]]] = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.put((body, dict(self.headers.items())))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """The table tells what arrived."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", received
    finally:
        server.shutdown()
        server.server_close()
