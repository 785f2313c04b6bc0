"""Answers that the simulated Instagram does not give: renames, reused ids, odd shapes, odd refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from service.domain.errors import (
    AccountPrivate,
    FetchError,
    Retry,
    UpstreamBlocked,
    UpstreamFailed,
    UserNotFound,
)
from service.stores.instagram_ids import NOT_FOUND

OK = {"status": "ok"}
USER = {"pk": 5, "username": "anna", "is_private": False}
REEL = {"id": 5, "user": {"pk": 5, "username": "anna"}, "items": [{"pk": 1}]}


@pytest.fixture
def world(make_world: Callable[..., Any], httpserver: HTTPServer) -> Any:
    return make_world(httpserver.url_for("").rstrip("/"))


@pytest.fixture
def says(httpserver: HTTPServer) -> Callable[..., None]:
    """Return a function that scripts one endpoint; ``user`` and ``reel`` are wrapped as Instagram does."""

    def user(body: Any, *, name: str = "anna", status: int = 200) -> None:
        endpoint = f"/api/v1/users/{name}/usernameinfo/"
        httpserver.expect_request(endpoint).respond_with_json(body, status=status)

    def feed(body: Any, *, user_id: int = 5, status: int = 200) -> None:
        endpoint = f"/api/v1/feed/user/{user_id}/story/"
        httpserver.expect_request(endpoint).respond_with_json(body, status=status)

    def say(*, user_answer: Any = None, feed_answer: Any = None, **options: Any) -> None:
        if user_answer is not None:
            user(user_answer, **options)
        if feed_answer is not None:
            feed(feed_answer, **options)

    return say


def paths(httpserver: HTTPServer) -> list[str]:
    return [request.path.removeprefix("/api/v1/") for request, _ in httpserver.log]


def test_capabilities_are_sent_as_the_app_does(world: Any, says: Any, httpserver: HTTPServer) -> None:
    says(user_answer={"user": USER, **OK}, feed_answer={"reel": REEL, **OK})
    found = world.stories("anna")
    assert (found.data, found.source) == (REEL, "instagrapi")
    assert "SUPPORTED_SDK_VERSIONS" in httpserver.log[1][0].args["supported_capabilities_new"]


def test_a_renamed_account_is_looked_up_anew(world: Any, says: Any, httpserver: HTTPServer) -> None:
    """The name belongs to somebody else by now."""
    world.ids.put("anna", "4")
    says(feed_answer={"reel": {**REEL, "user": {"pk": 4, "username": "anna_old"}}, **OK}, user_id=4)
    says(user_answer={"user": USER, **OK}, feed_answer={"reel": REEL, **OK})
    assert world.stories("anna").data["id"] == 5
    assert world.ids.get("anna").user_id == "5"
    assert paths(httpserver) == ["feed/user/4/story/", "users/anna/usernameinfo/", "feed/user/5/story/"]


def test_a_renamed_account_whose_name_is_free(world: Any, says: Any) -> None:
    world.ids.put("anna", "4")
    says(feed_answer={"reel": {**REEL, "user": {"pk": 4, "username": "anna_old"}}, **OK}, user_id=4)
    says(user_answer={"message": "User not found", "status": "fail"}, status=404)
    with pytest.raises(UserNotFound):
        world.stories("anna")
    assert world.ids.get("anna") is NOT_FOUND


def test_a_silent_known_id_that_is_not_the_names_any_more(world: Any, says: Any) -> None:
    world.ids.put("anna", "4")
    says(feed_answer={"reel": None, **OK}, user_id=4)
    says(user_answer={"user": USER, **OK}, feed_answer={"reel": REEL, **OK})
    assert world.stories("anna").data["id"] == 5


def test_a_known_id_that_is_gone(world: Any, says: Any) -> None:
    world.ids.put("anna", "4")
    says(feed_answer={"message": "Not found here", "status": "fail"}, user_id=4, status=404)
    says(user_answer={"user": USER, **OK}, feed_answer={"reel": REEL, **OK})
    assert world.stories("anna").data["id"] == 5


def test_a_404_of_the_feed_alone_is_no_missing_account(world: Any, says: Any) -> None:
    says(feed_answer={"message": "Not found here", "status": "fail"}, status=404)
    says(user_answer={"user": USER, **OK})
    for _ in range(2):
        with pytest.raises(UpstreamFailed):
            world.stories("anna")
    assert world.ids.get("anna").user_id == "5"


def test_instagram_may_answer_under_another_name(world: Any, says: Any, httpserver: HTTPServer) -> None:
    """Where the look-up itself leads to a new name, that is Instagram's word; it is not remembered."""
    renamed = {**USER, "username": "anna_new"}
    says(user_answer={"user": renamed, **OK}, feed_answer={"reel": {**REEL, "user": renamed}, **OK})
    assert world.stories("anna").data["user"]["username"] == "anna_new"
    assert world.ids.get("anna") is None
    assert len(httpserver.log) == 2


