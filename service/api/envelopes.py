"""Answers that carry the envelope of a request."""

from __future__ import annotations

from contextlib import suppress

import orjson
from flask import Response

from service.api.answers import JSON, POLL_AFTER, json_response
from service.api.context import services
from service.api.errors import status_of
from service.domain import envelopes
from service.domain.errors import BrokenRow, NotFound, StoreUnavailable
from service.domain.requests import SUCCEEDED, RequestRecord


def accepted(record: RequestRecord) -> Response:
    """Return 202: the request is under way, and where to look for it."""
    # Whether a worker has begun is of no use to somebody who just handed it in.
    body = {**envelopes.running(record), "status": "processing"}
    response = json_response(body, 202)
    response.headers["Location"] = f"/api/requests/{record.request_id}"
    response.headers["Retry-After"] = str(POLL_AFTER)
    return _with_credits(response, record)


def outcome(record: RequestRecord) -> Response:
    """Return the final envelope with the status its outcome has for a synchronous caller."""
    response = final(record)
    if record.status != SUCCEEDED:
        response.status_code = status_of(record.code)
    return response


def final(record: RequestRecord, *, with_data: bool = True) -> Response:
    """Return the final envelope, byte for byte what the webhook carries. Raises NotFound."""
    body = record.envelope or services().requests.envelope(record.request_id)
    if body is None:
        raise NotFound("The result of this request has passed its lifetime.")
    if not with_data:
        body = orjson.dumps({key: value for key, value in orjson.loads(body).items() if key != "data"})
    response = Response(body, content_type=JSON)
    if record.retry_after:
        response.headers["Retry-After"] = str(record.retry_after)
    return _with_credits(response, record)


def running(record: RequestRecord) -> Response:
    """Return 200 with the envelope of a request that has not ended."""
    response = json_response(envelopes.running(record))
    response.headers["Retry-After"] = str(POLL_AFTER)
    return _with_credits(response, record)


def _with_credits(response: Response, record: RequestRecord) -> Response:
    response.headers["X-Request-Id"] = record.request_id
    response.headers["X-Credits-Charged"] = str(record.charged)
    with suppress(StoreUnavailable, BrokenRow):  # no reason to withhold the answer itself
        response.headers["X-Credits-Remaining"] = str(_available(record))
    return response


def _available(record: RequestRecord) -> int:
    if record.available is not None:
        return record.available
    return services().credits.balance(record.account_id).available
