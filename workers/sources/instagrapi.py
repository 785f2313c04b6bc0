"""Stories from Instagram's private API through instagrapi.

Only ``private_request`` is used: the library's comfortable methods swallow what Instagram says and
try again on the public web, and its models fail on fields that are absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from service.domain.errors import (
    FetchError,
    NoSessionFree,
    Retry,
    StoreUnavailable,
    UserNotFound,
)
from service.domain.instagram import NOT_FOUND, Known
from service.domain.operations import STORIES, Ask
from service.domain.ports.instagram import InstagramIdStore
from workers.sources.accounts import Lent, SessionPool
from workers.sources.contract import Found, GoOn, always
from workers.sources.fetch import Fetch
from workers.sources.group import Group

# Calls of one fetch at most: look up and ask; or ask, find the id outdated, and then both. The third of
# those is seldom made, so a session with two left will do.
BY_NAME, BY_KNOWN_ID = 2, 3
# How many sessions a group is tried with.
GROUP_TRIES = 2
SERVED = frozenset({STORIES})


class InstagrapiSource:
    """A Source over a pool of Instagram sessions. Threads may share it."""

    name = "instagrapi"

    def __init__(self, pool: SessionPool, ids: InstagramIdStore) -> None:
        self._pool = pool
        self._ids = ids

    def serves(self, ask: Ask) -> bool:
        """Tell whether there is a method for it; see `Source.serves`."""
        return ask.operation in SERVED

    def fetch(self, ask: Ask) -> Found:
        """Ask Instagram; see `Source.fetch`."""
        found: Found = getattr(self, ask.operation)(ask)
        return found.given_by(self.name)

    def unserved(self) -> NoSessionFree | None:
        """Tell whether a session is free; see `Source.unserved`."""
        why = self._pool.free()
        return None if why is None else NoSessionFree(why.wait, paced=why.paced)

    def stories(self, ask: Ask) -> Found:
        """Fetch an account's active stories."""
        username = ask.target.value
        known = self._ids.get(username)
        if known is NOT_FOUND:
            raise UserNotFound
        with self._pool.client(BY_KNOWN_ID if known else BY_NAME, least=BY_NAME) as lent:
            fetch = self._fetch(lent, username)
            return fetch.by_known_id(known) if isinstance(known, Known) else fetch.by_name()

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        """Fetch many accounts' active stories; see `Source.reels`."""
        names = list(dict.fromkeys(name.lower() for name in usernames))
        known = dict(zip(names, self._ids.get_many(names), strict=True))
        group = Group(known, self._pool, go_on)
        if len(group.names) > 1:
            try:
                self._run(group)
            except NoSessionFree:
                if not group.found:
                    raise
            except (FetchError, StoreUnavailable):
                pass  # what was found is as good as ever
            with suppress(StoreUnavailable):
                self._ids.put_many(group.confirmed)
        return {
            name: found.given_by(self.name) if isinstance(found, Found) else found
            for name in usernames
            if (found := group.found.get(name.lower()))
        }

    def _run(self, group: Group) -> None:
        """Let a second session go on where the first one came to grief. Raises FetchError."""
        for left in reversed(range(GROUP_TRIES)):
            if not group.go_on():
                return
            try:
                with self._pool.client(group.calls, least=group.calls_at_least, gives_way=True) as lent:
                    group.run(lent, {name: self._fetch(lent, name) for name in group.names})
                return
            except FetchError as error:
                if error.retry is Retry.NEVER or not left:
                    raise

    def _fetch(self, lent: Lent, username: str) -> Fetch:
        return Fetch(lent, self._ids, username.lower(), self._pool.rests)
