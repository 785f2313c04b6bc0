"""HikerAPI's routes: their parameters, bodies, prices and errors, as its clients know them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from service.api.hiker.table import ROUTES, Route
from service.app import create_app
from service.domain.errors import (
    AccountPrivate,
    HighlightNotFound,
    MediaNotFound,
    OptedOut,
    StoryNotFound,
    UpstreamBlocked,
    UpstreamFailed,
    UpstreamTimeout,
    UserNotFound,
)
from service.domain.operations import STORIES
from tests.api.answers import ANSWERS, HIGHLIGHT_REEL, NASA, REEL, TRAY, USER_OBJECT
from tests.api.support import CREDITS, Front
from workers.sources.contract import Found, reel_found

WITH_BODY = [route for route in ROUTES if route.form is not None]
STORY_KEYS = [
    "pk", "id", "code", "taken_at", "media_type", "product_type", "thumbnail_url", "user", "video_url",
    "video_duration", "sponsor_tags", "mentions", "links", "hashtags", "locations", "stickers", "medias",
]  # fmt: skip


def named(route: Route) -> str:
    return route.path


def get(front: Front, path: str, answer: Any = None, **query: str) -> Any:
    """Ask as HikerAPI's clients do: the key in x-access-key."""
    headers = {"Authorization": "", "x-access-key": front.me.key}
    if answer is None:
        return front.get(path, query_string=query, headers=headers)
    with front.working(answer):
        return front.get(path, query_string=query, headers=headers)


def asked(front: Front, path: str, answer: Any = None, **more: str) -> Any:
    route = next(each for each in ROUTES if each.path == path)
    found = answer or ANSWERS[route.operation]
    return get(front, path, found, **{route.by.name: route.by.example}, **more)


@pytest.mark.parametrize("route", WITH_BODY, ids=named)
def test_every_route_answers_and_costs_what_it_says(front: Front, route: Route) -> None:
    before = front.available()
    response = asked(front, route.path)
    assert response.status_code == 200, response.text
    lists = {"user/stories": 2, "user/highlights": 2}
    base = next((reqs for path, reqs in lists.items() if path in route.path), 1)
    wanted = base + ("by/username" in route.path and base == 2)
    assert response.headers["x-hiker-info"] == f"reqs={wanted}"
    assert before - front.available() == wanted


def test_stories_v1_are_a_list_of_story(front: Front) -> None:
    body = asked(front, "/v1/user/stories").json
    assert [story["pk"] for story in body] == [str(item["pk"]) for item in REEL["items"]]
    assert all(list(story) == STORY_KEYS for story in body)
    assert len(asked(front, "/v1/user/stories/by/username", amount="1").json) == 1


def test_stories_v2_are_the_raw_feed_with_ids_as_sent_or_safe(front: Front) -> None:
    body = asked(front, "/v2/user/stories").json
    assert body == {"broadcast": None, "reel": REEL, "unviewable_authors_info": None, "status": "ok"}
    safe = asked(front, "/v2/user/stories", safe_int="on").json["reel"]
    assert safe["items"][0]["pk"] == str(REEL["items"][0]["pk"])


def test_an_account_without_stories_is_an_empty_list_or_a_null_reel(front: Front) -> None:
    nothing = reel_found(str(NASA.id), USER_OBJECT, None)
    assert asked(front, "/v1/user/stories", nothing).json == []
    assert asked(front, "/v2/user/stories", nothing).json["reel"] is None


def test_highlights(front: Front) -> None:
    [first, *_] = asked(front, "/v1/user/highlights").json
    assert (first["id"], first["items"]) == (TRAY[0]["id"], [])
    v2 = asked(front, "/v2/user/highlights/by/username").json
    assert v2["next_page_id"] is None
    assert [each["pk"] for each in v2["response"]["tray"]] == [
        each["id"].removeprefix("highlight:") for each in TRAY
    ]
    one = asked(front, "/v1/highlight/by/url").json
    assert one["id"] == HIGHLIGHT_REEL["id"]
    assert len(one["items"]) == len(HIGHLIGHT_REEL["items"])
    reels = asked(front, "/v2/highlight/by/id").json["response"]["reels"]
    assert list(reels) == [HIGHLIGHT_REEL["id"]]
    assert list(reels[HIGHLIGHT_REEL["id"]]["items"][0]) == STORY_KEYS


