"""Rate limits per account, told as the IETF draft does.

``RateLimit-Policy`` and ``RateLimit``: draft-ietf-httpapi-ratelimit-headers-10. Calls that start
work count, refused ones too; looking at it is free.
"""

from __future__ import annotations

from collections.abc import Sequence

from flask import Response, after_this_request, g, request
from werkzeug.exceptions import MethodNotAllowed

from service.api.context import account, services
from service.api.costs import LOOKING, cost_of
from service.domain.accounts import LimitState, refuse_exceeded
from service.domain.admission import WORK
from service.domain.errors import CallerError, StoryhookError


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
    g.is_counted = True
    if states:
        after_this_request(lambda response: _tell(response, states))
    refuse_exceeded(states)


def count_refused(error: StoryhookError) -> StoryhookError:
    """Count a call that is refused before it was counted; return what to answer.

    That is ``error``, or RateLimited where a limit was reached: who sends nothing but wrong calls is told so.
    """
    if not isinstance(error, CallerError) or g.get("is_counted") or "account" not in g:
        return error
    if request.method in LOOKING and cost_of(request.method, request.path) != WORK:
        return error
    try:
        count_call()
    except StoryhookError as limit:
        return limit
    return error


def _tell(response: Response, states: Sequence[LimitState]) -> Response:
    response.headers["RateLimit-Policy"] = ", ".join(
        f'"{state.limit.name}";q={state.limit.count};w={state.limit.seconds}' for state in states
    )
    response.headers["RateLimit"] = ", ".join(
        f'"{state.limit.name}";r={state.remaining};t={state.resets_in}' for state in states
    )
    return response
