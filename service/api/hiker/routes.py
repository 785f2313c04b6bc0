"""The routes, a table; each is a request like any other that is waited for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from flask import Response, after_this_request, g, request
from flask.views import MethodView

from service.api.answers import json_response
from service.api.blueprint import ApiBlueprint
from service.api.context import account, require_key, services
from service.api.hiker import forms
from service.api.hiker.errors import COST
from service.api.limits import count_call
from service.api.results import result_of
from service.api.streaming import streamed
from service.domain import links
from service.domain.credits import tariff_of
from service.domain.errors import ValidationFailed
from service.domain.operations import DOWNLOAD, HIGHLIGHT, HIGHLIGHTS, STORIES, STORY, USER
from service.domain.options import Options
from service.domain.requests import parse_username
from service.domain.stories import integer_ids
from service.domain.targets import HIGHLIGHT_ID, MEDIA_URL, STORY_ID, USER_ID, USERNAME, Target

blueprint = ApiBlueprint("hiker", __name__, description="HikerAPI's routes: change the host of its client")

ON = frozenset({"on", "true", "1", "yes"})
AMOUNT_MOST = 10_000

_ANSWER = {"200": {"description": "As HikerAPI answers"}}

Parse = Callable[[str, str], str]


@dataclass(frozen=True)
class Parameter:
    """What a call is about: the name of the parameter, the kind of target its text gives."""

    name: str
    kind: str
    parse: Parse
    example: str


def _username(text: str, field: str) -> str:
    del field  # it is called so here as well
    return parse_username(text)


BY_USER_ID = Parameter("user_id", USER_ID, links.parse_user_id, "787132")
BY_USERNAME = Parameter("username", USERNAME, _username, "instagram")
USER_BY_ID = Parameter("id", USER_ID, links.parse_user_id, "787132")
BY_STORY_ID = Parameter("id", STORY_ID, links.parse_story_id, "3870193736105885141")
BY_STORY_URL = Parameter(
    "url", STORY_ID, links.parse_story_url, "https://www.instagram.com/stories/instagram/3870193736105885141/"
)
BY_HIGHLIGHT_ID = Parameter("id", HIGHLIGHT_ID, links.parse_highlight_id, "17983616051768088")
BY_HIGHLIGHT_URL = Parameter(
    "url",
    HIGHLIGHT_ID,
    links.parse_highlight_url,
    "https://www.instagram.com/stories/highlights/17983616051768088/",
)
BY_MEDIA_URL = Parameter(
    "url",
    MEDIA_URL,
    lambda text, field: links.parse_media_url(text, field=field),
    "https://scontent.cdninstagram.com/...",
)


@dataclass(frozen=True)
class Route:
    """One of HikerAPI's routes. ``form`` makes its body of our data; None streams the file itself."""

    path: str
    operation: str
    by: Parameter
    form: Callable[[forms.Data], Any] | None
    about: str
    lists: bool = False

    @property
    def is_raw(self) -> bool:
        return self.path.startswith("/v2/")


def _routes(path: str, operation: str, v1: Any, v2: Any, about: str) -> list[Route]:
    """Return the four routes of a list about an account."""
    return [
        Route(f"{version}{path}{suffix}", operation, by, form, about, lists=True)
        for version, form in (("/v1", v1), ("/v2", v2))
        for suffix, by in (("", BY_USER_ID), ("/by/username", BY_USERNAME))
    ]


ROUTES = [
    *_routes("/user/stories", STORIES, forms.stories_v1, forms.reel_v2, "Stories of an account"),
    *_routes(
        "/user/highlights", HIGHLIGHTS, forms.highlights_v1, forms.highlights_v2, "Highlights of an account"
    ),
    Route("/v1/story/by/id", STORY, BY_STORY_ID, forms.story_v1, "A story"),
    Route("/v1/story/by/url", STORY, BY_STORY_URL, forms.story_v1, "A story"),
    Route("/v2/story/by/id", STORY, BY_STORY_ID, forms.reel_v2, "A story, raw"),
    Route("/v2/story/by/url", STORY, BY_STORY_URL, forms.reel_v2, "A story, raw"),
    Route("/v1/story/download", DOWNLOAD, BY_STORY_ID, None, "The file of a story"),
    Route("/v1/story/download/by/story/url", DOWNLOAD, BY_STORY_URL, None, "The file of a story"),
    Route("/v1/story/download/by/url", DOWNLOAD, BY_MEDIA_URL, None, "A file of Instagram's CDN"),
    Route("/v1/highlight/by/id", HIGHLIGHT, BY_HIGHLIGHT_ID, forms.highlight_v1, "A highlight"),
    Route("/v1/highlight/by/url", HIGHLIGHT, BY_HIGHLIGHT_URL, forms.highlight_v1, "A highlight"),
    Route(
        "/v2/highlight/by/id",
        HIGHLIGHT,
        BY_HIGHLIGHT_ID,
        forms.highlight_v2,
        "A highlight",
    ),
    Route("/v1/user/by/id", USER, USER_BY_ID, forms.user_v1, "An account"),
    Route("/v1/user/by/username", USER, BY_USERNAME, forms.user_v1, "An account"),
    Route("/v2/user/by/id", USER, USER_BY_ID, forms.user_v2, "An account, raw"),
    Route("/v2/user/by/username", USER, BY_USERNAME, forms.user_v2, "An account, raw"),
]


