"""Rate limits per account, told as the IETF draft does.

``RateLimit-Policy`` and ``RateLimit``: draft-ietf-httpapi-ratelimit-headers-10. Calls that start
work count; looking at it is free.
"""

from __future__ import annotations

from flask import Response, after_this_request, request
from werkzeug.exceptions import MethodNotAllowed

from service.api.context import account, services
from service.domain.accounts import LimitState
from service.domain.errors import RateLimited

_NAMES = {60: "minute", 3_600: "hour", 86_400: "day"}


def refuse_head() -> None:
    """Refuse HEAD where GET costs credits: tools that only look must not pay. Raises MethodNotAllowed."""
    if request.method == "HEAD":
        raise MethodNotAllowed(valid_methods=["GET", "OPTIONS"])


def count_call() -> None:
    """Count one call of the caller and put the state of the limits in the answer's headers.

    Raises RateLimited; then the call was not counted.
    """
    states = services().limits.hit(account().account_id)
    if not states:
        return

    @after_this_request
    def tell(response: Response) -> Response:
        response.headers["RateLimit-Policy"] = ", ".join(
            f'"{_name(state)}";q={state.limit.count};w={state.limit.seconds}' for state in states
        )
        response.headers["RateLimit"] = ", ".join(
            f'"{_name(state)}";r={state.remaining};t={state.resets_in}' for state in states
        )
        return response

    full = [state for state in states if state.exceeded]
    if full:
        worst = max(full, key=lambda state: state.resets_in)
        raise RateLimited(
            f"At most {worst.limit.count} calls per {_name(worst)}. Try again in {worst.resets_in} seconds.",
            retry_after=worst.resets_in,
        )


def _name(state: LimitState) -> str:
    return _NAMES.get(state.limit.seconds, f"{state.limit.seconds}s")
