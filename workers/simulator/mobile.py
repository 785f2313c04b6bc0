"""``i.instagram.com``: the endpoints of the mobile app that a story service calls."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any
from urllib.parse import unquote_plus

from flask import Blueprint, Response, g, request

from . import answers
from .drift import drifted, drifted_item
from .ids import split_media_pk
from .payload_items import story_item
from .payload_reels import highlight_reel, highlight_tray_entry
from .payload_reels import story_feed as story_feed_body
from .payload_users import account, user_full
from .plays import play
from .sessions import user_id_in
from .state import state
from .world import Person, highlight_owner, highlights, posted, stories

Json = dict[str, Any]
mobile = Blueprint("mobile", __name__, url_prefix="/api/v1")

# Instagram's ids are 64-bit; longer numbers are no ids.
USER_ID = f"<int(max={2**63 - 1}):user_id>"


@mobile.get("/users/<username>/usernameinfo/")
def usernameinfo(username: str) -> Response:
    return _profile(state().person_named(username))


@mobile.get(f"/users/{USER_ID}/info/")
def user_info(user_id: int) -> Response:
    return _profile(state().person(user_id))


@mobile.get("/accounts/current_user/")
def current_user() -> Response:
    person = state().person(user_id_in(g.session) or 0)
    return answers.ok({"user": account(person, time.time()), "status": "ok"})


@mobile.get(f"/feed/user/{USER_ID}/story/")
def story_feed(user_id: int) -> Response:
    person = state().person(user_id)
    state().calls.about(person.username)
    return play([person], lambda: answers.ok(_story_feed(person)))


@mobile.route("/feed/reels_media/", methods=["GET", "POST"])
def reels_media() -> Response:
    """Several reels at once: user ids and ``highlight:N`` mixed."""
    wanted = [str(reel_id) for reel_id in _wanted_reels()]
    people = {reel_id: state().person(owner) for reel_id in wanted if (owner := _owner(reel_id)) is not None}
    for person in people.values():
        state().calls.about(person.username)
    # Who is gone is left out, like who has nothing to show.
    faulty = [person for person in people.values() if person.scene.name != "missing"]
    return play(faulty, lambda: answers.ok(_reels(people)))


@mobile.get(f"/highlights/{USER_ID}/highlights_tray/")
def highlights_tray(user_id: int) -> Response:
    person = state().person(user_id)
    state().calls.about(person.username)
    if person.is_private:
        return answers.not_authorized()
    return play([person], lambda: answers.ok(_highlights_tray(person)))


@mobile.get("/media/<media_id>/info/")
def media_info(media_id: str) -> Response:
    """One item, by pk or by ``pk_owner``."""
    pk, _, owner = media_id.partition("_")
    if not all(part.isdecimal() and len(part) <= 19 for part in (pk, owner or pk)):
        return answers.fail(400, "Invalid media_id")
    candidates = [int(owner)] if owner else state().names.with_tag(split_media_pk(int(pk))[0])
    for person in map(state().person, candidates):
        if person.scene.name != "missing" and posted(person, int(pk)):
            state().calls.about(person.username)
            return play([person], partial(_media_info, person, int(pk)))
    return answers.media_not_found()


def _profile(person: Person | None) -> Response:
    if person is not None:
        state().calls.about(person.username)
    if person is None or person.scene.name == "missing":
        return answers.user_not_found()
    return answers.ok({"user": user_full(person, time.time()), "status": "ok"})


def _highlights_tray(person: Person) -> Json:
    now = time.time()
    tray = [highlight_tray_entry(person, highlight, now) for highlight in highlights(person)]
    return {"tray": tray, "show_empty_state": False, "status": "ok"}


def _media_info(person: Person, pk: int) -> Response:
    if person.is_private:
        return answers.not_authorized()
    now = time.time()
    kept = [item for highlight in highlights(person) for item in highlight.items]
    found = next((item for item in stories(person, now) + kept if item.pk == pk), None)
    if found is None:
        return answers.media_not_found()
    body = story_item(person, found, now)
    if person.scene.name == "drift":
        drifted_item(body)
    return answers.ok({"items": [body], "num_results": 1, "more_available": False, "status": "ok"})


def _story_feed(person: Person) -> Json:
    now = time.time()
    body = story_feed_body(person, stories(person, now), now)
    if person.scene.name == "drift":
        drifted(body["reel"])
    return body


def _reels(people: dict[str, Person]) -> Json:
    """``reels`` by id, and the same again as a list: clients of different age read different ones."""
    now = time.time()
    reels: Json = {}
    for reel_id, person in people.items():
        if reel_id.isdecimal():
            reel = _story_feed(person)["reel"]
        else:
            kept = (entry for entry in highlights(person) if entry.id == reel_id and not person.is_private)
            reel = next((highlight_reel(person, entry, now) for entry in kept), None)
            if reel is not None and person.scene.name == "drift":
                drifted(reel)
        if reel is not None:
            reels[reel_id] = reel
    return {"reels": reels, "reels_media": list(reels.values()), "status": "ok"}


def _wanted_reels() -> list[Any]:
    if request.method == "GET":
        return request.args.getlist("reel_ids")
    wanted = _posted().get("user_ids", [])
    return wanted if isinstance(wanted, list) else []


def _posted() -> Json:
    """The form of a POST; the app wraps it as ``signed_body=SIGNATURE.<JSON>``."""
    signed = request.form.get("signed_body")
    if signed is None:
        return {"user_ids": request.form.getlist("user_ids")}
    text = signed.removeprefix("SIGNATURE.")
    for attempt in (text, unquote_plus(text)):
        try:
            body = json.loads(attempt)
        except ValueError:
            continue
        return body if isinstance(body, dict) else {}
    return {}


def _owner(reel_id: str) -> int | None:
    kind, _, number = reel_id.rpartition(":")
    if not number.isdecimal() or len(number) > 19 or kind not in ("", "highlight"):
        return None
    return highlight_owner(int(number)) if kind else int(number)
