"""/api/webhooks: deliveries, replay, trying a receiver out, secrets."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from service.domain.accounts import Limit
from service.domain.deliveries import DELIVERED, EXHAUSTED, PENDING, Attempt, Plan
from tests.api.support import JSON, Front, assert_error
from tests.conftest import await_true

HOOK = "https://example.com/hook"
HOST = "example.com:443"
AT = 1_790_000_000


def owed(front: Front, *, status: int | None = None, plan: Plan | None = None, **options: Any) -> str:
    """End a request that owes a webhook, and make one attempt when ``status`` is given."""
    request_id = front.stories(fields={"webhookUrl": HOOK}, **options).json["requestId"]
    front.work(request_id)
    delivery_id = front.queue.published[-1][2]
    if status is not None:
        attempt(front, delivery_id, status, plan or Plan(DELIVERED if status < 300 else EXHAUSTED))
    return delivery_id


def attempt(front: Front, delivery_id: str, status: int, plan: Plan) -> None:
    claim = front.services.deliveries.claim(delivery_id, HOST)
    assert claim is not None
    made = Attempt(at=AT, duration=0.25, status=status, snippet="thanks")
    front.services.deliveries.record(claim, made, plan)


def test_a_delivery_tells_where_it_goes_and_every_attempt(front: Front) -> None:
    delivery_id = owed(front)
    fresh = front.get(f"/api/webhooks/deliveries/{delivery_id}").json
    attempt(front, delivery_id, 500, Plan(PENDING, 60))
    tried = front.get(f"/api/webhooks/deliveries/{delivery_id}").json

    assert fresh["id"] == delivery_id
    assert fresh["url"] == HOOK
    assert fresh["requestId"].startswith("req_")
    assert (fresh["status"], fresh["attempts"], fresh["log"]) == ("pending", 0, [])
    assert (tried["status"], tried["attempts"]) == ("pending", 1)
    assert tried["nextAttemptAt"] > fresh["nextAttemptAt"]
    assert tried["log"] == [
        {
            "at": datetime.fromtimestamp(AT, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "timestamp": AT,
            "duration": 0.25,
            "status": 500,
            "error": None,
            "snippet": "thanks",
        }
    ]


def test_deliveries_are_listed_newest_first_and_filtered(front: Front) -> None:
    done, failed, pending = owed(front, status=200), owed(front, status=404), owed(front)
    owed(front, by=front.other)

    def listed(query: str = "") -> list[str]:
        body = front.get(f"/api/webhooks/deliveries?{query}").json
        assert body["nextCursor"] is None
        assert all("log" not in line for line in body["deliveries"])
        return [line["id"] for line in body["deliveries"]]

    assert listed() == [pending, failed, done]
    assert listed("status=delivered") == [done]
    assert listed("status=exhausted") == [failed]
    request_id = front.get(f"/api/webhooks/deliveries/{done}").json["requestId"]
    assert listed(f"requestId={request_id}") == [done]
    assert listed(f"requestId={request_id}&status=pending") == []
    assert listed("requestId=req_x") == []


def test_pages_of_deliveries_show_each_once(front: Front) -> None:
    made = [owed(front) for _ in range(5)]
    seen, cursor = [], ""
    while True:
        body = front.get(f"/api/webhooks/deliveries?limit=2{cursor}").json
        seen += [line["id"] for line in body["deliveries"]]
        if body["nextCursor"] is None:
            break
        cursor = f"&cursor={body['nextCursor']}"
    assert seen == made[::-1]


def test_the_deliveries_of_another_account_are_404(front: Front) -> None:
    delivery_id = owed(front, status=404)
    path = f"/api/webhooks/deliveries/{delivery_id}"
    before = front.stored()

    assert_error(front.get(path, by=front.other), 404, "not_found")
    assert_error(front.call("POST", f"{path}/replay", by=front.other), 404, "not_found")
    body = {"since": "2026-01-01T00:00:00Z"}
    response = front.call("POST", "/api/webhooks/replay", json=body, by=front.other)
    assert response.json == {"replayed": 0, "more": False}
    request_id = front.get(path).json["requestId"]
    listed = front.get(f"/api/webhooks/deliveries?requestId={request_id}", by=front.other).json
    assert listed["deliveries"] == []
    assert front.stored() == before


@pytest.mark.parametrize("identifier", ["x", "msg_x", "req_0001m7xt6136bt5vc71920hsxsgv", "%00", "a" * 999])
def test_a_delivery_id_that_is_none_is_404(table: Front, identifier: str) -> None:
    path = f"/api/webhooks/deliveries/{identifier}"
    assert_error(table.get(path), 404, "not_found")
    assert_error(table.call("POST", f"{path}/replay"), 404, "not_found")


@pytest.mark.parametrize(
    ("query", "field"),
    [("colour=red", "colour"), ("limit=0", "limit"), ("status=lost", "status"), ("cursor=x", "cursor")],
)
def test_a_wrong_query_of_deliveries_is_named(table: Front, query: str, field: str) -> None:
    response = table.get(f"/api/webhooks/deliveries?{query}")
    assert_error(response, 422, "validation_error", {field})


def test_a_delivery_that_failed_is_sent_again_under_its_own_id(front: Front) -> None:
    delivery_id = owed(front, status=404)
    response = front.call("POST", f"/api/webhooks/deliveries/{delivery_id}/replay")

    assert response.status_code == 202
    assert response.content_type == JSON
    assert response.json == {"id": delivery_id, "status": "pending", "previousStatus": "exhausted"}
    assert int(response.headers["Retry-After"]) > 0
    assert front.queue.published[-1] == ("deliver", "deliver", delivery_id, HOST)
    assert front.services.deliveries.claim(delivery_id, HOST) is not None


def test_a_delivery_under_way_is_not_sent_again(front: Front) -> None:
    delivery_id = owed(front)
    assert front.services.deliveries.claim(delivery_id, HOST) is not None
    response = front.call("POST", f"/api/webhooks/deliveries/{delivery_id}/replay")

    assert_error(response, 409, "conflict")
    assert int(response.headers["Retry-After"]) > 0


def test_all_that_failed_since_a_time_is_sent_again(front: Front) -> None:
    owed(front, status=200)
    failed = {owed(front, status=404), owed(front, status=404)}
    published = len(front.queue.published)

    def replay(since: datetime) -> Any:
        return front.call("POST", "/api/webhooks/replay", json={"since": since.isoformat()})

    assert replay(datetime.now(UTC) + timedelta(hours=1)).json == {"replayed": 0, "more": False}
    response = replay(datetime.now(UTC) - timedelta(hours=1))
    assert response.status_code == 202
    assert response.json == {"replayed": 2, "more": False}
    assert {line[2] for line in front.queue.published[published:]} == failed


@pytest.mark.parametrize(
    "since", ["0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00"]
)
def test_a_time_far_away_breaks_nothing(table: Front, since: str) -> None:
    response = table.call("POST", "/api/webhooks/replay", json={"since": since})
    assert response.status_code == 202, response.text


def test_a_sample_shows_what_came_of_it(front: Front) -> None:
    answers: list[Any] = []
    body = {"url": HOOK}
    thread = threading.Thread(
        target=lambda: answers.append(front.call("POST", "/api/webhooks/test", json=body))
    )
    thread.start()
    await_true(lambda: front.queue.published)
    [(task, queue, delivery_id, host)] = front.queue.published
    attempt(front, delivery_id, 204, Plan(DELIVERED))
    thread.join(60)

    assert (task, queue, host) == ("deliver", "deliver", HOST)
    [response] = answers
    assert response.status_code == 200
    assert response.json["id"] == delivery_id
    assert response.json["status"] == "delivered"
    assert response.json["attempt"]["status"] == 204
    assert front.available() == 100


@pytest.mark.parametrize(
    ("url", "code"), [("ftp://example.com", "validation_error"), ("hook", "validation_error")]
)
def test_a_sample_to_no_url_names_the_field_that_was_sent(table: Front, url: str, code: str) -> None:
    before = table.stored()
    assert_error(table.call("POST", "/api/webhooks/test", json={"url": url}), 422, code, {"url"})
    assert table.stored() == before


def test_a_sample_to_an_inner_address_is_forbidden(table: Front) -> None:
    before = table.stored()
    body = {"url": "http://169.254.169.254/latest"}
    assert_error(table.call("POST", "/api/webhooks/test", json=body), 422, "webhook_forbidden")
    assert table.stored() == before


def test_the_secret_is_the_accounts_own_and_stays(front: Front) -> None:
    mine = front.get("/api/webhooks/secret").json

    none = {"previousSecret": None, "previousExpiresAt": None, "previousSecrets": []}
    assert mine | {"secret": ""} == {"secret": "", **none}
    head, _, secret = mine["secret"].partition("_")
    assert head == "whsec"
    assert 24 <= len(base64.b64decode(secret, validate=True)) <= 64
    assert front.get("/api/webhooks/secret").json == mine
    assert front.get("/api/webhooks/secret", by=front.other).json["secret"] != mine["secret"]


def rotate(front: Front, key: str | None = None) -> TestResponse:
    headers = {} if key is None else {"Idempotency-Key": key}
    return front.call("POST", "/api/webhooks/secret/rotate", headers=headers)


def test_a_rotation_sent_again_is_one(front: Front) -> None:
    old = front.get("/api/webhooks/secret").json["secret"]
    first, second = (rotate(front, "monthly") for _ in range(2))

    assert first.status_code == second.status_code == 200
    assert first.json == second.json == front.get("/api/webhooks/secret").json
    assert [each["secret"] for each in first.json["previousSecrets"]] == [old]
    theirs = rotate(front, '"monthly"')
    assert theirs.json == first.json
    assert_error(rotate(front, ""), 422, "validation_error", {"idempotencyKey"})


def test_an_idempotency_key_of_a_rotation_stands_for_nothing_else(front: Front) -> None:
    rotate(front, "once")
    asked = {"json": {"username": "nasa"}, "headers": {"Idempotency-Key": "once"}}

    assert_error(front.call("POST", "/api/instagram/stories", **asked), 422, "idempotency_key_reuse")
    front.accept(fields={"idempotencyKey": "twice"})
    assert_error(rotate(front, "twice"), 422, "idempotency_key_reuse")


def test_the_secret_receivers_have_outlives_a_second_rotation(front: Front) -> None:
    secrets = [front.get("/api/webhooks/secret").json["secret"]]
    for _ in range(5):
        secrets.append(rotate(front).json["secret"])
    shown = front.get("/api/webhooks/secret").json

    assert [shown["secret"], *(each["secret"] for each in shown["previousSecrets"])] == secrets[::-1]
    assert shown["previousSecret"] == shown["previousSecrets"][0]["secret"]
    assert shown["previousExpiresAt"] == shown["previousSecrets"][0]["expiresAt"]
    refused = rotate(front)
    assert_error(refused, 429, "rate_limited")
    assert 86_000 < int(refused.headers["Retry-After"]) <= 86_400
    assert front.get("/api/webhooks/secret").json == shown


def test_a_rotated_secret_leaves_the_old_one_for_24_hours(front: Front) -> None:
    old = front.get("/api/webhooks/secret").json["secret"]
    theirs = front.get("/api/webhooks/secret", by=front.other).json
    response = front.call("POST", "/api/webhooks/secret/rotate")

    assert response.status_code == 200
    assert response.json["secret"] not in (old, theirs["secret"])
    assert response.json["previousSecret"] == old
    left = datetime.fromisoformat(response.json["previousExpiresAt"]) - datetime.now(UTC)
    assert abs(left - timedelta(hours=24)) < timedelta(minutes=1)
    assert front.get("/api/webhooks/secret").json == response.json
    assert front.get("/api/webhooks/secret", by=front.other).json == theirs


def test_looking_at_deliveries_is_not_limited_but_sending_again_is(make: Callable[..., Front]) -> None:
    front = make(rate_limits=(Limit(2, 60),))
    delivery_id = owed(front, status=404)
    path = f"/api/webhooks/deliveries/{delivery_id}"
    for _ in range(4):
        assert front.get(path).status_code == 200
    assert front.call("POST", f"{path}/replay").status_code == 202
    assert_error(front.call("POST", f"{path}/replay"), 429, "rate_limited")
