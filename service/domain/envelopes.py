"""The one envelope: a sync answer, a polled request and a webhook carry the same JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from service.domain.requests import FAILED, SUCCEEDED, RequestRecord
from service.domain.targets import HIGHLIGHT_ID, MEDIA_URL, STORY_ID, USER_ID, USERNAME

# What a request is about, as it is called on the wire.
_WIRE_NAMES = {
    USERNAME: "username",
    USER_ID: "userId",
    STORY_ID: "storyId",
    HIGHLIGHT_ID: "highlightId",
    MEDIA_URL: "mediaUrl",
}

PROCESSING_MESSAGE = "The request is being processed. Poll it, or wait for the webhook."


def timestamp(at_ms: int) -> str:
    """Return Unix milliseconds as ISO 8601 in UTC."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def success(
    request: RequestRecord,
    *,
    outcome: str,
    data: dict[str, Any],
    charged: int,
    now_ms: int,
    item_count: int,
    source: str = "",
    age: int | None = None,
) -> dict[str, Any]:
    """Return the envelope of a request that succeeded; ``age`` in seconds when its result was shared."""
    return {
        "success": True,
        "requestId": request.request_id,
        **_origin(request),
        "status": SUCCEEDED,
        "outcome": outcome,
        **_about(request),
        "data": data,
        "itemCount": item_count,
        "source": source,
        "cached": age is not None,
        "age": age or 0,
        "creditsCharged": charged,
        "createdAt": timestamp(request.created_at),
        "finishedAt": timestamp(now_ms),
    }


def failure(
    request: RequestRecord,
    *,
    code: str,
    message: str,
    now_ms: int,
    charged: int = 0,
    status: str = FAILED,
) -> dict[str, Any]:
    """Return the envelope of a request that failed or was cancelled."""
    return {
        "success": False,
        "requestId": request.request_id,
        **_origin(request),
        "status": status,
        "error": message,
        "code": code,
        **_about(request),
        "creditsCharged": charged,
        "createdAt": timestamp(request.created_at),
        "finishedAt": timestamp(now_ms),
    }


def running(request: RequestRecord) -> dict[str, Any]:
    """Return the envelope of a request that has not ended."""
    return {
        "success": True,
        "requestId": request.request_id,
        **_origin(request),
        "status": request.status,
        "message": PROCESSING_MESSAGE,
        **_about(request),
        "createdAt": timestamp(request.created_at),
    }


def summary(request: RequestRecord) -> dict[str, Any]:
    """Return the line a list of requests shows: the envelope without data and sentences."""
    line: dict[str, Any] = {
        "requestId": request.request_id,
        **_origin(request),
        "status": request.status,
        **_about(request),
        "outcome": request.outcome,
        "code": request.code,
        "itemCount": request.item_count,
        "creditsCharged": request.charged,
        "webhookUrl": request.webhook_url,
        "createdAt": timestamp(request.created_at),
        "finishedAt": timestamp(request.finished_at) if request.finished_at else None,
    }
    return line


def _about(request: RequestRecord) -> dict[str, str]:
    """Return what was asked for, and by what."""
    return {"operation": request.operation, _WIRE_NAMES[request.target.kind]: request.target.value}


def _origin(request: RequestRecord) -> dict[str, str]:
    """Return what a request belongs to, and the caller's own id of it; nothing for one that stands alone."""
    ties = {"batchId": request.batch_id, "externalId": request.external_id, "watchId": request.watch_id}
    return {name: value for name, value in ties.items() if value is not None}
