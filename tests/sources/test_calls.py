"""Answers that the simulated Instagram does not give, to whoever asks by an id or for highlights."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

import pytest
from pytest_httpserver import HTTPServer

from service.domain.errors import (
    AccountPrivate,
    FetchError,
    HighlightNotFound,
    Retry,
    StoryNotFound,
    UpstreamBlocked,
    UpstreamFailed,
    UserNotFound,
)
from service.domain.instagram import SessionState
from service.domain.operations import HIGHLIGHT, HIGHLIGHTS, STORIES, STORY, USER
from service.domain.targets import HIGHLIGHT_ID, STORY_ID, USER_ID, USERNAME
from workers.sources.contract import Found

OK = {"status": "ok"}
ANNA = {"pk": 5, "username": "anna", "is_private": False}
PRIVATE = {**ANNA, "is_private": True}
ITEM = {"pk": 7, "id": "7_5", "product_type": "story", "user": ANNA}
REEL = {"id": 5, "user": ANNA, "items": [{"pk": 1}]}
ENTRY = {"id": "highlight:9", "title": "Trip", "user": ANNA}
KEPT = {**ENTRY, "items": [{"pk": 1}]}

MEDIA, FEED, TRAY = "media/7/info/", "feed/user/5/story/", "highlights/5/highlights_tray/"
REELS, INFO, BY_NAME = "feed/reels_media/", "users/5/info/", "users/anna/usernameinfo/"

Says = Callable[..., None]


@pytest.fixture
def world(make_world: Callable[..., Any], httpserver: HTTPServer) -> Any:
    return make_world(httpserver.url_for("").rstrip("/"))


@pytest.fixture
def says(httpserver: HTTPServer) -> Says:
    """Return a function that scripts an endpoint's answer."""

    def say(endpoint: str, body: Any, status: int = 200) -> None:
        httpserver.expect_request(f"/api/v1/{endpoint}").respond_with_json(body, status=status)

    return say


def paths(httpserver: HTTPServer) -> list[str]:
    return [request.path.removeprefix("/api/v1/") for request, _ in httpserver.log]


def story(world: Any) -> Found:
    return world.fetch(STORY, STORY_ID, "7")


def highlight(world: Any) -> Found:
    return world.fetch(HIGHLIGHT, HIGHLIGHT_ID, "9")


def fails(world: Any, ask: Callable[[], Any]) -> FetchError:
    """Return the error an ask ends with; the session has nothing to do with it."""
    with pytest.raises(FetchError) as caught:
        ask()
    assert (world.session().state, world.session().failure) == (SessionState.ACTIVE, "")
    return caught.value


# --- one story -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{}, {"product_type": None}, {"product_type": "story"}], ids=str)
def test_a_story_is_what_is_not_said_to_be_a_post(world: Any, says: Says, kind: dict[str, Any]) -> None:
    item = {key: value for key, value in ITEM.items() if key != "product_type"} | kind
    says(MEDIA, {"items": [item], **OK})
    assert story(world).data == {"id": "5", "user": ANNA, "items": [item]}


@pytest.mark.parametrize("kind", ["feed", "clips", "carousel_container", "igtv"])
def test_a_post_is_no_story(world: Any, says: Says, kind: str) -> None:
    says(MEDIA, {"items": [{**ITEM, "product_type": kind}], **OK})
    error = fails(world, lambda: story(world))
    assert type(error) is StoryNotFound
    assert "post" in error.message


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"message": "Not found here"}),
        (404, {}),
        (400, {"message": "Media not found or unavailable"}),
        (400, {"message": "Media is unavailable"}),
        (400, {"message": "Sorry, this photo has been deleted."}),
        (400, {"message": "Invalid media_id 7"}),
        (200, {"message": "Media not found or unavailable", "status": "fail"}),
        (200, {"items": [], **OK}),
    ],
    ids=str,
)
def test_a_story_that_is_gone(world: Any, says: Says, status: int, body: dict[str, Any]) -> None:
    says(MEDIA, {"status": "fail", **body}, status)
    assert type(fails(world, lambda: story(world))) is StoryNotFound


def test_a_masked_challenge_is_no_missing_story(world: Any, httpserver: HTTPServer) -> None:
    httpserver.expect_request(f"/api/v1/{MEDIA}").respond_with_data(b"Not Found", status=404)
    with pytest.raises(UpstreamBlocked):
        story(world)
    assert world.session().state is SessionState.QUARANTINED


def test_a_story_of_a_private_account(world: Any, says: Says) -> None:
    says(MEDIA, {"message": "Not authorized to view user", "status": "fail"}, 400)
    assert type(fails(world, lambda: story(world))) is AccountPrivate


@pytest.mark.parametrize(
    "items",
    [
        None,
        {},
        "x",
        [1],
        [{**ITEM, "pk": 8}],
        [{**ITEM, "user": None}],
        [{**ITEM, "user": {}}],
        [{**ITEM, "user": {"pk": "x"}}],
    ],
    ids=str,
)
def test_a_story_of_another_shape(world: Any, says: Says, items: Any) -> None:
    says(MEDIA, {"items": items, **OK})
    error = fails(world, lambda: story(world))
    assert (type(error), error.retry) == (UpstreamFailed, Retry.NEVER)


