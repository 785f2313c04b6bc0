"""The whole way through: a call, what it is answered, what arrives by webhook, what it costs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.conftest import await_true
from tests.e2e.clients import Customer
from tests.e2e.receiver import Receiver
from tests.e2e.stack import Stack

FOUND, EMPTY = ("found", 200, 1), ("empty", 200, 1)
BLOCKED = ("upstream_blocked", 503, 0)
FAILED = ("upstream_error", 502, 0)

CHARGED = [("hold", -1), ("charge", -1)]
RELEASED = [("hold", -1), ("release", 1)]


def settled(charge: int) -> list[tuple[str, int]]:
    """The ledger of one request that cost so much."""
    return CHARGED if charge else RELEASED


def test_a_sync_call(customer: Customer) -> None:
    answer = customer.stories("https://www.instagram.com/NASA/")
    body = answer.json()
    assert (answer.status_code, body["outcome"], body["username"]) == (200, "found", "nasa")
    assert (body["itemCount"], body["creditsCharged"]) == (len(body["data"]["items"]), 1)
    assert all(isinstance(item["pk"], str) for item in body["data"]["items"])
    assert (answer.headers["X-Credits-Charged"], answer.headers["X-Credits-Remaining"]) == ("1", "99")
    assert answer.headers["X-Request-Id"] == body["requestId"]
    assert customer.look(body["requestId"]).content == answer.content
    assert customer.credits() == {"balance": 99, "held": 0, "available": 99}


def test_a_webhook_is_signed_over_what_is_polled(customer: Customer, receiver: Receiver) -> None:
    answer = customer.stories("natgeo", webhook=receiver.url)
    request_id = answer.json()["requestId"]
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    assert answer.headers["Location"] == f"/api/requests/{request_id}"
    [arrival] = receiver.wait_for(request_id)
    assert arrival.verified(customer.secret())["outcome"] == "found"
    assert arrival.body == customer.look(request_id).content
    assert arrival.headers["Content-Type"] == "application/json"
    assert customer.ledger(request_id) == CHARGED
    with pytest.raises(WebhookVerificationError):
        Webhook(customer.secret()).verify(arrival.body + b" ", dict(arrival.headers))


@pytest.mark.parametrize(
    ("username", "expected", "asked"),
    [
        ("natgeo", FOUND, 1),
        ("empty_anna", EMPTY, 1),
        ("private_anna", ("account_private", 403, 0), 1),
        ("missing_anna", ("user_not_found", 404, 0), 0),
        ("flaky_anna", FOUND, 2),
        ("ratelimited_anna", BLOCKED, 3),
        ("challenge_anna", BLOCKED, 3),
        ("error_anna", FAILED, 3),
        ("html_anna", FAILED, 3),
        ("timeout408_anna", ("upstream_timeout", 504, 0), 3),
    ],
)
def test_each_outcome_has_its_status_and_its_price(
    stack: Stack, customer: Customer, username: str, expected: tuple[str, int, int], asked: int
) -> None:
    outcome, status, charge = expected
    answer = customer.stories(username, maxAge=0)
    body = answer.json()
    assert (body.get("outcome") or body.get("code"), answer.status_code) == (outcome, status)
    assert (body["success"], body["creditsCharged"]) == (status == 200, charge)
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert body["success"] or body["error"]
    assert customer.credits() == {"balance": 100 - charge, "held": 0, "available": 100 - charge}
    assert customer.ledger(body["requestId"]) == settled(charge)
    assert customer.look(body["requestId"]).content == answer.content
    assert stack.simulator.calls()["by_endpoint"].get("story_feed", 0) == asked


def test_a_failure_is_delivered_too(customer: Customer, receiver: Receiver) -> None:
    request_id = customer.queue("missing_ben", webhook=receiver.url)
    [arrival] = receiver.wait_for(request_id)
    envelope = arrival.verified(customer.secret())
    assert (envelope["success"], envelope["code"]) == (False, "user_not_found")
    polled = customer.look(request_id)
    assert (polled.status_code, polled.content) == (200, arrival.body)


def test_a_call_that_outlasts_its_wait_is_answered_202_and_long_polled(customer: Customer) -> None:
    answer = customer.stories("slow_5_anna", prefer="wait=1")
    request_id = answer.json()["requestId"]
    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "2")
    assert answer.headers["Preference-Applied"] == "wait=1"
    await_true(lambda: customer.look(request_id).json()["status"] != "queued")  # a busy worker is late
    running = customer.look(request_id)
    assert (running.status_code, running.json()["status"]) == (200, "processing")
    assert customer.credits() == {"balance": 100, "held": 1, "available": 99}
    assert customer.outcome(request_id)["outcome"] == "found"
    assert customer.ledger(request_id) == CHARGED


def test_twenty_callers_at_once_are_all_answered_and_charged_once(stack: Stack, customer: Customer) -> None:
    names = [f"caller{number:02d}" for number in range(20)]
    with ThreadPoolExecutor(len(names)) as threads:
        answers = list(threads.map(customer.stories, names))
    assert [answer.status_code for answer in answers] == [200] * len(names)
    assert [answer.json()["username"] for answer in answers] == names
    assert customer.credits() == {"balance": 80, "held": 0, "available": 80}
    for answer in answers:
        assert customer.ledger(answer.json()["requestId"]) == CHARGED
    assert {name: stack.simulator.about(name) for name in names} == dict.fromkeys(names, 2)


def test_a_queued_request_can_be_cancelled(stack: Stack, customer: Customer, receiver: Receiver) -> None:
    with stack.frozen("worker"):
        request_id = customer.queue("cancelled_carl", webhook=receiver.url)
        assert customer.look(request_id).json()["status"] == "queued"
        answer = customer.call("POST", f"/api/requests/{request_id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert customer.credits() == {"balance": 100, "held": 0, "available": 100}
        [arrival] = receiver.wait_for(request_id)
        assert arrival.body == answer.content
        assert arrival.verified(customer.secret())["code"] == "cancelled"
        again = customer.call("POST", f"/api/requests/{request_id}/cancel")
        assert (again.status_code, again.content) == (200, answer.content)
    assert customer.stories("after_carl").status_code == 200  # the worker has had its message by now
    assert stack.simulator.about("cancelled_carl") == 0
    assert customer.ledger(request_id) == RELEASED
    assert len(receiver.about(request_id)) == 1


def test_a_request_under_way_cannot_be_cancelled(stack: Stack, customer: Customer) -> None:
    request_id = customer.queue("slow_1_dora")
    await_true(lambda: stack.simulator.about("slow_1_dora") > 0)
    assert customer.call("POST", f"/api/requests/{request_id}/cancel").status_code == 409
    assert customer.outcome(request_id)["outcome"] == "found"
    assert customer.ledger(request_id) == CHARGED


def test_402_when_credits_are_short(stack: Stack) -> None:
    poor = stack.customer(credits=1)
    request_id = poor.queue("slow_1_emil")
    refused = poor.stories("nasa")
    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_credits")
    assert poor.outcome(request_id)["creditsCharged"] == 1
    assert poor.stories("nasa").status_code == 402
    assert poor.credits() == {"balance": 0, "held": 0, "available": 0}
    assert poor.ledger() == [("topup", 1), *CHARGED]


def test_a_failed_fetch_leaves_the_last_credit_to_be_spent(stack: Stack) -> None:
    poor = stack.customer(credits=1)
    assert poor.stories("missing_emil").status_code == 404
    assert poor.stories("nasa").status_code == 200


def test_another_account_sees_nothing_of_it(stack: Stack, customer: Customer) -> None:
    other = stack.customer()
    request_id = customer.stories("nasa").json()["requestId"]
    assert other.look(request_id).status_code == 404
    assert other.call("GET", "/api/requests").json()["requests"] == []