@pytest.mark.parametrize(
    ("given", "pk"),
    [
        ({"id": "highlight:5"}, "5"),
        ({"pk": 5}, "5"),
        ({"pk": "highlight:5"}, "5"),
        ({"id": None, "pk": 5}, "5"),
        ({}, None),
    ],
)
def test_a_highlight_without_an_id_is_still_handed_out(
    quick: Callable[..., Front], given: dict[str, Any], pk: str | None
) -> None:
    """It is charged by then: what Instagram left out must not cost the caller the rest."""
    rest = {key: value for key, value in TRAY[0].items() if key not in {"id", "pk"}}
    tray = Found({"id": NASA.id, "user": USER_OBJECT, "tray": [{**rest, **given}, TRAY[1]]})
    response = asked(quick(), "/v2/user/highlights", tray)
    assert response.status_code == 200, response.text
    first, second = response.json["response"]["tray"]
    assert first.get("pk") == pk
    assert second["pk"] == TRAY[1]["id"].removeprefix("highlight:")


def test_force_costs_one_less_and_asks_for_no_privacy(front: Front) -> None:
    response = asked(front, "/v1/user/stories", force="on")
    assert response.headers["x-hiker-info"] == "reqs=1"
    record = front.services.requests.page(
        front.me.account.account_id, status=None, username=None, cursor=None, limit=1
    ).items[0]
    assert record.ask.force


@pytest.mark.parametrize(
    ("path", "error", "status", "exc_type"),
    [
        ("/v1/user/stories", AccountPrivate(), 403, "PrivateAccount"),
        ("/v1/user/stories", UserNotFound(), 404, "UserNotFound"),
        ("/v1/story/by/id", StoryNotFound(), 404, "StoryNotFound"),
        ("/v2/highlight/by/id", HighlightNotFound(), 404, "HighlightNotFound"),
        ("/v1/story/download", MediaNotFound(), 404, "MediaNotFound"),
        ("/v1/user/stories", OptedOut(), 451, "OptedOut"),
        ("/v1/user/stories", UpstreamBlocked(retry_after=60), 503, "ServiceUnavailable"),
        ("/v1/user/stories", UpstreamTimeout(), 504, "GatewayTimeout"),
        ("/v1/user/stories", UpstreamFailed(), 502, "BadGateway"),
    ],
)
def test_what_goes_wrong_upstream_has_their_form_and_costs_nothing(
    front: Front, path: str, error: Exception, status: int, exc_type: str
) -> None:
    before = front.available()
    response = asked(front, path, error)
    assert (response.status_code, response.json["exc_type"]) == (status, exc_type)
    assert isinstance(response.json["detail"], str)
    assert response.headers["x-hiker-info"] == "reqs=0"
    assert front.available() == before
    assert front.services.credits.balance(front.me.account.account_id).held == 0


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_a_missing_parameter_is_named_in_fastapis_form(quick: Callable[..., Front], route: Route) -> None:
    front = quick()
    response = get(front, route.path)
    assert response.status_code == 422
    [detail] = response.json["detail"]
    assert detail["loc"] == ["query", route.by.name]
    assert set(detail) == {"loc", "msg", "type"}


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/user/stories", {"user_id": "nasa"}),
        ("/v1/user/stories", {"user_id": "0"}),
        ("/v1/user/stories", {"user_id": "9" * 30}),
        ("/v1/user/stories", {"user_id": "5", "amount": "many"}),
        ("/v1/user/stories", {"user_id": "5", "amount": "-1"}),
        ("/v1/user/stories", {"user_id": "5", "amount": "10001"}),
        ("/v1/user/stories", {"user_id": "5", "amount": "9" * 5_000}),
        ("/v1/user/stories", {"user_id": "5", "amount": "0" * 5_000}),
        ("/v1/user/stories", {"user_id": "9" * 5_000}),
        ("/v1/user/stories/by/username", {"username": "no spaces"}),
        ("/v1/story/by/id", {"id": "abc"}),
        ("/v1/story/by/url", {"url": "https://instagram.com.evil.example/stories/nasa/1/"}),
        ("/v1/story/by/url", {"url": "https://instagram.com@evil.example/stories/nasa/1/"}),
        ("/v1/story/by/url", {"url": "https://www.instagram.com/stories/nasa/"}),
        ("/v1/highlight/by/id", {"id": "highlight:x"}),
        ("/v1/highlight/by/url", {"url": "https://www.instagram.com/nasa/"}),
        ("/v1/story/download/by/url", {"url": "https://evil.example/a.mp4"}),
        ("/v1/story/download/by/url", {"url": "http://127.0.0.1/a.mp4"}),
        ("/v1/story/download/by/url", {"url": "https://cdninstagram.com.evil.example/a.mp4"}),
    ],
)
def test_what_makes_no_sense_is_422_and_asks_nobody(
    quick: Callable[..., Front], path: str, query: dict[str, str]
) -> None:
    front = quick()
    response = get(front, path, **query)
    assert response.status_code == 422, response.text
    assert response.json["detail"][0]["loc"][0] == "query"
    assert front.queue.published == []
    assert response.headers["x-hiker-info"] == "reqs=0"


