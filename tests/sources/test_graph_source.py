"""What only the Graph API does: its error codes, its pages, its media objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from pytest_httpserver import HTTPServer

from service.domain.errors import FetchError, Retry, UpstreamBlocked, UpstreamFailed, UpstreamTimeout
from service.domain.operations import HIGHLIGHTS, STORY, USER, Ask
from service.domain.targets import STORY_ID, USER_ID, USERNAME, Target
from service.upstreams import GraphAccount
from tests.sources.subjects import TOKEN
from tests.upstreams import stories_of
from workers.simulator.ids import user_id_of
from workers.sources.graph import VERSION, GraphSource

NEVER, AGAIN = Retry.NEVER, Retry.AGAIN
PATH = f"/{VERSION}/1784/stories"
PHOTO = {
    "id": "17",
    "media_type": "IMAGE",
    "media_url": "https://scontent.cdninstagram.com/a.jpg",
    "timestamp": "2026-02-03T04:05:06+0000",
    "shortcode": "Cx1",
    "caption": "Hello",
    "username": "anna",
}
VIDEO = {
    **PHOTO,
    "id": "18",
    "media_type": "VIDEO",
    "media_url": "https://scontent.cdninstagram.com/b.mp4",
    "thumbnail_url": "https://scontent.cdninstagram.com/b.jpg",
}


@pytest.fixture
def source(httpserver: HTTPServer) -> GraphSource:
    return GraphSource({"anna": GraphAccount("1784", TOKEN)}, httpserver.url_for("/"), read_timeout=20)


def simulated(url: str, name: str) -> GraphSource:
    return GraphSource({name: GraphAccount(str(user_id_of(name)), TOKEN)}, url, read_timeout=20)


def failure(source: GraphSource, name: str = "anna") -> FetchError:
    with pytest.raises(FetchError) as caught:
        source.fetch(stories_of(name))
    return caught.value


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1, (UpstreamFailed, AGAIN, None)),
        (2, (UpstreamFailed, AGAIN, None)),
        (4, (UpstreamBlocked, NEVER, 900)),
        (10, (UpstreamBlocked, NEVER, 60)),
        (17, (UpstreamBlocked, NEVER, 900)),
        (32, (UpstreamBlocked, NEVER, 900)),
        (100, (UpstreamFailed, NEVER, None)),
        (102, (UpstreamBlocked, NEVER, 60)),
        (190, (UpstreamBlocked, NEVER, 60)),
        (200, (UpstreamBlocked, NEVER, 60)),
        (299, (UpstreamBlocked, NEVER, 60)),
        (613, (UpstreamBlocked, NEVER, 900)),
        (9_999, (UpstreamFailed, NEVER, None)),
    ],
)
def test_error_codes(simulator: str, code: int, expected: tuple[object, ...]) -> None:
    requests.post(f"{simulator}/_sim/knobs", json={"graph_code": code}, timeout=20).raise_for_status()
    refused = failure(simulated(simulator, "otto"), "otto")
    assert (type(refused), refused.retry, refused.retry_after) == expected
    assert TOKEN not in str(refused)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"error": {"code": 5, "is_transient": True}}, (UpstreamFailed, AGAIN)),
        (400, {"error": {"code": "190"}}, (UpstreamFailed, NEVER)),
        (400, {"error": "text"}, (UpstreamFailed, NEVER)),
        (401, {}, (UpstreamBlocked, NEVER)),
        (408, {}, (UpstreamTimeout, AGAIN)),
        (429, [], (UpstreamBlocked, NEVER)),
        (302, {}, (UpstreamFailed, NEVER)),
        (200, {"error": {"code": 190}}, (UpstreamBlocked, NEVER)),
        (200, [], (UpstreamFailed, NEVER)),
        (200, {}, (UpstreamFailed, NEVER)),
        (200, {"data": [5]}, (UpstreamFailed, NEVER)),
        (200, {"data": [{**PHOTO, "id": None}]}, (UpstreamFailed, NEVER)),
        (200, {"data": [{**PHOTO, "media_type": "CAROUSEL_ALBUM"}]}, (UpstreamFailed, NEVER)),
    ],
)
def test_odd_answers(
    source: GraphSource, httpserver: HTTPServer, status: int, body: Any, expected: tuple[object, ...]
) -> None:
    httpserver.expect_request(PATH).respond_with_json(body, status=status)
    refused = failure(source)
    assert (type(refused), refused.retry) == expected


def test_media_objects_become_items(source: GraphSource, httpserver: HTTPServer) -> None:
    httpserver.expect_request(PATH).respond_with_json({"data": [VIDEO, PHOTO]})
    found = source.fetch(stories_of("anna"))
    user = {"pk": "1784", "id": "1784", "username": "anna", "is_private": False}
    assert (found.data["id"], found.data["user"], found.source) == ("1784", user, "graph")
    video, photo = found.data["items"]
    assert photo == {
        "pk": "17",
        "id": "17",
        "code": "Cx1",
        "media_type": 1,
        "product_type": "story",
        "caption": "Hello",
        "user": user,
        "image_versions2": {"candidates": [{"url": PHOTO["media_url"]}]},
        "taken_at": 1_770_091_506,
        "expiring_at": 1_770_177_906,
    }
    assert video["video_versions"] == [{"type": 101, "url": VIDEO["media_url"]}]
    assert video["image_versions2"] == {"candidates": [{"url": VIDEO["thumbnail_url"]}]}


@pytest.mark.parametrize("timestamp", [None, "", "yesterday", "2026-02-31T04:05:06+0000", 5])
def test_what_a_media_object_lacks_is_left_out(
    source: GraphSource, httpserver: HTTPServer, timestamp: object
) -> None:
    node = {"id": "17", "media_type": "VIDEO", "timestamp": timestamp}
    httpserver.expect_request(PATH).respond_with_json({"data": [node]})
    (item,) = source.fetch(stories_of("anna")).data["items"]
    assert not {"taken_at", "expiring_at", "video_versions"} & item.keys()
    assert item["image_versions2"] == {"candidates": []}


def test_all_pages_oldest_first(simulator: str, asked: Callable[[], dict[str, int]]) -> None:
    items = simulated(simulator, "huge_otto").fetch(stories_of("huge_otto")).data["items"]
    assert len({item["pk"] for item in items}) == 100
    taken = [item["taken_at"] for item in items]
    assert taken == sorted(taken)
    assert asked()["graph_stories"] == 2


def test_pages_are_followed_by_their_cursor_and_not_to_any_address(
    source: GraphSource, httpserver: HTTPServer
) -> None:
    paging = {"cursors": {"after": "two"}, "next": "http://127.0.0.1:9/elsewhere"}
    first = {"data": [PHOTO], "paging": paging}
    httpserver.expect_ordered_request(PATH).respond_with_json(first)
    httpserver.expect_ordered_request(PATH).respond_with_json({"data": [VIDEO], "paging": {"cursors": {}}})
    assert len(source.fetch(stories_of("anna")).data["items"]) == 2
    assert [request.args.get("after") for request, _ in httpserver.log] == [None, "two"]
    assert {request.args["access_token"] for request, _ in httpserver.log} == {TOKEN}


@pytest.mark.parametrize(
    "asked",
    [
        stories_of("ben"),
        Ask("stories", Target(USER_ID, "1784")),
        Ask(USER, Target(USERNAME, "anna")),
        Ask(HIGHLIGHTS, Target(USERNAME, "anna")),
        Ask(STORY, Target(STORY_ID, "17")),
    ],
)
def test_it_serves_stories_of_its_accounts_only(source: GraphSource, asked: Ask) -> None:
    assert source.serves(stories_of("anna"))
    assert not source.serves(asked)


def test_a_token_is_not_shown(source: GraphSource) -> None:
    assert TOKEN not in repr(GraphAccount("1784", TOKEN))
