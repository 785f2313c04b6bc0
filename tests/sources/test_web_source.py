"""Profiles of the website: its names made the mobile API's, and what it says instead."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from service.domain.errors import (
    FetchError,
    Retry,
    UpstreamBlocked,
    UpstreamFailed,
    UserNotFound,
)
from service.domain.operations import STORIES, USER, Ask
from service.domain.targets import USER_ID, USERNAME, Target
from workers.sources.accounts import client_factory
from workers.sources.web import WebSource

PATH = "/api/v1/users/web_profile_info/"
ANNA = Ask(USER, Target(USERNAME, "anna"))
PROFILE = {
    "id": "5",
    "username": "anna",
    "full_name": "Anna",
    "biography": "",
    "is_private": False,
    "is_verified": True,
    "is_business_account": False,
    "profile_pic_url": "https://scontent.cdninstagram.com/p.jpg",
    "edge_owner_to_timeline_media": {"count": 3},
    "edge_followed_by": {"count": 40},
    "edge_follow": {"count": 5},
    "highlight_reel_count": 0,
}


@pytest.fixture
def source(httpserver: HTTPServer) -> WebSource:
    return WebSource(client_factory(redirect_to=httpserver.url_for("").rstrip("/"), read_timeout=20))


def failure(source: WebSource) -> FetchError:
    with pytest.raises(FetchError) as caught:
        source.fetch(ANNA)
    return caught.value


def test_the_mobile_names(source: WebSource, httpserver: HTTPServer) -> None:
    httpserver.expect_request(PATH).respond_with_json({"data": {"user": PROFILE}, "status": "ok"})
    found = source.fetch(ANNA)
    assert (found.data["id"], found.source) == ("5", "web")
    assert found.data["user"] == {
        "pk": "5",
        "id": "5",
        "username": "anna",
        "full_name": "Anna",
        "biography": "",
        "is_private": False,
        "is_verified": True,
        "is_business": False,
        "profile_pic_url": PROFILE["profile_pic_url"],
        "media_count": 3,
        "follower_count": 40,
        "following_count": 5,
    }
    request, _ = httpserver.log[0]
    assert request.args["username"] == "anna"
    assert request.headers["X-Ig-App-Id"] == "936619743392459"
    assert "Cookie" not in request.headers
    assert "Authorization" not in request.headers


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, {"message": "User not found", "status": "fail"}, (UserNotFound, Retry.NEVER)),
        (
            401,
            {"message": "Please wait a few minutes.", "require_login": True},
            (UpstreamBlocked, Retry.NEVER),
        ),
        (429, {"message": "Too many requests"}, (UpstreamBlocked, Retry.NEVER)),
        (500, {}, (UpstreamFailed, Retry.AGAIN)),
        (200, {"data": {"user": None}}, (UpstreamFailed, Retry.NEVER)),
        (200, {"data": None}, (UpstreamFailed, Retry.NEVER)),
        (200, [], (UpstreamFailed, Retry.NEVER)),
        (200, {"data": {"user": {"id": None}}}, (UpstreamFailed, Retry.NEVER)),
    ],
)
def test_other_answers(
    source: WebSource, httpserver: HTTPServer, status: int, body: Any, expected: tuple[object, ...]
) -> None:
    httpserver.expect_request(PATH).respond_with_json(body, status=status)
    refused = failure(source)
    assert (type(refused), refused.retry) == expected
    assert refused.verdict is None


def test_it_does_not_sleep_between_calls(
    source: WebSource, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library would, for a second each."""
    httpserver.expect_request(PATH).respond_with_json({"data": {"user": PROFILE}})
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    for _ in range(3):
        source.fetch(ANNA)
    assert slept == []


def test_it_serves_accounts_by_name_only(source: WebSource) -> None:
    assert source.serves(ANNA)
    assert not source.serves(Ask(USER, Target(USER_ID, "5")))
    assert not source.serves(Ask(STORIES, Target(USERNAME, "anna")))
    assert source.unserved() is None
