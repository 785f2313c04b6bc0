"""What the Graph API's refusals mean, by the ``code`` of the error.

https://developers.facebook.com/docs/graph-api/guides/error-handling and, for 613, .../overview/rate-limiting.
"""

from __future__ import annotations

from typing import Any

import httpx

from service.domain.errors import FetchError, Retry, UpstreamBlocked, UpstreamFailed, UpstreamTimeout
from workers.sources import wire

TOKEN = frozenset({102, 104, 190})
PERMISSION = frozenset({3, 10, *range(200, 300)})
TOO_MANY = frozenset({4, 17, 32, 341, 368, 613})
PASSING = frozenset({1, 2})
# 100 with this subcode: the object does not exist, or the token may not see it.
PARAMETER, NO_SUCH_OBJECT = 100, 33
# Limits are counted over an hour.
TOO_MANY_SECONDS = 900

_alarm = wire.Alarm("graph.refused")


def refused(response: httpx.Response) -> FetchError:
    """Return what a refusal means."""
    error = _error(response)
    code = error.get("code")
    code = code if isinstance(code, int) else 0
    if code in TOKEN or response.status_code == 401:
        return _for_the_operator("token")
    if code in PERMISSION:
        return _for_the_operator("permission")
    if code == PARAMETER and error.get("error_subcode") == NO_SUCH_OBJECT:
        return _for_the_operator("account")
    if code in TOO_MANY or response.status_code == 429:
        wait = wire.retry_after(response) or TOO_MANY_SECONDS
        return UpstreamBlocked(retry=Retry.NEVER, retry_after=wait)
    if response.status_code == 408:
        return UpstreamTimeout()
    passing = code in PASSING or error.get("is_transient") is True or response.status_code >= 500
    return UpstreamFailed(retry=Retry.AGAIN if passing else Retry.NEVER)


def _for_the_operator(reason: str) -> FetchError:
    _alarm.raise_for(reason)
    return UpstreamBlocked(wire.REFUSED, retry=Retry.NEVER, retry_after=wire.RETRY_AFTER)


def _error(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}
