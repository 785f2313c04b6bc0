"""What every upstream gives: one small contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from service.domain.errors import FetchError

GoOn = Callable[[], bool]


def always() -> bool:
    return True


@dataclass(frozen=True)
class Reel:
    """An account's active stories, as the upstream sent them.

    ``user_id`` is the account's numeric id as a string and ``user`` its raw object. ``reel`` is the
    raw reel, with at least one raw item in ``reel["items"]``; None says that the account is public
    and has no active story.
    """

    user_id: str
    user: dict[str, Any]
    reel: dict[str, Any] | None


class Source(Protocol):
    """An upstream that knows stories."""

    name: str

    def stories(self, username: str) -> Reel:
        """Fetch the active stories of an account.

        Raises FetchError only: NoSessionFree before anything was asked, AccountPrivate, UserNotFound,
        UpstreamBlocked, UpstreamTimeout or UpstreamFailed, each saying by ``retry`` what a worker may do
        next. (StoreUnavailable passes through where the source keeps its state in the store.)
        """
        ...

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Reel | FetchError]:
        """Fetch the active stories of many accounts in few calls.

        Gives what is certain: a reel, or an error that is final. An account that is missing in the answer
        is to be asked for alone; whatever goes wrong with some ends in that, and raises nothing (but a
        StoreUnavailable before the first call, and NoSessionFree when there was nobody to ask with and
        nothing is known). ``go_on`` is asked before each call upstream; once it says no, what was found
        so far is returned.
        """
        ...
