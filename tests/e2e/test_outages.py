"""What is lost on the way is found again, and charged once: killed, frozen, flushed and restarted."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
import requests

from tests.conftest import await_true
from tests.e2e.clients import Customer
from tests.e2e.receiver import Receiver
from tests.e2e.stack import Stack

CHARGED = [("hold", -1), ("charge", -1)]


@pytest.fixture
def customer(impatient: Stack) -> Customer:
    return impatient.customer()


def test_a_call_past_the_sync_deadline_is_answered_202(customer: Customer) -> None:
    answer = customer.stories("slow_2_anna")
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    assert answer.headers["Location"] == f"/api/requests/{answer.json()['requestId']}"
    assert customer.outcome(answer.json()["requestId"])["outcome"] == "found"


def test_a_worker_killed_in_the_middle_is_replaced_and_charged_once(
    impatient: Stack, customer: Customer, receiver: Receiver
) -> None:
    request_id = customer.queue("slow_2_bert", webhook=receiver.url)
    await_true(lambda: impatient.simulator.about("slow_2_bert") == 2)  # found by name, its feed is asked for
    impatient.restart("worker")
    assert customer.look(request_id).json()["status"] == "processing"
    assert customer.outcome(request_id)["outcome"] == "found"
    record = impatient.services.requests.get(request_id)
    assert record is not None
    assert record.attempts == 2
    assert customer.ledger(request_id) == CHARGED
    assert customer.credits() == {"balance": 99, "held": 0, "available": 99}
    assert len(receiver.wait_for(request_id)) == 1


def test_a_receiver_that_refuses_first_gets_it_later(customer: Customer, receiver: Receiver) -> None:
    receiver.answers = [500]
    request_id = customer.queue("nasa", webhook=receiver.url)
    [first] = receiver.wait_for(request_id)
    await_true(lambda: customer.delivery(first.delivery_id)["log"])
    looked, owed = time.time(), customer.delivery(first.delivery_id)
    assert (owed["status"], owed["attempts"], owed["requestId"]) == ("pending", 1, request_id)
    next_at = datetime.fromisoformat(owed["nextAttemptAt"]).timestamp()
    # 2 s, give or take a fifth, from when the deliverer wrote down what came of the first.
    assert first.at + 1.5 < next_at < looked + 2.5
    _, second = receiver.wait_for(request_id, 2)
    assert second.at >= next_at - 0.1
    assert (second.delivery_id, second.body) == (first.delivery_id, first.body)
    assert second.headers["webhook-timestamp"] > first.headers["webhook-timestamp"]
    assert second.verified(customer.secret())["requestId"] == request_id
    await_true(lambda: customer.delivery(first.delivery_id)["status"] == "delivered")
    assert [attempt["status"] for attempt in customer.delivery(first.delivery_id)["log"]] == [500, 204]
    assert customer.ledger(request_id) == CHARGED


def test_a_delivery_given_up_can_be_sent_again(customer: Customer, receiver: Receiver) -> None:
    receiver.answers = [500] * 4  # the first attempt and those of the schedule
    request_id = customer.queue("nasa", webhook=receiver.url)
    delivery_id = receiver.wait_for(request_id, 4)[0].delivery_id
    await_true(lambda: customer.delivery(delivery_id)["status"] == "exhausted")
    replayed = customer.call("POST", f"/api/webhooks/deliveries/{delivery_id}/replay")
    assert (replayed.status_code, replayed.json()["previousStatus"]) == (202, "exhausted")
    last = receiver.wait_for(request_id, 5)[-1]
    assert (last.delivery_id, last.body) == (delivery_id, customer.look(request_id).content)
    assert last.verified(customer.secret())["requestId"] == request_id
    await_true(lambda: customer.delivery(delivery_id)["status"] == "delivered")
    assert customer.ledger(request_id) == CHARGED


def test_a_receiver_that_is_gone_ends_it(customer: Customer, receiver: Receiver) -> None:
    receiver.answers = [410]
    [arrival] = receiver.wait_for(customer.queue("nasa", webhook=receiver.url))
    await_true(lambda: customer.delivery(arrival.delivery_id)["status"] == "gone")


def test_messages_lost_with_the_broker_are_published_again(
    impatient: Stack, customer: Customer, receiver: Receiver
) -> None:
    queue = impatient.services.queue
    assert impatient.end("worker") == []
    with impatient.frozen("deliverer"):
        ids = [customer.queue(f"queued{number}", webhook=receiver.url) for number in range(5)]
        assert queue.depths()["bulk"] >= 1  # one calls a worker for all of them
        with impatient.broker() as broker:
            broker.flushdb()
        assert queue.depths()["bulk"] == 0
        impatient.start("worker")
    for request_id in ids:
        assert customer.outcome(request_id)["outcome"] in {"found", "empty"}
        assert len(receiver.wait_for(request_id)) == 1
        assert customer.ledger(request_id) == CHARGED
    assert customer.credits() == {"balance": 95, "held": 0, "available": 95}


def test_a_broker_that_forgets_everything_while_all_is_idle_is_no_outage(
    impatient: Stack, customer: Customer, receiver: Receiver
) -> None:
    with impatient.broker() as broker:
        broker.flushdb()
    request_id = customer.queue("nasa", webhook=receiver.url)
    assert customer.outcome(request_id)["outcome"] == "found"
    receiver.wait_for(request_id)


def test_a_store_killed_while_idle_heals(impatient: Stack, customer: Customer, receiver: Receiver) -> None:
    before = customer.outcome(customer.queue("nasa"))
    impatient.kill("store")
    down = customer.stories("nasa")
    assert (down.status_code, down.json()["code"]) == (503, "service_unavailable")
    assert "Retry-After" in down.headers
    impatient.start("store")
    impatient.await_ready()
    assert customer.outcome(before["requestId"]) == before
    assert customer.stories("nasa").status_code in {200, 202}  # 202: the workers are just coming back
    request_id = customer.queue("natgeo", webhook=receiver.url)
    assert customer.outcome(request_id)["outcome"] == "found"
    receiver.wait_for(request_id)
    assert customer.ledger(request_id) == CHARGED


def test_a_front_end_killed_loses_no_request(impatient: Stack, customer: Customer) -> None:
    request_id = customer.queue("slow_1_carl")
    impatient.restart("web")
    await_true(lambda: _answers(customer), 30)
    assert customer.outcome(request_id)["outcome"] == "found"
    assert customer.ledger(request_id) == CHARGED


def test_a_whole_restart_keeps_what_is_queued(
    impatient: Stack, customer: Customer, receiver: Receiver
) -> None:
    demo_key, demo_credits = impatient.api_key, impatient.demo.credits()
    done = customer.outcome(customer.queue("nasa"))
    assert impatient.end("worker") == []
    queued = customer.queue("natgeo", webhook=receiver.url)
    impatient.stop()
    impatient.assert_gone()
    assert receiver.arrivals == []

    impatient.start()
    [arrival] = receiver.wait_for(queued)
    assert arrival.verified(customer.secret())["outcome"] == "found"
    assert arrival.body == customer.look(queued).content
    assert customer.outcome(done["requestId"]) == done
    listed = customer.call("GET", "/api/requests").json()["requests"]
    assert [line["requestId"] for line in listed] == [queued, done["requestId"]]
    assert customer.credits() == {"balance": 98, "held": 0, "available": 98}
    assert (impatient.api_key, impatient.demo.credits()) == (demo_key, demo_credits)


def _answers(customer: Customer) -> bool:
    try:
        return customer.call("GET", "/healthz", timeout=2).ok
    except requests.RequestException:
        return False


def test_everybody_outlives_a_store_that_hangs(impatient: Stack, customer: Customer) -> None:
    told = impatient.output("beat").count("beat.store_unavailable")
    with impatient.frozen("store"):
        await_true(lambda: impatient.output("beat").count("beat.store_unavailable") > told, 30)
    await_true(lambda: customer.stories("anna").status_code == 200, 30)
    # A lead that ended meanwhile is taken again.
    await_true(impatient.services.stats.beat_leads, 40)
    assert all(impatient.runs(name) for name in ("web", "worker", "deliverer", "beat"))
