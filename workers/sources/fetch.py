"""One fetch with one Instagram client: look an account up, ask for its reel, and judge what comes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from instagrapi import config
from instagrapi import exceptions as ig

from service.domain.errors import (
    AccountPrivate,
    FetchError,
    StoreUnavailable,
    UserNotFound,
)
from service.domain.instagram import Known
from service.domain.ports.instagram import InstagramIdStore
from workers.sources.accounts import Lent
from workers.sources.contract import Found, reel_found
from workers.sources.verdicts import RestTimes, drifted, translate

CAPABILITIES = {"supported_capabilities_new": json.dumps(config.SUPPORTED_CAPABILITIES)}
# What the story feed says of an id that is no account's any more.
WRONG_ID = (ig.ClientNotFoundError, ig.UserNotFound, ig.InvalidTargetUser)
# What is remembered of a user object; what a reel's own user object has, too.
KEPT = ("pk", "id", "username", "full_name", "is_private", "is_verified", "profile_pic_url")


class Fetch:
    """One fetch with one client."""

    def __init__(self, lent: Lent, ids: InstagramIdStore, username: str, rests: RestTimes) -> None:
        self._lent = lent
        self._ids = ids
        self._username = username
        self._rests = rests

    def by_name(self) -> Found:
        """Look the account up, then fetch."""
        user_id, user = self.look_up()
        return reel_of(user_id, user, self._feed(user_id))

    def by_known_id(self, known: Known) -> Found:
        """Fetch by a remembered id, and trust the answer when it names the asked account.

        Otherwise the account has no story, is private, renamed or gone. Looking it up tells, unless that
        was done not long ago.
        """
        user_id, reel, failed = known.user_id, None, None
        try:
            reel = self._feed(user_id)
        except FetchError as error:
            if not isinstance(error.__cause__, WRONG_ID):
                raise
            failed = error
        if not failed and (brought := self.by_memory(known, reel)):
            if brought.data["items"] and known.user is None:
                self._remember(user_id, public(brought.data["user"]))
            return brought
        fresh_id, user = self.look_up()
        if fresh_id != user_id:
            return reel_of(fresh_id, user, self._feed(fresh_id))
        if failed:
            raise failed
        return reel_of(user_id, user, reel)

    def by_memory(self, known: Known, reel: dict[str, Any] | None) -> Found | None:
        """Judge the answer to a remembered id by what else is remembered; None when that does not do.

        Raises AccountPrivate.
        """
        items = reel.get("items") if reel else None
        named = reel is not None and self.names_account(reel.get("user"))
        if reel and items and named:
            return reel_found(known.user_id, reel["user"], reel)
        if known.user is None or items or (reel and not named):
            return None
        return reel_of(known.user_id, known.user, None)

    def look_up(self) -> tuple[str, dict[str, Any]]:
        """Return the account's id and raw user object, and remember the id. Raises UserNotFound."""
        try:
            user = self._call(f"users/{self._username}/usernameinfo/").get("user")
        except FetchError as error:
            if not _no_such_user(error.__cause__):
                raise
            with suppress(StoreUnavailable):  # the next one asks again
                self._ids.put_missing(self._username)
            raise UserNotFound from error
        if not isinstance(user, dict):
            raise drifted()
        user_id = str(user.get("pk") or user.get("id"))
        if not user_id.isdecimal():
            raise drifted()
        if self.names_account(user):
            self._remember(user_id, public(user) or _hidden(user))
        else:
            with suppress(StoreUnavailable):
                self._ids.forget(self._username)
        return user_id, user

    def _remember(self, user_id: str, user: dict[str, Any] | None) -> None:
        with suppress(StoreUnavailable):  # what was fetched is good all the same
            self._ids.put(self._username, user_id, user)

    def _feed(self, user_id: str) -> dict[str, Any] | None:
        """Return the raw reel, None when Instagram shows none."""
        answer = self._call(f"feed/user/{user_id}/story/", CAPABILITIES)
        if "reel" not in answer:
            raise drifted()
        return usable(answer["reel"])

    def many(self, user_ids: Sequence[str]) -> dict[str, Any]:
        """Return raw reels by user id, of those who have one."""
        data = {"user_ids": list(user_ids), "source": "feed_timeline", **CAPABILITIES}
        reels = self._call("feed/reels_media/", data=data).get("reels")
        if not isinstance(reels, dict):
            raise drifted()
        return reels

    def _call(
        self, endpoint: str, params: dict[str, str] | None = None, data: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        client = self._lent.client
        self._lent.spend()
        try:
            answer = client.private_request(endpoint, data=data, params=params)
        except Exception as error:
            status = getattr(client.last_response, "status_code", None)
            raise translate(error, self._rests, status=status) from error
        if not isinstance(answer, dict):
            raise drifted()
        return answer

    def names_account(self, user: Any) -> bool:
        return isinstance(user, dict) and str(user.get("username")).lower() == self._username


def usable(reel: Any) -> dict[str, Any] | None:
    """Return a raw reel if it has the shape of one. Raises UpstreamFailed."""
    if reel is None:
        return None
    items = reel.get("items", []) if isinstance(reel, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise drifted()
    return cast(dict[str, Any], reel)


def reel_of(user_id: str, user: dict[str, Any], reel: dict[str, Any] | None) -> Found:
    """Judge an answer by the account just looked up. Raises AccountPrivate."""
    if reel and reel.get("items"):
        return reel_found(
            user_id, user, reel if isinstance(reel.get("user"), dict) else {**reel, "user": user}
        )
    if not isinstance(user.get("is_private"), bool):
        raise drifted()  # private and empty look alike without it
    if _hidden(user):
        raise AccountPrivate
    return reel_found(user_id, user, None)


def public(user: dict[str, Any]) -> dict[str, Any] | None:
    """Return what is worth remembering of a public account's user object, None of any other."""
    return _kept(user) if user.get("is_private") is False else None


def _hidden(user: dict[str, Any]) -> dict[str, Any] | None:
    """Return the same of an account that is private and not followed by the session that sees it so."""
    friendship = user.get("friendship_status")
    followed = isinstance(friendship, dict) and friendship.get("following") is True
    return _kept(user) if user.get("is_private") is True and not followed else None


def _kept(user: dict[str, Any]) -> dict[str, Any]:
    return {name: user[name] for name in KEPT if name in user}


def _no_such_user(error: BaseException | None) -> bool:
    """Tell whether a failed look-up by name says that the name does not exist."""
    said = isinstance(error, ig.ClientError) and "User not found" in str(error.message)
    return said or isinstance(error, ig.ClientNotFoundError)
