"""Stories, highlights and accounts from Instagram's private API through instagrapi.

Only ``private_request`` is used: the library's comfortable methods swallow what Instagram says and
try again on the public web, and its models fail on fields that are absent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from service.domain.errors import FetchError, NoSessionFree, Retry, StoreUnavailable
from service.domain.operations import HIGHLIGHT, HIGHLIGHTS, STORIES, STORY, USER, Ask
from service.domain.ports.instagram import InstagramIdStore
from workers.sources.accounts import Lent, SessionPool
from workers.sources.calls import Calls, id_of
from workers.sources.contract import Found, GoOn, always
from workers.sources.fetch import Fetch
from workers.sources.group import Group
from workers.sources.lookups import Named, account_of
from workers.sources.verdicts import drifted

# Calls of one fetch at most: look up and ask, or the other way round; or ask, find the id outdated, and
# then both. The third of those is seldom made, so a session with two left will do.
TWO, OUTDATED = 2, 3
# How many sessions a group is tried with.
GROUP_TRIES = 2
SERVED = frozenset({STORIES, STORY, HIGHLIGHTS, HIGHLIGHT, USER})

Listing = Callable[[Calls, str], dict[str, Any]]


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
        return self._listed(ask, Calls.stories)

    def highlights(self, ask: Ask) -> Found:
        """Fetch the list of an account's highlights."""
        return self._listed(ask, Calls.highlights)

    def story(self, ask: Ask) -> Found:
        """Fetch one story by its pk."""
        with self._pool.client() as lent:
            item = self._calls(lent).media(ask.target.value)
        return _owned({"items": [item]}, item.get("user"))

    def highlight(self, ask: Ask) -> Found:
        """Fetch one highlight with its stories."""
        with self._pool.client() as lent:
            reel = self._calls(lent).highlight(ask.target.value)
        return _owned(reel, reel.get("user"))

    def user(self, ask: Ask) -> Found:
        """Look an account up."""
        account = account_of(self._ids, ask.target)
        account.known()
        with self._pool.client() as lent:
            user_id, user = account.look_up(self._calls(lent))
        return Found({"id": user_id, "user": user})

    def _listed(self, ask: Ask, listing: Listing) -> Found:
        """Fetch what an account shows, by what is known of it."""
        account = account_of(self._ids, ask.target)
        known = account.known()
        most = OUTDATED if known and account.may_move else TWO
        with self._pool.client(most, least=1 if known and ask.force else TWO) as lent:
            calls = self._calls(lent)
            fetch = Fetch(calls, account, partial(listing, calls), force=ask.force)
            return fetch.by_known_id(known) if known else fetch.by_name()

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
                    group.run(self._calls(lent), {name: Named(self._ids, name) for name in group.names})
                return
            except FetchError as error:
                if error.retry is Retry.NEVER or not left:
                    raise

    def _calls(self, lent: Lent) -> Calls:
        return Calls(lent, self._pool.rests)


def _owned(data: dict[str, Any], user: Any) -> Found:
    """Return what names its owner. Raises UpstreamFailed when it does not."""
    owner = id_of(user)
    if not owner.isdecimal():
        raise drifted()
    return Found({"id": owner, "user": user, **data})
