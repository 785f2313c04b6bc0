"""What every upstream gives: one small contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from service.domain.errors import FetchError, NoSessionFree
from service.domain.operations import Ask

GoOn = Callable[[], bool]


def always() -> bool:
    return True


@dataclass(frozen=True)
class Found:
    """What an upstream has, as it sent it: integers stay integers.

    ``data`` has the parts that `service.domain.operations.Operation.data` names, always with an ``id``
    and the owner's raw ``user`` object; ``source`` is the name of the upstream that gave it.
    ``owner_sought`` tells that the owner was asked for, and that an upstream does not know one.
    """

    data: dict[str, Any]
    source: str = ""
    owner_sought: bool = False

    def given_by(self, source: str) -> Found:
        return replace(self, source=source)


def reel_found(user_id: str, user: dict[str, Any], reel: dict[str, Any] | None) -> Found:
    """Return an account's stories: the raw reel, or an empty one of the same shape when there is none.

    ``user`` is the raw user object, used where the reel carries none.
    """
    data: dict[str, Any] = dict(reel) if reel is not None else {"items": []}
    if data.get("id") is None:
        data["id"] = user_id
    if data.get("user") is None:
        data["user"] = user
    return Found(data)


class Source(Protocol):
    """An upstream that knows stories."""

    name: str

    def serves(self, ask: Ask) -> bool:
        """Tell whether this may be asked of it at all; asks nobody."""
        ...

    def fetch(self, ask: Ask) -> Found:
        """Ask for one thing that it serves.

        Raises FetchError only: NoSessionFree before anything was asked; one of the endings of the operation
        (`service.domain.operations.Operation.endings`); UpstreamBlocked, UpstreamTimeout or UpstreamFailed;
        each says by ``retry`` what a worker may do next. (StoreUnavailable passes through where the source
        keeps its state in the store.)
        """
        ...

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        """Fetch the active stories of many accounts in few calls.

        Gives what is certain: a reel, or an error that is final. An account that is missing in the answer
        is to be asked for alone; whatever goes wrong with some ends in that, and raises nothing (but a
        StoreUnavailable before the first call, and NoSessionFree when there was nobody to ask with and
        nothing is known). ``go_on`` is asked before each call upstream; once it says no, what was found
        so far is returned.
        """
        ...

    def unserved(self) -> NoSessionFree | None:
        """Return why nobody can be asked now, None when somebody can."""
        ...
