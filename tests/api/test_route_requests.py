"""/api/requests: look, wait, list, cancel."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from service.domain import errors
from tests.api.support import CREDITS, EMPTY, JSON, Front, Timer, assert_error, failing
from tests.conftest import await_true

HOOK = "https://example.com/hook"
ANSWERS = {"found": None, "empty": EMPTY, "not found": failing(errors.UserNotFound)}


def envelope_of(front: Front, request_id: str) -> Any:
    return front.get(f"/api/requests/{request_id}")


# --- look ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [{}, {"answer": EMPTY}, {"answer": failing(errors.UserNotFound)}], ids=list(ANSWERS)
)
def test_the_polled_envelope_is_the_sync_answer_byte_for_byte(front: Front, answer: dict[str, Any]) -> None:
    with front.working(**answer):
        sync = front.stories()
    polled = envelope_of(front, sync.json["requestId"])

    assert polled.status_code == 200
    assert polled.content_type == JSON
    assert polled.data == sync.data
    assert polled.headers["X-Request-Id"] == sync.json["requestId"]
    assert polled.headers["X-Credits-Charged"] == str(sync.json["creditsCharged"])
    assert polled.headers["X-Credits-Remaining"] == sync.headers["X-Credits-Remaining"]
    assert "Retry-After" not in polled.headers


def test_a_request_under_way_tells_its_state_and_when_to_look_again(front: Front) -> None:
    request_id = front.accept()
    states = [envelope_of(front, request_id)]
    claim = front.services.requests.claim(request_id)
    states.append(envelope_of(front, request_id))

    assert claim is not None
    assert [state.status_code for state in states] == [200, 200]
    assert [state.json["status"] for state in states] == ["queued", "processing"]
    for state in states:
        assert state.json["success"] is True
        assert state.json["requestId"] == request_id
        assert "data" not in state.json
        assert int(state.headers["Retry-After"]) > 0
        assert state.headers["X-Request-Id"] == request_id
        assert state.headers["X-Credits-Charged"] == "0"


def test_data_false_leaves_only_the_data_out(front: Front) -> None:
    request_id = front.ended()
    whole = envelope_of(front, request_id).json
    slim = front.get(f"/api/requests/{request_id}?data=false")

    assert slim.status_code == 200
    assert "data" in whole
    assert slim.json == {key: value for key, value in whole.items() if key != "data"}
    assert front.get(f"/api/requests/{request_id}?data=true").json == whole


def test_data_false_changes_nothing_about_a_failure(front: Front) -> None:
    request_id = front.ended(answer=failing(errors.UserNotFound))

    assert front.get(f"/api/requests/{request_id}?data=false").json == envelope_of(front, request_id).json


@pytest.mark.parametrize("name", ["me", "other"])
def test_the_request_of_another_account_is_404(front: Front, name: str) -> None:
    owner, stranger = (front.me, front.other) if name == "me" else (front.other, front.me)
    for request_id in (front.accept(by=owner), front.ended(by=owner)):
        assert_error(front.get(f"/api/requests/{request_id}", by=stranger), 404, "not_found")
        assert_error(front.get(f"/api/requests/{request_id}?wait=5", by=stranger), 404, "not_found")
        path = f"/api/requests/{request_id}/cancel"
        assert_error(front.call("POST", path, by=stranger), 404, "not_found")
        assert front.get(f"/api/requests/{request_id}", by=owner).status_code == 200


@pytest.mark.parametrize(
    "identifier",
    [
        "x",
        "req_",
        "req_00",
        "req_zz01m7xt6136bt5vc71920hsxsgv",
        "req_ff01m7xt6136bt5vc71920hsxsgv",
        "req_0001m7xt6136bt5vc71920hsxsgv",
        "REQ_0001M7XT6136BT5VC71920HSXSGV",
        "msg_0001m7xt6136bt5vc71920hsxsgv",
        "acc_0001m7xt6136bt5vc71920hsxsgv",
        "req_0001m7xt6136bt5vc71920hsxsgv%0A",
        "%00",
        "%ff",
        "..%2f..",
        "*",
        "{s00}:open",
        "a" * 2000,
    ],
)
def test_an_id_that_is_none_is_404(table: Front, identifier: str) -> None:
    assert_error(table.get(f"/api/requests/{identifier}"), 404, "not_found")
    assert_error(table.call("POST", f"/api/requests/{identifier}/cancel"), 404, "not_found")


def test_a_result_past_its_lifetime_is_404_and_gone_from_the_list(front: Front) -> None:
    request_id = front.ended()
    lasting = front.ended("other")
    [result] = front.redis.keys(f"*:res:{request_id}")
    assert 0 < front.redis.ttl(result) <= front.settings.policy.result_ttl
    front.redis.delete(result)
    assert_error(envelope_of(front, request_id), 404, "not_found")

    [record] = front.redis.keys(f"*:req:{request_id}")
    assert front.redis.ttl(record) > 0
    front.redis.delete(record)
    assert_error(envelope_of(front, request_id), 404, "not_found")
    assert [line["requestId"] for line in front.get("/api/requests").json["requests"]] == [lasting]


# --- wait ------------------------------------------------------------------------------------------


def test_a_long_poll_wakes_when_the_request_ends(front: Front) -> None:
    request_id = front.accept()
    answers: list[Any] = []
    path = f"/api/requests/{request_id}?wait=30"
    thread = threading.Thread(target=lambda: answers.append(front.get(path)))
    with Timer() as timer:
        thread.start()
        await_true(lambda: front.redis.pubsub_channels("*:done:*"))
        assert answers == []
        front.work(request_id)
        thread.join(60)

    assert timer.seconds < 20
    assert answers[0].json["status"] == "succeeded"
    assert answers[0].data == envelope_of(front, request_id).data


def test_many_long_polls_of_one_request_all_wake(front: Front) -> None:
    request_id = front.accept()
    answers: list[str] = []
    path = f"/api/requests/{request_id}?wait=30"
    threads = [
        threading.Thread(target=lambda: answers.append(front.get(path).json["status"])) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    [channel] = until(lambda: front.redis.pubsub_channels("*:done:*"))
    await_true(lambda: front.redis.pubsub_numsub(channel)[0][1] == 5)
    front.work(request_id)
    for thread in threads:
        thread.join(60)

    assert answers == ["succeeded"] * 5


def test_a_long_poll_leaves_no_subscription_behind(real: Front) -> None:
    request_id = real.accept()
    real.get(f"/api/requests/{request_id}?wait=0.1")

    await_true(lambda: not real.redis.pubsub_channels("*:done:*"))


def test_a_long_poll_that_ends_in_vain_tells_the_state(front: Front) -> None:
    request_id = front.accept()
    with Timer() as timer:
        response = front.get(f"/api/requests/{request_id}?wait=0.3")

    assert 0.25 <= timer.seconds < 20
    assert response.status_code == 200
    assert response.json["status"] == "queued"
    assert int(response.headers["Retry-After"]) > 0


def test_a_long_poll_of_what_has_ended_answers_at_once(front: Front) -> None:
    request_id = front.ended()
    with Timer() as timer:
        response = front.get(f"/api/requests/{request_id}?wait=30")

    assert timer.seconds < 20
    assert response.json["status"] == "succeeded"


def test_a_long_poll_past_the_cap_of_waiters_tells_the_state_at_once(make: Callable[..., Front]) -> None:
    front = make(sync_waiters=1)
    first, second = front.accept("first"), front.accept("second")
    thread = threading.Thread(target=lambda: front.get(f"/api/requests/{first}?wait=30"))
    thread.start()
    await_true(lambda: front.redis.pubsub_channels("*:done:*"))
    with Timer() as timer:
        response = front.get(f"/api/requests/{second}?wait=30")
    front.work(first)
    thread.join(60)

    assert timer.seconds < 20
    assert response.json["status"] == "queued"


# --- list ------------------------------------------------------------------------------------------


def test_a_list_shows_the_callers_requests_newest_first_without_data(front: Front) -> None:
    found = front.ended("nasa")
    missing = front.ended("nobody", failing(errors.UserNotFound))
    queued = front.stories("later", fields={"webhookUrl": HOOK}).json["requestId"]
    front.accept("foreign", by=front.other)
    body = front.get("/api/requests").json

    assert body["nextCursor"] is None
    assert [line["requestId"] for line in body["requests"]] == [queued, missing, found]
    third, second, first = body["requests"]
    assert third.items() >= {"status": "queued", "username": "later", "webhookUrl": HOOK}.items()
    assert third["finishedAt"] is None
    assert second.items() >= {"status": "failed", "code": "user_not_found", "creditsCharged": 0}.items()
    assert first.items() >= {"status": "succeeded", "outcome": "found", "itemCount": 1}.items()
    assert first["creditsCharged"] == 1
    assert all("data" not in line for line in body["requests"])


def test_the_list_tells_the_times_that_the_envelope_tells(front: Front) -> None:
    request_id = front.ended()
    [line] = front.get("/api/requests").json["requests"]
    envelope = envelope_of(front, request_id).json

    assert line["createdAt"] == envelope["createdAt"]
    assert seconds_between(line["finishedAt"], envelope["finishedAt"]) < 30


def test_a_list_is_filtered_by_status_and_by_username(front: Front) -> None:
    found = front.ended("nasa")
    missing = front.ended("nobody", failing(errors.UserNotFound))
    queued = front.accept("nasa")

    def listed(query: str) -> list[str]:
        return [line["requestId"] for line in front.get(f"/api/requests?{query}").json["requests"]]

    assert listed("status=succeeded") == [found]
    assert listed("status=failed") == [missing]
    assert listed("status=queued") == [queued]
    assert listed("status=processing") == []
    assert listed("status=cancelled") == []
    assert listed("username=nasa") == [queued, found]
    assert listed("username=NASA&status=succeeded") == [found]
    assert listed("username=nas") == []


@pytest.mark.parametrize(("limit", "pages"), [(1, 7), (3, 3), (7, 1), (200, 1)])
def test_pages_of_a_list_show_every_request_once(front: Front, limit: int, pages: int) -> None:
    made = [front.accept(f"user{n}") for n in range(7)]
    seen, cursor, count = [], "", 0
    while True:
        body = front.get(f"/api/requests?limit={limit}{cursor}").json
        if body["requests"]:
            count += 1
        seen += [line["requestId"] for line in body["requests"]]
        assert len(body["requests"]) <= limit
        if body["nextCursor"] is None:
            break
        cursor = f"&cursor={body['nextCursor']}"

    assert seen == made[::-1]
    assert count == pages


def test_what_arrives_between_two_pages_moves_nothing(front: Front) -> None:
    made = [front.accept(f"user{n}") for n in range(4)]
    first = front.get("/api/requests?limit=2").json
    front.accept("newcomer")
    second = front.get(f"/api/requests?limit=2&cursor={first['nextCursor']}").json

    assert [line["requestId"] for line in first["requests"] + second["requests"]] == made[::-1]


def test_a_list_has_50_requests_unless_asked_otherwise(make: Callable[..., Front]) -> None:
    front = make(rate_limits=())
    for n in range(51):
        front.accept(f"user{n}")
    body = front.get("/api/requests").json

    assert len(body["requests"]) == 50
    assert len(front.get(f"/api/requests?cursor={body['nextCursor']}").json["requests"]) == 1


def test_a_list_of_nothing_is_empty(front: Front) -> None:
    assert front.get("/api/requests").json == {"requests": [], "nextCursor": None}


# --- cancel ----------------------------------------------------------------------------------------


def cancel(front: Front, request_id: str) -> Any:
    return front.call("POST", f"/api/requests/{request_id}/cancel")


def test_a_queued_request_is_cancelled_and_its_hold_released(front: Front) -> None:
    request_id = front.accept()
    response = cancel(front, request_id)

    assert response.status_code == 200
    assert response.content_type == JSON
    body = response.json
    assert body["requestId"] == request_id
    assert body["status"] == "cancelled"
    assert body["creditsCharged"] == 0
    assert response.headers["X-Credits-Remaining"] == str(CREDITS)
    assert front.get("/api/credits").json == {"balance": CREDITS, "held": 0, "available": CREDITS}
    assert envelope_of(front, request_id).data == response.data
    types = [e["type"] for e in front.get("/api/credits/ledger").json["entries"]]
    assert types == ["release", "hold", "topup"]


def test_no_worker_takes_up_what_was_cancelled(front: Front) -> None:
    request_id = front.accept()
    cancel(front, request_id)
    with front.working() as source:
        front.queue.published.append(("scrape", "bulk", request_id))
        front.services.bulk.push(front.me.account.account_id, [request_id])
        front.ended("another")
    assert request_id not in source.asked
    assert front.services.requests.claim(request_id) is None
    assert envelope_of(front, request_id).json["status"] == "cancelled"


def test_a_cancelled_request_owes_the_webhook_it_asked_for(front: Front) -> None:
    request_id = front.stories(fields={"webhookUrl": HOOK}).json["requestId"]
    response = cancel(front, request_id)

    [_, (task, queue, delivery_id, host)] = front.queue.published
    assert (task, queue, host) == ("deliver", "deliver", "example.com:443")
    claim = front.services.deliveries.claim(delivery_id, host)
    assert claim.body == response.data
    assert claim.delivery.url == HOOK


def test_a_request_without_a_webhook_owes_none_when_cancelled(front: Front) -> None:
    cancel(front, front.accept())

    assert [task for task, *_ in front.queue.published] == ["gather"]


def test_what_is_being_worked_on_cannot_be_cancelled(front: Front) -> None:
    request_id = front.accept()
    front.services.requests.claim(request_id)

    assert_error(cancel(front, request_id), 409, "conflict")
    assert envelope_of(front, request_id).json["status"] == "processing"
    assert front.available() == CREDITS - 1


@pytest.mark.parametrize("failed", [False, True])
def test_what_has_ended_cannot_be_cancelled(front: Front, failed: bool) -> None:
    answers = {"answer": failing(errors.UserNotFound)} if failed else {}
    request_id = front.ended(**answers)
    before = front.stored()

    assert_error(cancel(front, request_id), 409, "conflict")
    assert front.stored() == before


def test_cancelling_twice_releases_once(front: Front) -> None:
    request_id = front.accept()
    first = cancel(front, request_id)
    before = front.stored()
    second = cancel(front, request_id)

    assert second.status_code in (200, 409)
    if second.status_code == 200:
        assert second.data == first.data
    assert front.stored() == before
    assert front.available() == CREDITS


def test_a_caller_who_waits_for_what_is_cancelled_gets_409(front: Front) -> None:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(front.stories()))
    thread.start()
    await_true(lambda: front.redis.pubsub_channels("*:done:*"))
    [(_, _, request_id)] = front.queue.published
    cancelled = cancel(front, request_id)
    thread.join(60)

    assert cancelled.status_code == 200
    assert answers[0].status_code == 409
    assert answers[0].json["code"] == "cancelled"
    assert json.loads(answers[0].data) == cancelled.json


def until(condition: Callable[[], Any]) -> Any:
    await_true(condition)
    return condition()


def seconds_between(first: str, second: str) -> float:
    return abs((datetime.fromisoformat(first) - datetime.fromisoformat(second)).total_seconds())
