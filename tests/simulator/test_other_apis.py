"""HikerAPI's and the Graph API's own forms, as the simulator speaks them."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from .conftest import Simulator

KEY = {"x-access-key": "any"}


def hiker(simulator: Simulator, path: str, headers: dict[str, str] = KEY, **params: str) -> requests.Response:
    return requests.get(simulator.url + path, params=params, headers=headers, timeout=60)


def graph(simulator: Simulator, user_id: int, **params: str | int) -> requests.Response:
    return requests.get(f"{simulator.url}/v25.0/{user_id}/stories", params=params, timeout=60)


def test_hikers_stories_are_instagrams(simulator: Simulator) -> None:
    mine = hiker(simulator, "/v2/user/stories/by/username", username="otto")
    body = simulator.feed("otto").json()
    assert mine.json() == body
    assert mine.headers["x-hiker-info"] == "reqs=3"
    by_id = hiker(simulator, "/v2/user/stories", user_id=str(body["reel"]["id"]), force="on")
    assert by_id.json() == body
    assert by_id.headers["x-hiker-info"] == "reqs=1"


@pytest.mark.parametrize(
    ("path", "params", "status", "kind"),
    [
        ("/v2/user/stories/by/username", {"username": "missing_otto"}, 404, "UserNotFound"),
        ("/v2/user/stories/by/username", {"username": "private_otto"}, 403, "PrivateAccount"),
        ("/v2/user/by/username", {"username": "not a name"}, 404, "UserNotFound"),
        ("/v2/user/by/id", {"id": "x"}, 404, "UserNotFound"),
        ("/v2/story/by/id", {"id": "1"}, 404, "StoryNotFound"),
        ("/v2/highlight/by/id", {"id": "1"}, 404, "HighlightNotFound"),
    ],
)
def test_hikers_refusals(
    simulator: Simulator, path: str, params: dict[str, str], status: int, kind: str
) -> None:
    answer = hiker(simulator, path, **params)
    assert (answer.status_code, answer.json()["exc_type"]) == (status, kind)
    assert "x-hiker-info" not in answer.headers


def test_hiker_wants_a_key(simulator: Simulator) -> None:
    assert hiker(simulator, "/sys/balance", headers={}).status_code == 401
    assert hiker(simulator, "/sys/balance").json()["requests"] > 0


def test_hikers_highlights_hold_converted_items(simulator: Simulator) -> None:
    page: dict[str, Any] = hiker(simulator, "/v2/user/highlights/by/username", username="otto").json()
    entry = page["response"]["tray"][0]
    reels = hiker(simulator, "/v2/highlight/by/id", id=entry["pk"]).json()["response"]["reels"]
    items = reels[entry["id"]]["items"]
    assert items[0]["taken_at"].endswith("Z")
    assert page["next_page_id"] == "2"


def test_scenes_of_instagrams_sessions_are_not_hikers(simulator: Simulator) -> None:
    for scene in ("challenge", "ratelimited", "loginrequired"):
        answer = hiker(simulator, "/v2/user/stories/by/username", username=f"{scene}_otto")
        assert answer.json()["reel"]["items"]


@pytest.mark.parametrize("status", [200, 402])
def test_hiker_out_of_funds(simulator: Simulator, status: int) -> None:
    simulator.knobs(hiker_status=status).raise_for_status()
    answer = hiker(simulator, "/sys/balance")
    assert answer.status_code == status
    assert answer.json()["exc_type"] == "InsufficientFunds"


def test_the_graph_api_gives_the_fields_asked_for(simulator: Simulator) -> None:
    user_id = simulator.user_id("otto")
    bare = graph(simulator, user_id, access_token="EAA").json()["data"]
    assert [set(node) for node in bare] == [{"id"}] * 3
    rich = graph(simulator, user_id, access_token="EAA", fields="media_type,timestamp", limit=2).json()
    assert [set(node) for node in rich["data"]] == [{"id", "media_type", "timestamp"}] * 2
    rest = graph(simulator, user_id, access_token="EAA", after=rich["paging"]["cursors"]["after"]).json()
    assert len(rest["data"]) == 1
    assert "next" not in rest["paging"]


def test_the_graph_apis_errors(simulator: Simulator) -> None:
    user_id = simulator.user_id("otto")
    assert graph(simulator, user_id).json()["error"]["code"] == 104
    simulator.knobs(graph_code=190).raise_for_status()
    assert graph(simulator, user_id, access_token="EAA").json()["error"]["code"] == 190


def test_calls_are_counted(simulator: Simulator) -> None:
    hiker(simulator, "/v2/user/by/username", username="otto")
    graph(simulator, 5, access_token="EAA")
    report = simulator.calls()
    assert report["by_endpoint"] == {"hiker_user_by_username": 1, "graph_stories": 1}
    assert report["by_username"]["otto"] == 1