@pytest.mark.parametrize("status", [200, 400, 500])
def test_user_not_found_in_words(world: Any, says: Any, status: int) -> None:
    says(user_answer={"message": "User not found", "status": "fail"}, status=status)
    with pytest.raises(UserNotFound):
        world.stories("anna")


# --- private -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reel", [None, {**REEL, "items": []}, {"id": 5, "user": USER}])
def test_private_accounts_are_told_from_empty_ones(world: Any, says: Any, reel: Any) -> None:
    says(user_answer={"user": {**USER, "is_private": True}, **OK}, feed_answer={"reel": reel, **OK})
    with pytest.raises(AccountPrivate):
        world.stories("anna")


@pytest.mark.parametrize("reel", [None, {**REEL, "items": []}, {"id": 5, "user": USER}])
def test_a_followed_private_account_without_stories(world: Any, says: Any, reel: Any) -> None:
    followed = {**USER, "is_private": True, "friendship_status": {"following": True}}
    says(user_answer={"user": followed, **OK}, feed_answer={"reel": reel, **OK})
    assert world.stories("anna").data["items"] == []


def test_an_account_of_unknown_privacy_is_not_called_empty(world: Any, says: Any) -> None:
    says(user_answer={"user": {"pk": 5, "username": "anna"}, **OK}, feed_answer={"reel": None, **OK})
    with pytest.raises(UpstreamFailed):
        world.stories("anna")


# --- other shapes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        [],
        "text",
        None,
        7,
        {"reel": [], **OK},
        {"reel": "x", **OK},
        {"reel": {"items": None}, **OK},
        {"reel": {"items": {}}, **OK},
        {"reel": {"items": [1]}, **OK},
    ],
    ids=str,
)
def test_a_feed_of_another_shape(world: Any, says: Any, answer: Any, httpserver: HTTPServer) -> None:
    says(user_answer={"user": USER, **OK})
    httpserver.expect_request("/api/v1/feed/user/5/story/").respond_with_json(answer)
    with pytest.raises(UpstreamFailed, match="another shape") as caught:
        world.stories("anna")
    assert caught.value.retry is Retry.NEVER
    assert caught.value.verdict is None


@pytest.mark.parametrize(
    "answer",
    [OK, {"user": None, **OK}, {"user": [], **OK}, {"user": {}, **OK}, {"user": {"pk": "x"}, **OK}],
    ids=str,
)
def test_a_user_of_another_shape(world: Any, says: Any, answer: Any) -> None:
    says(user_answer=answer)
    with pytest.raises(UpstreamFailed, match="another shape"):
        world.stories("anna")
    assert world.ids.get("anna") is None


def test_a_reel_without_its_user_gets_the_one_looked_up(world: Any, says: Any) -> None:
    world.ids.put("anna", "5")
    says(user_answer={"user": USER, **OK}, feed_answer={"reel": {"items": [{"pk": 1}]}, **OK})
    assert world.stories("anna").data["user"] == USER


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "unauthorized"), (403, "forbidden"), (429, "throttled")]
)
@pytest.mark.parametrize("body", ["[]", '{"message": null}', '"x"', "<html>", ""])
def test_refusals_with_odd_bodies(
    world: Any, httpserver: HTTPServer, status: int, reason: str, body: str
) -> None:
    httpserver.expect_request("/api/v1/users/anna/usernameinfo/").respond_with_data(body, status=status)
    with pytest.raises(FetchError):
        world.stories("anna")
    assert world.session().failure == reason


def test_a_username_that_reads_like_a_verdict(world: Any, httpserver: HTTPServer) -> None:
    """Nobody must be able to throw our sessions out by asking for an account of such a name."""
    for name in ("login_required", "challenge_required", "checkpoint_required"):
        endpoint = f"/api/v1/users/{name}/usernameinfo/"
        httpserver.expect_request(endpoint).respond_with_json({"status": "fail"}, status=500)
        with pytest.raises(UpstreamFailed):
            world.stories(name)
    assert world.session().state == "active"


def test_a_message_names_nothing_of_ours(world: Any, says: Any) -> None:
    says(user_answer={"message": "challenge_required", "challenge": {"url": "/x?token=t0ken"}}, status=400)
    with pytest.raises(UpstreamBlocked) as caught:
        world.stories("anna")
    assert "t0ken" not in caught.value.message
