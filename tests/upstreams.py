"""A Source for tests of what works with one."""

from __future__ import annotations

from collections.abc import Sequence

from service.domain.errors import FetchError, NoSessionFree
from service.domain.operations import STORIES, Ask
from service.domain.targets import named
from workers.sources.contract import Found, GoOn, always


def stories_of(username: str) -> Ask:
    """What is asked for the stories of a username."""
    return Ask(STORIES, named(username))


class StoriesByName:
    """Serves stories by username; whoever derives from it says what there is in ``stories``."""

    name = "fake"

    def serves(self, ask: Ask) -> bool:
        return ask.operation == STORIES

    def fetch(self, ask: Ask) -> Found:
        return self.stories(ask.target.value).given_by(self.name)

    def stories(self, username: str) -> Found:
        raise NotImplementedError

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        return {}

    def unserved(self) -> NoSessionFree | None:
        return None