# --- one highlight -------------------------------------------------------------------------------


def test_a_highlight_is_asked_for_as_the_app_does(world: Any, says: Says, httpserver: HTTPServer) -> None:
    says(REELS, {"reels": {"highlight:9": KEPT}, **OK})
    assert highlight(world).data == KEPT
    [(request, _)] = httpserver.log
    sent = json.loads(unquote_plus(request.form["signed_body"].removeprefix("SIGNATURE.")))
    assert sent["user_ids"] == ["highlight:9"]
    assert (sent["source"], sent["exclude_media_ids"], sent["_uid"]) == ("profile", "[]", "9001")
    assert sent["_uuid"] == world.built[0].uuid
    assert "SUPPORTED_SDK_VERSIONS" in sent["supported_capabilities_new"]


@pytest.mark.parametrize("reel", [{**KEPT, "items": []}, ENTRY], ids=["no items", "none named"])
def test_a_highlight_without_items(world: Any, says: Says, reel: dict[str, Any]) -> None:
    says(REELS, {"reels": {"highlight:9": reel}, **OK})
    assert highlight(world).data["items"] == []


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"reels": {}, **OK}),
        (200, {"reels": {"highlight:9": None}, **OK}),
        (200, {"reels": {"highlight:8": KEPT}, **OK}),
        (400, {"message": "Invalid reel id list", "status": "fail"}),
        (400, {"message": "Media is unavailable", "status": "fail"}),
    ],
    ids=str,
)
def test_a_highlight_that_is_gone(world: Any, says: Says, status: int, body: dict[str, Any]) -> None:
    says(REELS, body, status)
    assert type(fails(world, lambda: highlight(world))) is HighlightNotFound


def test_a_highlight_of_a_private_account(world: Any, says: Says) -> None:
    says(REELS, {"message": "Not authorized to view user", "status": "fail"}, 400)
    assert type(fails(world, lambda: highlight(world))) is AccountPrivate


@pytest.mark.parametrize(
    "reel",
    [[], "x", {**KEPT, "items": None}, {**KEPT, "items": [1]}, {**KEPT, "id": "highlight:8"},
     {**KEPT, "user": None}, {**KEPT, "user": {"pk": "x"}}],
    ids=str,
)  # fmt: skip
def test_a_highlight_of_another_shape(world: Any, says: Says, reel: Any) -> None:
    says(REELS, {"reels": {"highlight:9": reel}, **OK})
    assert type(fails(world, lambda: highlight(world))) is UpstreamFailed


# --- the list of highlights ----------------------------------------------------------------------


def test_the_tray_is_asked_for_as_the_app_does(world: Any, says: Says, httpserver: HTTPServer) -> None:
    says(TRAY, {"tray": [KEPT], **OK})
    found = world.fetch(HIGHLIGHTS, USER_ID, "5").data
    assert found == {"id": "5", "user": ANNA, "tray": [ENTRY]}, "the first items some come with are left out"
    sent = httpserver.log[0][0].args
    assert sent["phone_id"] == world.built[0].phone_id
    assert 25 <= int(sent["battery_level"]) <= 100
    assert {"panavision_mode", "is_charging", "is_dark_mode", "will_sound_on"} <= sent.keys()
    assert "SUPPORTED_SDK_VERSIONS" in sent["supported_capabilities_new"]


def test_highlights_name_the_account_as_well_as_is_known(world: Any, says: Says) -> None:
    looked_up = {**ANNA, "follower_count": 3}
    says(BY_NAME, {"user": looked_up, **OK})
    says(TRAY, {"tray": [ENTRY], **OK})
    assert world.fetch(HIGHLIGHTS, USERNAME, "anna").data["user"] == looked_up
    assert world.fetch(HIGHLIGHTS, USERNAME, "anna").data["user"] == ANNA


def test_highlights_that_name_nobody_are_looked_up(world: Any, says: Says, httpserver: HTTPServer) -> None:
    says(TRAY, {"tray": [{"id": "highlight:9"}], **OK})
    says(INFO, {"user": ANNA, **OK})
    assert world.fetch(HIGHLIGHTS, USER_ID, "5").data["user"] == ANNA
    assert paths(httpserver) == [TRAY, INFO]


def test_forced_and_empty_they_name_the_id_alone(world: Any, says: Says) -> None:
    says(TRAY, {"tray": [], **OK})
    assert world.fetch(HIGHLIGHTS, USER_ID, "5", force=True).data == {
        "id": "5",
        "user": {"pk": "5"},
        "tray": [],
    }


@pytest.mark.parametrize("tray", [None, {}, "x", [1]], ids=str)
def test_a_tray_of_another_shape(world: Any, says: Says, tray: Any) -> None:
    says(TRAY, {"tray": tray, **OK})
    assert type(fails(world, lambda: world.fetch(HIGHLIGHTS, USER_ID, "5"))) is UpstreamFailed


