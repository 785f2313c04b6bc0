"""A watch over the real processes: every new item arrives once, whoever is killed meanwhile."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.stores import keys
from service.stores.connection import open_store
from tests.conftest import await_true
from tests.e2e.clients import Customer
from tests.e2e.receiver import Receiver
from tests.e2e.stack import IMPATIENT, Stack, leaving_nothing

NAME = "watched.by.many"


@pytest.fixture(scope="module")
def hasty(home: Callable[[], Path]) -> Iterator[Stack]:
    """A service that lets watches run every second, with two beats."""
    with leaving_nothing(Stack(home(), **IMPATIENT, WATCH_EVERY_LEAST="1")) as stack:
        stack.start()
        redis = open_store(stack.plan.environment["REDIS_URL"])
        await_true(lambda: redis.exists(keys.BEAT_LEADER), 40)
        redis.close()
        yield stack.start("beat.2")  # waits for the lead


class Watched:
    """A watch, and the account it looks at."""

    def __init__(self, stack: Stack, receiver: Receiver, **asked: Any) -> None:
        self.stack, self.receiver = stack, receiver
        self.customer: Customer = stack.customer(50)
        self.show("empty")
        body = {"username": NAME, "every": "2s", "webhookUrl": receiver.url, "maxAge": 0, **asked}
        made = self.customer.call("POST", "/api/watches", json=body)
        assert made.status_code == 201, made.text
        self.watch_id = made.json()["watchId"]

    def show(self, scene: str) -> None:
        """Let the account have other stories from now on."""
        self.stack.simulator.knobs(scene_overrides={NAME: scene})

    def look(self) -> dict[str, Any]:
        shown: dict[str, Any] = self.customer.call("GET", f"/api/watches/{self.watch_id}").json()
        return shown

    def await_runs(self, more: int = 2) -> None:
        """Wait until so many further runs have ended: the last of them began after this."""
        before = self.look()["runs"]
        await_true(lambda: self.look()["runs"] >= before + more, 60)

    def envelopes(self) -> dict[str, dict[str, Any]]:
        """What arrived, by webhook-id: one that came twice is one."""
        return {each.delivery_id: json.loads(each.body) for each in list(self.receiver.arrivals)}

    def items(self) -> Counter[str]:
        return Counter(item["pk"] for each in self.envelopes().values() for item in each["data"]["items"])

    def live(self) -> set[str]:
        """What the account shows right now, asked for by somebody else."""
        answer = self.stack.customer(1).stories(NAME, prefer="wait=20", maxAge=0).json()
        return {item["pk"] for item in answer["data"]["items"]}


def test_every_new_item_arrives_once_whoever_is_killed(hasty: Stack, receiver: Receiver) -> None:
    watched = Watched(hasty, receiver)
    began, handed_in = time.monotonic(), hasty.output("worker").count(f"watchId={watched.watch_id}")
    watched.await_runs(5)
    handed_in = hasty.output("worker").count(f"watchId={watched.watch_id}") - handed_in
    assert 5 <= handed_in <= (time.monotonic() - began) / 2 + 2, "of two beats one has it run"
    assert receiver.arrivals == [], "nothing is new, nothing is said"
    assert watched.look()["lastOutcome"] == "nothing_new"
    assert watched.customer.credits() == {"balance": 50, "held": 0, "available": 50}

    hasty.simulator.knobs(latency_ms=1_500)
    watched.show("normal")
    await_true(lambda: _is_worked_on(hasty, watched.watch_id), 30)
    hasty.restart("worker")  # killed in the middle of a run
    hasty.simulator.knobs(latency_ms=0)
    expected = watched.live()
    await_true(lambda: set(watched.items()) >= expected, 60)
    watched.await_runs()

    hasty.kill("beat")
    redis = open_store(hasty.plan.environment["REDIS_URL"])
    redis.pexpire(keys.BEAT_LEADER, 1)  # as if its time had passed
    redis.close()
    watched.show("drift")
    expected |= watched.live()
    await_true(lambda: set(watched.items()) >= expected, 60)
    hasty.start("beat")

    watched.show("huge")
    expected |= watched.live()
    await_true(lambda: set(watched.items()) >= expected, 60)
    watched.await_runs()

    assert [pk for pk, count in watched.items().items() if count > 1] == []
    told = watched.envelopes().values()
    assert {each["watchId"] for each in told} == {watched.watch_id}
    shown = watched.look()
    assert shown["itemsDelivered"] == sum(watched.items().values())
    assert watched.customer.credits()["balance"] == 50 - len(told), "each webhook is one charge"
    assert watched.customer.call("DELETE", f"/api/watches/{watched.watch_id}").status_code == 204


def _is_worked_on(stack: Stack, watch_id: str) -> bool:
    watch = stack.services.watches.get(watch_id)
    record = stack.services.requests.get(watch.running) if watch and watch.running else None
    return record is not None and record.status == "processing"


def test_a_webhook_that_fails_for_good_is_made_up_for(hasty: Stack) -> None:
    # The schedule of this stack has four attempts.
    with Receiver(500, 500, 500, 500) as receiver:
        watched = Watched(hasty, receiver)
        watched.show("normal")
        await_true(lambda: any(each.answered == 204 for each in list(receiver.arrivals)), 60)
        watched.await_runs()
        expected = watched.live()
        assert set(watched.items()) == expected
        assert len({each.delivery_id for each in receiver.arrivals}) == 1, "one webhook, sent again"
        assert watched.customer.credits()["balance"] == 49

        paused = watched.customer.call("POST", f"/api/watches/{watched.watch_id}/pause").json()
        assert paused["status"] == "paused"
        receiver.answers += [410]
        watched.show("huge")
        assert watched.customer.call("POST", f"/api/watches/{watched.watch_id}/resume").ok
        await_true(lambda: watched.look()["status"] == "paused", 60)
        assert watched.look()["pauseReason"] == "receiver_gone"
        watched.customer.call("POST", f"/api/watches/{watched.watch_id}/resume")
        expected |= watched.live()
        await_true(lambda: set(watched.items()) >= expected, 60)
        assert watched.customer.call("DELETE", f"/api/watches/{watched.watch_id}").status_code == 204
