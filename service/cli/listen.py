"""`storyhook listen`: a local receiver that verifies signatures and shows what arrives."""

from __future__ import annotations

import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import click
from standardwebhooks import Webhook, WebhookVerificationError

from service.cli.admin import open_services
from service.cli.local import DEMO_EMAIL

BODY_MAX = 64 * 1024 * 1024


@click.command()
@click.option("--port", type=int, envvar="LISTEN_PORT", default=3224, show_default=True)
@click.option("--secret", envvar="WEBHOOK_SECRET", help="whsec_...; by default the secret of --account.")
@click.option("--account", "email", default=DEMO_EMAIL, show_default=True)
def listen(port: int, secret: str | None, email: str) -> None:
    """Receive webhooks on loopback, verify their signatures and print them."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(_Secret(secret, email)))
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    click.echo(f"listening on http://127.0.0.1:{port}/")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


class _Secret:
    """The signing secret, looked up when the first webhook arrives: the account may be made later."""

    def __init__(self, secret: str | None, email: str) -> None:
        self._secret = secret
        self._email = email

    def value(self) -> str | None:
        if self._secret is None:
            services = open_services()
            account = services.accounts.by_email(self._email)
            self._secret = services.accounts.webhook_secrets(account.account_id).current if account else None
        return self._secret


def _handler(secret: _Secret) -> type[BaseHTTPRequestHandler]:
    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = min(int(self.headers.get("Content-Length", 0)), BODY_MAX)
            body = self.rfile.read(length)
            valid = _verified(secret.value(), body, dict(self.headers.items()))
            self.send_response(204 if valid else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()
            click.echo(describe(body, self.headers.get("webhook-id", ""), valid=valid))

        def log_message(self, *_: Any) -> None:
            """Keep quiet: what arrives is printed above."""

    return Receiver


def _verified(secret: str | None, body: bytes, headers: dict[str, str]) -> bool:
    if secret is None:
        return False
    try:
        Webhook(secret).verify(body, headers, json_parse=False)
    except (WebhookVerificationError, ValueError):  # the library leaks ValueError on malformed input
        return False
    return True


def describe(body: bytes, delivery_id: str, *, valid: bool) -> str:
    """Return one line that tells what a webhook says."""
    verdict = "signature valid" if valid else "SIGNATURE INVALID"
    try:
        envelope = json.loads(body)
        what = envelope.get("outcome") or envelope.get("code")
        told = f"{envelope.get('username')}: {what}, {envelope.get('itemCount', 0)} item(s), " \
            f"{envelope.get('creditsCharged')} credit(s) [{envelope.get('requestId')}]"  # fmt: skip
    except (ValueError, AttributeError):
        told = f"{len(body)} bytes that are no envelope"
    return f"webhook {delivery_id} {verdict}: {told}"
