"""Remembers which id an Instagram username has, so that a fetch costs one call and not two.

Keys: ``{ig}:uid:<username>`` string, JSON ``{"id": "787132"}`` or ``{"id": null}`` for a name that
does not exist; the lifetime is days for the first and minutes for the second. ``{ig}:seen:<username>``
string, JSON of the raw user object as it was last seen; its lifetime is hours, and its end says that it
has to be looked at again whether the account is private. ``{ig}:seen:id:<id>`` string, the same of an
account that was asked for by its id, or ``null`` for an id that is nobody's, for minutes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from redis import Redis

from service.domain.instagram import NOT_FOUND, Known, Missing
from service.stores.commands import pages
from service.stores.connection import store_adapter

DAY_SECONDS = 86_400
DEFAULT_DAYS = 7
DEFAULT_SEEN_SECONDS = 21_600
DEFAULT_MISSING_SECONDS = 300
SCAN_COUNT = 1_000


@store_adapter
class InstagramIds:
    """A cache of username -> id, and of how accounts were seen. Usernames count without their case."""

    def __init__(
        self,
        redis: Redis,
        *,
        days: float = DEFAULT_DAYS,
        seen_seconds: int = DEFAULT_SEEN_SECONDS,
        missing_seconds: int = DEFAULT_MISSING_SECONDS,
    ) -> None:
        self._redis = redis
        self._lifetime = max(int(days * DAY_SECONDS), 1)
        self._seen_lifetime = seen_seconds
        self._missing_lifetime = max(missing_seconds, 1)

    def get(self, username: str) -> Known | Missing | None:
        """Return what is known of a name: NOT_FOUND that it does not exist, None nothing."""
        [known] = self.get_many([username])
        return known

    def get_many(self, usernames: Sequence[str]) -> list[Known | Missing | None]:
        """Return the same for many, in one step and in the order of ``usernames``."""
        if not usernames:
            return []
        names = [key(name) for key in (_id_key, _seen_key) for name in usernames]
        stored: list[Any] = self._redis.mget(names)
        count = len(usernames)
        return [_known(*pair) for pair in zip(stored[:count], stored[count:], strict=True)]

    def put(self, username: str, user_id: str, user: dict[str, Any] | None = None) -> None:
        """Remember the id of a name, and its user object where that tells whether it is private."""
        self.put_many({username: Known(user_id, user)})

    def put_many(self, known: Mapping[str, Known]) -> None:
        """Remember many in one step. Without a user object the one known so far is dropped."""
        with self._redis.pipeline() as pipe:
            for username, each in known.items():
                pipe.set(_id_key(username), json.dumps({"id": each.user_id}), ex=self._lifetime)
                if each.user is None or self._seen_lifetime <= 0:
                    pipe.delete(_seen_key(username))
                else:
                    pipe.set(_seen_key(username), json.dumps(each.user), ex=self._seen_lifetime)
            pipe.execute()

    def put_missing(self, username: str) -> None:
        """Remember for a short while that a name does not exist."""
        with self._redis.pipeline() as pipe:
            pipe.set(_id_key(username), json.dumps({"id": None}), ex=self._missing_lifetime)
            pipe.delete(_seen_key(username))
            pipe.execute()

    def forget(self, username: str) -> None:
        """Drop what is known of a name."""
        self._redis.delete(_id_key(username), _seen_key(username))

    def get_seen(self, user_id: str) -> dict[str, Any] | Missing | None:
        """Return the raw user object of an id, NOT_FOUND that there is none; None when not seen lately."""
        stored: Any = self._redis.get(_number_key(user_id))
        if stored is None:
            return None
        user: dict[str, Any] | None = json.loads(stored)
        return NOT_FOUND if user is None else user

    def put_seen(self, user_id: str, user: dict[str, Any] | Missing | None) -> None:
        """Remember how the account of an id was seen; None drops what is remembered."""
        lifetime = self._missing_lifetime if user is NOT_FOUND else self._seen_lifetime
        if user is None or lifetime <= 0:
            self._redis.delete(_number_key(user_id))
        else:
            stored = None if user is NOT_FOUND else user
            self._redis.set(_number_key(user_id), json.dumps(stored), ex=lifetime)

    def names_of(self, user_ids: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield names remembered to have one of these ids, and the id. Reads all that is remembered."""
        for page in self._pages():
            for name, known in zip(page, self.get_many(page), strict=True):
                if isinstance(known, Known) and known.user_id in user_ids:
                    yield name, known.user_id

    def _pages(self) -> Iterator[list[str]]:
        prefix = _id_key("")
        for found in pages(self._redis, f"{prefix}*", SCAN_COUNT):
            yield [name.removeprefix(prefix) for name in found]


def _known(stored: str | None, seen: str | None) -> Known | Missing | None:
    if stored is None:
        return None
    user_id = json.loads(stored)["id"]
    if user_id is None:
        return NOT_FOUND
    return Known(str(user_id), None if seen is None else json.loads(seen))


def _id_key(username: str) -> str:
    return f"{{ig}}:uid:{username.lower()}"


def _seen_key(username: str) -> str:
    return f"{{ig}}:seen:{username.lower()}"


def _number_key(user_id: str) -> str:
    return f"{{ig}}:seen:id:{user_id}"
