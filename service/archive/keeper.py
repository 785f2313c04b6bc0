"""What is kept, whose it is, and what is deleted again."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import structlog

from service.archive.files import Files, OpenFile
from service.archive.links import Links
from service.archive.staging import Staged, opened, staged_from
from service.domain.archive import (
    TIMEOUT,
    UNAVAILABLE,
    Kept,
    NotKept,
    Owner,
    Reservation,
    Totals,
    parse_name,
    why_not,
)
from service.domain.errors import (
    ArchiveUnavailable,
    FetchError,
    LeaseLost,
    NotFound,
    StoreUnavailable,
    StoryhookError,
)
from service.domain.media import best_media
from service.domain.ports.archive import ArchiveIndex
from service.domain.ports.media import MediaFiles

# How often somebody is told that this goes on, seconds.
TELL_EVERY = 5.0
# How long one waits for a file somebody else writes or deletes, and how often one looks, seconds.
LOCK_WAIT = 15.0
LOCK_LOOK = 0.02
# Times a file is fetched before it is given up: each but the first means a lock that ran out.
TRIES = 3
# Files looked at together by the housekeeping.
PAGE = 500
UNKNOWN = "unknown"

log = structlog.get_logger(__name__)


class Keeper:
    """Archive over files and their index.

    ``most`` is the largest file in bytes, ``seconds`` how long the media of one result may take in all.
    """

    enabled = True

    def __init__(
        self, files: Files, index: ArchiveIndex, media: MediaFiles, links: Links, *, most: int, seconds: float
    ) -> None:
        self._files = files
        self._index = index
        self._media = media
        self._links = links
        self._most = most
        self._seconds = seconds

    def keep(
        self,
        data: dict[str, Any],
        owner: str,
        go_on: Callable[[], None],
        names: Collection[str] = (),
        account_id: str = "",
    ) -> dict[str, Any]:
        """See `service.domain.ports.archive.Archive.keep`."""
        if not isinstance(data.get("items"), list):
            return data
        tick = _Tick(go_on, self._seconds)
        # What nobody is known to own has no name either: it would lead to everybody's of that kind.
        whose = Owner(owner, tuple(sorted({*names} - {""}))) if owner else Owner(UNKNOWN)
        order = _Order(account_id, whose, tick)
        return {**data, "items": [self._item(item, order) for item in data["items"]]}

    def _item(self, item: dict[str, Any], order: _Order) -> dict[str, Any]:
        url = best_media(item) if isinstance(item, dict) else None
        if url is None:
            return item
        try:
            order.tick(at_once=True)
            kept = self._kept(url, str(item.get("pk") or item.get("id") or url), order)
            sign = self._links.sign(kept)
        except LeaseLost:
            raise
        except (StoryhookError, NotKept) as error:
            cause = repr(error.__cause__ or error)
            log.warning("archive.not_kept", media=item.get("pk"), why=_why(error), error=cause)
            return {**item, "archiveError": _why(error)}
        except Exception as error:
            log.exception("archive.unexpected", media=item.get("pk"), error=str(error))
            return {**item, "archiveError": UNAVAILABLE}
        told = {"sha256": kept.digest, "contentType": kept.content_type, "size": kept.size}
        return {**item, "archiveUrl": sign, "archive": told}

    def _kept(self, url: str, media_id: str, order: _Order) -> Kept:
        """Keep an item's media, unless they are kept already; of many at a time one fetches them."""
        # Without this lock a file is fetched twice, and no harm done.
        with self._locked(f"media:{media_id}", order.tick):
            for _ in range(TRIES):
                kept = self._known(media_id, order) or self._fetched(url, media_id, order)
                if kept is not None:
                    return kept
        raise NotKept(UNAVAILABLE)

    def _known(self, media_id: str, order: _Order) -> Kept | None:
        """Return what the media were kept as, with its life prolonged; None when it is not there."""
        parts = parse_name(self._index.of_media(media_id) or "")
        if parts is None:
            return None
        with self._locked(parts[0], order.tick) as token:
            kept = self._index.get(parts[0])
            if token is None or kept is None or self._files.size(kept.name) != kept.size:
                return None
            with self._reserved(order, kept.size, there=kept) as reservation:
                return self._recorded(kept, token, order, media_id, reservation)

    def _fetched(self, url: str, media_id: str, order: _Order) -> Kept | None:
        """Fetch a file, put it in its place and note it; None when the lock was lost meanwhile.

        Then somebody may have deleted it again.
        """
        with (
            opened(self._media, url, self._most) as source,
            self._reserved(order, source.content_length or self._most) as reservation,
            staged_from(source, self._files.staging, reservation.size, order.tick) as staged,
            self._locked(staged.digest, order.tick) as token,
        ):
            if token is None:
                raise NotKept(UNAVAILABLE)
            kept = self._index.get(staged.digest)
            if kept is None or self._files.size(kept.name) != kept.size:
                kept = self._placed(staged, order.tick, reservation)
            return self._recorded(kept, token, order, media_id, reservation)

    @contextmanager
    def _reserved(self, order: _Order, size: int, there: Kept | None = None) -> Iterator[Reservation]:
        """Hold room for a file: what comes of it counts in its place. Raises NotKept."""
        reservation = self._index.reserve(order.account_id, size, self._seconds, there)
        try:
            yield reservation
        finally:
            with suppress(StoreUnavailable):  # it ends by itself
                self._index.release(reservation)

    def _placed(self, staged: Staged, tick: _Tick, reservation: Reservation) -> Kept:
        suffix = self._index.announce(staged.digest, staged.suffix, staged.size, reservation)
        kept = Kept(staged.digest, suffix, staged.size, 0)
        self._files.publish(staged.path, kept.name, tick)
        return kept

    def _recorded(
        self, kept: Kept, token: str, order: _Order, media_id: str, reservation: Reservation
    ) -> Kept | None:
        until = self._index.record(kept, token, order.owner, media_id, reservation)
        return Kept(kept.digest, kept.suffix, kept.size, until) if until else None

    @contextmanager
    def _locked(self, what: str, tick: Callable[[], None]) -> Iterator[str | None]:
        """Hold a lock; yields None when it could not be had in time."""
        deadline = time.monotonic() + LOCK_WAIT
        while (token := self._index.lock(what)) is None and time.monotonic() < deadline:
            tick()
            time.sleep(LOCK_LOOK)
        try:
            yield token
        finally:
            if token is not None:
                with suppress(StoreUnavailable):  # it ends by itself
                    self._index.unlock(what, token)

    def check(self, name: str, expires: str, signature: str) -> None:
        """See `Links.check`."""
        self._links.check(name, expires, signature)

    def open(self, name: str) -> OpenFile:
        """Raises NotFound, ArchiveUnavailable."""
        if parse_name(name) is None:
            raise NotFound("This is not the name of a file of the archive.")
        return self._files.open(name)

    def owners_called(self, names: Collection[str]) -> Sequence[tuple[str, str]]:
        """See `service.domain.ports.archive.Archive.owners_called`."""
        return self._index.owners_called(names)

    def purge(self, owner: str) -> int:
        """Delete the files that are nobody else's; raises ArchiveUnavailable when some are left."""
        deleted = 0
        for digest in self._index.of_owner(owner):
            deleted += self._deleted(digest, owner)
        if self._index.of_owner(owner):
            raise ArchiveUnavailable(f"{deleted} file(s) were deleted; others could not be. Try again.")
        return deleted

    def expire(self) -> int:
        """Delete the files whose time is over, and what crashes left behind; return how many files."""
        deleted = left = 0
        while digests := self._index.over(left, PAGE):
            gone = sum(self._deleted(digest) for digest in digests)
            deleted, left = deleted + gone, left + len(digests) - gone
        self._index.recount()
        with suppress(ArchiveUnavailable):
            self._files.clear_staging()
        return deleted

    def _deleted(self, digest: str, owner: str = "") -> bool:
        """Delete a file unless it is still wanted, or somebody is just writing it."""
        token = self._index.lock(digest)
        if token is None:
            return False
        try:
            name = self._index.doom(digest, token, owner)
            if name is None:
                return False
            self._files.delete(name)
            return self._index.forget(digest, token, owner)
        except ArchiveUnavailable as error:
            log.warning("archive.not_deleted", digest=digest, error=repr(error.__cause__))
            return False
        finally:
            self._index.unlock(digest, token)

    def totals(self) -> Totals:
        """Return how much there is."""
        return self._index.totals()


class _Tick:
    """Tells now and then that the work goes on, and ends it when it has taken too long."""

    def __init__(self, go_on: Callable[[], None], seconds: float) -> None:
        self._go_on = go_on
        self._deadline = time.monotonic() + seconds
        self._told = 0.0

    def __call__(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._told > TELL_EVERY:
            self._told = now
            with suppress(StoreUnavailable):  # whether the lease still holds shows at the end
                self._go_on()
        if now > self._deadline:
            raise NotKept(TIMEOUT)


@dataclass(frozen=True)
class _Order:
    """For which account something is kept, whose it is, and how long it may take."""

    account_id: str
    owner: Owner
    tick: _Tick


def _why(error: Exception) -> str:
    if isinstance(error, NotKept):
        return error.why
    return why_not(error) if isinstance(error, FetchError) else UNAVAILABLE
