"""What one fetch brought, as those get it for whom it was not made."""

from __future__ import annotations

import json
from typing import Any

import orjson

from service.domain.errors import FetchError, fetch_error
from service.domain.sharing import Landing, Shared, first_expiry
from service.domain.stories import owner_of, with_string_ids
from workers.sources.contract import Found


def landing_of(brought: Found | FetchError, now: int) -> Landing:
    """Return what a fetch brought by ``now`` (Unix ms) in the form in which it is shared."""
    if isinstance(brought, FetchError):
        return Landing(_json({"message": brought.message, "retryAfter": brought.retry_after}), brought.code)
    body = {"data": brought.data, "source": brought.source, "ownerSought": brought.owner_sought}
    owner, owner_name = owner_of(brought.data)
    until = first_expiry(brought.data.get("items", []), now)
    return Landing(_json(body), until=until, owner=owner, owner_name=owner_name)


def brought_by(shared: Shared) -> Found | FetchError:
    """Return what was shared; the inverse of `landing_of`."""
    body = orjson.loads(shared.body)
    if shared.code:
        return fetch_error(shared.code, body["message"], body["retryAfter"])
    return Found(body["data"], body["source"], body.get("ownerSought", False))


def _json(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:
        # Integers beyond 64 bits and half emojis: the standard library writes what orjson refuses.
        # As text the integers come back from it as they were.
        return json.dumps(with_string_ids(body), ensure_ascii=False).encode("utf-8", "replace")
