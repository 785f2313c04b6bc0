"""Machines call the API: whatever they send, what comes back is never HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from service.app import create_app
from tests.api.support import HIKER, PROTECTED, STORIES, Front, assert_error

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"]
ODD = [
    "/api",
    "/api/",
    "/api/instagram/stories/",
    "/api//credits",
    "/api/requests//",
    "//api/credits",
    "/api/./credits",
    "/api/../keys",
    "/api/%2e%2e/keys",
    "/api/%00",
    "/api/%ff%fe",
    "/api/%",
    "/api/%zz",
    "/api/credits%2f",
    "/api/credits%20",
    "/api/credits;a=b",
    "/api/credits.html",
    "/api/<script>alert(1)</script>",
    "/api/requests/<b>",
    "/api/requests/%3Cb%3E/cancel",
    "/api/requests?status=%3Cscript%3E",
    "/api/requests?cursor=%00&limit=%ff",
    "/api/" + "a" * 5_000,
    "/api/ümläut",
    "/API/credits",
    "/auth",
    "/auth/",
    "/auth//login",
    "/auth/login/",
    "/auth/<b>",
    "/keys/",
    "/keys//",
    "/keys/<b>",
    "/keys/%00",
    "/keys/a/b",
]
PATHS = [
    *(path for _, path in PROTECTED if path != "/api/webhooks/test"),
    "/auth/login",
    "/auth/register",
    *ODD,
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", METHODS)
def test_html_never_comes_back(table: Front, method: str, path: str) -> None:
    for headers in ({}, table.me.headers, {**table.me.headers, "Accept": "text/html"}):
        if (method, path) == ("DELETE", "/keys"):
            continue
        response = table.client.open(path, method=method, headers=headers)
        about = f"{method} {path[:60]} {sorted(headers)} -> {response.status_code} {response.content_type}"

        if not (method == "OPTIONS" and response.status_code == 200):  # has a test of its own
            assert "html" not in (response.content_type or ""), about
        assert "<html" not in response.text.lower(), about
        assert response.status_code < 500, about
        if response.status_code >= 400 and method != "HEAD":
            assert response.json["success"] is False, about
            assert response.json["requestId"] == response.headers["X-Request-Id"], about
        if method == "HEAD":
            assert response.data == b"", about


@pytest.mark.parametrize(
    "path", [*HIKER, "/v1/", "/v2/nothing", "/gql/user", "/sys/<b>", "/v1//user/stories"]
)
@pytest.mark.parametrize("method", METHODS)
def test_nor_does_it_from_hikerapis_routes(table: Front, method: str, path: str) -> None:
    for headers in ({}, {**table.me.headers, "Accept": "text/html"}):
        response = table.client.open(path, method=method, headers=headers)
        about = f"{method} {path} {sorted(headers)} -> {response.status_code} {response.content_type}"

        assert "html" not in (response.content_type or ""), about
        assert response.status_code < 500, about
        if response.status_code >= 400 and method != "HEAD":
            assert set(response.json) in ({"detail"}, {"detail", "exc_type"}), about
            assert response.headers["x-hiker-info"] == "reqs=0", about
        if method == "HEAD":
            assert response.data == b"", about


def test_options_tells_the_methods_and_claims_no_html(table: Front) -> None:
    response = table.call("OPTIONS", STORIES)

    assert response.status_code in (200, 204)
    assert response.data == b""
    assert "POST" in response.headers["Allow"]
    assert "html" not in (response.content_type or "")


def test_no_answer_repeats_markup_that_was_sent(table: Front) -> None:
    markup = "<script>alert(1)</script>"
    responses = [
        table.get(f"/api/{markup}"),
        table.get(f"/api/requests/{markup}"),
        table.get(f"/api/requests?status={markup}"),
        table.call("POST", STORIES, json={"username": markup}),
        table.call("POST", STORIES, json={"username": "a", "webhookUrl": markup}),
    ]

    for response in responses:
        assert response.status_code in (404, 422)
        assert markup not in response.text
        assert response.content_type == "application/json"


def test_a_bug_of_ours_is_a_json_answer_that_tells_nothing_of_it(quick: Callable[..., Front]) -> None:
    front = quick()

    class Broken:
        def balance(self, account_id: str) -> None:
            raise RuntimeError(f"a secret of {account_id}")

    services = replace(front.services, credits=Broken())
    front = replace(front, services=services, app=create_app(front.settings, services))
    response = front.get("/api/credits")

    assert_error(response, 500, "internal_error")
    assert "secret" not in response.text
    assert "Traceback" not in response.text
