"""DELETE /api/requests/{id}: what was fetched goes, what it cost stays."""

from __future__ import annotations

import pytest

from service.actions.audit import audit
from service.domain import ids
from tests.api.support import BATCH, Front, assert_error

HOOK = "https://example.com/hook"


def delete(front: Front, request_id: str) -> object:
    return front.call("DELETE", f"/api/requests/{request_id}")


def test_a_deleted_request_is_gone_everywhere_but_in_the_ledger(front: Front) -> None:
    request_id, other = (front.ended(fields={"webhookUrl": HOOK}) for _ in range(2))
    delivery_id = ids.delivery_of(request_id)
    ledger, credits = (front.get(path).json for path in ("/api/credits/ledger", "/api/credits"))
    assert any(entry["requestId"] == request_id for entry in ledger["entries"])

    response = delete(front, request_id)

    assert (response.status_code, response.data) == (204, b"")
    for path in (f"/api/requests/{request_id}", f"/api/webhooks/deliveries/{delivery_id}"):
        assert_error(front.get(path), 404, "not_found")
    listed = [each["requestId"] for each in front.get("/api/requests").json["requests"]]
    deliveries = [each["requestId"] for each in front.get("/api/webhooks/deliveries").json["deliveries"]]
    assert (listed, deliveries) == ([other], [other])
    assert front.get("/api/credits/ledger").json == ledger
    assert front.get("/api/credits").json == credits
    assert audit(front.services).differences == []


def test_a_second_time_there_is_nothing_to_delete(front: Front) -> None:
    request_id = front.ended()
    assert delete(front, request_id).status_code == 204
    before = front.stored()
    assert_error(delete(front, request_id), 404, "not_found")
    assert front.stored() == before


@pytest.mark.parametrize("state", ["queued", "processing"])
def test_a_request_that_has_not_ended_stays(front: Front, state: str) -> None:
    request_id = front.accept()
    if state == "processing":
        assert front.services.requests.claim(request_id)
    before = front.stored()
    error = assert_error(delete(front, request_id), 409, "conflict")
    assert "Cancel it" in error["error"]
    assert front.stored() == before
    assert front.get(f"/api/requests/{request_id}").json["status"] == state


def test_a_request_that_was_cancelled_may_be_deleted(front: Front) -> None:
    request_id = front.accept()
    front.call("POST", f"/api/requests/{request_id}/cancel")
    assert delete(front, request_id).status_code == 204
    assert front.available() == 100


@pytest.mark.parametrize("request_id", ["req_0001m7xt6136bt5vc71920hsxsgv", "req_1", "acc", "%00"])
def test_an_id_that_is_nobodys_is_not_found(front: Front, request_id: str) -> None:
    before = front.stored()
    assert_error(delete(front, request_id), 404, "not_found")
    assert front.stored() == before


def test_another_accounts_request_is_not_found_and_stays(front: Front) -> None:
    request_id = front.ended()
    before = front.stored()
    response = front.call("DELETE", f"/api/requests/{request_id}", by=front.other)
    assert_error(response, 404, "not_found")
    assert front.stored() == before


def test_its_idempotency_key_asks_for_a_new_one(front: Front) -> None:
    headers = {"Idempotency-Key": "once", "Prefer": "respond-async"}
    body = {"username": "nasa"}
    first = front.call("POST", "/api/instagram/stories", json=body, headers=headers)
    front.work(first.json["requestId"])
    assert delete(front, first.json["requestId"]).status_code == 204
    again = front.call("POST", "/api/instagram/stories", json=body, headers=headers)
    assert "new key" in assert_error(again, 409, "conflict")["error"]


def test_an_item_of_a_batch_leaves_a_line(front: Front) -> None:
    batch_id = front.call("POST", BATCH, json={"usernames": ["nasa", "esa"]}).json["batchId"]
    items = [ids.item_of(batch_id, number) for number in (1, 2)]
    for request_id in items:
        front.work(request_id)
    before = front.get(f"/api/batches/{batch_id}").json
    assert delete(front, items[0]).status_code == 204
    assert front.get(f"/api/batches/{batch_id}").json == before
    gone, kept = front.get(f"/api/batches/{batch_id}/results").json["results"]
    assert (gone["requestId"], gone["success"], gone["code"]) == (items[0], False, "not_found")
    assert (kept["requestId"], kept["success"]) == (items[1], True)
