"""A result that a caller waits for and gets as something else than the envelope of a request."""

from __future__ import annotations

import orjson
from flask import g

from service.actions.submit import submit
from service.api.context import account, place_needed, services, wait
from service.domain.errors import Conflict, StoryhookError, UpstreamTimeout, fetch_error
from service.domain.options import Options
from service.domain.requests import CANCELLED, SUCCEEDED, RequestRecord
from service.domain.targets import Target

RETRY_AFTER = 5


def result_of(operation: str, target: Target, options: Options) -> tuple[RequestRecord, bytes]:
    """Submit a request, wait for its end, and return it with its envelope (JSON).

    Raises what it ended with; UpstreamTimeout when it has not ended in time: then it costs nothing;
    StoreUnavailable when too many wait already: then nothing was submitted; and when the store goes away
    meanwhile: then it may be charged once that is back, as nobody could mark the request as given up.
    """
    with place_needed():
        record, _ = submit(
            services(), account().account_id, operation, target, waited_for=True, options=options
        )
        g.exchange_id = record.request_id  # what errors name, too: the request that was paid for, or not
        record = wait(record, services().policy.sync_deadline)
    if not record.is_final:
        if services().requests.abandon(record.request_id):
            raise UpstreamTimeout("There is no result yet. Try again.", retry_after=RETRY_AFTER)
        record = services().requests.look(record.request_id, record.account_id) or record
    if record.envelope is None:
        raise Conflict("The request was deleted before its result could be read.")
    if record.status != SUCCEEDED:
        raise _error_of(record, record.envelope)
    return record, record.envelope


def _error_of(record: RequestRecord, envelope: bytes) -> StoryhookError:
    message = orjson.loads(envelope)["error"]
    if record.status == CANCELLED:
        return Conflict(message)
    if record.code == StoryhookError.code:
        return StoryhookError()
    return fetch_error(record.code or "", message, record.retry_after or None)
