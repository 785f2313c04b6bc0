"""Whom the operator does not serve, and taking away what is kept."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from service.domain.optouts import OptOut
from service.domain.requests import RequestRecord
from service.domain.rows import Tell
from service.domain.targets import Target


class OptOutStore(Protocol):
    """The list of accounts that are not served, by name and by id."""

    def add(self, username: str | None, user_id: str | None, note: str = "") -> None:
        """Put a name, an id or both on the list; what is there stays as it is, but for a new ``note``."""
        ...

    def learn(self, username: str, user_id: str) -> bool:
        """Take in that these are of one account: once one is on the list, the other is put there too.

        Tell whether one was. "" for either is not known.
        """
        ...

    def remove(self, account: Target) -> list[Target]:
        """Take a name or id off the list with all that was linked to it; return what was taken off."""
        ...

    def list(self, tell: Tell = ...) -> Sequence[OptOut]:
        """Return all of it, in the order in which it was added.

        ``tell``, else the log, hears of entries that cannot be read; whom they are about stays on it.
        """
        ...

    def anybody(self) -> bool:
        """Tell whether there is anybody on the list."""
        ...

    def covers(self, names: Collection[str], user_ids: Collection[str]) -> bool:
        """Tell whether any of these is on the list; one round trip."""
        ...

    def covered(
        self, names: Collection[str], user_ids: Collection[str]
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Return those (lower-case) names and those ids that are on the list; one round trip."""
        ...


class ErasureStore(Protocol):
    """Takes away what is kept of requests, and what is shared."""

    def erase(self, record: RequestRecord) -> bool:
        """Remove all that is kept of a request but its ledger entries; False while it is open."""
        ...

    def erase_many(self, records: Sequence[RequestRecord]) -> int:
        """Do the same with many; return how many were not open."""
        ...

    def requests(self) -> Iterator[list[RequestRecord]]:
        """Yield all requests of all accounts, some hundreds at a time; one may come twice."""
        ...

    def drop_shared(self, names: Collection[str], user_ids: Collection[str]) -> int:
        """Remove shared results that are about these accounts, or were asked for by them; return how many."""
        ...
