"""Sends one signed POST and tells what came of it; never raises for what a receiver does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from service import __version__
from service.domain.deliveries import BLOCKED_ADDRESS, Attempt, parse_retry_after
from service.domain.errors import ValidationFailed
from service.domain.policy import Policy
from service.domain.webhooks import as_dialled
from service.egress import OWNER_MOST, Answer, Egress, EgressError, Resolver, system_resolver
from workers.webhooks.signing import signature_headers

USER_AGENT = f"Storyhook/{__version__}"
SNIPPET = 1_024


class Sender:
    """Sends webhooks. Threads may share it; so many as ``lookups_each`` may wait for names of one owner."""

    def __init__(
        self, policy: Policy, *, lookups_each: int = OWNER_MOST, resolver: Resolver = system_resolver
    ) -> None:
        self._egress = Egress(
            policy.webhook_addresses,
            connect_timeout=policy.webhook_connect_timeout,
            total_timeout=policy.webhook_timeout,
            ca_file=policy.webhook_ca_file,
            resolver=resolver,
            lookups_each=lookups_each,
        )

    def post(
        self, url: str, delivery_id: str, body: bytes, secrets: Sequence[str], owner: str | None = None
    ) -> Attempt:
        """Make one attempt, on behalf of the account ``owner``. The bytes signed are the bytes sent.

        A connection that breaks within a second is tried once more at once: most likely it was a
        kept one that the receiver had closed.
        """
        try:
            url = as_dialled(url)
        except ValidationFailed:  # an earlier version took it
            return self.nothing(BLOCKED_ADDRESS)
        attempt = self._post(url, delivery_id, body, secrets, owner)
        if attempt.worth_an_instant_retry:
            return self._post(url, delivery_id, body, secrets, owner)
        return attempt

    def nothing(self, error: str) -> Attempt:
        """Return the attempt that could not be made."""
        return Attempt(int(time.time()), 0.0, error=error)

    def _post(
        self, url: str, delivery_id: str, body: bytes, secrets: Sequence[str], owner: str | None
    ) -> Attempt:
        at = int(time.time())
        started = time.monotonic()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            **signature_headers(delivery_id, at, body, secrets),
        }
        try:
            answer = self._egress.post(url, body, headers, owner)
        except EgressError as error:
            return Attempt(at, time.monotonic() - started, error=error.code, snippet=error.why)
        return _told(at, time.monotonic() - started, answer)


def _told(at: int, duration: float, answer: Answer) -> Attempt:
    return Attempt(
        at,
        duration,
        status=answer.status,
        snippet=escaped(answer.body[:SNIPPET]),
        retry_after=parse_retry_after(answer.headers.get("Retry-After"), datetime.now(UTC)),
    )


def escaped(body: bytes) -> str:
    """Return bytes as text that is safe to show: what is not printable becomes an escape."""
    text = body.decode("utf-8", "backslashreplace")
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )
