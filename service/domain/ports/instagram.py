"""What a source keeps: sessions and ids."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from service.domain.errors import SessionVerdict
from service.domain.instagram import Known, Leased, Missing, SessionRecord, Unavailable
from service.domain.rows import Tell


class SessionStore(Protocol):
    """The pool of Instagram sessions; its secrets leave it only with a lease."""

    def add(self, name: str, settings: dict[str, Any], proxy: str | None = None) -> int: ...
    def remove(self, name: str) -> None: ...
    def list(self, tell: Tell = ...) -> Sequence[SessionRecord]:
        """Return all records, by name; ``tell``, else the log, hears of those that cannot be read."""
        ...

    def lease(
        self, seconds: float, calls: int = 1, least: int = 1, *, gives_way: bool = False
    ) -> Leased | Unavailable:
        """Take a session for up to ``calls`` calls, for ``least`` of them or more.

        Who ``gives_way`` gets none while a caller waits for one; who does not is such a caller.
        """
        ...

    def release(
        self,
        leased: Leased,
        verdict: SessionVerdict | None = None,
        settings: dict[str, Any] | None = None,
        used: int | None = None,
    ) -> int | None:
        """Give a session back with what became of it and how many calls were made (None: not known)."""
        ...

    def wanted(self) -> bool:
        """Tell whether a caller waits for a session: who works for nobody should let go of theirs."""
        ...

    def free(self) -> Unavailable | None:
        """Return why somebody who gives way may use no session now; None when one is free."""
        ...

    def prune(self) -> int:
        """Forget what budgets are over; return how many."""
        ...

    def rest(self, name: str, seconds: int, reason: str = "by_hand") -> None: ...
    def quarantine(self, name: str, reason: str = "by_hand") -> None: ...
    def resume(self, name: str) -> None: ...


class InstagramIdStore(Protocol):
    """Remembers which id an Instagram username has, and for a shorter time whether an account is private."""

    def get(self, username: str) -> Known | Missing | None: ...
    def get_many(self, usernames: Sequence[str]) -> list[Known | Missing | None]:
        """Return the same for many, in the order of ``usernames``."""
        ...

    def put(self, username: str, user_id: str, user: dict[str, Any] | None = None) -> None: ...
    def put_many(self, known: Mapping[str, Known]) -> None: ...
    def put_missing(self, username: str) -> None: ...
    def forget(self, username: str) -> None: ...
    def get_seen(self, user_id: str) -> dict[str, Any] | Missing | None:
        """Return the raw user object last seen of an id; NOT_FOUND where there was none."""
        ...

    def put_seen(self, user_id: str, user: dict[str, Any] | Missing | None) -> None: ...

    def names_of(self, user_ids: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield names remembered to have one of these ids, and the id. Reads all that is remembered."""
        ...
