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

from service.domain.errors import (
    AccountPrivate,
    FetchError,
    NoSessionFree,
    Retry,
    StoreUnavailable,
    UserNotFound,
)
from service.domain.instagram import NOT_FOUND, Known, Missing
from service.domain.ports.instagram import InstagramIdStore
from workers.sources.accounts import Lent, SessionPool
from workers.sources.contract import GoOn, Reel, always
from workers.sources.verdicts import RestTimes, drifted, translate

CAPABILITIES = {"supported_capabilities_new": json.dumps(config.SUPPORTED_CAPABILITIES)}
# Calls of one fetch at most: look up and ask; or ask, find the id outdated, and then both. The third of
# those is seldom made, so a session with two left will do.
BY_NAME, BY_KNOWN_ID = 2, 3
# What the story feed says of an id that is no account's any more.
WRONG_ID = (ig.ClientNotFoundError, ig.UserNotFound, ig.InvalidTargetUser)
# What is remembered of a user object; what a reel's own user object has, too.
KEPT = ("pk", "id", "username", "full_name", "is_private", "is_verified", "profile_pic_url")
# How a group treats a session: how many it is tried with, how many look-ups may fail with one, and up to
# which share of its lease a look-up, or any call, is begun.
GROUP_TRIES = 2
FAILURES_MOST = 3
CHANGED_IDS = 3  # calls
LOOK_UPS_SHARE = 1 / 4
CALLS_SHARE = 1 / 2


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
            fetch = self._fetch(lent, username)
            return fetch.by_known_id(known) if isinstance(known, Known) else fetch.by_name()

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Reel | FetchError]:
        """Fetch many accounts' active stories; see `Source.reels`."""
        names = list(dict.fromkeys(name.lower() for name in usernames))
        known = dict(zip(names, self._ids.get_many(names), strict=True))
        group = _Group(known, self._pool, go_on)
        if len(group.names) > 1:
            try:
                self._run(group)
            except NoSessionFree:
                if not group.found:
                    raise
            except (FetchError, StoreUnavailable):
                pass  # what was found is as good as ever
            with suppress(StoreUnavailable):
                self._ids.put_many(group.confirmed)
        return {name: group.found[name.lower()] for name in usernames if name.lower() in group.found}

    def _run(self, group: _Group) -> None:
        """Let a second session go on where the first one came to grief. Raises FetchError."""
        for left in reversed(range(GROUP_TRIES)):
            if not group.go_on():
                return
            try:
                with self._pool.client(group.calls, least=group.calls_at_least, gives_way=True) as lent:
                    group.run(lent, {name: self._fetch(lent, name) for name in group.names})
                return
            except FetchError as error:
                if error.retry is Retry.NEVER or not left:
                    raise

    def _fetch(self, lent: Lent, username: str) -> _Fetch:
        return _Fetch(lent, self._ids, username.lower(), self._pool.rests)


