"""What HikerAPI's refusals mean, by HTTP status and the ``exc_type`` of the body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import orjson

from service.domain.errors import (
    AccountPrivate,
    FetchError,
    HighlightNotFound,
    Retry,
    StoryNotFound,
    UpstreamBlocked,
    UpstreamFailed,
    UpstreamTimeout,
    UserNotFound,
)
from service.domain.operations import HIGHLIGHT, OPERATIONS, STORY
from workers.sources import wire

# A refusal is short; a longer body with 200 is an answer and is not read twice.
REFUSAL_MOST = 4_096
# The status that belongs to what is sometimes sent with 200.
STATUS_OF = {
    "InsufficientFunds": 402,
    "PrivateAccount": 403,
    "UserNotFound": 404,
    "StoryNotFound": 404,
    "MediaNotFound": 404,
    "HighlightNotFound": 404,
}
GONE: Mapping[str, type[FetchError]] = {STORY: StoryNotFound, HIGHLIGHT: HighlightNotFound}

_alarm = wire.Alarm("hikerapi.refused")


class Refusal(Exception):
    """An answer that is none; its body is not kept."""

    def __init__(self, status: int, kind: str, retry_after: int | None) -> None:
        super().__init__(f"{status} {kind}".strip())
        self.status = status
        self.kind = kind
        self.retry_after = retry_after


def refuse(response: httpx.Response) -> None:
    """Response hook: raise Refusal for what HikerAPI's client would hand out as an answer."""
    response.read()
    status, body = response.status_code, _short_body(response)
    kind = body.get("exc_type")
    kind = kind if isinstance(kind, str) and kind in STATUS_OF else ""
    if status == httpx.codes.OK and (body.get("state") is False or "exc_type" in body):
        status = STATUS_OF.get(kind, 500)
    if status != httpx.codes.OK:
        raise Refusal(status, kind, wire.retry_after(response))


def judged(refusal: Refusal, operation: str) -> FetchError:
    """Return what a refusal means for whom asked for ``operation``."""
    status, kind = refusal.status, refusal.kind
    if status in {401, 402, 403} and kind != "PrivateAccount":
        _alarm.raise_for({401: "token", 402: "funds"}.get(status, "forbidden"))
        return UpstreamBlocked(wire.REFUSED, retry=Retry.NEVER, retry_after=wire.RETRY_AFTER)
    if status == 429:  # so many calls a second, unless it says otherwise
        retry = Retry.NEVER if refusal.retry_after else Retry.AGAIN
        return UpstreamBlocked(retry=retry, retry_after=refusal.retry_after or wire.RETRY_AFTER)
    if status == 408:
        return UpstreamTimeout()
    if status >= 500:
        return UpstreamFailed()
    said = _said(kind, operation)
    return (
        said() if said and said.code in OPERATIONS[operation].endings else UpstreamFailed(retry=Retry.NEVER)
    )


def _said(kind: str, operation: str) -> type[FetchError] | None:
    """Return what is said of the thing that was asked for; a 404 without a word is about the address."""
    if kind == "PrivateAccount":
        return AccountPrivate
    if operation in GONE and kind.endswith("NotFound"):
        return GONE[operation]
    return UserNotFound if kind == "UserNotFound" else None


def _short_body(response: httpx.Response) -> dict[str, Any]:
    if len(response.content) > REFUSAL_MOST:
        return {}
    try:
        body = orjson.loads(response.content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