@blueprint.before_request
def _begin() -> None:
    """Tell what the call costs in every answer, then ask who calls."""
    g.reqs = 0

    @after_this_request
    def tell(response: Response) -> Response:
        response.headers[COST] = f"reqs={g.reqs}"
        return response

    require_key(request.args.get("access_key", ""))


def _call(route: Route) -> Response:
    options = Options(
        amount=_amount() if route.lists else 0,
        force=route.lists and _is_on("force"),
        tariff=tariff_of(route.operation, route.by.kind),
    )
    target = Target(route.by.kind, route.by.parse(_given(route.by.name), route.by.name))
    count_call()
    if route.form is None:
        return streamed(target, options, charged=_charge)
    record, envelope = result_of(route.operation, target, options)
    _charge(record.charged)
    body = route.form(orjson.loads(envelope)["data"])
    return json_response(
        integer_ids(body) if route.form in forms.AS_SENT and not _is_on("safe_int") else body
    )


def _charge(reqs: int) -> None:
    g.reqs = reqs


def _given(name: str) -> str:
    text = request.args.get(name, "").strip()
    if not text:
        raise ValidationFailed(details={name: ["field required"]})
    return text


def _is_on(name: str) -> bool:
    return request.args.get(name, "").lower() in ON


def _amount() -> int:
    """Return how many to give at most; 0 is all of them, as there."""
    text = request.args.get("amount", "").strip() or "0"
    if not text.isdecimal() or int(text) > AMOUNT_MOST:
        raise ValidationFailed(details={"amount": [f"a whole number from 0 to {AMOUNT_MOST:,} is expected"]})
    return int(text)


def _view(route: Route) -> type[MethodView]:
    names = {route.by.name: route.by.example} | ({"amount": "20", "force": "on"} if route.lists else {})
    if route.is_raw:
        names["safe_int"] = "on"
    parameters = [
        {
            "in": "query",
            "name": name,
            "required": name == route.by.name,
            "schema": {"type": "string"},
            "example": example,
        }
        for name, example in names.items()
    ]

    class View(MethodView):
        @blueprint.doc(parameters=parameters, summary=route.about, responses=_ANSWER)
        def get(self) -> Response:
            return _call(route)

    return View


for _route in ROUTES:
    blueprint.route(_route.path, endpoint=_route.path.strip("/").replace("/", "_"))(_view(_route))


def _share_view(name: str, parse: Parse, example: str) -> type[MethodView]:
    """Return the view of a route that reads a share link, which asks nobody and costs nothing."""
    parameter = {"in": "query", "name": name, "required": True, "schema": {"type": "string"}}

    class Share(MethodView):
        @blueprint.doc(
            parameters=[{**parameter, "example": example}],
            summary="What a /s/ link shares",
            responses=_ANSWER,
        )
        def get(self) -> Response:
            # An integer, as there.
            return json_response({"pk": int(parse(_given(name), name)), "type": "highlight"})

    return Share


for _name, _parse, _example in (
    ("url", links.parse_share_url, "https://www.instagram.com/s/aGlnaGxpZ2h0OjE3ODkzMjA5ODI1MjgxMjIx"),
    ("code", links.parse_share_code, "aGlnaGxpZ2h0OjE3ODkzMjA5ODI1MjgxMjIx"),
):
    blueprint.route(f"/v1/share/by/{_name}", endpoint=f"v1_share_by_{_name}")(
        _share_view(_name, _parse, _example)
    )


@blueprint.route("/sys/balance")
class Balance(MethodView):
    @blueprint.doc(summary="What is left, in requests", responses=_ANSWER)
    def get(self) -> Response:
        left = services().credits.balance(account().account_id).available
        rates = [limit.count / limit.seconds for limit in services().policy.rate_limits]
        rate = max(int(min(rates, default=15)), 1)
        return json_response({"requests": left, "rate": rate, "currency": "USD", "amount": 0.0})
