"""/api/instagram/stories/batch and /api/batches: many names in one call, their results, their end."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from service.domain import errors, ids
from service.domain.accounts import Limit
from service.domain.credits import Balance
from service.domain.namelists import NAMES_MOST
from service.stores import keys
from tests.api.support import (
    BATCH,
    CREDITS,
    EMPTY,
    JSON,
    STORIES,
    Caller,
    Front,
    Timer,
    assert_error,
    failing,
    make_caller,
)
from tests.conftest import await_true

HOOK = "https://example.com/hook"
NDJSON = "application/x-ndjson"
TYPES = ["text/plain", "text/csv", NDJSON]
MAX_BATCH_BODY = 2 * 1024 * 1024


def post(front: Front, body: Any, *, kind: str = JSON, query: str = "", **options: Any) -> TestResponse:
    """Hand a batch in: a dict as JSON, anything else as it is."""
    if isinstance(body, list):
        body = {"usernames": body}
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    path = f"{BATCH}?{query}" if query else BATCH
    return front.call("POST", path, data=data, content_type=kind, **options)


def accept(front: Front, *names: str, **fields: Any) -> str:
    """Hand a batch in that is accepted; return its id."""
    by = fields.pop("by", None)
    response = post(front, {"usernames": list(names), "maxAge": 0, **fields}, by=by)
    assert response.status_code == 202, response.text
    return str(response.json["batchId"])


def look(front: Front, batch_id: str, query: str = "", **options: Any) -> TestResponse:
    return front.get(f"/api/batches/{batch_id}{query}", **options)


def cancel(front: Front, batch_id: str, by: Caller | None = None) -> TestResponse:
    return front.call("POST", f"/api/batches/{batch_id}/cancel", by=by)


def results(front: Front, batch_id: str, query: str = "", **options: Any) -> TestResponse:
    return front.get(f"/api/batches/{batch_id}/results{query}", **options)


def balance(front: Front) -> Balance:
    return front.services.credits.balance(front.me.account.account_id)


@pytest.fixture
def unmoved(table: Front) -> Iterator[Front]:
    """A front end on which a call is to leave nothing stored, queued or charged."""
    before, published = table.stored(), list(table.queue.published)
    yield table
    assert table.stored() == before
    assert table.queue.published == published


# --- accepted ------------------------------------------------------------------------------------


def test_a_batch_is_accepted_and_told_what_became_of_each_line(front: Front) -> None:
    response = post(
        front,
        ["nasa", "@BBC", "bad name", "NASA", 5, "https://instagram.com/cnn/"],
        headers={"x-tool": "cron"},
    )
    assert response.status_code == 202
    body = response.json
    batch_id = body["batchId"]
    assert ids.shard_of(batch_id, ids.BATCH) is not None
    assert response.headers["Location"] == f"/api/batches/{batch_id}"
    assert int(response.headers["Retry-After"]) > 0
    assert "Idempotency-Replayed" not in response.headers
    sentences = [each.pop("error") for each in body["invalid"]]
    assert all(sentence.endswith(".") for sentence in sentences)
    assert body.pop("createdAt").endswith("Z")
    assert body == {
        "success": True,
        "batchId": batch_id,
        "status": "processing",
        "accepted": 3,
        "creditsHeld": 3,
        "duplicates": [{"line": 4, "username": "nasa"}],
        "invalid": [{"line": 3, "value": "bad name"}, {"line": 5, "value": "5"}],
        "unpaid": [],
        "results": f"/api/batches/{batch_id}/results",
    }
    assert balance(front) == Balance(CREDITS, 3)
    assert front.queue.published == [("gather", "bulk")]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", b"# ours\nnasa\n\nbad name\nbbc\nNASA\n"),
        ("text/plain; charset=utf-8", "\ufeffnasa\r\n#\r\n\r\nbad name\r\nbbc\r\nNASA\r\n".encode()),
        ("text/csv", b"externalId;username\n1;nasa\n;\n3;bad name\n4;bbc\n5;NASA\n"),
        ("TEXT/CSV", b"nasa\n\n\nbad name\nbbc\nnasa\n"),
        (NDJSON, b'\n{"username": "nasa"}\n\n"bad name"\n"bbc"\n{"username": "nasa", "externalId": 5}\n'),
    ],
    ids=["text", "windows text", "csv", "csv without a header", "ndjson"],
)
def test_every_form_of_a_list_is_read_and_told_by_its_lines(front: Front, kind: str, body: bytes) -> None:
    response = post(
        front, body, kind=kind, query="webhookUrl=https://example.com/hook&webhookMode=both&maxAge=5"
    )
    assert response.status_code == 202, response.text
    assert response.json["accepted"] == 2
    [invalid], [duplicate] = response.json["invalid"], response.json["duplicates"]
    assert (invalid["line"], invalid["value"]) == (4, "bad name")
    assert (duplicate["line"], duplicate["username"]) == (6, "nasa")
    seen = look(front, response.json["batchId"]).json
    assert (seen["webhookUrl"], seen["webhookMode"], seen["maxAge"]) == (HOOK, "both", 5)


def test_the_callers_own_ids_come_back_with_every_item_and_duplicate(front: Front) -> None:
    body = b'{"username": "nasa", "externalId": "gr\xc3\xb6\xc3\x9fe 1"}\n{"username": "bbc"}\n'
    body += b'{"username": "NASA", "externalId": 7}\n'
    response = post(front, body, kind=NDJSON)
    assert response.json["duplicates"] == [{"line": 3, "username": "nasa", "externalId": "7"}]
    found = results(front, response.json["batchId"]).json["results"]
    assert [each.get("externalId") for each in found] == ["größe 1", None]
    assert {each["batchId"] for each in found} == {response.json["batchId"]}
    one = front.get(f"/api/requests/{found[0]['requestId']}").json
    assert (one["externalId"], one["batchId"]) == ("größe 1", response.json["batchId"])
    listed = front.get("/api/requests").json["requests"]
    assert [line.get("externalId") for line in listed] == [None, "größe 1"]


def test_ten_thousand_names_of_every_form_are_accepted(make: Callable[..., Front]) -> None:
    front = make(rate_limits=())
    front.services.credits.add(front.me.account.account_id, NAMES_MOST, entry_type="topup", note="")
    names = [f"user{number:05}.{'x' * 20}" for number in range(NAMES_MOST)]
    response = post(front, names)
    assert response.status_code == 202, response.text
    assert (response.json["accepted"], response.json["creditsHeld"]) == (NAMES_MOST, NAMES_MOST)
    assert_error(post(front, "\n".join(names).encode(), kind="text/plain"), 402, "insufficient_credits")


def test_a_batch_counts_as_one_call(make: Callable[..., Front]) -> None:
    front = make(rate_limits=(Limit(2, 60),))
    accept(front, *[f"name{number}" for number in range(50)])
    assert front.stories(prefer="respond-async").status_code == 202
    before, published = front.stored(), list(front.queue.published)
    assert_error(post(front, ["nasa"]), 429, "rate_limited")
    assert front.stored() == before
    assert front.queue.published == published


def test_what_is_half_an_emoji_is_told_and_not_stumbled_over(front: Front) -> None:
    response = post(front, b'"nasa"\n"\\ud83d"\n{"username": "bbc", "externalId": "\\ud83d"}\n', kind=NDJSON)
    assert response.status_code == 202
    assert [each["line"] for each in response.json["invalid"]] == [2, 3]


@pytest.mark.parametrize("value", [None, 7, 1.5, True, [], {"a": None}, [[["x"]]]])
def test_an_item_of_another_type_is_an_invalid_line(quick: Callable[..., Front], value: Any) -> None:
    response = post(quick(), ["nasa", value])
    assert response.status_code == 202, response.text
    [invalid] = response.json["invalid"]
    assert (invalid["line"], json.loads(invalid["value"])) == (2, value)


def test_an_item_nested_as_deep_as_may_be_is_an_invalid_line(quick: Callable[..., Front]) -> None:
    body = b'{"usernames": ["nasa", ' + b"[" * 1_000 + b"]" * 1_000 + b"]}"
    response = post(quick(), body)
    assert response.status_code == 202, response.text
    assert [each["line"] for each in response.json["invalid"]] == [2]


# --- refused, and nothing held -------------------------------------------------------------------


@pytest.mark.parametrize("kind", [JSON, *TYPES])
def test_an_empty_list_is_422(unmoved: Front, kind: str) -> None:
    for body in [{"usernames": []}] if kind == JSON else [b"", b"\n\r\n\n"]:
        told = assert_error(post(unmoved, body, kind=kind), 422, "validation_error", {"usernames"})
        assert told["details"]["usernames"] == ["Give at least one username."]


@pytest.mark.parametrize("kind", [JSON, *TYPES])
def test_more_than_ten_thousand_are_422(unmoved: Front, kind: str) -> None:
    names = ["nasa"] * (NAMES_MOST + 1)
    text = "\n".join(map(json.dumps, names) if kind == NDJSON else names).encode()
    body = {"usernames": names} if kind == JSON else text
    told = assert_error(post(unmoved, body, kind=kind), 422, "validation_error", {"usernames"})
    assert "10,000" in told["details"]["usernames"][0]


@pytest.mark.parametrize("kind", [JSON, *TYPES])
def test_a_list_without_any_name_is_422_and_tells_why(unmoved: Front, kind: str) -> None:
    text = b'"na sa"\n"b b c"\n' if kind == NDJSON else b"na sa\nb b c\n"
    body = {"usernames": ["na sa", "b b c"]} if kind == JSON else text
    told = assert_error(post(unmoved, body, kind=kind), 422, "validation_error", {"usernames"})
    assert "Line 1" in told["details"]["usernames"][0]


def test_strict_refuses_all_and_names_every_line(unmoved: Front) -> None:
    fields = {"line 2", "line 4"}
    names = ["nasa", "bad name", "bbc", None, "nasa"]
    assert_error(post(unmoved, {"usernames": names, "strict": True}), 422, "validation_error", fields)
    body = b"nasa\nbad name\n\n!\n"
    assert_error(post(unmoved, body, kind="text/plain", query="strict=true"), 422, "validation_error", fields)
    many = ["nasa", *["bad name"] * 500]
    told = assert_error(
        post(unmoved, {"usernames": many, "strict": True}),
        422,
        "validation_error",
        {*(f"line {number}" for number in range(2, 102)), "usernames"},
    )
    assert told["details"]["usernames"] == ["There are 400 more invalid lines."]


def test_strict_has_nothing_against_duplicates(table: Front) -> None:
    response = post(table, {"usernames": ["nasa", "NASA"], "strict": True})
    assert (response.status_code, len(response.json["duplicates"])) == (202, 1)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-16-be"])
def test_another_encoding_is_422_and_told(unmoved: Front, kind: str, encoding: str) -> None:
    body = "nasa\ngröße\n".encode(encoding)
    told = assert_error(post(unmoved, body, kind=kind), 422, "validation_error", {"usernames"})
    assert "UTF-8" in told["details"]["usernames"][0]


@pytest.mark.parametrize(
    "body", [b"name,id\nnasa,1\n", b'username,id\nnasa,1\n"bbc,2\n'], ids=["no column", "an open quote"]
)
def test_a_csv_that_cannot_be_read_is_422(unmoved: Front, body: bytes) -> None:
    assert_error(post(unmoved, body, kind="text/csv"), 422, "validation_error", {"usernames"})


WRONG: list[tuple[str, Any]] = [
    ("webhookUrl", 5), ("webhookUrl", ""), ("webhookUrl", "ftp://example.com/"), ("webhookUrl", []),
    ("webhookMode", "all"), ("webhookMode", None), ("webhookMode", ""), ("webhookMode", ["each"]),
    ("maxAge", -1), ("maxAge", 3_601), ("maxAge", "60"), ("maxAge", 1.5), ("maxAge", None), ("maxAge", True),
    ("onInsufficientCredits", "maybe"), ("onInsufficientCredits", True), ("onInsufficientCredits", None),
    ("strict", "maybe"), ("strict", None), ("strict", []), ("strict", 2),
    ("idempotencyKey", ""), ("idempotencyKey", "x" * 256), ("idempotencyKey", 5), ("idempotencyKey", "clé"),
    ("callbackUrl", "x"), ("webhook_url", HOOK), ("username", "nasa"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_an_option_that_is_unknown_or_of_the_wrong_type_is_named(
    unmoved: Front, field: str, value: Any
) -> None:
    body = {"usernames": ["nasa"], field: value}
    assert_error(post(unmoved, body), 422, "validation_error", {field})


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("webhookUrl=", "webhookUrl"), ("webhookUrl=nowhere", "webhookUrl"), ("webhookMode=x", "webhookMode"),
        ("maxAge=-1", "maxAge"), ("maxAge=3601", "maxAge"), ("maxAge=1.5", "maxAge"), ("maxAge=", "maxAge"),
        ("onInsufficientCredits=x", "onInsufficientCredits"), ("strict=x", "strict"), ("strict=", "strict"),
        ("idempotencyKey=", "idempotencyKey"), ("usernames=nasa", "usernames"), ("colour=red", "colour"),
    ],
)  # fmt: skip
def test_an_option_in_the_query_is_checked_as_well(unmoved: Front, kind: str, query: str, field: str) -> None:
    body = b"nasa" if kind == "text/plain" else b'"nasa"'
    assert_error(post(unmoved, body, kind=kind, query=query), 422, "validation_error", {field})


def test_an_option_in_the_query_beside_json_is_not_ignored(unmoved: Front) -> None:
    query = "webhookUrl=https://example.com/hook&strict=true"
    assert_error(post(unmoved, ["nasa"], query=query), 422, "validation_error", {"webhookUrl", "strict"})


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[::1]", "app.localhost"])
@pytest.mark.parametrize("mode", ["each", "summary", "both"])
def test_a_webhook_to_an_inner_address_is_forbidden(unmoved: Front, host: str, mode: str) -> None:
    body = {"usernames": ["nasa"], "webhookUrl": f"http://{host}/hook", "webhookMode": mode}
    assert_error(post(unmoved, body), 422, "webhook_forbidden")
    query = f"webhookUrl=http://{host}/hook&webhookMode={mode}"
    assert_error(post(unmoved, b"nasa", kind="text/plain", query=query), 422, "webhook_forbidden")


@pytest.mark.parametrize(
    "kind", ["", None, "text/html", "application/xml", "multipart/form-data", "text/json"]
)
def test_another_content_type_is_415_and_the_right_ones_named(unmoved: Front, kind: Any) -> None:
    told = assert_error(post(unmoved, b"nasa\n", kind=kind), 415, "unsupported_media_type")
    assert all(each in told["error"] for each in (JSON, *TYPES))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'["nasa"]', b'"nasa"', b"nasa", b'{"usernames": [NaN]}'])
def test_malformed_json_is_400(unmoved: Front, body: bytes) -> None:
    assert_error(post(unmoved, body), 400, "malformed_json")


@pytest.mark.parametrize("clamp", [False, True], ids=["reject", "clamp"])
def test_who_has_nothing_left_gets_402_and_holds_nothing(front: Front, clamp: bool) -> None:
    poor = make_caller(front.services, "poor@example.com", credits=0)
    before = front.stored()
    body = {
        "usernames": ["nasa"],
        "onInsufficientCredits": "clamp" if clamp else "reject",
        "idempotencyKey": "k",
    }
    told = assert_error(post(front, body, by=poor), 402, "insufficient_credits")
    assert "0 are available" in told["error"]
    assert front.stored() == before
    assert front.queue.published == []


def test_clamp_accepts_what_is_paid_and_lists_the_rest(front: Front) -> None:
    names = [f"name{number}" for number in range(CREDITS + 3)]
    before = front.stored()
    refused = assert_error(post(front, names), 402, "insufficient_credits")
    assert f"{CREDITS} are available" in refused["error"]
    assert front.stored() == before

    response = post(front, {"usernames": names, "onInsufficientCredits": "clamp"})
    assert response.status_code == 202
    assert (response.json["accepted"], response.json["creditsHeld"]) == (CREDITS, CREDITS)
    assert response.json["unpaid"] == names[CREDITS:]
    assert balance(front) == Balance(CREDITS, CREDITS)


# --- large bodies --------------------------------------------------------------------------------


def chunked(front: Front, path: str, kind: str, body: bytes) -> TestResponse:
    """Send a body without Content-Length, the way the server hands a chunked one on."""
    environ = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    headers = {"Transfer-Encoding": "chunked"}
    return front.call("POST", path, content_type=kind, headers=headers, environ_overrides=environ)


@pytest.mark.parametrize("kind", [JSON, *TYPES])
def test_a_body_over_the_limit_is_413_however_it_is_sent(unmoved: Front, kind: str) -> None:
    names = b'{"usernames": ["nasa"]}' if kind == JSON else b'"nasa"'
    body = names.ljust(MAX_BATCH_BODY + 1)
    for response in (post(unmoved, body, kind=kind), chunked(unmoved, BATCH, kind, body)):
        told = assert_error(response, 413, "payload_too_large")
        assert f" {MAX_BATCH_BODY} bytes" in told["error"]


@pytest.mark.parametrize("kind", [JSON, *TYPES])
def test_the_largest_body_is_read_however_it_is_sent(quick: Callable[..., Front], kind: str) -> None:
    front = quick()
    blank = b" " * 119 + b"\n"  # a cell may not be that long, nor may there be more lines
    starts = {JSON: b'{"usernames": ["nasa"]}', NDJSON: b'"nasa"', "text/csv": b"nasa\n" + blank * 17_000}
    body = starts.get(kind, b"nasa").ljust(MAX_BATCH_BODY)
    assert post(front, body, kind=kind).status_code == 202
    assert chunked(front, BATCH, kind, body).status_code == 202


@pytest.mark.parametrize("kind", ["text/plain", "text/csv", NDJSON])
def test_blank_lines_have_an_end(quick: Callable[..., Front], kind: str) -> None:
    refused = post(quick(), b"\n" * MAX_BATCH_BODY, kind=kind)
    told = assert_error(refused, 422, "validation_error", {"usernames"})
    assert "20,000 lines" in told["details"]["usernames"][0]


def test_a_refused_batch_counts_before_its_names_are_looked_at(make: Callable[..., Front]) -> None:
    front = make(rate_limits=(Limit(1, 60),))
    names = b"ab\n" * 699_000
    assert_error(post(front, names, kind="text/plain"), 422, "validation_error", {"usernames"})
    limited = post(front, names, kind="text/plain")
    assert_error(limited, 429, "rate_limited")
    assert int(limited.headers["Retry-After"]) > 0


def test_a_single_request_keeps_its_own_limit(unmoved: Front) -> None:
    body = b'{"username": "nasa"}'.ljust(70_000)
    for response in (
        unmoved.call("POST", STORIES, data=body, content_type=JSON),
        chunked(unmoved, STORIES, JSON, body),
    ):
        assert " 65536 bytes" in assert_error(response, 413, "payload_too_large")["error"]


def test_a_body_that_ends_before_its_length_is_refused(unmoved: Front) -> None:
    environ = {"wsgi.input": io.BytesIO(b"nasa\nbb"), "wsgi.input_terminated": True, "CONTENT_LENGTH": "500"}
    response = unmoved.call("POST", BATCH, content_type="text/plain", environ_overrides=environ)
    assert_error(response, 400, "malformed_json")


# --- the same call twice -------------------------------------------------------------------------


def test_the_same_key_and_body_is_the_same_batch(front: Front) -> None:
    body = {"usernames": ["nasa", "bad name", "NASA", "bbc"], "webhookUrl": HOOK}
    answers = [
        post(front, body, headers={"Idempotency-Key": "k1"}),
        post(front, body, headers={"Idempotency-Key": '"k1"'}),
        post(front, {**body, "idempotencyKey": "k1"}),
    ]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert answers[0].json == answers[1].json == answers[2].json
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true", "true"]
    assert len({answer.headers["Location"] for answer in answers}) == 1
    assert balance(front).held == 2
    assert len(front.queue.published) == 1

    with front.working():
        await_true(lambda: look(front, answers[0].json["batchId"]).json["status"] == "completed")
    again = post(front, body, headers={"Idempotency-Key": "k1"})
    assert again.json == answers[0].json, "also when it has ended since"


def test_a_key_is_one_over_the_query_and_the_header(front: Front) -> None:
    first = post(front, b"nasa\n", kind="text/plain", headers={"Idempotency-Key": "k1"})
    again = post(front, b"username\nNasa\n", kind="text/csv", query="idempotencyKey=k1")
    assert again.json["batchId"] == first.json["batchId"]
    differing = post(
        front, b"nasa", kind="text/plain", query="idempotencyKey=k2", headers={"Idempotency-Key": "k1"}
    )
    assert_error(differing, 422, "validation_error", {"idempotencyKey"})


def test_the_same_key_for_something_else_is_refused(front: Front) -> None:
    key = {"Idempotency-Key": "k1"}
    assert post(front, ["nasa"], headers=key).status_code == 202
    before = front.stored()
    for body in (["bbc"], ["nasa", "bbc"], {"usernames": ["nasa"], "webhookUrl": HOOK}):
        assert_error(post(front, body, headers=key), 422, "idempotency_key_reuse")
    single = front.call("POST", STORIES, json={"username": "nasa"}, headers=key)
    assert_error(single, 422, "idempotency_key_reuse")
    assert front.stored() == before
    assert post(front, ["nasa"], headers=key, by=front.other).status_code == 202


# --- looked at -----------------------------------------------------------------------------------


def test_a_batch_tells_how_far_it_is(front: Front) -> None:
    batch_id = accept(front, "nasa", "bbc", "cnn", "dw", webhookUrl=HOOK, webhookMode="summary")
    found = [each["requestId"] for each in results(front, batch_id).json["results"]]
    front.work(found[0])
    front.work(found[1], failing(errors.UserNotFound))
    front.services.requests.claim(found[2], batch_id)
    response = look(front, batch_id)
    assert response.status_code == 200
    assert int(response.headers["Retry-After"]) > 0
    body = response.json
    times = {name: body.pop(name) for name in ("createdAt", "startedAt", "finishedAt", "eta")}
    assert body == {
        "success": True,
        "batchId": batch_id,
        "status": "processing",
        "total": 4,
        "states": {"queued": 1, "processing": 1, "succeeded": 1, "failed": 1, "cancelled": 0},
        "outcomes": {"found": 1, "user_not_found": 1},
        "cached": 0,
        "progress": 0.5,
        "itemCount": 1,
        "creditsHeld": 2,
        "creditsCharged": CREDITS - balance(front).balance,
        "webhookUrl": HOOK,
        "webhookMode": "summary",
        "maxAge": 0,
        "results": f"/api/batches/{batch_id}/results",
    }
    assert times["finishedAt"] is None
    assert times["createdAt"] <= times["startedAt"]


def test_a_batch_that_has_ended_is_the_object_its_webhook_carries(front: Front) -> None:
    batch_id = accept(front, "nasa", "bbc", webhookUrl=HOOK, webhookMode="summary")
    with front.working():
        response = look(front, batch_id, "?wait=10")
    assert response.json["status"] == "completed"
    assert "Retry-After" not in response.headers
    assert (response.json["progress"], response.json["eta"], response.json["creditsHeld"]) == (1.0, None, 0)
    delivery_id = ids.delivery_of(batch_id)
    claim = front.services.deliveries.claim(delivery_id, "example.com:443")
    assert claim is not None
    assert claim.body is not None
    assert json.loads(claim.body) == response.json
    [listed] = front.get("/api/webhooks/deliveries").json["deliveries"]
    assert (listed["id"], listed["batchId"], listed["requestId"]) == (delivery_id, batch_id, None)
    assert front.get(f"/api/webhooks/deliveries?requestId={batch_id}").json["deliveries"] == [listed]


def test_the_end_of_a_large_batch_is_told_from_its_beginning(front: Front) -> None:
    batch_id = accept(front, *[f"name{number}" for number in range(CREDITS)])
    first = results(front, batch_id, "?limit=1").json["results"][0]["requestId"]
    assert front.call("POST", f"/api/requests/{first}/cancel").status_code == 200
    assert look(front, batch_id).json["eta"] is None, "nobody has begun"


def test_who_waits_is_answered_when_the_last_item_ends(real: Front) -> None:
    batch_id = accept(real, "nasa")
    [item] = [each["requestId"] for each in results(real, batch_id).json["results"]]
    answers: list[TestResponse] = []
    waiting = threading.Thread(target=lambda: answers.append(look(real, batch_id, "?wait=60")))
    with Timer() as timer:
        waiting.start()
        await_true(lambda: real.redis.pubsub_numsub(keys.done(batch_id))[0][1])
        real.work(item)
        waiting.join(90)
    assert timer.seconds < 30
    assert answers[0].json["status"] == "completed"


def test_who_waits_in_vain_is_told_how_far_it_is(front: Front) -> None:
    batch_id = accept(front, "nasa")
    with Timer() as timer:
        response = look(front, batch_id, "?wait=0.2")
    assert (response.status_code, response.json["status"]) == (200, "processing")
    assert 0.2 <= timer.seconds < 20


def test_batches_are_listed_newest_first_in_pages(front: Front) -> None:
    made = [accept(front, f"name{number}") for number in range(3)]
    accept(front, "theirs", by=front.other)
    first = front.get("/api/batches?limit=2").json
    rest = front.get(f"/api/batches?limit=2&cursor={first['nextCursor']}").json
    assert {each["batchId"] for each in first["batches"] + rest["batches"]} == set(made)
    assert (len(first["batches"]), len(rest["batches"]), rest["nextCursor"]) == (2, 1, None)
    [single] = rest["batches"]
    assert single.keys() == look(front, made[0]).json.keys()


@pytest.mark.parametrize("path", ["", "?wait=5", "/results", "/results?format=ndjson", "/cancel"])
def test_another_accounts_batch_is_404_everywhere(front: Front, path: str) -> None:
    strangers = [front.other, *(make_caller(front.services, f"{n}@example.com") for n in range(5))]
    batch_id = accept(front, "nasa")
    for stranger in strangers:
        method = "POST" if path == "/cancel" else "GET"
        assert_error(front.call(method, f"/api/batches/{batch_id}{path}", by=stranger), 404, "not_found")
        assert front.get("/api/batches", by=stranger).json["batches"] == []
    assert look(front, batch_id).json["states"]["queued"] == 1


@pytest.mark.parametrize(
    "identifier",
    [
        "x", "bat_", "bat_00", "bat_zz01m7xt6136bt5vc71920hs0000", "bat_0001m7xt6136bt5vc71920hs0000",
        "bat_ff01m7xt6136bt5vc71920hs0000", "BAT_0001M7XT6136BT5VC71920HS0000",
        "req_0001m7xt6136bt5vc71920hs0000", "bat_0001m7xt6136bt5vc71920hs0000%0A", "%00",
        "%ff", "*", "{s00}:open", "a" * 2000,
    ],
)  # fmt: skip
def test_an_id_that_is_none_is_404(unmoved: Front, identifier: str) -> None:
    assert_error(look(unmoved, identifier), 404, "not_found")
    assert_error(results(unmoved, identifier), 404, "not_found")
    assert_error(cancel(unmoved, identifier), 404, "not_found")


def test_the_request_before_the_first_item_is_none(front: Front) -> None:
    batch_id = accept(front, "nasa")
    assert_error(front.get(f"/api/requests/{ids.item_of(batch_id, 0)}"), 404, "not_found")
    assert_error(front.get(f"/api/requests/{ids.item_of(batch_id, 2)}"), 404, "not_found")


# --- results -------------------------------------------------------------------------------------


def names_of(response: TestResponse) -> list[str]:
    return [each["username"] for each in response.json["results"]]


def test_results_come_in_the_order_of_the_list_page_by_page(front: Front) -> None:
    names = ["zoe", "anna", "mary", "bert", "lisa"]
    batch_id = accept(front, *names)
    items = [each["requestId"] for each in results(front, batch_id).json["results"]]
    front.work(items[3])
    front.work(items[0], EMPTY)
    found, query = [], "?limit=2"
    for left in (2, 2, 1):
        page = results(front, batch_id, query)
        assert page.status_code == 200
        assert page.content_type == JSON
        assert len(page.json["results"]) == left
        found += page.json["results"]
        query = f"?limit=2&cursor={page.json['nextCursor']}"
    assert page.json["nextCursor"] is None
    assert [each["username"] for each in found] == names
    assert [each["status"] for each in found] == ["succeeded", "queued", "queued", "succeeded", "queued"]
    for envelope in found:
        assert front.get(f"/api/requests/{envelope['requestId']}").json == envelope
    assert results(front, batch_id, "?limit=200").json["results"] == found


@pytest.mark.parametrize("cursor", ["5", "6", "999999"])
def test_beyond_the_end_there_is_nothing(front: Front, cursor: str) -> None:
    batch_id = accept(front, *[f"name{number}" for number in range(5)])
    assert results(front, batch_id, f"?cursor={cursor}").json == {"results": [], "nextCursor": None}
    assert results(front, batch_id, f"?cursor={cursor}&format=ndjson").data == b""


@pytest.mark.parametrize(
    "cursor", ["", "x", "-1", "1.5", "1e3", "1000000", "%D9%A1", "1%0A", "+1", "req_1", "0x1"]
)
@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_a_cursor_that_is_none_is_422(table: Front, cursor: str, form: str) -> None:
    batch_id = accept(table, "nasa")
    response = results(table, batch_id, f"?cursor={cursor}&format={form}")
    assert_error(response, 422, "validation_error", {"cursor"})


def test_data_false_leaves_only_the_data_out(front: Front) -> None:
    batch_id = accept(front, "nasa", "bbc")
    items = [each["requestId"] for each in results(front, batch_id).json["results"]]
    front.work(items[0])
    front.work(items[1], failing(errors.UserNotFound))
    whole = results(front, batch_id).json["results"]
    slim = results(front, batch_id, "?data=false").json["results"]
    assert "data" in whole[0]
    assert slim == [{name: value for name, value in each.items() if name != "data"} for each in whole]
    streamed = results(front, batch_id, "?data=false&format=ndjson").data
    assert [json.loads(line) for line in streamed.splitlines()] == slim


@pytest.mark.parametrize(
    ("query", "accepts", "lines"),
    [
        ("?format=ndjson", None, True), ("", NDJSON, True), ("", f"{NDJSON}, */*", True),
        ("", f"{JSON};q=0.5, {NDJSON}", True), ("?format=ndjson", JSON, True),
        ("?format=json", NDJSON, False), ("", None, False), ("", "*/*", False), ("", JSON, False),
        ("", f"{JSON}, {NDJSON}", False), ("", "text/html", False),
    ],
)  # fmt: skip
def test_ndjson_is_had_by_asking_for_it(table: Front, query: str, accepts: str | None, lines: bool) -> None:
    batch_id = accept(table, "nasa")
    response = results(table, batch_id, query, headers={"Accept": accepts} if accepts else {})
    assert response.status_code == 200
    assert response.content_type == (NDJSON if lines else JSON)


def test_a_stream_has_all_from_the_cursor_on_whatever_the_limit(front: Front) -> None:
    names = [f"name{number}" for number in range(45)]
    batch_id = accept(front, *names)
    items = [each["requestId"] for each in results(front, batch_id, "?limit=45").json["results"]]
    for item in items[::7]:
        front.work(item)
    response = results(front, batch_id, "?format=ndjson&limit=5&cursor=10")
    lines = response.data.splitlines(keepends=True)
    assert all(line.endswith(b"\n") for line in lines)
    assert [json.loads(line)["username"] for line in lines] == names[10:]
    assert lines[4].rstrip(b"\n") == front.get(f"/api/requests/{items[14]}").data, "byte for byte"


def test_a_result_past_its_lifetime_keeps_its_place(front: Front) -> None:
    batch_id = accept(front, "nasa", "bbc", "cnn")
    items = [each["requestId"] for each in results(front, batch_id).json["results"]]
    front.work(items[1])
    front.redis.delete(keys.result(items[1]))
    found = results(front, batch_id).json["results"]
    assert [each["requestId"] for each in found] == items
    assert (found[1]["success"], found[1]["code"]) == (False, "not_found")
    assert "lifetime" in found[1]["error"]


# --- cancelled -----------------------------------------------------------------------------------


def test_cancelling_ends_what_has_not_begun_and_gives_the_credits_back(front: Front) -> None:
    batch_id = accept(front, "nasa", "bbc", "cnn", webhookUrl=HOOK)
    items = [each["requestId"] for each in results(front, batch_id).json["results"]]
    front.work(items[0])
    spent = CREDITS - balance(front).balance
    front.queue.published.clear()
    first = cancel(front, batch_id)
    assert first.status_code == 200
    assert "Retry-After" not in first.headers
    assert first.json["status"] == "cancelled"
    assert first.json["states"] == {"queued": 0, "processing": 0, "succeeded": 1, "failed": 0, "cancelled": 2}
    assert balance(front) == Balance(CREDITS - spent, 0)
    assert [name for hint in front.queue.published for name in hint[2::2]] == [
        ids.delivery_of(item) for item in items[1:]
    ]
    before = front.stored()
    assert cancel(front, batch_id).json == first.json, "twice is once"
    assert front.stored() == before
    assert look(front, batch_id).json == first.json
    ended = results(front, batch_id).json["results"]
    assert [each.get("code") for each in ended] == [None, "cancelled", "cancelled"]
    assert {each["batchId"] for each in ended} == {batch_id}


def test_what_is_under_way_goes_on_to_its_end(front: Front) -> None:
    batch_id = accept(front, "nasa", "bbc")
    items = [each["requestId"] for each in results(front, batch_id).json["results"]]
    claim = front.services.requests.claim(items[0], batch_id)
    response = cancel(front, batch_id)
    assert (response.json["status"], response.json["states"]["processing"]) == ("processing", 1)
    assert int(response.headers["Retry-After"]) > 0
    assert claim is not None
    front.services.requests.release(claim)
    front.work(items[0])
    assert look(front, batch_id).json["status"] == "cancelled"


def test_cancelling_after_the_end_changes_nothing(front: Front) -> None:
    batch_id = accept(front, "nasa")
    with front.working():
        ended = look(front, batch_id, "?wait=10").json
    before = front.stored()
    response = cancel(front, batch_id)
    assert (response.status_code, response.json) == (200, ended)
    assert response.json["status"] == "completed"
    assert front.stored() == before


def test_items_can_be_cancelled_one_by_one(front: Front) -> None:
    batch_id = accept(front, "nasa", "bbc")
    for item in [each["requestId"] for each in results(front, batch_id).json["results"]]:
        assert front.call("POST", f"/api/requests/{item}/cancel").json["batchId"] == batch_id
    seen = look(front, batch_id).json
    assert (seen["status"], seen["outcomes"]) == ("completed", {"cancelled": 2})
    assert balance(front) == Balance(CREDITS, 0)
