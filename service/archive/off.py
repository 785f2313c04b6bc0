"""No archive: ARCHIVE_URL is empty."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NoReturn

from service.domain.archive import UNAVAILABLE, Totals
from service.domain.errors import NotFound
from service.domain.media import best_media


class NoArchive:
    """Archive of an installation that keeps no media."""

    enabled = False

    def keep(
        self,
        data: dict[str, Any],
        owner: str,
        go_on: Callable[[], None],
        names: Collection[str] = (),
        account_id: str = "",
    ) -> dict[str, Any]:
        """Return the result with a word of error in each item that has media: the archive was turned off."""
        items = [
            {**item, "archiveError": UNAVAILABLE} if best_media(item) else item
            for item in data.get("items", [])
        ]
        return {**data, "items": items} if "items" in data else data

    def check(self, name: str, expires: str, signature: str) -> NoReturn:
        """Raise NotFound."""
        raise NotFound("This service keeps no media.")

    def open(self, name: str) -> NoReturn:
        """Raise NotFound."""
        raise NotFound("This service keeps no media.")

    def owners_called(self, names: Collection[str]) -> list[tuple[str, str]]:
        return []

    def purge(self, owner: str) -> int:
        return 0

    def expire(self) -> int:
        return 0

    def totals(self) -> Totals:
        return Totals(0, 0)
