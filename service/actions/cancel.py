"""Cancel a request nobody works on yet."""

from __future__ import annotations

import json

from service.actions.lookup import find_request
from service.domain import envelopes
from service.domain.dispatch import hand_over
from service.domain.errors import Conflict
from service.domain.ports import Services
from service.domain.requests import CANCELLED, QUEUED, Ending, RequestRecord

MESSAGE = "The request was cancelled before work on it began."


def cancel_request(services: Services, account_id: str, request_id: str) -> RequestRecord:
    """End a queued request, release its hold; a webhook it asked for tells so, unless it is
    the run of a watch that tells of new items only.

    Cancelling twice is cancelling once. Raises NotFound, and Conflict once a worker has begun or the
    request has ended otherwise.
    """
    record = find_request(services, account_id, request_id)
    if record.status not in {QUEUED, CANCELLED}:
        raise Conflict(f"Only a queued request can be cancelled; this one is {record.status}.")
    hand_over(services, [services.requests.cancel(record, cancelled(services, record))])
    return find_request(services, account_id, request_id)


def cancelled(services: Services, record: RequestRecord) -> Ending:
    """Return how a cancelled request ends."""
    envelope = envelopes.failure(
        record, code=CANCELLED, message=MESSAGE, now_ms=services.clock(), status=CANCELLED
    )
    watch = services.watches.get(record.watch_id) if record.watch_id else None
    return Ending(
        CANCELLED,
        json.dumps(envelope, separators=(",", ":")).encode(),
        charge=0,
        code=CANCELLED,
        silent=watch is not None and watch.is_silent_about(CANCELLED),
    )
