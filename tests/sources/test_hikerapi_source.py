"""What only HikerAPI does: its refusals, its pages, its bodies, what it is asked with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import requests
from pytest_httpserver import HTTPServer
from structlog.testing import capture_logs

from service.domain.errors import (
    AccountPrivate,
    FetchError,
    HighlightNotFound,
    Retry,
    StoryNotFound,
    UpstreamBlocked,
    UpstreamFailed,
    UpstreamTimeout,
    UserNotFound,
)
from service.domain.operations import HIGHLIGHT, HIGHLIGHTS, OPERATIONS, STORIES, STORY, USER, Ask
from service.domain.targets import USERNAME, Target
from tests.sources.subjects import TOKEN, ask
from workers.sources import hikerapi, wire
from workers.sources.hikerapi import HikerApiSource

NEVER, AGAIN = Retry.NEVER, Retry.AGAIN
USER_5 = {"pk": 5, "username": "anna", "is_private": False}
ITEM = {"pk": 7, "id": "7_5", "user": USER_5, "media_type": 1, "image_versions2": {"candidates": []}}


@pytest.fixture
def source(httpserver: HTTPServer) -> HikerApiSource:
    return HikerApiSource(TOKEN, httpserver.url_for("").rstrip("/"), connect_timeout=5, read_timeout=20)


@pytest.fixture
def simulated(simulator: str) -> HikerApiSource:
    return HikerApiSource(TOKEN, simulator, connect_timeout=5, read_timeout=20)


@pytest.fixture
def says(httpserver: HTTPServer) -> Callable[..., None]:
    """Return a function that scripts what one path answers."""

    def say(path: str, body: Any, status: int = 200, **headers: str) -> None:
        httpserver.expect_request(path).respond_with_json(body, status=status, headers=headers)

    return say


def failure(source: HikerApiSource, asked: Ask) -> FetchError:
    with pytest.raises(FetchError) as caught:
        source.fetch(asked)
    return caught.value


def about(operation: str) -> Ask:
    target = OPERATIONS[operation].targets[0]
    return Ask(operation, Target(target, "anna" if target == USERNAME else "7"))


PATHS = {
    STORIES: "/v2/user/stories/by/username",
    STORY: "/v2/story/by/id",
    HIGHLIGHTS: "/v2/user/highlights/by/username",
    HIGHLIGHT: "/v2/highlight/by/id",
    USER: "/v2/user/by/username",
}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, (UpstreamBlocked, NEVER, 60)),
        (400, (UpstreamFailed, NEVER, None)),
        (401, (UpstreamBlocked, NEVER, 60)),
        (402, (UpstreamBlocked, NEVER, 60)),
        (403, (UpstreamBlocked, NEVER, 60)),
        (404, (UpstreamFailed, NEVER, None)),
        (408, (UpstreamTimeout, AGAIN, None)),
        (422, (UpstreamFailed, NEVER, None)),
        (429, (UpstreamBlocked, NEVER, 7)),
        (500, (UpstreamFailed, AGAIN, None)),
        (503, (UpstreamFailed, AGAIN, None)),
    ],
)
def test_refusals(
    simulated: HikerApiSource, simulator: str, status: int, expected: tuple[object, ...]
) -> None:
    requests.post(f"{simulator}/_sim/knobs", json={"hiker_status": status}, timeout=20).raise_for_status()
    refused = failure(simulated, ask(STORIES, USERNAME, "otto"))
    assert (type(refused), refused.retry, refused.retry_after) == expected
    assert TOKEN not in str(refused)


class Word(NamedTuple):
    """What HikerAPI says of an operation, and what that is."""

    operation: str
    status: int
    kind: str
    error: type[FetchError]


@pytest.mark.parametrize(
    "case",
    [
        Word(STORIES, 404, "UserNotFound", UserNotFound),
        Word(STORIES, 404, "StoryNotFound", UpstreamFailed),
        Word(STORIES, 403, "PrivateAccount", AccountPrivate),
        Word(STORIES, 200, "UserNotFound", UserNotFound),
        Word(STORY, 404, "StoryNotFound", StoryNotFound),
        Word(STORY, 404, "MediaNotFound", StoryNotFound),
        Word(STORY, 403, "PrivateAccount", AccountPrivate),
        Word(HIGHLIGHTS, 404, "UserNotFound", UserNotFound),
        Word(HIGHLIGHT, 404, "HighlightNotFound", HighlightNotFound),
        Word(USER, 404, "UserNotFound", UserNotFound),
        Word(USER, 403, "PrivateAccount", UpstreamFailed),  # no end of this operation
        Word(STORY, 404, "SomethingElse", UpstreamFailed),
        Word(STORY, 200, "SomethingElse", UpstreamFailed),
    ],
)
def test_words_of_refusals(source: HikerApiSource, says: Any, case: Word) -> None:
    says(PATHS[case.operation], {"detail": f"quoted {TOKEN}", "exc_type": case.kind}, case.status)
    refused = failure(source, about(case.operation))
    assert type(refused) is case.error
    assert TOKEN not in str(refused)


def test_a_rate_limit_that_names_no_time_may_be_tried_again(source: HikerApiSource, says: Any) -> None:
    says(PATHS[USER], {"detail": "slow down"}, 429)
    refused = failure(source, about(USER))
    assert (type(refused), refused.retry, refused.retry_after) == (UpstreamBlocked, AGAIN, 60)


def test_the_operator_hears_of_it_once_a_minute() -> None:
    now = [0.0]
    alarm = wire.Alarm("hikerapi.refused", lambda: now[0])
    with capture_logs() as logs:
        for second in (0, 30, 59, 60):
            now[0] = second
            alarm.raise_for("token")
        alarm.raise_for("funds")
    assert [each["reason"] for each in logs] == ["token", "token", "funds"]
    assert logs[0]["log_level"] == "error"


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        (STORIES, []),
        (STORIES, {}),
        (STORIES, {"reel": 5}),
        (STORIES, {"reel": {"items": {}}}),
        (STORIES, {"reel": {"items": [7]}}),
        (STORIES, {"reel": {"items": [ITEM]}}),
        (STORY, None),
        (STORY, {"items": [{**ITEM, "user": None}]}),
        (STORY, {"items": [{"user": USER_5, "image_versions2": {}}]}),
        (HIGHLIGHTS, {"response": {}}),
        (HIGHLIGHTS, {"response": {"tray": [{"id": "highlight:1"}]}}),
        (HIGHLIGHT, {"reels": {}}),
        (HIGHLIGHT, {"response": {"reels": {"highlight:7": {"user": USER_5, "items": [3]}}}}),
        (USER, {"user": {"pk": "anna"}}),
        (USER, {"user": None}),
    ],
)
def test_odd_bodies(source: HikerApiSource, says: Any, operation: str, body: Any) -> None:
    says(PATHS[operation], body)
    assert isinstance(failure(source, about(operation)), UpstreamFailed)


def test_a_body_that_is_no_json(source: HikerApiSource, httpserver: HTTPServer) -> None:
    httpserver.expect_request(PATHS[USER]).respond_with_data("{", content_type="application/json")
    assert isinstance(failure(source, about(USER)), UpstreamFailed)


def test_what_it_is_asked_with(source: HikerApiSource, says: Any, httpserver: HTTPServer) -> None:
    says(PATHS[STORIES], {"reel": {"id": 5, "user": USER_5, "items": [ITEM]}})
    source.fetch(Ask(STORIES, Target(USERNAME, "anna"), force=True))
    source.fetch(Ask(STORIES, Target(USERNAME, "anna")))
    (forced, _), (plain, _) = httpserver.log
    assert forced.headers["x-access-key"] == TOKEN
    assert dict(forced.args) == {"username": "anna", "force": "on"}
    assert dict(plain.args) == {"username": "anna"}


def test_ids_come_as_sent(source: HikerApiSource, says: Any) -> None:
    says(PATHS[STORIES], {"reel": {"id": 5, "user": USER_5, "items": [{**ITEM, "pk": 2**60 + 1}]}})
    found = source.fetch(about(STORIES))
    assert (found.data["id"], found.data["items"][0]["pk"], found.source) == (5, 2**60 + 1, "hikerapi")


def test_an_account_that_shows_nothing_is_looked_up_by_name(source: HikerApiSource, says: Any) -> None:
    says(PATHS[STORIES], {"reel": None})
    says(PATHS[USER], {"user": USER_5})
    found = source.fetch(about(STORIES))
    assert (found.data["id"], found.data["user"], found.data["items"]) == ("5", USER_5, [])


def test_force_does_without_the_question_whether_it_is_private(source: HikerApiSource, says: Any) -> None:
    says(PATHS[STORIES], {"reel": None})
    says(PATHS[USER], {"user": {**USER_5, "is_private": True}})
    assert isinstance(failure(source, about(STORIES)), AccountPrivate)
    forced = source.fetch(Ask(STORIES, Target(USERNAME, "anna"), force=True))
    assert forced.data["items"] == []


@pytest.mark.parametrize("body", [ITEM, {"items": [ITEM]}, {"response": {"items": [ITEM]}}])
def test_a_story_however_it_is_wrapped(source: HikerApiSource, says: Any, body: Any) -> None:
    says(PATHS[STORY], body)
    assert source.fetch(about(STORY)).data == {"id": 5, "user": USER_5, "items": [ITEM]}


def test_a_post_is_no_story(source: HikerApiSource, says: Any) -> None:
    says(PATHS[STORY], {"items": [{**ITEM, "product_type": "feed"}]})
    assert isinstance(failure(source, about(STORY)), StoryNotFound)


def test_pages_are_read_to_their_end(simulated: HikerApiSource, asked: Callable[[], dict[str, int]]) -> None:
    found = simulated.fetch(ask(HIGHLIGHTS, USERNAME, "otto"))
    assert len(found.data["tray"]) == 3
    assert asked()["hiker_highlights_by_username"] == 2


def test_pages_without_an_end(
    source: HikerApiSource, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hikerapi, "PAGES_MOST", 4)
    entry = {"id": "highlight:1", "user": USER_5}
    for page in range(6):
        body = {"response": {"tray": [entry]}, "next_page_id": str(page + 1)}
        query = {"username": "anna"} | ({"page_id": str(page)} if page else {})
        httpserver.expect_request(PATHS[HIGHLIGHTS], query_string=query).respond_with_json(body)
    assert len(source.fetch(about(HIGHLIGHTS)).data["tray"]) == 4


def test_a_page_that_names_itself(source: HikerApiSource, says: Any) -> None:
    entry = {"id": "highlight:1", "user": USER_5}
    says(PATHS[HIGHLIGHTS], {"response": {"tray": [entry]}, "next_page_id": "a"})
    assert len(source.fetch(about(HIGHLIGHTS)).data["tray"]) == 2
