"""``www.instagram.com``: the two calls which the client's public path makes."""

from __future__ import annotations

import json
import time

from flask import Blueprint, Response, g, request

from . import answers, web
from .plays import play
from .state import state
from .world import stories

website = Blueprint("website", __name__)


@website.get("/api/v1/users/web_profile_info/")
def web_profile_info() -> Response:
    """A profile; the website answers it without a session too."""
    person = state().person_named(request.args.get("username", ""))
    if person is not None:
        state().calls.about(person.username)
    if person is None or person.scene.name == "missing":
        return answers.user_not_found()
    return answers.ok(web.profile_info(person, time.time()))


@website.route("/graphql/query/", methods=["GET", "POST"])
def web_graphql() -> Response:
    """The reels query (``reel_ids`` in ``variables``)."""
    if g.session is None:
        return answers.web_login_required()
    try:
        reel_ids = [int(reel_id) for reel_id in json.loads(request.values.get("variables", ""))["reel_ids"]]
    except (ValueError, KeyError, TypeError):
        return answers.fail(400, "invalid variables")
    people = [state().person(reel_id) for reel_id in reel_ids]
    for person in people:
        state().calls.about(person.username)
    now = time.time()
    return play(
        people, lambda: answers.ok(web.reels([(person, stories(person, now)) for person in people], now))
    )
