"""`storyhook listen`: a local receiver that verifies signatures, shows what arrives, and can misbehave."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import click
import requests
from rich.console import Console
from rich.highlighter import JSONHighlighter
from standardwebhooks import Webhook, WebhookVerificationError

from service.cli.admin import open_services
from service.cli.local import DEMO_EMAIL
from service.cli.words import say
from service.domain.errors import StoryhookError
from service.domain.texts import printable_json

BODY_MAX = 64 * 1024 * 1024
SIGNED = ("content-type", "webhook-id", "webhook-timestamp", "webhook-signature")
ITEMS_SHOWN = 1


@click.command()
@click.option("--port", type=int, envvar="LISTEN_PORT", default=3224, show_default=True)
@click.option("--secret", envvar="WEBHOOK_SECRET", help="whsec_...; by default the secret of --account.")
@click.option("--account", "email", default=DEMO_EMAIL, show_default=True)
@click.option("--forward", metavar="URL", help="Pass each webhook on to this URL and its answer back.")
@click.option(
    "--fail", metavar="STATUS[:TIMES]", help="Answer with STATUS, the first TIMES times, to try retries."
)
@click.option("--delay", type=float, default=0.0, help="Wait this many seconds before each answer.")
@click.option("--quiet", is_flag=True, help="One line a webhook, without its body.")
def listen(
    *,
    port: int,
    secret: str | None,
    email: str,
    forward: str | None,
    fail: str | None,
    delay: float,
    quiet: bool,
) -> None:
    """Receive webhooks on loopback, verify their signatures and print them."""
    behaviour = _Behaviour(forward, *_parse_fail(fail), delay)
    show = _Show(quiet)
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(_Secret(secret, email), behaviour, show))
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    say(f"listening on http://127.0.0.1:{port}/")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


def _parse_fail(text: str | None) -> tuple[int, int]:
    """Read ``503:3`` as (status, times); without a number it fails for good."""
    if text is None:
        return 0, 0
    status, _, times = text.partition(":")
    if not status.isdecimal() or not 100 <= int(status) <= 599 or (times and not times.isdecimal()):
        raise click.BadParameter("give a status from 100 to 599, and perhaps how often: 503:3")
    return int(status), int(times) if times else sys.maxsize


@dataclass
class _Behaviour:
    """What the receiver answers."""

    forward: str | None
    fail_status: int
    fail_times: int
    delay: float
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, body: bytes, headers: dict[str, str], *, valid: bool) -> int:
        """Return the status to answer with."""
        time.sleep(self.delay)
        with self._lock:
            if self.fail_times > 0:
                self.fail_times -= 1
                return self.fail_status
        if not valid:
            return 400
        return self._forwarded(body, headers) if self.forward else 204

    def _forwarded(self, body: bytes, headers: dict[str, str]) -> int:
        passed_on = {name: value for name, value in headers.items() if name.lower() in SIGNED}
        try:
            return requests.post(str(self.forward), data=body, headers=passed_on, timeout=14).status_code
        except requests.RequestException as error:
            say(f"not forwarded: {error}", err=True)
            return 502


class _Secret:
    """The signing secret, looked up when the first webhook arrives: the account may be made later."""

    def __init__(self, secret: str | None, email: str) -> None:
        self._given = secret
        self._email = email

    def values(self) -> list[str]:
        """Return the secrets that may have signed. Raises StoryhookError."""
        if self._given is not None:
            return [self._given]
        services = open_services()
        account = services.accounts.by_email(self._email)
        return services.accounts.webhook_secrets(account.account_id).active if account else []


class _Show:
    """Prints what arrived."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._console = Console(soft_wrap=True)

    def __call__(self, body: bytes, headers: dict[str, str], verdict: str, status: int) -> None:
        delivery_id = headers.get("webhook-id", "-")
        say(f"webhook {delivery_id} {verdict}, answered {status}: {describe(body)}")
        if not self._quiet and (text := _shortened(body)):
            self._console.print(JSONHighlighter()(printable_json(text)))


def _handler(secret: _Secret, behaviour: _Behaviour, show: _Show) -> type[BaseHTTPRequestHandler]:
    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = min(int(self.headers.get("Content-Length", 0)), BODY_MAX)
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            verdict = _verdict(secret, body, headers)
            status = behaviour.answer(body, headers, valid=verdict == VALID)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            show(body, headers, verdict, status)

        def log_message(self, *_: Any) -> None:
            """Keep quiet: what arrives is printed above."""

    return Receiver


VALID = "signature valid"


def _verdict(secret: _Secret, body: bytes, headers: dict[str, str]) -> str:
    try:
        secrets = secret.values()
    except StoryhookError as error:
        return f"NOT VERIFIED ({error.message})"
    for each in secrets:
        try:
            Webhook(each).verify(body, headers, json_parse=False)
        except (WebhookVerificationError, ValueError):  # the library leaks ValueError on malformed input
            continue
        return VALID
    return "SIGNATURE INVALID (by --secret or --account)" if secrets else "NOT VERIFIED (no such account)"


def describe(body: bytes) -> str:
    """Return one line that tells what a webhook says."""
    try:
        envelope = json.loads(body)
        if "states" in envelope:
            return _describe_batch(envelope)
        what = envelope.get("outcome") or envelope.get("code") or envelope.get("status")
        return (
            f"{_about(envelope)} {what}, {envelope.get('itemCount', 0)} item(s), "
            f"{envelope.get('creditsCharged')} credit(s), {envelope.get('requestId')}"
        )
    except (ValueError, TypeError, AttributeError, RecursionError):
        return f"{len(body)} bytes that are no envelope"


def _about(envelope: dict[str, Any]) -> str:
    """Return what was asked for."""
    names = ("username", "userId", "storyId", "highlightId", "mediaUrl")
    return next((str(envelope[name]) for name in names if envelope.get(name)), "?")


def _describe_batch(summary: dict[str, Any]) -> str:
    return (
        f"batch {summary.get('batchId')} {summary.get('status')}: {summary.get('total')} names, "
        f"{summary.get('itemCount', 0)} item(s), {summary.get('creditsCharged')} credit(s)"
    )


def _shortened(body: bytes) -> str:
    """Return the envelope as JSON for the eye: of many items only the first."""
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    data = envelope.get("data") if isinstance(envelope, dict) else None
    items = data.get("items") if isinstance(data, dict) else None
    if isinstance(items, list) and len(items) > ITEMS_SHOWN:
        left_out = len(items) - ITEMS_SHOWN
        envelope["data"]["items"] = [*items[:ITEMS_SHOWN], f"... and {left_out} more"]
    return json.dumps(envelope, indent=2, ensure_ascii=False)
