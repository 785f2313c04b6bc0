"""Stories from Instagram's private API through instagrapi.

Only ``private_request`` is used: the library's comfortable methods swallow what Instagram says and
try again on the public web, and its models fail on fields that are absent.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from instagrapi import config
from instagrapi import exceptions as ig

from service.domain.errors import AccountPrivate, FetchError, NoSessionFree, UserNotFound
from service.domain.instagram import NOT_FOUND
from service.domain.ports import InstagramIdStore
from workers.sources.accounts import Lent, SessionPool
from workers.sources.contract import Reel
from workers.sources.verdicts import RestTimes, drifted, translate

CAPABILITIES = {"supported_capabilities_new": json.dumps(config.SUPPORTED_CAPABILITIES)}
# Calls of one fetch at most: look up and ask; or ask, find the id outdated, and then both. The third of
# those is seldom made, so a session with two left will do.
BY_NAME, BY_KNOWN_ID = 2, 3
# What the story feed says of an id that is no account's any more.
WRONG_ID = (ig.ClientNotFoundError, ig.UserNotFound, ig.InvalidTargetUser)


class InstagrapiSource:
    """A Source over a pool of Instagram sessions. Threads may share it."""

    name = "instagrapi"

    def __init__(self, pool: SessionPool, ids: InstagramIdStore) -> None:
        self._pool = pool
        self._ids = ids

    def stories(self, username: str) -> Reel:
        """Fetch an account's active stories; see `Source.stories`."""
        known = self._ids.get(username)
        if known is NOT_FOUND:
            raise UserNotFound
        with self._pool.client(BY_KNOWN_ID if known else BY_NAME, least=BY_NAME) as lent:
            fetch = _Fetch(lent, self._ids, username.lower(), self._pool.rests)
            return fetch.by_known_id(known) if isinstance(known, str) else fetch.by_name()

    def reels(self, usernames: Sequence[str]) -> dict[str, Reel | FetchError]:
        """Fetch many accounts' active stories; see `Source.reels`."""
        found: dict[str, Reel | FetchError] = {}
        wanted: dict[str, str | None] = {}
        for username in usernames:
            known = self._ids.get(username)
            if known is NOT_FOUND:
                found[username] = UserNotFound()
            else:
                wanted[username] = known if isinstance(known, str) else None
        if len(wanted) > 1:
            try:
                self._together(wanted, found)
            except NoSessionFree:
                if not found:
                    raise
            except FetchError:
                pass  # the session heard of it; those who are missing are asked for alone
        return found

    def _together(self, wanted: Mapping[str, str | None], found: dict[str, Reel | FetchError]) -> None:
        # The leases of those who ask go on meanwhile.
        group = _Group(wanted, found, self._pool.lease_seconds / 4)
        unknown = sum(known is None for known in wanted.values())
        with self._pool.client(unknown + 1, least=1 if unknown < len(wanted) else 2) as lent:
            group.run(lent, {name: _Fetch(lent, self._ids, name, self._pool.rests) for name in wanted})


class _Group:
    """Many fetches with one client: each unknown name is looked up, then all reels come in one call.

    ``known`` are ids by name, None where there is none yet. What is certain goes into ``found``. After
    ``patience`` seconds no further name is looked up, and none that would leave no call for the reels.
    """

    def __init__(
        self, known: Mapping[str, str | None], found: dict[str, Reel | FetchError], patience: float
    ) -> None:
        self._ids = {name: user_id for name, user_id in known.items() if user_id is not None}
        self._users: dict[str, dict[str, Any]] = {}  # of those looked up just now
        self._found = found
        self._until = time.monotonic() + patience

    def run(self, lent: Lent, fetches: Mapping[str, _Fetch]) -> None:
        """Find what can be found. Raises the FetchError that concerns the session."""
        self._look_up(lent, fetches)
        if self._ids:
            reels = next(iter(fetches.values())).many(list(self._ids.values()))
            for name, user_id in self._ids.items():
                with suppress(FetchError):  # what cannot be judged is asked for alone
                    self._judge(fetches[name], name, user_id, _usable(reels.get(user_id)))

    def _look_up(self, lent: Lent, fetches: Mapping[str, _Fetch]) -> None:
        for name, fetch in fetches.items():
            if time.monotonic() > self._until or lent.used >= lent.granted - 1:
                return
            if name in self._ids:
                continue
            try:
                self._ids[name], self._users[name] = fetch.look_up()
            except UserNotFound as error:
                self._found[name] = error

    def _judge(self, fetch: _Fetch, name: str, user_id: str, reel: dict[str, Any] | None) -> None:
        if reel and reel.get("items") and fetch.names_account(reel.get("user")):
            self._found[name] = Reel(user_id, reel["user"], reel)
        elif name in self._users:
            try:
                self._found[name] = _reel(user_id, self._users[name], reel)
            except AccountPrivate as error:
                self._found[name] = error


