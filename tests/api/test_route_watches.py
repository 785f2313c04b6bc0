"""/api/watches: add, list, look, pause, resume, delete, run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from werkzeug.test import TestResponse

from service.actions import watches as actions
from service.config import Settings
from service.domain import ids
from service.domain.deliveries import Attempt, Plan
from tests.api.support import CREDITS, EMPTY, Front, assert_error, make_front
from tests.conftest import RecordingQueue
from tests.redis.kit import at_once
from workers import watch

WATCHES = "/api/watches"
HOOK = "https://example.com/hook"
BODY = {"username": "nasa", "every": "15m", "webhookUrl": HOOK}
SHOWN = {
    "success", "watchId", "username", "every", "webhookUrl", "onlyNew", "heartbeat", "maxAge", "status",
    "pauseReason", "createdAt", "nextRunAt", "lastRunAt", "lastRequestId", "lastOutcome", "runs",
    "itemsDelivered", "shape", "archive",
}  # fmt: skip


def add(front: Front, **changes: Any) -> TestResponse:
    return front.call("POST", WATCHES, json={**BODY, "maxAge": 0, **changes})


def added(front: Front, **changes: Any) -> str:
    response = add(front, **changes)
    assert response.status_code == 201, response.text
    watch_id: str = response.json["watchId"]
    return watch_id


def do(front: Front, watch_id: str, what: str) -> TestResponse:
    return front.call("POST", f"{WATCHES}/{watch_id}/{what}")


def look(front: Front, watch_id: str) -> dict[str, Any]:
    response = front.get(f"{WATCHES}/{watch_id}")
    assert response.status_code == 200
    body: dict[str, Any] = response.json
    return body


def test_a_new_watch_is_shown_whole(front: Front) -> None:
    response = front.call("POST", WATCHES, json={**BODY, "username": "@NASA", "every": " 15M "})
    assert response.status_code == 201
    made = response.json
    assert response.headers["Location"] == f"{WATCHES}/{made['watchId']}"
    assert set(made) == SHOWN
    expected = {
        "success": True, "username": "nasa", "every": "15m", "webhookUrl": HOOK, "onlyNew": True,
        "heartbeat": False, "maxAge": 60, "shape": "raw", "archive": False, "status": "active",
        "pauseReason": None,
        "nextRunAt": made["createdAt"], "lastRunAt": None, "lastRequestId": None, "lastOutcome": None,
        "runs": 0, "itemsDelivered": 0,
    }  # fmt: skip
    assert {name: made[name] for name in expected} == expected
    assert ids.shard_of(made["watchId"], ids.WATCH) is not None
    assert look(front, made["watchId"]) == made
    assert front.get(WATCHES).json == {"watches": [made], "nextCursor": None}
    assert front.services.schedules.entries() == {made["watchId"]}
    assert front.available() == CREDITS, "a watch holds nothing, its runs do"


def test_all_that_can_be_asked_for_is_kept(front: Front) -> None:
    asked = {
        "every": "0 8 * * mon-fri", "onlyNew": False, "heartbeat": True, "maxAge": 3600, "shape": "story",
    }  # fmt: skip
    made = add(front, **asked).json
    assert {name: made[name] for name in asked} == asked


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("every", "soon"),
        ("every", "* * * * *"),
        ("every", "60 * * * *"),
        ("every", "*/15 * * *"),
        ("every", "299s"),
        ("every", "4m"),
        ("every", "367d"),
        ("every", "x" * 201),
        ("every", 15),
        ("username", "na sa"),
        ("username", ""),
        ("webhookUrl", "ftp://example.com/"),
        ("webhookUrl", None),
        ("onlyNew", "yes"),
        ("onlyNew", None),
        ("heartbeat", "on"),
        ("maxAge", -1),
        ("maxAge", 3601),
        ("maxAge", "60"),
        ("shape", "v1"),
        ("archive", "yes"),
        ("amount", 5),
        ("interval", "15m"),
    ],
)
def test_what_is_wrong_is_named_and_leaves_nothing(table: Front, field: str, value: Any) -> None:
    before, published = table.stored(), list(table.queue.published)
    assert_error(add(table, **{field: value}), 422, "validation_error", {field})
    assert table.stored() == before
    assert table.queue.published == published


@pytest.mark.parametrize("every", ["299s", "*/4 * * * *"])
def test_the_refusal_of_a_short_interval_tells_the_shortest(table: Front, every: str) -> None:
    body = assert_error(add(table, every=every), 422, "validation_error", {"every"})
    assert "300 seconds" in body["details"]["every"][0]


def test_an_inner_webhook_address_is_forbidden(table: Front) -> None:
    assert_error(add(table, webhookUrl="http://10.0.0.1/"), 422, "webhook_forbidden")


def test_the_shortest_interval_and_the_most_watches_are_settings(quick: Callable[..., Front]) -> None:
    front = quick(watch_every_least=1, watches_most=2)
    first = added(front, every="1s")
    added(front, every="* * * * *")
    body = assert_error(add(front), 409, "conflict")
    assert "2 watches" in body["error"]
    assert front.call("DELETE", f"{WATCHES}/{first}").status_code == 204
    added(front)


def test_a_list_has_pages_newest_first(front: Front) -> None:
    made = sorted((added(front) for _ in range(5)), reverse=True)
    found, cursor = [], ""
    for size in (2, 2, 1):
        page = front.get(f"{WATCHES}?limit=2{cursor}").json
        assert len(page["watches"]) == size
        found += [each["watchId"] for each in page["watches"]]
        cursor = f"&cursor={page['nextCursor']}"
    assert found == made
    assert page["nextCursor"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "colour=red", "cursor=abc"])
def test_a_list_refuses_what_it_does_not_know(table: Front, query: str) -> None:
    assert_error(table.get(f"{WATCHES}?{query}"), 422, "validation_error", {query.partition("=")[0]})


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/run")],
)
@pytest.mark.parametrize("whose", ["nobody's", "another's", "no id"])
def test_a_watch_of_nobody_or_another_account_is_404(
    front: Front, method: str, path: str, whose: str
) -> None:
    watch_id = "wat_x"
    if whose == "another's":
        watch_id = front.call("POST", WATCHES, json=BODY, by=front.other).json["watchId"]
    elif whose == "nobody's":
        watch_id = ids.new_id(ids.WATCH, ids.shard_in(front.me.account.account_id), 1)
    assert_error(front.call(method, f"{WATCHES}/{watch_id}{path}"), 404, "not_found")
    if whose == "another's":
        assert front.services.watches.get(watch_id) is not None
        assert front.get(WATCHES).json["watches"] == []


def test_a_watch_is_paused_and_resumed(front: Front) -> None:
    watch_id = added(front)
    paused = do(front, watch_id, "pause")
    assert paused.status_code == 200
    shown = paused.json
    assert (shown["status"], shown["pauseReason"], shown["nextRunAt"]) == ("paused", "by_hand", None)
    assert set(shown) == SHOWN
    assert_error(do(front, watch_id, "run"), 409, "conflict")
    resumed = do(front, watch_id, "resume")
    assert resumed.status_code == 200
    assert (resumed.json["status"], resumed.json["pauseReason"]) == ("active", None)
    assert resumed.json["nextRunAt"] is not None
    assert do(front, watch_id, "run").status_code == 202


def test_a_run_by_hand_is_a_request_of_the_watch(front: Front) -> None:
    watch_id = added(front)
    response = do(front, watch_id, "run")
    assert response.status_code == 202
    request_id = response.json["requestId"]
    assert response.headers["Location"] == f"/api/requests/{request_id}"
    assert (response.json["status"], response.json["watchId"]) == ("processing", watch_id)
    assert do(front, watch_id, "run").json["requestId"] == request_id, "it is under way"
    assert front.available() == CREDITS - 1
    front.work(request_id)
    shown = look(front, watch_id)
    assert (shown["runs"], shown["itemsDelivered"], shown["lastOutcome"]) == (1, 1, "found")
    assert shown["lastRequestId"] == request_id
    envelope = front.get(f"/api/requests/{request_id}").json
    assert (envelope["watchId"], envelope["itemCount"]) == (watch_id, 1)
    [line] = front.get("/api/requests").json["requests"]
    assert line["watchId"] == watch_id

    again = do(front, watch_id, "run").json["requestId"]
    assert again != request_id
    front.work(again)
    envelope = front.get(f"/api/requests/{again}").json
    assert (envelope["outcome"], envelope["data"]["items"], envelope["creditsCharged"]) == (
        "nothing_new",
        [],
        0,
    )
    assert len(front.get("/api/webhooks/deliveries").json["deliveries"]) == 1
    assert front.available() == CREDITS - 1


def test_a_single_request_is_of_no_watch(front: Front) -> None:
    request_id = front.ended()
    assert "watchId" not in front.get(f"/api/requests/{request_id}").json
    assert "watchId" not in front.get("/api/requests").json["requests"][0]


def test_the_webhook_names_the_watch(front: Front) -> None:
    watch_id = added(front)
    request_id = do(front, watch_id, "run").json["requestId"]
    front.work(request_id)
    claim = front.services.deliveries.claim(ids.delivery_of(request_id), "example.com:443")
    assert claim is not None
    assert json.loads(claim.body or b"")["watchId"] == watch_id


def test_a_heartbeat_tells_of_nothing_new(front: Front) -> None:
    watch_id = added(front, heartbeat=True)
    front.work(do(front, watch_id, "run").json["requestId"], EMPTY)
    [delivery] = front.get("/api/webhooks/deliveries").json["deliveries"]
    assert delivery["status"] == "pending"


def test_without_credits_a_run_by_hand_is_402(quick: Callable[..., Front]) -> None:
    front = quick()
    front.services.credits.add(front.me.account.account_id, -CREDITS, entry_type="adjustment", note="")
    watch_id = added(front)
    assert_error(do(front, watch_id, "run"), 402, "insufficient_credits")
    assert look(front, watch_id)["lastOutcome"] == "insufficient_credits"


def test_a_receiver_that_is_gone_shows_as_the_reason(front: Front) -> None:
    watch_id = added(front)
    request_id = do(front, watch_id, "run").json["requestId"]
    front.work(request_id)
    claim = front.services.deliveries.claim(ids.delivery_of(request_id), "example.com:443")
    assert claim is not None
    front.services.deliveries.record(claim, Attempt(1, 0.1, status=410), Plan("gone"))
    watch.run(front.services, watch_id)
    shown = look(front, watch_id)
    assert (shown["status"], shown["pauseReason"]) == ("paused", "receiver_gone")


def test_a_deleted_watch_is_gone_and_deleted_once(front: Front) -> None:
    watch_id = added(front)
    response = front.call("DELETE", f"{WATCHES}/{watch_id}")
    assert (response.status_code, response.data) == (204, b"")
    assert_error(front.call("DELETE", f"{WATCHES}/{watch_id}"), 404, "not_found")
    assert front.services.schedules.entries() == frozenset()
    watch.run(front.services, watch_id)
    assert front.available() == CREDITS


def test_what_starts_work_counts_against_the_limits(quick: Callable[..., Front]) -> None:
    front = quick()
    watch_id = added(front)
    assert "RateLimit" in do(front, watch_id, "run").headers
    assert "RateLimit" in do(front, watch_id, "resume").headers
    assert "RateLimit" not in do(front, watch_id, "pause").headers
    assert "RateLimit" not in front.get(WATCHES).headers


def test_prices_tell_what_nothing_new_costs(front: Front) -> None:
    assert front.get("/api/prices").json["prices"]["stories"]["nothing_new"] == 0


def test_a_watch_whose_entry_cannot_be_written_is_accepted(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out(*_: Any) -> None:
        raise actions.StoreUnavailable

    monkeypatch.setattr(front.services.schedules, "put", out)
    assert look(front, added(front))["status"] == "active"


def test_the_same_key_is_the_same_watch(table: Front) -> None:
    body = {"username": "nasa", "every": "15m", "webhookUrl": "https://example.com/hook"}
    headers = {"Idempotency-Key": "once"}
    first, again = (table.call("POST", "/api/watches", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json["watchId"] == again.json["watchId"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(table.get("/api/watches").json["watches"]) == 1
    other = table.call("POST", "/api/watches", json={**body, "every": "1h"}, headers=headers)
    assert (other.status_code, other.json["code"]) == (422, "idempotency_key_reuse")
    table.call("DELETE", f"/api/watches/{first.json['watchId']}")
    gone = table.call("POST", "/api/watches", json=body, headers=headers)
    assert (gone.status_code, gone.json["code"]) == (409, "conflict")


def test_of_many_watches_added_at_once_exactly_the_most_stand(
    settings: Settings, valkey: Redis, queue: RecordingQueue
) -> None:
    front = make_front(settings, valkey, queue, watches_most=7, rate_limits=())
    answers = at_once(40, lambda number: add(front, username=f"name{number}").status_code)
    assert (answers.count(201), answers.count(409)) == (7, 33)
    assert len(front.get(WATCHES).json["watches"]) == 7