class _Group:
    """Many fetches: each unknown name is looked up, then all reels come in one call.

    ``found`` is what is certain, ``confirmed`` what should be remembered of it. It may be run again with
    another client and goes on where it was.
    """

    def __init__(self, known: Mapping[str, Known | Missing | None], pool: SessionPool, go_on: GoOn) -> None:
        self.found: dict[str, Reel | FetchError] = {
            name: UserNotFound() for name, each in known.items() if each is NOT_FOUND
        }
        self.confirmed: dict[str, Known] = {}
        self.names = [name for name in known if name not in self.found]
        self.go_on = go_on
        self._known = {name: each for name, each in known.items() if isinstance(each, Known)}
        self._users: dict[str, dict[str, Any]] = {}  # of those looked up just now
        self._answers: dict[str, Any] = {}  # raw reel or None by user id, of those asked for just now
        self._unclear: set[str] = set()  # to be asked for alone
        self._pool = pool
        self._began = 0.0
        self._lent: Lent | None = None

    @property
    def calls(self) -> int:
        """How many calls it makes: one for all, a look-up for whom it may take one, some for changed ids."""
        unsure = [name for name in self._pending() if not (known := self._known.get(name)) or not known.user]
        return len(unsure) + 1 + CHANGED_IDS

    @property
    def calls_at_least(self) -> int:
        """With how many calls something can be found."""
        return 1 if self._known else 2

    def run(self, lent: Lent, fetches: Mapping[str, _Fetch]) -> None:
        """Find what can be found. Raises the FetchError that ends the session's turn."""
        self._lent = lent
        self._began = time.monotonic()
        self._answers = {}
        # Whether a private account is followed is another session's own affair.
        self._users = {name: user for name, user in self._users.items() if user.get("is_private") is False}
        for _ in range(2):  # the second time for those of whom nothing is shown, or whose id has changed
            self._look_up(fetches)
            self._ask(fetches)
            self._judge(fetches)

    def _pending(self) -> list[str]:
        return [name for name in self.names if name not in self.found and name not in self._unclear]

    def _may_call(self, share: float, spare: int = 0) -> bool:
        """Tell whether to call once more: within this share of the lease, with calls to ``spare``."""
        if self._lent is None or self._lent.left <= spare:
            return False
        return time.monotonic() - self._began < self._pool.lease_seconds * share and self.go_on()

    def _look_up(self, fetches: Mapping[str, _Fetch]) -> None:
        failures = 0
        for name in self._pending():
            known = self._known.get(name)
            if name in self._users or (known and known.user_id not in self._answers):
                continue
            if self._pool.wanted() or not self._may_call(LOOK_UPS_SHARE, spare=0 if self._answers else 1):
                return
            try:
                user_id, self._users[name] = fetches[name].look_up()
                self._known[name] = Known(user_id)
            except (AccountPrivate, UserNotFound) as error:
                self.found[name] = error
            except FetchError as error:
                failures += 1
                if _ends_turn(error) or failures == FAILURES_MOST:
                    raise
                self._unclear.add(name)

    def _ask(self, fetches: Mapping[str, _Fetch]) -> None:
        ids = [known.user_id for name in self._pending() if (known := self._known.get(name))]
        new = [user_id for user_id in dict.fromkeys(ids) if user_id not in self._answers]
        if new and self._may_call(CALLS_SHARE):
            reels = next(iter(fetches.values())).many(new)
            self._answers.update({user_id: reels.get(user_id) for user_id in new})

    def _judge(self, fetches: Mapping[str, _Fetch]) -> None:
        for name in self._pending():
            known = self._known.get(name)
            if known is None or known.user_id not in self._answers:
                continue
            try:
                brought = self._judged(fetches[name], name, known)
            except AccountPrivate as error:
                self.found[name] = error
            except FetchError:
                self._unclear.add(name)
            else:
                if brought is not None:
                    self.found[name] = brought

    def _judged(self, fetch: _Fetch, name: str, known: Known) -> Reel | None:
        """Return what an answer says of an account, None when it has to be looked up. Raises FetchError."""
        reel = _usable(self._answers[known.user_id])
        shown = reel.get("user") if reel else None
        if isinstance(shown, dict) and str(shown.get("pk", known.user_id)) != known.user_id:
            raise drifted()  # somebody else's
        if name in self._users:
            return _reel(known.user_id, self._users[name], reel)
        brought = fetch.by_memory(known, reel)
        if brought and brought.reel and known.user is None and (user := _public(brought.user)):
            self.confirmed[name] = Known(known.user_id, user)
        return brought


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

    def by_known_id(self, known: Known) -> Reel:
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
            if brought.reel and known.user is None:
                self._remember(user_id, _public(brought.user))
            return brought
        fresh_id, user = self.look_up()
        if fresh_id != user_id:
            return _reel(fresh_id, user, self._feed(fresh_id))
        if failed:
            raise failed
        return _reel(user_id, user, reel)

    def by_memory(self, known: Known, reel: dict[str, Any] | None) -> Reel | None:
        """Judge the answer to a remembered id by what else is remembered; None when that does not do.

        Raises AccountPrivate.
        """
        items = reel.get("items") if reel else None
        named = reel is not None and self.names_account(reel.get("user"))
        if reel and items and named:
            return Reel(known.user_id, reel["user"], reel)
        if known.user is None or items or (reel and not named):
            return None
        return _reel(known.user_id, known.user, None)

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
            self._remember(user_id, _public(user) or _hidden(user))
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
    if not isinstance(user.get("is_private"), bool):
        raise drifted()  # private and empty look alike without it
    if _hidden(user):
        raise AccountPrivate
    return Reel(user_id, user, None)


def _public(user: dict[str, Any]) -> dict[str, Any] | None:
    """Return what is worth remembering of a public account's user object, None of any other."""
    return _kept(user) if user.get("is_private") is False else None


def _hidden(user: dict[str, Any]) -> dict[str, Any] | None:
    """Return the same of an account that is private and not followed by the session that sees it so."""
    friendship = user.get("friendship_status")
    followed = isinstance(friendship, dict) and friendship.get("following") is True
    return _kept(user) if user.get("is_private") is True and not followed else None


def _kept(user: dict[str, Any]) -> dict[str, Any]:
    return {name: user[name] for name in KEPT if name in user}


def _ends_turn(error: FetchError) -> bool:
    """Tell whether a failure is about the session, and not about what was asked for with it."""
    verdict = error.verdict
    return error.retry is Retry.ELSEWHERE or bool(verdict and (verdict.rest_seconds or verdict.quarantine))


def _no_such_user(error: BaseException | None) -> bool:
    """Tell whether a failed look-up by name says that the name does not exist."""
    said = isinstance(error, ig.ClientError) and "User not found" in str(error.message)
    return said or isinstance(error, ig.ClientNotFoundError)