class _Fetch:
    """One fetch with one client."""

    def __init__(self, lent: Lent, ids: InstagramIdStore, username: str, rests: RestTimes) -> None:
        self._lent = lent
        self._ids = ids
        self._username = username
        self._rests = rests

    def by_name(self) -> Reel:
        """Look the account up, then fetch."""
        user_id, user = self.look_up()
        return _reel(user_id, user, self._feed(user_id))

    def by_known_id(self, user_id: str) -> Reel:
        """Fetch by a remembered id, and trust the answer only when it names the asked account.

        Otherwise the account has no story, is private, renamed or gone, and looking it up tells.
        """
        reel, failed = None, None
        try:
            reel = self._feed(user_id)
        except FetchError as error:
            if not isinstance(error.__cause__, WRONG_ID):
                raise
            failed = error
        if reel and reel.get("items") and self.names_account(reel.get("user")):
            return Reel(user_id, reel["user"], reel)
        fresh_id, user = self.look_up()
        if fresh_id != user_id:
            return _reel(fresh_id, user, self._feed(fresh_id))
        if failed:
            raise failed
        return _reel(user_id, user, reel)

    def look_up(self) -> tuple[str, dict[str, Any]]:
        """Return the account's id and raw user object, and remember the id. Raises UserNotFound."""
        try:
            user = self._call(f"users/{self._username}/usernameinfo/").get("user")
        except FetchError as error:
            if not _no_such_user(error.__cause__):
                raise
            self._ids.put_missing(self._username)
            raise UserNotFound from error
        if not isinstance(user, dict):
            raise drifted()
        user_id = str(user.get("pk") or user.get("id"))
        if not user_id.isdecimal():
            raise drifted()
        if self.names_account(user):
            self._ids.put(self._username, user_id)
        else:
            self._ids.forget(self._username)
        return user_id, user

    def _feed(self, user_id: str) -> dict[str, Any] | None:
        """Return the raw reel, None when Instagram shows none."""
        answer = self._call(f"feed/user/{user_id}/story/", CAPABILITIES)
        if "reel" not in answer:
            raise drifted()
        return _usable(answer["reel"])

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


def _usable(reel: Any) -> dict[str, Any] | None:
    """Return a raw reel if it has the shape of one. Raises UpstreamFailed."""
    if reel is None:
        return None
    items = reel.get("items", []) if isinstance(reel, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise drifted()
    return cast(dict[str, Any], reel)


def _reel(user_id: str, user: dict[str, Any], reel: dict[str, Any] | None) -> Reel:
    """Judge an answer by the account just looked up. Raises AccountPrivate."""
    if reel and reel.get("items"):
        shown = reel.get("user")
        return Reel(user_id, shown if isinstance(shown, dict) else user, reel)
    private = user.get("is_private")
    if not isinstance(private, bool):
        raise drifted()  # private and empty look alike without it
    friendship = user.get("friendship_status")
    followed = isinstance(friendship, dict) and friendship.get("following") is True
    if private and not followed:
        raise AccountPrivate
    return Reel(user_id, user, None)


def _no_such_user(error: BaseException | None) -> bool:
    """Tell whether a failed look-up by name says that the name does not exist."""
    said = isinstance(error, ig.ClientError) and "User not found" in str(error.message)
    return said or isinstance(error, ig.ClientNotFoundError)
