"""POST /api/instagram/<operation>: what each operation takes, refuses, costs and answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from service.domain.accounts import Limit
from service.domain.credits import DEFAULT_PRICES, price_list
from service.domain.errors import fetch_error
from service.domain.operations import DOWNLOAD, HIGHLIGHT, HIGHLIGHTS, OPERATIONS, STORIES, STORY, USER
from tests.api.answers import ANSWERS, HIGHLIGHT_REEL, NASA, REEL, TRAY, EverySource
from tests.api.support import CREDITS, Front, assert_error

HOOK = "https://example.com/hook"
LATER = {"Prefer": "respond-async"}
PK = "3411111111111111111"
HIGHLIGHT_PK = "17983616051768088"
STORY_URL = f"https://www.instagram.com/stories/nasa/{PK}/"
HIGHLIGHT_URL = f"https://www.instagram.com/stories/highlights/{HIGHLIGHT_PK}/"
MEDIA = "https://scontent.cdninstagram.com/v/1_2_n.mp4?oh=00_ab&oe=6A"

# What may be asked for, by operation: a field, its value, and how it stands in the envelope.
ASKED: list[tuple[str, str, str, dict[str, str]]] = [
    (STORIES, "username", "@NASA", {"username": "nasa"}),
    (STORIES, "userId", " 528817151 ", {"userId": "528817151"}),
    (STORY, "storyId", PK, {"storyId": PK}),
    (STORY, "storyId", f"{PK}_528817151", {"storyId": PK}),
    (STORY, "url", f"{STORY_URL}?igsh=x", {"storyId": PK}),
    (HIGHLIGHTS, "username", "https://www.instagram.com/nasa/", {"username": "nasa"}),
    (HIGHLIGHTS, "userId", "528817151", {"userId": "528817151"}),
    (HIGHLIGHT, "highlightId", HIGHLIGHT_PK, {"highlightId": HIGHLIGHT_PK}),
    (HIGHLIGHT, "highlightId", f"highlight:{HIGHLIGHT_PK}", {"highlightId": HIGHLIGHT_PK}),
    (HIGHLIGHT, "url", HIGHLIGHT_URL, {"highlightId": HIGHLIGHT_PK}),
    (USER, "username", "nasa", {"username": "nasa"}),
    (USER, "userId", "528817151", {"userId": "528817151"}),
    (DOWNLOAD, "storyId", PK, {"storyId": PK}),
    (DOWNLOAD, "url", STORY_URL, {"storyId": PK}),
    (DOWNLOAD, "url", MEDIA, {"mediaUrl": MEDIA}),
]
FIELDS = {
    STORIES: ["username", "userId"],
    STORY: ["storyId", "url"],
    HIGHLIGHTS: ["username", "userId"],
    HIGHLIGHT: ["highlightId", "url"],
    USER: ["username", "userId"],
    DOWNLOAD: ["storyId", "url"],
}
VALID = {operation: {field: value} for operation, field, value, _ in reversed(ASKED)}
COUNTED = {STORIES: "items", HIGHLIGHTS: "tray", HIGHLIGHT: "items"}
SHAPED = [STORIES, STORY, HIGHLIGHTS, HIGHLIGHT]
ARCHIVED = [STORIES, STORY, HIGHLIGHT]

every_operation = pytest.mark.parametrize("operation", OPERATIONS)


@pytest.fixture
def unmoved(table: Front) -> Iterator[Front]:
    """A front end on which a call is to leave nothing stored, queued or charged."""
    before, published = table.stored(), list(table.queue.published)
    yield table
    assert table.stored() == before
    assert table.queue.published == published


def post(front: Front, operation: str, body: dict[str, Any], **options: Any) -> TestResponse:
    return front.call("POST", f"/api/instagram/{operation}", json=body, **options)


def answered(front: Front, operation: str, **more: Any) -> dict[str, Any]:
    """Ask for what there is, and return the envelope."""
    with front.working(source=EverySource()):
        response = post(front, operation, {**VALID[operation], "maxAge": 0, **more})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json
    return body


# --- what is asked for -----------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "field", "value", "shown"), ASKED)
def test_the_target_stands_in_every_envelope_of_the_request(
    quick: Callable[..., Front], operation: str, field: str, value: str, shown: dict[str, str]
) -> None:
    front = quick()
    accepted = post(front, operation, {field: value}, headers=LATER)
    assert accepted.status_code == 202, accepted.text
    request_id = accepted.json["requestId"]
    wanted = {"operation": operation, **shown}
    polled = front.get(f"/api/requests/{request_id}").json
    [listed] = front.get("/api/requests").json["requests"]
    about = {"operation", "username", "userId", "storyId", "highlightId", "mediaUrl"}
    for envelope in (accepted.json, polled, listed):
        assert {name: envelope[name] for name in about & set(envelope)} == wanted
    cancelled = front.call("POST", f"/api/requests/{request_id}/cancel").json
    assert {name: cancelled[name] for name in about & set(cancelled)} == wanted


@pytest.mark.parametrize("operation", ANSWERS)
def test_a_sync_call_brings_what_the_upstream_has(front: Front, operation: str) -> None:
    envelope = answered(front, operation)
    data = envelope["data"]
    assert (envelope["status"], envelope["outcome"], envelope["source"]) == ("succeeded", "found", "fake")
    assert envelope["creditsCharged"] == 1
    assert front.available() == CREDITS - 1
    counted = COUNTED.get(operation, "items" if operation == STORY else "")
    assert envelope["itemCount"] == (len(data[counted]) if counted else 1)
    assert data["user"]["pk"] == str(NASA.id)
    assert all(isinstance(item["id"], str) for item in data.get(counted, []))


def test_who_is_named_by_id_is_asked_for_by_it(front: Front) -> None:
    source = EverySource()
    with front.working(source=source):
        response = post(front, STORIES, {"userId": str(NASA.id)})
    assert response.status_code == 200
    assert response.json["userId"] == str(NASA.id)
    assert "username" not in response.json
    assert [item["pk"] for item in response.json["data"]["items"]] == [
        str(item["pk"]) for item in REEL["items"]
    ]
    assert [(ask.target.kind, ask.target.value) for ask in source.asked] == [("user_id", str(NASA.id))]


@every_operation
def test_with_a_webhook_nobody_waits(quick: Callable[..., Front], operation: str) -> None:
    front = quick()
    response = post(front, operation, {**VALID[operation], "webhookUrl": HOOK})
    assert response.status_code == 202
    assert response.headers["Location"] == f"/api/requests/{response.json['requestId']}"
    record = front.services.requests.get(response.json["requestId"])
    assert (record.webhook_url, record.queue, record.operation) == (HOOK, "bulk", operation)


# --- what is refused -------------------------------------------------------------------------------


@every_operation
@pytest.mark.parametrize("more", [{}, {"webhookUrl": HOOK}, {"maxAge": 5}])
def test_without_a_target_the_fields_are_told(unmoved: Front, operation: str, more: dict[str, Any]) -> None:
    first, second = FIELDS[operation]
    body = assert_error(post(unmoved, operation, more), 422, "validation_error", {first})
    assert body["details"][first] == [f"Give {first} or {second}."]


@every_operation
def test_two_targets_are_one_too_many(unmoved: Front, operation: str) -> None:
    fields = FIELDS[operation]
    body = {
        "username": "nasa",
        "userId": "5",
        "storyId": PK,
        "highlightId": HIGHLIGHT_PK,
        "url": HIGHLIGHT_URL if operation == HIGHLIGHT else STORY_URL,
    }
    told = assert_error(
        post(unmoved, operation, {name: body[name] for name in fields}), 422, "validation_error", set(fields)
    )
    assert all("one of them only" in sentences[0] for sentences in told["details"].values())


@every_operation
@pytest.mark.parametrize("field", ["username", "userId", "storyId", "highlightId", "url", "mediaUrl"])
def test_a_target_of_another_operation_is_an_unknown_field(
    unmoved: Front, operation: str, field: str
) -> None:
    if field in FIELDS[operation]:
        field = "user_id"
    body = {**VALID[operation], field: "5"}
    assert_error(post(unmoved, operation, body), 422, "validation_error", {field})


BAD_NUMBERS = [
    "", " ", "nasa", "0", "-5", "+5", "5.0", "5e3", "0x5", "five", "5 5", "5\n5", "5\x00", "\u0665", "²",
    "9" * 20, "9" * 65, "5_", "_5", "5_x", "highlight:", "highlight:x", "*", "5;6", "../5", "{s00}",
]  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "field"),
    [(STORIES, "userId"), (HIGHLIGHTS, "userId"), (USER, "userId"), (STORY, "storyId"),
     (DOWNLOAD, "storyId"), (HIGHLIGHT, "highlightId")],
)  # fmt: skip
def test_a_bad_id_is_refused_and_told_how_it_looks(unmoved: Front, operation: str, field: str) -> None:
    for value in BAD_NUMBERS:
        body = assert_error(post(unmoved, operation, {field: value}), 422, "validation_error", {field})
        sentence = body["details"][field][0]
        assert "Give the numeric id" in sentence or "Length" in sentence or "Shorter" in sentence, value


def test_an_id_as_a_number_that_javascript_rounds_is_refused(unmoved: Front) -> None:
    body = assert_error(post(unmoved, STORY, {"storyId": int(PK)}), 422, "validation_error", {"storyId"})
    assert "in quotes" in body["details"]["storyId"][0]


LOOK_ALIKES = [
    "https://instagram.com.evil.example", "https://evilinstagram.com", "https://instagram.co",
    "https://help.instagram.com", "https://instagram.com@evil.example", "https://evil@instagram.com",
    "https://user:pw@www.instagram.com", "https://evil.example#instagram.com", "https://127.0.0.1",
    "https://evil.example\\@instagram.com", "https://ınstagram.com", "https://instagram。com",
    "https://instagram.com:22", "https://[instagram.com", "https://[::1]", "ftp://instagram.com", "file://",
    "javascript://instagram.com", "https://insta\tgram.com", "https://insta gram.com", "http://localhost",
]  # fmt: skip
NO_STORY = [
    "https://www.instagram.com/stories/nasa/", "https://www.instagram.com/stories/nasa",
    "https://www.instagram.com/nasa/", "https://www.instagram.com/", "https://www.instagram.com/p/Cabc/",
    "https://www.instagram.com/stories/nasa/abc/", "https://www.instagram.com/stories/nasa/0/",
    "https://www.instagram.com/stories/", HIGHLIGHT_URL,
    "https://www.instagram.com/s/aGlnaGxpZ2h0OjE3ODkzMjA5ODI1MjgxMjIx", "https://www.instagram.com/s/x",
    f"{STORY_URL}?{'a' * 2_000}",
]  # fmt: skip
NO_HIGHLIGHT = [
    STORY_URL, "https://www.instagram.com/stories/highlights/", "https://www.instagram.com/nasa/",
    "https://www.instagram.com/stories/highlights/abc/", "https://www.instagram.com/s/x",
    f"{HIGHLIGHT_URL}?{'a' * 2_000}",
]  # fmt: skip
NO_FILE = [
    "https://evil.example/a.mp4", "http://scontent.cdninstagram.com/a.mp4", "https://127.0.0.1/a.mp4",
    "https://[::1]/a.mp4", "https://169.254.169.254/latest/meta-data", "https://localhost/a.mp4",
    "https://cdninstagram.com.evil.example/a.mp4", "https://evilcdninstagram.com/a.mp4",
    "https://cdninstagram.com@evil.example/a.mp4", "https://a:b@cdninstagram.com/a.mp4",
    "https://evil.example#.cdninstagram.com/a.mp4", "https://evil.example\\.cdninstagram.com/a.mp4",
    "https://cdninstagram.com:8443/a.mp4", "https://scontent.cdninstagram.com./a.mp4",
    "https://scontent.cdninstagram.com/", "https://cdninstagram。com/a.mp4", "file:///etc/passwd",
    "data:video/mp4,x", "//scontent.cdninstagram.com/a.mp4", "scontent.cdninstagram.com/a.mp4",
    "https://scontent.cdninstagram.com/a.mp4\r\nHost: evil.example", "https://fbcdn.net/a".ljust(4_097, "a"),
]  # fmt: skip
BAD_URLS = [
    *((STORY, "/v1/story/by/url", url) for url in NO_STORY),
    *((STORY, "/v2/story/by/url", f"{origin}/stories/nasa/{PK}/") for origin in LOOK_ALIKES),
    *((HIGHLIGHT, "/v1/highlight/by/url", url) for url in NO_HIGHLIGHT),
    *(
        (HIGHLIGHT, "/v1/highlight/by/url", f"{origin}/stories/highlights/{HIGHLIGHT_PK}/")
        for origin in LOOK_ALIKES
    ),
    *((DOWNLOAD, "/v1/story/download/by/url", url) for url in NO_FILE),
    *((DOWNLOAD, "/v1/story/download/by/story/url", url) for url in NO_STORY),
    *((DOWNLOAD, "/v1/story/download/by/story/url", f"{each}/stories/nasa/{PK}/") for each in LOOK_ALIKES),
]


@pytest.mark.parametrize(("operation", "route", "url"), BAD_URLS)
def test_a_bad_url_is_refused_by_both_apis_in_their_forms(
    unmoved: Front, operation: str, route: str, url: str
) -> None:
    body = assert_error(post(unmoved, operation, {"url": url}), 422, "validation_error", {"url"})
    [sentence] = body["details"]["url"]
    assert len(sentence) < 300

    theirs = unmoved.get(route, query_string={"url": url})
    assert theirs.status_code == 422, theirs.text
    [complaint] = theirs.json["detail"]
    assert (complaint["loc"], complaint["type"]) == (["query", "url"], "value_error")
    assert theirs.headers["x-hiker-info"] == "reqs=0"

    if operation == DOWNLOAD:
        response = unmoved.get("/api/instagram/download", query_string={"url": url})
        assert_error(response, 422, "validation_error", {"url"})


@pytest.mark.parametrize(
    ("path", "name"),
    [("/v1/user/stories", "user_id"), ("/v2/user/highlights", "user_id"), ("/v1/story/by/id", "id"),
     ("/v1/story/download", "id"), ("/v2/highlight/by/id", "id"), ("/v2/user/by/id", "id")],
)  # fmt: skip
def test_a_bad_id_is_refused_in_hikerapis_form(unmoved: Front, path: str, name: str) -> None:
    for value in BAD_NUMBERS:
        response = unmoved.get(path, query_string={name: value})
        assert response.status_code == 422, value
        [complaint] = response.json["detail"]
        assert complaint["loc"] == ["query", name]


def test_a_story_url_without_its_story_is_told_what_to_ask_instead(unmoved: Front) -> None:
    body = post(unmoved, STORY, {"url": "https://www.instagram.com/stories/nasa/"}).json
    assert "username" in body["details"]["url"][0]
    body = post(unmoved, STORY, {"url": HIGHLIGHT_URL}).json
    assert "highlight" in body["details"]["url"][0]


@pytest.mark.parametrize(
    ("operations", "field", "values"),
    [
        (list(OPERATIONS), "webhookUrl", [5, "", "hook", "ftp://example.com/", "http://user@example.com/"]),
        (list(OPERATIONS), "maxAge", [-1, 3_601, "60", 1.5, None, True]),
        (list(OPERATIONS), "idempotencyKey", [5, "", "x" * 256, "clé"]),
        (list(OPERATIONS), "callback", [HOOK]),
        (list(OPERATIONS), "force", [True]),
        ([STORIES, HIGHLIGHTS, HIGHLIGHT], "amount", [-1, 201, "5", 1.5, None, "all"]),
        ([STORY, USER, DOWNLOAD], "amount", [1]),
        (SHAPED, "shape", ["", "v1", "RAW", 1, None, ["raw"]]),
        ([USER, DOWNLOAD], "shape", ["raw"]),
        (ARCHIVED, "archive", ["true", "yes", None, [], "on"]),
        ([HIGHLIGHTS, USER, DOWNLOAD], "archive", [True]),
    ],
)
def test_an_option_that_makes_no_sense_is_named(
    unmoved: Front, operations: list[str], field: str, values: list[Any]
) -> None:
    for operation in operations:
        for value in values:
            response = post(unmoved, operation, {**VALID[operation], field: value})
            assert_error(response, 422, "validation_error", {field})


@every_operation
def test_an_inner_webhook_address_is_forbidden(unmoved: Front, operation: str) -> None:
    body = {**VALID[operation], "webhookUrl": "http://169.254.169.254/hook"}
    assert_error(post(unmoved, operation, body), 422, "webhook_forbidden")


# --- amount, shape ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "counted"), COUNTED.items())
def test_amount_is_the_most_that_comes(quick: Callable[..., Front], operation: str, counted: str) -> None:
    front = quick()
    there = len(ANSWERS[operation].data[counted])
    for amount, wanted in ((0, there), (1, 1), (200, there)):
        envelope = answered(front, operation, amount=amount)
        assert (len(envelope["data"][counted]), envelope["itemCount"]) == (wanted, wanted)


def test_the_shape_story_is_hikerapis_v1(quick: Callable[..., Front]) -> None:
    front = quick()
    for operation in (STORIES, STORY):
        data = answered(front, operation, shape="story")["data"]
        assert set(data) == {"id", "user", "items"}
        assert all(item["taken_at"].endswith("Z") and "stickers" in item for item in data["items"])
    [entry, *_] = answered(front, HIGHLIGHTS, shape="story")["data"]["tray"]
    assert (entry["id"], entry["items"]) == (TRAY[0]["id"], [])
    highlight = answered(front, HIGHLIGHT, shape="story")["data"]
    assert highlight["title"] == HIGHLIGHT_REEL["title"]
    assert len(highlight["items"]) == len(HIGHLIGHT_REEL["items"])


def test_a_shared_result_comes_in_the_shape_and_amount_of_who_asks(quick: Callable[..., Front]) -> None:
    front = quick()
    source = EverySource()
    with front.working(source=source):
        first = post(front, STORIES, {"userId": str(NASA.id)}).json
        again = post(front, STORIES, {"userId": str(NASA.id), "shape": "story", "amount": 1}).json
    assert (first["cached"], again["cached"]) == (False, True)
    assert (again["itemCount"], set(again["data"])) == (1, {"id", "user", "items"})
    assert len(source.asked) == 1


# --- idempotency -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "change"),
    [
        (STORIES, {"shape": "story"}),
        (STORIES, {"amount": 3}),
        (STORIES, {"maxAge": 5}),
        (STORIES, {"webhookUrl": "https://example.com/another"}),
        (HIGHLIGHT, {"shape": "story"}),
        (HIGHLIGHT, {"amount": 3}),
    ],
)
def test_another_option_under_the_same_key_is_a_reuse(
    front: Front, operation: str, change: dict[str, Any]
) -> None:
    body = {**VALID[operation], "webhookUrl": HOOK}
    headers = {"Idempotency-Key": "once"}
    first = post(front, operation, body, headers=headers)
    again = post(front, operation, body, headers=headers)
    assert again.json == first.json
    assert again.headers["Idempotency-Replayed"] == "true"
    assert_error(post(front, operation, {**body, **change}, headers=headers), 422, "idempotency_key_reuse")
    assert front.available() == CREDITS - 1
    assert len(front.queue.published) == 1


def test_another_operation_under_the_same_key_is_a_reuse(front: Front) -> None:
    headers = {"Idempotency-Key": "once", **LATER}
    assert post(front, STORIES, {"username": "nasa"}, headers=headers).status_code == 202
    for operation in (HIGHLIGHTS, USER):
        refused = post(front, operation, {"username": "nasa"}, headers=headers)
        assert_error(refused, 422, "idempotency_key_reuse")
    refused = post(front, STORIES, {"userId": "5"}, headers=headers)
    assert_error(refused, 422, "idempotency_key_reuse")


def test_the_same_story_named_otherwise_is_the_same_request(front: Front) -> None:
    headers = {"Idempotency-Key": "once", **LATER}
    bodies = [{"storyId": PK}, {"storyId": f"{PK}_5"}, {"url": STORY_URL}]
    answers = [post(front, STORY, body, headers=headers) for body in bodies]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json["requestId"] for answer in answers}) == 1


# --- what it costs ---------------------------------------------------------------------------------


def test_every_operation_and_tariff_has_its_prices_shown(table: Front) -> None:
    prices = table.get("/api/prices").json["prices"]
    assert prices == {name: dict(each) for name, each in DEFAULT_PRICES.items()}
    assert set(OPERATIONS) <= set(prices)
    assert prices["hiker_stories_by_username"]["found"] == 3
    assert prices["hiker_download_by_media_url"]["range_not_satisfiable"] == 0


@every_operation
def test_the_highest_price_is_held_and_what_it_came_to_charged(
    quick: Callable[..., Front], operation: str
) -> None:
    front = quick(prices=price_list({operation: {"found": 2, "upstream_error": 3}}))
    response = post(front, operation, VALID[operation], headers=LATER)
    balance = front.services.credits.balance(front.me.account.account_id)
    assert (balance.held, balance.available) == (3, CREDITS - 3)
    front.call("POST", f"/api/requests/{response.json['requestId']}/cancel")
    assert front.available() == CREDITS


@every_operation
def test_who_cannot_pay_is_told_the_price_and_nothing_is_queued(
    quick: Callable[..., Front], operation: str
) -> None:
    front = quick(prices=price_list({operation: {"found": CREDITS + 1}}))
    before = front.stored()
    body = assert_error(post(front, operation, VALID[operation]), 402, "insufficient_credits")
    assert str(CREDITS + 1) in body["error"]
    assert front.stored() == before
    assert front.queue.published == []


@pytest.mark.parametrize(
    ("operation", "code", "status"),
    [
        (STORY, "story_not_found", 404),
        (HIGHLIGHT, "highlight_not_found", 404),
        (HIGHLIGHTS, "account_private", 403),
        (USER, "user_not_found", 404),
    ],
)
def test_what_is_not_there_costs_nothing(front: Front, operation: str, code: str, status: int) -> None:
    with front.working(source=EverySource(**{operation: fetch_error(code, "It is not there.", None)})):
        response = post(front, operation, VALID[operation])
    assert response.status_code == status
    assert (response.json["code"], response.json["creditsCharged"]) == (code, 0)
    assert front.available() == CREDITS


@every_operation
def test_each_call_counts_against_the_limits(quick: Callable[..., Front], operation: str) -> None:
    front = quick(rate_limits=(Limit(1, 60),))
    assert post(front, operation, VALID[operation], headers=LATER).status_code == 202
    assert_error(post(front, operation, VALID[operation], headers=LATER), 429, "rate_limited")


# --- other methods ---------------------------------------------------------------------------------


@every_operation
def test_options_tells_how_to_call(table: Front, operation: str) -> None:
    response = table.call("OPTIONS", f"/api/instagram/{operation}")
    assert response.status_code == 200
    assert "POST" in response.headers["Allow"]
    assert response.data == b""
