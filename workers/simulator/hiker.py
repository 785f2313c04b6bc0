"""HikerAPI's own API over the simulated people: ``/v2/...`` and ``/sys/balance``, with any ``x-access-key``.

Scenes about Instagram's sessions (challenge, ratelimited, ...) are healthy here, as they are HikerAPI's
business; the knob ``hiker_status`` makes all calls fail instead (200: out of funds, as is sometimes said).
"""

from __future__ import annotations

import time
from typing import Any

import orjson
from flask import Blueprint, Response, request

from .answers import FAULTS, JSON_TYPE
from .drift import drifted
from .ids import split_media_pk
from .payload_items import story_item
from .payload_reels import highlight_reel, highlight_tray_entry, story_feed
from .payload_users import user_full
from .payload_v1 import story_v1
from .plays import play
from .state import state
from .world import Item, Person, highlight_owner, highlights, stories

Json = dict[str, Any]
hiker = Blueprint("hiker", __name__)

# Small, so that most trays have two pages.
TRAY_PAGE = 2


@hiker.before_request
def _gate() -> Response | None:
    """Answer with what the knob says, or ask for a key."""
    if status := state().knobs.hiker_status:
        return _refusal(status)
    return None if request.headers.get("x-access-key") else _refusal(401)


@hiker.get("/sys/balance")
def hiker_balance() -> Response:
    return _json(200, {"requests": 1_000_000, "rate": 15, "currency": "USD", "amount": 600.0})


@hiker.get("/v2/user/stories")
def hiker_stories() -> Response:
    return _about(_by_id(), 2, _stories)


@hiker.get("/v2/user/stories/by/username")
def hiker_stories_by_username() -> Response:
    return _about(_by_name(), 3, _stories)


@hiker.get("/v2/user/highlights")
def hiker_highlights() -> Response:
    return _about(_by_id(), 2, _highlights)


@hiker.get("/v2/user/highlights/by/username")
def hiker_highlights_by_username() -> Response:
    return _about(_by_name(), 3, _highlights)


@hiker.get("/v2/user/by/id")
def hiker_user() -> Response:
    return _about(_by_id("id"), 1, _user)


@hiker.get("/v2/user/by/username")
def hiker_user_by_username() -> Response:
    return _about(_by_name(), 1, _user)


@hiker.get("/v2/story/by/id")
def hiker_story() -> Response:
    person, item = _posted(_number("id"))
    if person is None or item is None:
        return gone("StoryNotFound")
    body = {"items": [story_item(person, item, time.time())], "num_results": 1, "status": "ok"}
    return _about(person, 1, lambda _: _found(body))


@hiker.get("/v2/highlight/by/id")
def hiker_highlight() -> Response:
    number = _number("id")
    person, now = state().person(highlight_owner(number)), time.time()
    kept = next((each for each in highlights(person) if each.number == number), None)
    if kept is None:
        return gone("HighlightNotFound")
    reel = highlight_reel(person, kept, now)
    reel["items"] = [story_v1(item) for item in reel["items"]]
    return _about(person, 1, lambda _: private(person) or _found({"response": {"reels": {kept.id: reel}}}))


def _about(person: Person | None, reqs: int, answer: Any) -> Response:
    """Play a person's scene, or answer; only what is found costs."""
    if person is None:
        return gone("UserNotFound")
    state().calls.about(person.username)
    played = play([person], lambda: answer(person), HIKER_FAULTS)
    if played.status_code == 200:
        played.headers["x-hiker-info"] = f"reqs={reqs - 1 if _forced() and reqs > 1 else reqs}"
    return played


def _stories(person: Person) -> Response:
    now = time.time()
    body = story_feed(person, stories(person, now), now)
    if person.scene.name == "drift":
        drifted(body["reel"])
    return private(person) or _found(body)


def _highlights(person: Person) -> Response:
    if refused := private(person):
        return refused
    page = request.args.get("page_id", "0")
    first, now = int(page) if page.isdecimal() else 0, time.time()
    kept = highlights(person)
    tray = [
        highlight_tray_entry(person, each, now) | {"pk": str(each.number), "items": []}
        for each in kept[first : first + TRAY_PAGE]
    ]
    more = first + TRAY_PAGE < len(kept)
    response = {"tray": tray, "cursor": None, "highlights_tray_type": "DEFAULT", "status": "ok"}
    return _found({"response": response, "next_page_id": str(first + TRAY_PAGE) if more else None})


def _user(person: Person) -> Response:
    return _found({"user": user_full(person, time.time()), "status": "ok"})


def private(person: Person) -> Response | None:
    """The refusal for a private account, unless the caller did without the check."""
    if not person.is_private or _forced():
        return None
    return _json(403, {"detail": "Account is private", "exc_type": "PrivateAccount"})


def gone(kind: str) -> Response:
    """The answer for what does not exist."""
    return _json(404, {"detail": f"{kind.removesuffix('NotFound')} not found", "exc_type": kind})


def _posted(pk: int) -> tuple[Person | None, Item | None]:
    """Who posted an item and the item itself; only of people who were seen before."""
    for person in map(state().person, state().names.with_tag(split_media_pk(pk)[0])):
        items = stories(person, time.time()) + [item for each in highlights(person) for item in each.items]
        for item in items:
            if item.pk == pk:
                return person, item
    return None, None


def _by_name() -> Person | None:
    return state().person_named(request.args.get("username", ""))


def _by_id(parameter: str = "user_id") -> Person | None:
    return state().person(number) if (number := _number(parameter)) else None


def _number(parameter: str) -> int:
    """An id from the query, 0 for what is none."""
    text = request.args.get(parameter, "")
    return int(text) if text.isdecimal() and len(text) <= 19 else 0


def _forced() -> bool:
    return request.args.get("force", "").lower() in {"on", "true", "1"}


def _found(body: Json) -> Response:
    return _json(200, body)


def _refusal(status: int) -> Response:
    """What all calls get for a status."""
    if status in {200, 402}:
        funds = {"state": False, "error": "Top up your account", "exc_type": "InsufficientFunds"}
        return _json(status, funds)
    details = {401: "Invalid access key", 403: "Forbidden", 404: "Not Found", 429: "Too many requests"}
    answer = _json(status, {"detail": details.get(status, "Something went wrong")})
    if status == 429:
        answer.headers["Retry-After"] = "7"
    return answer


def _json(status: int, body: Json) -> Response:
    return Response(orjson.dumps(body), status, content_type=JSON_TYPE)


HIKER_FAULTS = {
    "missing": lambda: gone("UserNotFound"),
    "error": lambda: _refusal(500),
    "html": FAULTS["html"],
    "timeout408": lambda: _refusal(408),
}
