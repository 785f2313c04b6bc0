"""Sends one signed POST and tells what came of it; never raises for what a receiver does."""

from __future__ import annotations

import time
from collections.abc import Sequence

import requests

from service import __version__
from service.domain.deliveries import Attempt
from service.domain.policy import Policy
from service.egress import Egress, EgressError
from workers.webhooks.signing import signature_headers

USER_AGENT = f"Storyhook/{__version__}"
SNIPPET = 1_024


class Sender:
    """Sends webhooks. Threads may share it."""

    def __init__(self, policy: Policy) -> None:
        self._egress = Egress(
            connect_timeout=policy.webhook_connect_timeout, total_timeout=policy.webhook_timeout
        )

    def post(self, url: str, delivery_id: str, body: bytes, secrets: Sequence[str]) -> Attempt:
        """Make one attempt. The bytes signed are the bytes sent."""
        at = int(time.time())
        started = time.monotonic()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            **signature_headers(delivery_id, at, body, secrets),
        }
        try:
            answer = self._egress.post(url, body, headers)
        except EgressError as error:
            return Attempt(at, time.monotonic() - started, error=error.code)
        except requests.RequestException as error:
            return Attempt(at, time.monotonic() - started, error=_word(error))
        snippet = answer.body[:SNIPPET].decode("utf-8", "replace")
        return Attempt(at, time.monotonic() - started, status=answer.status, snippet=snippet)


def _word(error: requests.RequestException) -> str:
    """Return a stable word for what went wrong before an answer came."""
    kinds: tuple[tuple[type[Exception], str], ...] = (
        (requests.exceptions.SSLError, "tls_error"),
        (requests.exceptions.ConnectTimeout, "connect_timeout"),
        (requests.exceptions.Timeout, "timeout"),
        (requests.exceptions.ConnectionError, "connection_failed"),
    )
    return next((word for kind, word in kinds if isinstance(error, kind)), "bad_answer")
