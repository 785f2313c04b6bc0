"""What is wrong is refused with the right words, and leaves no trace."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.api.support import BATCH, BODIES, CREDITS, JSON, STORIES, Front, assert_error

WITH_BODY = list(BODIES)
FOREIGN_TYPES = [None, "", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json"]
LIMITS = {path: 65_536 for _, path in WITH_BODY} | {BATCH: 2 * 1024 * 1024}
LONG_URL = "https://example.com/" + "a" * 2_029  # 2049 characters


@pytest.fixture
def unmoved(table: Front) -> Iterator[Front]:
    """A front end on which a call is to leave nothing stored, queued or charged."""
    before, published = table.stored(), list(table.queue.published)
    yield table
    assert table.stored() == before
    assert table.queue.published == published


def post(front: Front, body: Any) -> Any:
    return front.call("POST", STORIES, json=body)


# --- the body as such, on every route that reads one -----------------------------------------------


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"username=nasa",
        b'{"username": "nasa"',
        b'{"username": "nasa"} x',
        b"{'username': 'nasa'}",
        b"\xff\xfe\x00",
        b'{"username": "\xff"}',
        b'{"username": "\\ud800"}',
        b'{"username": NaN}',
        b"[" * 30_000,
        b'{"a":' * 10_000,
        b"[]",
        b'["username"]',
        b'"nasa"',
        b"1",
        b"null",
        b"true",
    ],
)
def test_a_body_that_is_no_json_object_is_400(unmoved: Front, method: str, path: str, body: bytes) -> None:
    assert_error(unmoved.call(method, path, data=body, content_type=JSON), 400, "malformed_json")


@pytest.mark.parametrize(
    ("method", "path", "content_type"),
    [
        (*route, content_type)
        for route in WITH_BODY
        for content_type in (*FOREIGN_TYPES, "text/html" if route[1] == BATCH else "text/plain")
    ],
)
def test_another_content_type_is_415(
    unmoved: Front, method: str, path: str, content_type: str | None
) -> None:
    body = json.dumps(BODIES[method, path]).encode()
    assert_error(
        unmoved.call(method, path, data=body, content_type=content_type), 415, "unsupported_media_type"
    )


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_a_body_over_the_limit_is_413_and_the_limit_named(unmoved: Front, method: str, path: str) -> None:
    body = json.dumps({**BODIES[method, path], "more": "x" * LIMITS[path]}).encode()
    told = assert_error(unmoved.call(method, path, data=body, content_type=JSON), 413, "payload_too_large")
    assert f" {LIMITS[path]} bytes" in told["error"]


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_a_body_that_does_not_tell_its_length_is_413_as_well(unmoved: Front, method: str, path: str) -> None:
    body = json.dumps({**BODIES[method, path], "more": "x" * LIMITS[path]}).encode()
    response = unmoved.call(
        method,
        path,
        input_stream=io.BytesIO(body),
        content_type=JSON,
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert_error(response, 413, "payload_too_large")


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_an_unknown_field_is_named(unmoved: Front, method: str, path: str) -> None:
    body = {**BODIES[method, path], "callbackUrl": "https://example.com"}
    assert_error(unmoved.call(method, path, json=body), 422, "validation_error", {"callbackUrl"})


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
@pytest.mark.parametrize("value", [None, -5, 1.5, True, [], ["na sa"], {}, {"a": 1}, ""])
def test_a_field_of_the_wrong_type_is_named(unmoved: Front, method: str, path: str, value: Any) -> None:
    body = dict.fromkeys(BODIES[method, path], value)
    assert_error(unmoved.call(method, path, json=body), 422, "validation_error", set(body))


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_every_missing_field_is_named(unmoved: Front, method: str, path: str) -> None:
    fields = set(BODIES[method, path])
    assert_error(unmoved.call(method, path, json={}), 422, "validation_error", fields)


# --- username --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "username",
    [
        "",
        " ",
        "@",
        "@@nasa",
        "a" * 31,
        "@" + "a" * 31,
        "a" * 301,
        "na sa",
        "na\x00sa",
        "na\nsa",
        "nasa!",
        "nasa\u200b",
        "näsa",
        "ｎａｓａ",
        "na-sa",
        "../nasa",
        "nasa/..",
        "%6easa",
        "nasa{s00}",
        "https://example.com/nasa",
        "https://instagram.com.example.com/nasa",
        "https://instagram.com@example.com/nasa",
        "https://user:pw@instagram.com/nasa",
        "ftp://instagram.com/nasa",
        "https://instagram.com/",
        "https://instagram.com/p/Cabc/",
        "https://[instagram.com/nasa",
        "/nasa",
        "//",
    ],
)
def test_a_username_that_is_none_is_422(unmoved: Front, username: str) -> None:
    assert_error(post(unmoved, {"username": username}), 422, "validation_error", {"username"})


def test_the_refusal_of_a_long_username_tells_the_limit(unmoved: Front) -> None:
    body = assert_error(post(unmoved, {"username": "a" * 31}), 422, "validation_error", {"username"})
    assert "30" in body["details"]["username"][0]


# --- webhookUrl ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        5,
        [],
        "",
        "hook",
        "/hook",
        "//example.com/hook",
        "example.com/hook",
        "ftp://example.com/hook",
        "file:///etc/passwd",
        "gopher://example.com:6379/_FLUSHALL",
        "javascript:alert(1)",
        "data:text/plain,x",
        "http://",
        "http:///hook",
        "http://:80/",
        "http://user@example.com/",
        "http://user:pw@example.com/",
        "http://@example.com/",
        "http://example.com:99999/",
        "http://example.com:port/",
        "http://[::1/",
        "http://example.com/a b",
        "http://example.com\\@10.0.0.1/",
        "http://example.com/\r\nX-Injected: 1",
        "http://example.com/\x00",
        LONG_URL,
    ],
)
def test_a_webhook_url_that_is_none_is_422(unmoved: Front, url: Any) -> None:
    body = {"username": "nasa", "webhookUrl": url}
    assert_error(post(unmoved, body), 422, "validation_error", {"webhookUrl"})


def test_the_longest_webhook_url_is_accepted(table: Front) -> None:
    assert post(table, {"username": "nasa", "webhookUrl": LONG_URL[:-1]}).status_code == 202


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "192.168.1.1:8080",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "[::1]",
        "[fe80::1]",
        "[fd00::1]",
        "[::]",
        "[::ffff:10.0.0.1]",
        "app.localhost",
        "10.0.0.1.",
        pytest.param("167772161", id="10.0.0.1 as one number"),
        pytest.param("0x0a000001", id="10.0.0.1 in hexadecimal"),
        pytest.param("012.0.0.1", id="10.0.0.1 in octal"),
        pytest.param("10.1", id="10.0.0.1 in short"),
    ],
)
def test_an_inner_webhook_address_is_forbidden(unmoved: Front, host: str) -> None:
    body = {"username": "nasa", "webhookUrl": f"http://{host}/hook"}
    assert_error(post(unmoved, body), 422, "webhook_forbidden")


def test_both_fields_are_named_when_both_are_wrong(unmoved: Front) -> None:
    body = {"username": 5, "webhookUrl": 6}
    assert_error(post(unmoved, body), 422, "validation_error", {"username", "webhookUrl"})


# --- queries ---------------------------------------------------------------------------------------

ONE = "/api/requests/req_0001m7xt6136bt5vc71920hsxsgv"
SOME = "/api/batches/bat_0001m7xt6136bt5vc71920hs0000"


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/api/requests", "colour=red", "colour"),
        ("/api/requests", "next_cursor=x", "next_cursor"),
        ("/api/requests", "limit=0", "limit"),
        ("/api/requests", "limit=201", "limit"),
        ("/api/requests", "limit=-1", "limit"),
        ("/api/requests", "limit=ten", "limit"),
        ("/api/requests", "limit=", "limit"),
        ("/api/requests", "limit=1.5", "limit"),
        ("/api/requests", "limit=" + "9" * 5000, "limit"),
        ("/api/requests", "status=done", "status"),
        ("/api/requests", "status=", "status"),
        ("/api/requests", "username=", "username"),
        ("/api/requests", "username=" + "a" * 31, "username"),
        ("/api/requests", "cursor=", "cursor"),
        ("/api/requests", "cursor=abc", "cursor"),
        ("/api/requests", "cursor=%2B", "cursor"),
        ("/api/requests", "cursor=req_ff01m7xt6136bt5vc71920hsxsgv", "cursor"),
        ("/api/credits/ledger", "colour=red", "colour"),
        ("/api/credits/ledger", "limit=0", "limit"),
        ("/api/credits/ledger", "limit=201", "limit"),
        ("/api/credits/ledger", "limit=ten", "limit"),
        ("/api/credits/ledger", "request_id=x", "request_id"),
        ("/api/credits/ledger", "cursor=", "cursor"),
        ("/api/credits/ledger", "cursor=abc", "cursor"),
        ("/api/credits/ledger", "cursor=%2B", "cursor"),
        ("/api/credits/ledger", "cursor=1-1-1", "cursor"),
        pytest.param(
            "/api/credits/ledger", "cursor=99999999999999999999-0", "cursor", id="a cursor past 64 bits"
        ),
        pytest.param("/api/credits/ledger", "cursor=1-1%0A", "cursor", id="a cursor with a line feed"),
        pytest.param("/api/credits/ledger", "cursor=%D9%A1-%D9%A1", "cursor", id="a cursor in Arabic digits"),
        (ONE, "colour=red", "colour"),
        (ONE, "wait=-1", "wait"),
        (ONE, "wait=61", "wait"),
        (ONE, "wait=soon", "wait"),
        (ONE, "wait=nan", "wait"),
        (ONE, "wait=inf", "wait"),
        (ONE, "data=maybe", "data"),
        ("/api/batches", "colour=red", "colour"),
        ("/api/batches", "limit=0", "limit"),
        ("/api/batches", "limit=201", "limit"),
        ("/api/batches", "cursor=", "cursor"),
        ("/api/batches", "cursor=req_0001m7xt6136bt5vc71920hs0001", "cursor"),
        ("/api/batches", "cursor=bat_ff01m7xt6136bt5vc71920hs0000", "cursor"),
        (SOME, "colour=red", "colour"),
        (SOME, "wait=-1", "wait"),
        (SOME, "wait=61", "wait"),
        (SOME, "wait=nan", "wait"),
        (f"{SOME}/results", "colour=red", "colour"),
        (f"{SOME}/results", "limit=0", "limit"),
        (f"{SOME}/results", "limit=201", "limit"),
        (f"{SOME}/results", "data=maybe", "data"),
        (f"{SOME}/results", "format=csv", "format"),
    ],
)
def test_a_query_parameter_that_is_unknown_or_out_of_range_is_named(
    unmoved: Front, path: str, query: str, field: str
) -> None:
    assert_error(unmoved.get(f"{path}?{query}"), 422, "validation_error", {field})


def test_a_cursor_of_another_account_is_refused(table: Front) -> None:
    mine, theirs = table.me.account.account_id, table.other.account.account_id
    foreign = table.accept(by=table.other)
    response = table.get(f"/api/requests?cursor={foreign}")

    if mine[4:6] == theirs[4:6]:  # the same shard: the cursor is a place in time, nothing of theirs shows
        assert all(line["requestId"] != foreign for line in response.json["requests"])
    else:
        assert_error(response, 422, "validation_error", {"cursor"})


# --- routes and methods ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/api", "/api/nothing", "/api/instagram", "/api/requests/a/b/c", "/nothing", "/auth", "/keys/a/b"],
)
def test_a_route_that_does_not_exist_is_404(unmoved: Front, path: str) -> None:
    assert_error(unmoved.get(path), 404, "not_found")
    assert_error(unmoved.call("POST", path, json={"username": "nasa"}), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", STORIES, {"POST"}),
        ("PUT", STORIES, {"POST"}),
        ("DELETE", STORIES, {"POST"}),
        ("GET", BATCH, {"POST"}),
        ("POST", "/api/batches", {"GET"}),
        ("DELETE", SOME, {"GET"}),
        ("POST", f"{SOME}/results", {"GET"}),
        ("GET", f"{SOME}/cancel", {"POST"}),
        ("POST", "/api/credits", {"GET"}),
        ("POST", "/api/requests", {"GET"}),
        ("PUT", ONE, {"GET", "DELETE"}),
        ("PUT", "/api/instagram/download", {"GET", "POST"}),
        ("GET", "/api/instagram/story", {"POST"}),
        ("GET", f"{ONE}/cancel", {"POST"}),
        ("GET", "/auth/login", {"POST"}),
        ("PATCH", "/keys", {"GET", "POST"}),
        ("GET", "/keys/abcdefghijkl", {"DELETE"}),
        ("POST", "/healthz", {"GET"}),
        ("POST", "/metrics", {"GET"}),
        ("POST", "/openapi.json", {"GET"}),
    ],
)
def test_a_wrong_method_is_405_and_tells_the_right_ones(
    unmoved: Front, method: str, path: str, allowed: set[str]
) -> None:
    response = unmoved.call(method, path, json={})

    assert_error(response, 405, "method_not_allowed")
    # RFC 9110, section 15.5.6: a 405 must carry Allow.
    told = {word.strip() for word in response.headers.get("Allow", "").split(",")}
    assert allowed <= told


def chunked(front: Front, body: bytes) -> TestResponse:
    """Send a body without Content-Length, the way the server hands a chunked one on."""
    environ = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    return front.call("POST", STORIES, content_type=JSON, environ_overrides=environ)


def test_a_chunked_body_over_the_limit_is_refused_and_not_cut(quick: Callable[..., Front]) -> None:
    front = quick()
    body = b'{"username": "nasa"}'
    assert_error(chunked(front, body + b" " * 65_536 + b"junk"), 413, "payload_too_large")
    assert_error(chunked(front, body.ljust(65_537)), 413, "payload_too_large")
    assert front.available() == CREDITS
    assert front.queue.published == []


def test_a_body_that_ends_before_its_length_is_refused(quick: Callable[..., Front]) -> None:
    front = quick()
    body = b'{"username": "nasa"}'
    environ = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "CONTENT_LENGTH": "500"}
    assert_error(
        front.call("POST", STORIES, content_type=JSON, environ_overrides=environ), 400, "malformed_json"
    )
    assert front.available() == CREDITS


def test_null_is_no_webhook(quick: Callable[..., Front]) -> None:
    front = quick()
    with front.working():
        assert front.stories(fields={"webhookUrl": None, "idempotencyKey": None}).status_code == 200


# --- numbers ---------------------------------------------------------------------------------------

DIGITS = "9" * 5_000  # more than int() reads
PAGED = [
    "/api/requests",
    "/api/batches",
    "/api/watches",
    "/api/credits/ledger",
    "/api/webhooks/deliveries",
]


@pytest.mark.parametrize("path", PAGED)
@pytest.mark.parametrize("field", ["limit", "cursor"])
@pytest.mark.parametrize("value", [DIGITS, f"-{DIGITS}", f"1.{DIGITS}", "1e999", "nan", "²"])
def test_a_number_in_the_query_that_is_none_is_422(unmoved: Front, path: str, field: str, value: str) -> None:
    response = unmoved.get(path, query_string={field: value})
    assert_error(response, 422, "validation_error", {field})


@pytest.mark.parametrize("since", [DIGITS, f"{DIGITS}-01-01T00:00:00Z", f"2026-01-01T00:00:00+{DIGITS}:00"])
def test_a_time_of_thousands_of_digits_is_422(unmoved: Front, since: str) -> None:
    response = unmoved.call("POST", "/api/webhooks/replay", json={"since": since})
    assert_error(response, 422, "validation_error", {"since"})
