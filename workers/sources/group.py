"""Many fetches with one Instagram client: unknown names are looked up, then all reels come in one call."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from service.domain.errors import (
    AccountPrivate,
    FetchError,
    Retry,
    UserNotFound,
)
from service.domain.instagram import NOT_FOUND, Known, Missing
from workers.sources.accounts import SessionPool
from workers.sources.calls import Calls, reel_in
from workers.sources.contract import Found, GoOn
from workers.sources.fetch import by_memory, judged, shown
from workers.sources.lookups import Named, public

# How a group treats a session: how many look-ups may fail with one, how many calls are kept for ids that
# have changed, and up to which share of its lease a look-up, or any call, is begun.
FAILURES_MOST = 3
CHANGED_IDS = 3
LOOK_UPS_SHARE = 1 / 4
CALLS_SHARE = 1 / 2


class Group:
    """Many fetches: each unknown name is looked up, then all reels come in one call.

    ``found`` is what is certain, ``confirmed`` what should be remembered of it. It may be run again with
    another client and goes on where it was.
    """

    def __init__(self, known: Mapping[str, Known | Missing | None], pool: SessionPool, go_on: GoOn) -> None:
        self.found: dict[str, Found | FetchError] = {
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
        self._calls: Calls | None = None

    @property
    def calls(self) -> int:
        """How many calls it makes: one for all, a look-up for whom it may take one, some for changed ids."""
        unsure = [name for name in self._pending() if not (known := self._known.get(name)) or not known.user]
        return len(unsure) + 1 + CHANGED_IDS

    @property
    def calls_at_least(self) -> int:
        """With how many calls something can be found."""
        return 1 if self._known else 2

    def run(self, calls: Calls, accounts: Mapping[str, Named]) -> None:
        """Find what can be found. Raises the FetchError that ends the session's turn."""
        self._calls = calls
        self._began = time.monotonic()
        self._answers = {}
        # Whether a private account is followed is another session's own affair.
        self._users = {name: user for name, user in self._users.items() if user.get("is_private") is False}
        for _ in range(2):  # the second time for those of whom nothing is shown, or whose id has changed
            self._look_up(calls, accounts)
            self._ask(calls)
            self._judge(accounts)

    def _pending(self) -> list[str]:
        return [name for name in self.names if name not in self.found and name not in self._unclear]

    def _may_call(self, share: float, spare: int = 0) -> bool:
        """Tell whether to call once more: within this share of the lease, with calls to ``spare``."""
        if self._calls is None or self._calls.left <= spare:
            return False
        return time.monotonic() - self._began < self._pool.lease_seconds * share and self.go_on()

    def _look_up(self, calls: Calls, accounts: Mapping[str, Named]) -> None:
        failures = 0
        for name in self._pending():
            known = self._known.get(name)
            if name in self._users or (known and known.user_id not in self._answers):
                continue
            if self._pool.wanted() or not self._may_call(LOOK_UPS_SHARE, spare=0 if self._answers else 1):
                return
            try:
                user_id, self._users[name] = accounts[name].look_up(calls)
                self._known[name] = Known(user_id)
            except (AccountPrivate, UserNotFound) as error:
                self.found[name] = error
            except FetchError as error:
                failures += 1
                if _ends_turn(error) or failures == FAILURES_MOST:
                    raise
                self._unclear.add(name)

    def _ask(self, calls: Calls) -> None:
        ids = [known.user_id for name in self._pending() if (known := self._known.get(name))]
        new = [user_id for user_id in dict.fromkeys(ids) if user_id not in self._answers]
        if new and self._may_call(CALLS_SHARE):
            reels = calls.reels(new)
            self._answers.update({user_id: reels.get(user_id) for user_id in new})

    def _judge(self, accounts: Mapping[str, Named]) -> None:
        for name in self._pending():
            known = self._known.get(name)
            if known is None or known.user_id not in self._answers:
                continue
            try:
                brought = self._judged(accounts[name], name, known)
            except AccountPrivate as error:
                self.found[name] = error
            except FetchError:
                self._unclear.add(name)
            else:
                if brought is not None:
                    self.found[name] = brought

    def _judged(self, account: Named, name: str, known: Known) -> Found | None:
        """Return what an answer says of an account, None when it has to be looked up. Raises FetchError."""
        reel = reel_in(self._answers[known.user_id], known.user_id)
        if name in self._users:
            return judged(known.user_id, self._users[name], reel)
        brought = by_memory(account, known, reel)
        if brought and shown(reel) and known.user is None and (user := public(brought.data["user"])):
            self.confirmed[name] = Known(known.user_id, user)
        return brought


def _ends_turn(error: FetchError) -> bool:
    """Tell whether a failure is about the session, and not about what was asked for with it."""
    verdict = error.verdict
    return error.retry is Retry.ELSEWHERE or bool(verdict and (verdict.rest_seconds or verdict.quarantine))
