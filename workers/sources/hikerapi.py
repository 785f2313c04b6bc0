"""Stories, highlights and accounts from HikerAPI, with the operator's own key, through its own client.

The client (1.8.3) raises on no status and speaks to ``https://`` hosts only: its httpx client is replaced
by ours, with a hook that raises. httpx clients may be shared by threads and hikerapi's keeps nothing
between calls, so one serves all threads and their connections are kept open together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import hikerapi

from service.domain.errors import (
    AccountPrivate,
    FetchError,
    HighlightNotFound,
    NoSessionFree,
    StoryNotFound,
)
from service.domain.operations import HIGHLIGHT, HIGHLIGHTS, STORIES, STORY, USER, Ask
from service.domain.renditions import raw_item
from service.domain.targets import HIGHLIGHT_ID, STORY_ID, USER_ID, USERNAME
from service.upstreams import HIKERAPI_URL
from workers.sources import hikerapi_errors, wire
from workers.sources.contract import Found, GoOn, always, reel_found
from workers.sources.transport import CONNECT_TIMEOUT, READ_TIMEOUT
from workers.sources.verdicts import drifted

# The client's method for each thing that can be asked.
CALLS = {
    (STORIES, USERNAME): "user_stories_by_username_v2",
    (STORIES, USER_ID): "user_stories_v2",
    (STORY, STORY_ID): "story_by_id_v2",
    (HIGHLIGHTS, USERNAME): "user_highlights_by_username_v2",
    (HIGHLIGHTS, USER_ID): "user_highlights_v2",
    (HIGHLIGHT, HIGHLIGHT_ID): "highlight_by_id_v2",
    (USER, USERNAME): "user_by_username_v2",
    (USER, USER_ID): "user_by_id_v2",
}
# Pages of a tray that are read at most; accounts have a few dozen highlights.
PAGES_MOST = 20
# What a story's id may turn out to be instead.
POSTS = frozenset({"feed", "clips", "carousel_container", "igtv"})


class HikerApiSource:
    """A Source over HikerAPI. Threads may share it; timeouts in seconds."""

    name = "hikerapi"

    def __init__(
        self,
        token: str,
        base_url: str = HIKERAPI_URL,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        client: Any = hikerapi.Client(token=token)
        client._client.close()
        client._client = wire.open_client(
            base_url,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            headers=client._headers,
            on_response=hikerapi_errors.refuse,
        )
        client._timeout = client._client.timeout  # each request is sent with it
        self._client = client

    def serves(self, ask: Ask) -> bool:
        """Tell whether there is a call for it; see `Source.serves`."""
        return (ask.operation, ask.target.kind) in CALLS

    def fetch(self, ask: Ask) -> Found:
        """Ask HikerAPI; see `Source.fetch`."""
        try:
            found: Found = getattr(self, ask.operation)(ask)
        except hikerapi_errors.Refusal as refusal:
            raise hikerapi_errors.judged(refusal, ask.operation) from refusal
        except Exception as error:
            raise wire.translate(error) from error
        return found.given_by(self.name)

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        """Know of no call for many accounts; see `Source.reels`."""
        return {}

    def unserved(self) -> NoSessionFree | None:
        """Tell that it may always be asked; see `Source.unserved`."""
        return None

    def stories(self, ask: Ask) -> Found:
        """Fetch an account's active stories; HikerAPI looks itself whether one that shows none is private."""
        body = _object(self._call(ask)(force=_force(ask)))
        if "reel" not in body:
            raise drifted()
        reel = _reel(body["reel"])
        if reel and reel["items"]:
            user = _account(reel.get("user"))
            return reel_found(str(user["pk"]), user, reel)
        user = self._owner(ask)
        return reel_found(str(user["pk"]), user, None)

    def story(self, ask: Ask) -> Found:
        """Fetch one story."""
        body = _object(self._call(ask)())
        body = _object(body.get("response", body))
        items = _objects(body.get("items", [body]))
        if not items:
            raise StoryNotFound
        item = items[0]
        if item.get("product_type") in POSTS:
            raise StoryNotFound
        item = raw_item(item)
        user = _account(item.get("user"))
        if not item.get("pk"):
            raise drifted()
        return Found({"id": user["pk"], "user": user, "items": [item]})

    def highlights(self, ask: Ask) -> Found:
        """List an account's highlights."""
        tray = [entry for page in _pages(self._call(ask), ask) for entry in page]
        user = _account(tray[0].get("user")) if tray else self._owner(ask)
        bare = [{key: value for key, value in entry.items() if key != "items"} for entry in tray]
        return Found({"id": user["pk"], "user": user, "tray": bare})

    def highlight(self, ask: Ask) -> Found:
        """Fetch one highlight; HikerAPI has converted its items, which is turned back."""
        body = _object(self._call(ask)())
        reels = _object(_object(body.get("response")).get("reels"))
        number = f"highlight:{ask.target.value}"
        reel = _reel(reels.get(number))
        if reel is None:
            raise HighlightNotFound
        user = _account(reel.get("user"))
        items = [raw_item(item) for item in reel["items"]]
        return Found({"id": number, **reel, "user": user, "items": items})

    def user(self, ask: Ask) -> Found:
        """Look an account up."""
        body = _object(self._call(ask)())
        user = _account(body.get("user", body))
        return Found({"id": user["pk"], "user": user})

    def _owner(self, ask: Ask) -> dict[str, Any]:
        """Return the user object of an account that shows nothing. Raises AccountPrivate.

        By id there is nothing to look up; by name its id has to be told.
        """
        if ask.target.kind != USERNAME:
            return {"pk": int(ask.target.value)}
        user: dict[str, Any] = self.user(Ask(USER, ask.target)).data["user"]
        if user.get("is_private") is True and not ask.force:
            raise AccountPrivate
        return user

    def _call(self, ask: Ask) -> Callable[..., Any]:
        """Return the client's method for what is asked, with the thing itself filled in."""
        return partial(getattr(self._client, CALLS[ask.operation, ask.target.kind]), ask.target.value)


