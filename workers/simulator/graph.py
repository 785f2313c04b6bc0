"""The Graph API over the simulated people: the stories edge of all of them, as if they were professionals.

Scenes about Instagram's sessions are healthy here; the knob ``graph_code`` makes all calls fail with that
code of the Graph API's instead. An account without stories, a private one too, has an empty list.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import orjson
from flask import Blueprint, Response, request

from .answers import FAULTS, JSON_TYPE
from .cdn import photo_url, video_url
from .ids import shortcode
from .payload_items import PHOTO_SIZES
from .plays import play
from .state import state
from .world import Item, Person, stories

Json = dict[str, Any]
graph = Blueprint("graph", __name__)

LONGEST_PAGE = 100
_PASSING = {1, 2}


@graph.before_request
def _gate() -> Response | None:
    """Answer with what the knob says, or ask for a token."""
    if code := state().knobs.graph_code:
        return refusal(code, status=500 if code in _PASSING else 400)
    return None if request.args.get("access_token") else refusal(104)


@graph.get(f"/v<int:major>.<int:minor>/<int(max={2**63 - 1}):user_id>/stories")
def graph_stories(major: int, minor: int, user_id: int) -> Response:
    """One page of an account's stories, newest first, with the fields that were asked for."""
    person = state().person(user_id)
    state().calls.about(person.username)
    return play([person], lambda: _page(person), GRAPH_FAULTS)


def refusal(code: int, *, status: int = 400, **more: object) -> Response:
    """An error in the Graph API's form."""
    error = {
        "message": f"(#{code}) Simulated",
        "type": "OAuthException",
        "code": code,
        **({"is_transient": True} if code in _PASSING else {}),
        **more,
        "fbtrace_id": "Asimulated",
    }
    return Response(orjson.dumps({"error": error}), status, content_type=JSON_TYPE)


def _page(person: Person) -> Response:
    now = time.time()
    items = stories(person, now)[::-1]
    first, limit = _whole("after", 0), min(max(_whole("limit", 25), 1), LONGEST_PAGE)
    wanted = {"id", *request.args.get("fields", "").split(",")}
    nodes = [
        {key: value for key, value in _node(person, item, now).items() if key in wanted}
        for item in items[first : first + limit]
    ]
    if person.scene.name == "drift":
        _drift(nodes)
    body: Json = {"data": nodes}
    if nodes:
        body["paging"] = {"cursors": {"before": str(first), "after": str(first + len(nodes))}}
    if first + limit < len(items):
        body["paging"]["next"] = request.url
    return Response(orjson.dumps(body), content_type=JSON_TYPE)


def _node(person: Person, item: Item, now: float) -> Json:
    """An IG Media object; ids are texts, and a photo has no thumbnail."""
    photo = photo_url(item, *PHOTO_SIZES[0], now)
    node = {
        "id": str(item.pk),
        "media_type": "VIDEO" if item.is_video else "IMAGE",
        "media_product_type": "STORY",
        "media_url": video_url(item, now) if item.is_video else photo,
        "permalink": f"https://www.instagram.com/stories/{person.username}/{item.pk}",
        "timestamp": f"{datetime.fromtimestamp(item.taken_at, UTC):%Y-%m-%dT%H:%M:%S+0000}",
        "username": person.username,
        "shortcode": shortcode(item.pk),
        "like_count": 0,
    }
    return node | ({"thumbnail_url": photo} if item.is_video else {})


def _drift(nodes: list[Json]) -> None:
    """Take away or spoil what may be missing, another thing in each node."""
    for number, node in enumerate(nodes):
        if number % 3 == 0:
            node.pop("media_url", None)
        elif number % 3 == 1:
            node.pop("timestamp", None)
        else:
            node["timestamp"] = "yesterday"


def _whole(name: str, default: int) -> int:
    text = request.args.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 7 else default


GRAPH_FAULTS = {
    "missing": lambda: refusal(100, error_subcode=33),
    "error": lambda: refusal(2, status=500),
    "html": FAULTS["html"],
    "timeout408": lambda: refusal(2, status=408),
}
