"""One fetch for all who ask for the same reel: what may be shown to whom. Pure functions.

All times are the store's, Unix milliseconds: the clocks of two workers need not agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from service.domain.requests import RequestRecord

MAX_AGE_MOST = 3_600  # seconds; as long as a reel is kept for others
MAX_AGE_DEFAULT = 60
# A failure is shared with those who waited for that very fetch, and with nobody later.
FAILURE_LIFETIME = 60  # seconds
# A story may be shown for a moment after its end; later it is something else that shows it.
SHOWN_AFTER_MS = 600_000


@dataclass(frozen=True)
class Flight:
    """The right to ask upstream what ``key`` stands for (`Ask.key`), alone, until a lease is over."""

    key: str
    token: str
    started_at: int


@dataclass(frozen=True)
class Landing:
    """What a fetch brought: JSON of the reel, or of the sentence and Retry-After of a failure with ``code``.

    ``until`` is when the first of its stories expires, 0 when none does; ``owner`` and ``owner_name`` are the
    id and name of the account it is about.
    """

    body: bytes
    code: str = ""
    until: int = 0
    owner: str = ""
    owner_name: str = ""

    @property
    def lifetime(self) -> int:
        """How long it is kept at most, milliseconds."""
        return (FAILURE_LIFETIME if self.code else MAX_AGE_MOST) * 1000


@dataclass(frozen=True)
class Shared:
    """A landing as the store has it. Past ``until`` one of its stories has expired."""

    started_at: int
    fetched_at: int
    until: int
    body: bytes
    code: str = ""

    def serves(self, request: RequestRecord, now: int) -> bool:
        """Tell whether it answers a request at ``now``.

        It does when it was fetched for it, which is after it was made, or is no older than asked for.
        """
        if now >= self.until:
            return False
        if self.started_at >= request.created_at:
            return True
        return not self.code and now - self.fetched_at < request.max_age * 1000

    def age(self, now: int) -> int:
        """Return how old it is at ``now``, in whole seconds."""
        return max(0, now - self.fetched_at) // 1000


def first_expiry(items: Iterable[dict[str, Any]], now: int) -> int:
    """Return when the first of these raw items expires, 0 when none says so.

    What expired long ago is shown all the same, as the items of highlights are: it does not count.
    """
    expiries = (at * 1000 for item in items if isinstance(at := item.get("expiring_at"), int))
    return min((at for at in expiries if at > now - SHOWN_AFTER_MS), default=0)