def _pages(call: Callable[..., Any], ask: Ask) -> Iterator[list[dict[str, Any]]]:
    """Yield the pages of a tray, up to `PAGES_MOST`."""
    page_id: str | None = None
    seen: set[str] = set()
    for _ in range(PAGES_MOST):
        body = _object(call(force=_force(ask), page_id=page_id))
        tray = _object(body.get("response")).get("tray")
        yield _objects(tray)
        page_id = body.get("next_page_id")
        if not page_id or page_id in seen:
            return
        seen.add(page_id)


def _force(ask: Ask) -> str | None:
    return "on" if ask.force else None


def _object(value: Any) -> dict[str, Any]:
    """Return a JSON object. Raises UpstreamFailed for what is none; a page is no lasting change of shape."""
    if isinstance(value, bytes):
        raise ValueError("no JSON")
    if not isinstance(value, dict):
        raise drifted()
    return value


def _objects(value: Any) -> list[dict[str, Any]]:
    """Return a list of JSON objects. Raises UpstreamFailed for anything else."""
    if not isinstance(value, list):
        raise drifted()
    return [_object(each) for each in value]


def _reel(value: Any) -> dict[str, Any] | None:
    """Return a reel with its items, None when there is none. Raises UpstreamFailed."""
    if value is None:
        return None
    reel = _object(value)
    return {**reel, "items": _objects(reel.get("items", []))}


def _account(user: Any) -> dict[str, Any]:
    """Return a raw user object that tells whose it is. Raises UpstreamFailed."""
    user = _object(user)
    pk = user.get("pk") or user.get("id")
    if not str(pk).isdecimal():
        raise drifted()
    return {**user, "pk": pk}