def test_the_key_may_stand_in_the_query(front: Front) -> None:
    response = front.get(
        "/sys/balance", query_string={"access_key": front.me.key}, headers={"Authorization": ""}
    )
    assert response.status_code == 200
    assert response.json["requests"] == front.available()
    assert set(response.json) == {"requests", "rate", "currency", "amount"}


@pytest.mark.parametrize("headers", [{}, {"x-access-key": "sk_live_wrong"}])
def test_without_a_key_it_is_401_in_their_form(front: Front, headers: dict[str, str]) -> None:
    response = front.get("/v1/user/stories?user_id=5", headers={"Authorization": "", **headers})
    assert response.status_code == 401
    assert set(response.json) == {"detail", "exc_type"}


def test_without_funds_it_is_402_in_their_form(front: Front) -> None:
    front.services.credits.add(
        front.me.account.account_id, -front.available(), entry_type="adjustment", note=""
    )
    response = get(front, "/v1/user/stories", user_id="5")
    assert response.status_code == 402
    assert response.json["state"] is False
    assert response.json["exc_type"] == "InsufficientFunds"


def test_a_route_that_is_not_served_is_404_in_their_form(front: Front) -> None:
    response = get(front, "/v1/media/by/id", id="1")
    assert response.status_code == 404
    assert set(response.json) == {"detail", "exc_type"}


def test_a_result_that_comes_too_late_costs_nothing(make: Callable[..., Front]) -> None:
    """Who got a 504 did not get the result: the request goes on, and is free."""
    front = make(sync_deadline=0.05)
    before = front.available()
    response = get(front, "/v1/user/stories", user_id="5")  # nobody works
    assert (response.status_code, response.json["exc_type"]) == (504, "GatewayTimeout")
    [record] = front.services.requests.page(
        front.me.account.account_id, status=None, username=None, cursor=None, limit=9
    ).items
    front.work(record.request_id, ANSWERS[STORIES])
    ended = front.get(f"/api/requests/{record.request_id}").json
    assert (ended["status"], ended["creditsCharged"]) == ("succeeded", 0)
    assert front.available() == before


class AtTheLastMoment:
    """A store in which a request ends between the last look at it and its being given up."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def __getattr__(self, name: str) -> Any:
        return getattr(self._front.services.requests, name)

    def abandon(self, request_id: str) -> bool:
        self._front.work(request_id, ANSWERS[STORIES])
        return self._front.services.requests.abandon(request_id)


def test_a_result_that_comes_at_the_last_moment_is_handed_out_and_paid(make: Callable[..., Front]) -> None:
    front = make(sync_deadline=0.05)
    services = replace(front.services, requests=AtTheLastMoment(front))
    late = replace(front, services=services, app=create_app(front.settings, services))
    response = get(late, "/v1/user/stories", user_id="5")
    assert (response.status_code, response.headers["x-hiker-info"]) == (200, "reqs=2")
    assert len(response.json) == len(REEL["items"])
    assert front.available() == CREDITS - 2


def test_where_too_many_wait_already_nothing_is_handed_in(quick: Callable[..., Front]) -> None:
    front = quick(sync_waiters=1)
    waits = front.app.extensions["storyhook"].admission.waits
    assert waits.take("somebody else")
    response = get(front, "/v1/user/stories", user_id="5")
    assert (response.status_code, response.json["exc_type"]) == (503, "ServiceUnavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert response.headers["x-hiker-info"] == "reqs=0"
    assert front.queue.published == []
    waits.give("somebody else")
    assert asked(front, "/v1/user/stories").status_code == 200


@pytest.mark.parametrize(("path", "status"), [("/v1/user/stories", 405), ("/sys/balance", 200)])
def test_head_brings_nothing_and_costs_nothing(quick: Callable[..., Front], path: str, status: int) -> None:
    front = quick()
    told = front.call("HEAD", path, query_string={"user_id": "5"})
    assert (told.status_code, told.data) == (status, b"")
    assert told.headers["x-hiker-info"] == "reqs=0"
    assert front.queue.published == []
    options = front.call("OPTIONS", path)
    assert (options.status_code, options.data) == (200, b"")


def test_share_links_are_read_without_asking_anybody(front: Front) -> None:
    code = "aGlnaGxpZ2h0OjE4MTQ2MjE2Njk4MDIyMTc0"
    shared = {"pk": 18146216698022174, "type": "highlight"}
    assert get(front, "/v1/share/by/code", code=code).json == shared
    link = f"https://www.instagram.com/s/{code}?story_media_id=1_2&igsh=x"
    assert get(front, "/v1/share/by/url", url=link).json == shared
    assert get(front, "/v1/share/by/url", url="https://www.instagram.com/nasa/").status_code == 422
    assert get(front, "/v1/share/by/code", code="bm90aGluZw").status_code == 422
    assert front.queue.published == []
