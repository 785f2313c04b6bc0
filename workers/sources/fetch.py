"""What one account shows, its stories or its highlights: ask for it, look the account up, and judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from instagrapi import exceptions as ig

from service.domain.errors import AccountPrivate, FetchError
from service.domain.instagram import Known
from workers.sources.calls import Calls
from workers.sources.contract import Found, reel_found
from workers.sources.lookups import Account, hidden, public
from workers.sources.verdicts import drifted

# What is said of an id that is no account's any more.
WRONG_ID = (ig.ClientNotFoundError, ig.UserNotFound, ig.InvalidTargetUser)

# Asks by a user id for what an account shows: `Calls.stories` or `Calls.highlights` of a client.
AskById = Callable[[str], dict[str, Any]]


class Fetch:
    """One fetch with one client. ``force`` takes an account that shows nothing for an empty one."""

    def __init__(self, calls: Calls, account: Account, ask: AskById, *, force: bool = False) -> None:
        self._calls = calls
        self._account = account
        self._ask = ask
        self._force = force

    def by_name(self) -> Found:
        """Look the account up, then fetch."""
        user_id, user = self._account.look_up(self._calls)
        return self._asked(user_id, user)

    def by_known_id(self, known: Known) -> Found:
        """Fetch by an id that is known, and trust the answer when it names the asked account.

        Otherwise the account shows nothing, is private, renamed or gone. Looking it up tells, unless that
        was done not long ago.
        """
        answer = self._answer(known)
        if isinstance(answer, dict) and (brought := by_memory(self._account, known, answer, self._force)):
            if shown(answer) and known.user is None:
                self._account.remember(known.user_id, public(brought.data["user"]))
            return brought
        user_id, user = self._account.look_up(self._calls)
        if user_id != known.user_id:
            return self._asked(user_id, user)
        if isinstance(answer, FetchError):
            raise answer
        return judged(user_id, user, answer, self._force)

    def _asked(self, user_id: str, user: dict[str, Any]) -> Found:
        return judged(user_id, user, self._ask(user_id), self._force)

    def _answer(self, known: Known) -> dict[str, Any] | FetchError:
        """Return what a known id shows, or the error that may be about the id alone. Raises FetchError."""
        try:
            return self._ask(known.user_id)
        except FetchError as error:
            unseen = self._account.may_move and known.user is None
            outdated = isinstance(error, AccountPrivate) and unseen
            if not outdated and not isinstance(error.__cause__, WRONG_ID):
                raise
            return error


def by_memory(account: Account, known: Known, answer: dict[str, Any], force: bool = False) -> Found | None:
    """Judge the answer to a known id by what else is remembered; None when that does not do.

    Raises AccountPrivate.
    """
    owner = owner_in(answer)
    mine = owner is not None and account.is_that_of(owner)
    if shown(answer):
        return _found(known.user_id, owner, answer) if mine else None
    if owner is not None and not mine:
        return None
    if force:
        return _found(known.user_id, known.user or owner, answer)
    return None if known.user is None else judged(known.user_id, known.user, answer)


def judged(user_id: str, user: dict[str, Any], answer: dict[str, Any], force: bool = False) -> Found:
    """Judge an answer by the account just looked up. Raises AccountPrivate."""
    if not shown(answer) and not force:
        if not isinstance(user.get("is_private"), bool):
            raise drifted()  # private and empty look alike without it
        if hidden(user):
            raise AccountPrivate
    return _found(user_id, user, answer)


def shown(answer: dict[str, Any]) -> bool:
    """Tell whether there is anything in a reel or a tray."""
    return bool(answer.get("items") or answer.get("tray"))


def owner_in(answer: dict[str, Any]) -> dict[str, Any] | None:
    """Return the raw user object that a reel carries, or the first highlight of a tray."""
    first = next(iter(answer.get("tray", ())), answer)
    user = first.get("user")
    return user if isinstance(user, dict) else None


def _found(user_id: str, user: dict[str, Any] | None, answer: dict[str, Any]) -> Found:
    """Return what was found; the account's user object is the answer's own, or else ``user``."""
    own = answer.get("user")
    named = own if isinstance(own, dict) else user or {"pk": user_id}
    return reel_found(user_id, named, {**answer, "user": named})
