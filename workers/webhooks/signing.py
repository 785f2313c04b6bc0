"""Signatures as Standard Webhooks has them.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook


def signature_headers(delivery_id: str, at: int, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """Return the three headers that sign ``body`` as sent at ``at`` (Unix seconds).

    One signature per active secret, so that receivers survive a rotation.
    """
    # The library reads the wall clock of whatever zone the datetime is in: it has to be UTC.
    moment = datetime.fromtimestamp(at, UTC)
    signatures = [Webhook(secret).sign(delivery_id, moment, body.decode()) for secret in secrets]
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(signatures),
    }
