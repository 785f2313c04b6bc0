"""Remembers which id an Instagram username has, so that a fetch costs one call and not two.

Keys: ``{ig}:uid:<username>`` string, JSON ``{"id": "787132"}`` or ``{"id": null}`` for a name that
does not exist; the lifetime is days for the first and minutes for the second.
"""

from __future__ import annotations

import json

from redis import Redis

from service.domain.instagram import NOT_FOUND, Missing
from service.stores.connection import store_adapter

DAY_SECONDS = 86_400
DEFAULT_DAYS = 7
DEFAULT_MISSING_SECONDS = 300


@store_adapter
class InstagramIds:
    """A cache of username -> id. Usernames count without their case."""

    def __init__(
        self, redis: Redis, *, days: float = DEFAULT_DAYS, missing_seconds: int = DEFAULT_MISSING_SECONDS
    ) -> None:
        self._redis = redis
        self._lifetime = max(int(days * DAY_SECONDS), 1)
        self._missing_lifetime = max(missing_seconds, 1)

    def get(self, username: str) -> str | Missing | None:
        """Return the id, NOT_FOUND for a name known not to exist, or None when nothing is known."""
        stored = self._redis.get(_key(username))
        if stored is None:
            return None
        user_id = json.loads(str(stored))["id"]
        return NOT_FOUND if user_id is None else str(user_id)

    def put(self, username: str, user_id: str) -> None:
        """Remember the id of a name."""
        self._redis.set(_key(username), json.dumps({"id": user_id}), ex=self._lifetime)

    def put_missing(self, username: str) -> None:
        """Remember for a short while that a name does not exist."""
        self._redis.set(_key(username), json.dumps({"id": None}), ex=self._missing_lifetime)

    def forget(self, username: str) -> None:
        """Drop what is known of a name."""
        self._redis.delete(_key(username))


def _key(username: str) -> str:
    return f"{{ig}}:uid:{username.lower()}"
