"""Media that are kept beyond the life of their URLs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol

from service.domain.archive import Kept, Owner, Reservation, Totals


class StoredFile(Protocol):
    """A file of the archive, open for reading."""

    size: int

    def chunks(self, first: int, last: int) -> Iterator[bytes]:
        """Yield the bytes from ``first`` to ``last``, both included, some at a time; closes at the end.

        Raises ArchiveUnavailable.
        """
        ...

    def close(self) -> None: ...


class Archive(Protocol):
    """Keeps the media of results, each once however often it was shown, and hands them out again."""

    enabled: bool

    def keep(
        self,
        data: dict[str, Any],
        owner: str,
        go_on: Callable[[], None],
        names: Collection[str] = (),
        account_id: str = "",
    ) -> dict[str, Any]:
        """Return a copy of a result in which each item that has media tells where they are kept.

        ``data`` is that of an envelope: ids are strings, ``items`` raw. An item gets ``archiveUrl`` and
        ``archive: {sha256, contentType, size}``, or ``archiveError``, one of the words of
        `service.domain.archive`. ``owner`` is the Instagram user id, ``names`` those it was asked for by and
        seen under; what is kept counts for ``account_id``. ``go_on`` is called before each item and now and
        then within one; LeaseLost passes through. Nothing else is raised.
        """
        ...

    def check(self, name: str, expires: str, signature: str) -> None:
        """Raise Forbidden unless these parts of a link are what was signed, and in time."""
        ...

    def open(self, name: str) -> StoredFile:
        """Raises NotFound, ArchiveUnavailable."""
        ...

    def owners_called(self, names: Collection[str]) -> Sequence[tuple[str, str]]:
        """Return which Instagram users, of whom files are kept, were seen under these names: (name, id)."""
        ...

    def purge(self, owner: str) -> int:
        """Delete the files of an Instagram user that are nobody else's too; return how many.

        Raises ArchiveUnavailable when some are left, to be deleted by another call.
        """
        ...

    def expire(self) -> int:
        """Delete the files whose time is over, and what crashes left behind; return how many files."""
        ...

    def totals(self) -> Totals: ...


class ArchiveIndex(Protocol):
    """Which files the archive holds, whose they are and until when; and who may change one right now."""

    def lock(self, what: str) -> str | None:
        """Take the lease on a file (its digest), or on fetching an item's media; None when it is taken.

        Returns the token that stands for it.
        """
        ...

    def unlock(self, what: str, token: str) -> None: ...
    def of_media(self, media_id: str) -> str | None:
        """Return the name of the file that an item's media were kept as."""
        ...

    def get(self, digest: str) -> Kept | None:
        """Return a file that is there for certain."""
        ...

    def reserve(self, account_id: str, size: int, seconds: float, there: Kept | None = None) -> Reservation:
        """Reserve room for a file of at most ``size`` bytes. Raises NotKept where there is none.

        It is held for somewhat longer than ``seconds``. One that is ``there``
        counts for the account only, and not again if it does already.
        """
        ...

    def release(self, reservation: Reservation) -> None: ...
    def recount(self) -> None:
        """Count the files that the version before kept and did not count."""
        ...

    def announce(self, digest: str, suffix: str, size: int, reservation: Reservation) -> str:
        """Note that a file may be there from now on; return the suffix it has, which the first one chose.

        It counts in all from now on, in place of what was reserved, until it is forgotten.
        """
        ...

    def record(
        self, kept: Kept, token: str, owner: Owner, media_id: str, reservation: Reservation
    ) -> int | None:
        """Note that a file is there, whose it is, and prolong its life; return its end (Unix seconds).

        The names of the owner are known for as long as any of the owner's files.
        ``token`` is that of the lock, which ends; None when somebody else has it by now.
        """
        ...

    def doom(self, digest: str, token: str, owner: str = "") -> str | None:
        """Note that a file is going to be deleted; return its name, None when it is not to be.

        That is when its time is not over, or with an ``owner`` when it is somebody else's too.
        """
        ...

    def forget(self, digest: str, token: str, owner: str = "") -> bool:
        """Drop what is known of a file that was deleted, unless somebody else has the lock by now.

        ``owner`` is the one for whose sake it was deleted.
        """
        ...

    def over(self, after: int, count: int) -> Sequence[str]:
        """Return the digests of files whose time is over, oldest first, leaving out the first ``after``."""
        ...

    def of_owner(self, owner: str) -> Sequence[str]: ...
    def owners_called(self, names: Collection[str]) -> Sequence[tuple[str, str]]:
        """Return the owners of files that were seen under these names: (name, user id)."""
        ...

    def totals(self) -> Totals: ...
