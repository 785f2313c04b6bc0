"""Accounts, asked for by name or by id: what is remembered of them, and how they are looked up."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

from service.domain.errors import StoreUnavailable, UserNotFound
from service.domain.instagram import NOT_FOUND, Known
from service.domain.ports.instagram import InstagramIdStore
from service.domain.targets import USER_ID, Target
from workers.sources.calls import Calls, id_of

# What is remembered of a user object; what a reel's own user object has, too.
KEPT = ("pk", "id", "username", "full_name", "is_private", "is_verified", "profile_pic_url")


class Account(Protocol):
    """One account that is asked about."""

    # Whether a remembered id may have become another account's.
    may_move: bool

    def known(self) -> Known | None:
        """Return what is remembered of it. Raises UserNotFound when it was missing not long ago."""
        ...

    def is_that_of(self, user: dict[str, Any]) -> bool:
        """Tell whether a raw user object is this account's."""
        ...

    def look_up(self, calls: Calls) -> tuple[str, dict[str, Any]]:
        """Return its id and raw user object, and remember them. Raises FetchError, so UserNotFound."""
        ...

    def remember(self, user_id: str, user: dict[str, Any] | None) -> None:
        """Remember its id and how it was seen, or that nothing is known of that."""
        ...


class Named:
    """The account of a username."""

    may_move = True

    def __init__(self, ids: InstagramIdStore, username: str) -> None:
        self._ids = ids
        self._username = username.lower()

    def known(self) -> Known | None:
        known = self._ids.get(self._username)
        if known is NOT_FOUND:
            raise UserNotFound
        return known

    def is_that_of(self, user: dict[str, Any]) -> bool:
        return str(user.get("username")).lower() == self._username

    def look_up(self, calls: Calls) -> tuple[str, dict[str, Any]]:
        try:
            user = calls.user_named(self._username)
        except UserNotFound:
            with suppress(StoreUnavailable):  # the next one asks again
                self._ids.put_missing(self._username)
            raise
        if self.is_that_of(user):
            self.remember(id_of(user), public(user) or hidden(user))
        else:
            with suppress(StoreUnavailable):
                self._ids.forget(self._username)
        return id_of(user), user

    def remember(self, user_id: str, user: dict[str, Any] | None) -> None:
        with suppress(StoreUnavailable):  # what was fetched is good all the same
            self._ids.put(self._username, user_id, user)


class Numbered:
    """The account of a user id."""

    may_move = False

    def __init__(self, ids: InstagramIdStore, user_id: str) -> None:
        self._ids = ids
        self._user_id = user_id

    def known(self) -> Known:
        seen = self._ids.get_seen(self._user_id)
        if seen is NOT_FOUND:
            raise self._missing()
        return Known(self._user_id, seen)

    def is_that_of(self, user: dict[str, Any]) -> bool:
        return id_of(user) == self._user_id

    def look_up(self, calls: Calls) -> tuple[str, dict[str, Any]]:
        try:
            user = calls.user(self._user_id)
        except UserNotFound as error:
            with suppress(StoreUnavailable):
                self._ids.put_seen(self._user_id, NOT_FOUND)
            raise self._missing() from error
        self.remember(self._user_id, public(user) or hidden(user))
        return self._user_id, user

    def remember(self, user_id: str, user: dict[str, Any] | None) -> None:
        with suppress(StoreUnavailable):
            self._ids.put_seen(user_id, user)

    def _missing(self) -> UserNotFound:
        return UserNotFound("There is no Instagram account of this id.")


def account_of(ids: InstagramIdStore, target: Target) -> Account:
    """Return the account that a target names."""
    if target.kind == USER_ID:
        return Numbered(ids, target.value)
    return Named(ids, target.value)


def public(user: dict[str, Any]) -> dict[str, Any] | None:
    """Return what is worth remembering of a public account's user object, None of any other."""
    return _kept(user) if user.get("is_private") is False else None


def hidden(user: dict[str, Any]) -> dict[str, Any] | None:
    """Return the same of an account that is private and not followed by the session that sees it so."""
    friendship = user.get("friendship_status")
    followed = isinstance(friendship, dict) and friendship.get("following") is True
    return _kept(user) if user.get("is_private") is True and not followed else None


def _kept(user: dict[str, Any]) -> dict[str, Any]:
    return {name: user[name] for name in KEPT if name in user}