def test_an_empty_tray_of_a_private_account(world: Any, says: Says, httpserver: HTTPServer) -> None:
    says(TRAY, {"tray": [], **OK})
    says(INFO, {"user": PRIVATE, **OK})
    for _ in range(2):
        assert type(fails(world, lambda: world.fetch(HIGHLIGHTS, USER_ID, "5"))) is AccountPrivate
    assert paths(httpserver) == [TRAY, INFO, TRAY]


def test_highlights_of_a_name_that_was_given_away(world: Any, says: Says, httpserver: HTTPServer) -> None:
    world.ids.put("anna", "4")
    says("highlights/4/highlights_tray/", {"tray": [{**ENTRY, "user": {"pk": 4, "username": "old"}}], **OK})
    says(BY_NAME, {"user": ANNA, **OK})
    says(TRAY, {"tray": [ENTRY], **OK})
    assert world.fetch(HIGHLIGHTS, USERNAME, "anna").data["id"] == "5"
    assert paths(httpserver)[1:] == [BY_NAME, TRAY]


def test_who_turned_private_may_not_be_who_has_the_name_now(world: Any, says: Says) -> None:
    world.ids.put("anna", "4")
    refusal = {"message": "Not authorized to view user", "status": "fail"}
    says("highlights/4/highlights_tray/", refusal, 400)
    says(BY_NAME, {"user": ANNA, **OK})
    says(TRAY, {"tray": [ENTRY], **OK})
    assert world.fetch(HIGHLIGHTS, USERNAME, "anna").data["tray"] == [ENTRY]


def test_a_name_that_is_still_the_private_accounts(world: Any, says: Says, httpserver: HTTPServer) -> None:
    world.ids.put("anna", "5")
    says(TRAY, {"message": "Not authorized to view user", "status": "fail"}, 400)
    says(BY_NAME, {"user": PRIVATE, **OK})
    for _ in range(2):
        assert type(fails(world, lambda: world.fetch(HIGHLIGHTS, USERNAME, "anna"))) is AccountPrivate
    assert paths(httpserver) == [TRAY, BY_NAME, TRAY]


# --- by an id ------------------------------------------------------------------------------------


def test_somebody_elses_reel_is_not_handed_on(world: Any, says: Says) -> None:
    says(FEED, {"reel": {**REEL, "user": {**ANNA, "pk": 6}}, **OK})
    assert type(fails(world, lambda: world.fetch(STORIES, USER_ID, "5"))) is UpstreamFailed


def test_a_reel_that_names_nobody_is_looked_up(world: Any, says: Says, httpserver: HTTPServer) -> None:
    says(FEED, {"reel": {"items": [{"pk": 1}]}, **OK})
    says(INFO, {"user": ANNA, **OK})
    assert world.fetch(STORIES, USER_ID, "5").data == {"id": "5", "user": ANNA, "items": [{"pk": 1}]}
    assert httpserver.log[1][0].args["from_module"] == "self_profile"


def test_a_404_of_the_feed_alone_is_no_missing_account(world: Any, says: Says) -> None:
    says(FEED, {"message": "Not found here", "status": "fail"}, 404)
    says(INFO, {"user": ANNA, **OK})
    assert type(fails(world, lambda: world.fetch(STORIES, USER_ID, "5"))) is UpstreamFailed


def test_a_followed_private_account_without_stories_is_not_remembered(world: Any, says: Says) -> None:
    """Another session may not follow it."""
    says(FEED, {"reel": None, **OK})
    says(INFO, {"user": {**PRIVATE, "friendship_status": {"following": True}}, **OK})
    assert world.fetch(STORIES, USER_ID, "5").data["items"] == []
    assert world.ids.get_seen("5") is None


@pytest.mark.parametrize("status", [200, 400, 404])
@pytest.mark.parametrize(("kind", "value"), [(USERNAME, "anna"), (USER_ID, "5")])
def test_nobody_of_this_name_or_id(world: Any, says: Says, kind: str, value: str, status: int) -> None:
    says(BY_NAME, {"message": "User not found", "status": "fail"}, status)
    says(INFO, {"message": "User not found", "status": "fail"}, status)
    assert type(fails(world, lambda: world.fetch(USER, kind, value))) is UserNotFound


@pytest.mark.parametrize("user", [None, [], {}, {"pk": "x"}, {"pk": 6}, {"username": "anna"}], ids=str)
def test_a_user_of_another_shape(world: Any, says: Says, user: Any) -> None:
    says(INFO, {"user": user, **OK})
    assert type(fails(world, lambda: world.fetch(USER, USER_ID, "5"))) is UpstreamFailed
    assert world.ids.get_seen("5") is None


def test_forced_by_a_name_that_was_given_away(world: Any, says: Says) -> None:
    """What an outdated id shows names somebody else, so it is looked up all the same."""
    world.ids.put("anna", "4")
    says("feed/user/4/story/", {"reel": {**REEL, "id": 4, "user": {"pk": 4, "username": "old"}}, **OK})
    says(BY_NAME, {"user": PRIVATE, **OK})
    says(FEED, {"reel": None, **OK})
    found = world.stories("anna", force=True).data
    assert (found["id"], found["items"]) == ("5", [])
