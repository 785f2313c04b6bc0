"""Rate limits per account, told as the IETF draft does.

``RateLimit-Policy`` and ``RateLimit``: draft-ietf-httpapi-ratelimit-headers-10. Calls that start
work count; looking at it is free.
"""

from __future__ import annotations

from collections.abc import Sequence

from flask import Response, after_this_request, request
from werkzeug.exceptions import MethodNotAllowed

from service.api.context import account, services
from service.domain.accounts import LimitState, refuse_exceeded


def refuse_head() -> None:
    """Refuse HEAD where GET costs credits: tools that only look must not pay. Raises MethodNotAllowed."""
    if request.method == "HEAD":
        raise MethodNotAllowed(valid_methods=["GET", "OPTIONS"])


def count_call() -> None:
    """Count one call of the caller and put the state of the limits in the answer's headers.

    Raises RateLimited; then the call was not counted.
    """
    counted(services().limits.hit(account().account_id))


def counted(states: Sequence[LimitState]) -> None:
    """Put the state of the limits in the answer's headers. Raises RateLimited when one was reached."""
    if states:
        after_this_request(lambda response: _tell(response, states))
    refuse_exceeded(states)


def _tell(response: Response, states: Sequence[LimitState]) -> Response:
    response.headers["RateLimit-Policy"] = ", ".join(
        f'"{state.limit.name}";q={state.limit.count};w={state.limit.seconds}' for state in states
    )
    response.headers["RateLimit"] = ", ".join(
        f'"{state.limit.name}";r={state.remaining};t={state.resets_in}' for state in states
    )
    return response
