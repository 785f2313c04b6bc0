"""The whole service, lost and brought back from a backup that was taken while it worked."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from redis import Redis

from service.stores import meta
from tests.conftest import await_true
from tests.e2e.clients import Customer
from tests.e2e.receiver import Receiver
from tests.e2e.stack import IMPATIENT, Stack, leaving_nothing

FILE = "var/storyhook.backup"
ONCE = {"headers": {"Idempotency-Key": "once"}, "json": {"username": "nasa"}}


@pytest.fixture
def mortal(home: Callable[[], Path]) -> Iterator[Stack]:
    """A service that a test may lose."""
    with leaving_nothing(Stack(home(), **IMPATIENT)) as stack:
        yield stack.start()


def test_a_lost_store_comes_back_from_a_backup(mortal: Stack, receiver: Receiver) -> None:
    customer = mortal.customer(20)
    told = customer.queue("nasa", webhook=receiver.url)
    receiver.wait_for(told)
    mortal.end("deliverer")
    owed = customer.queue("empty_anna", webhook=receiver.url)
    customer.outcome(owed)
    mortal.end("worker")
    waiting = [customer.queue("nasa", webhook=receiver.url) for _ in range(3)]
    once = customer.call("POST", "/api/instagram/stories", **ONCE).json()["requestId"]
    before = seen_by(customer, told, owed)

    assert_told(mortal, "backup", "4 of them open, 1 webhook(s) to be sent")
    refused = mortal.storyhook("restore", FILE)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert customer.queue("nasa")  # it comes too late to be in the backup
    mortal.stop()
    shutil.rmtree(mortal.folder / "store")
    mortal.start("store")
    assert_no_start_while_half_restored(mortal)
    assert_told(mortal, "restore", "everything adds up")

    mortal.start("instagram", "web")
    await_true(lambda: answers(customer), 30)
    assert seen_by(customer, told, owed) == before
    mortal.start("worker", "deliverer", "beat")
    mortal.await_ready()
    for request_id in (owed, *waiting):
        envelope = receiver.wait_for(request_id)[0].verified(customer.secret())
        assert envelope["outcome"] == ("empty" if request_id == owed else "found")
    assert customer.call("POST", "/api/instagram/stories", **ONCE).json()["requestId"] == once
    assert customer.outcome(once)["creditsCharged"] == 1
    assert customer.credits() == {**customer.credits(), "balance": 14, "held": 0}
    assert len(receiver.about(told)) == 1, "what was sent before is not sent again"
    assert_told(mortal, "audit", "everything adds up", file="")


def seen_by(customer: Customer, *request_ids: str) -> list[Any]:
    """What a customer sees of credits, secrets, requests and webhooks."""
    seen: list[Any] = [customer.credits(), customer.ledger(), customer.secret()]
    for request_id in request_ids:
        seen += [customer.look(request_id).json(), customer.delivery(request_id.replace("req", "msg", 1))]
    return seen


def assert_told(stack: Stack, command: str, told: str, *, file: str = FILE) -> None:
    answer = stack.storyhook(command, *([file] if file else []))
    assert (answer.returncode, answer.stderr) == (0, "")
    assert told in answer.stdout


def assert_no_start_while_half_restored(stack: Stack) -> None:
    """A mark such as a restore leaves that was killed; it is taken away again."""
    with Redis.from_url(stack.plan.environment["REDIS_URL"]) as redis:
        meta.wait_until_ready(redis, 30)
        redis.hset("g:meta", "restoring", "abc")
        before = redis.dbsize()
        for command in (("web",), ("account", "list"), ("restore", FILE)):
            refused = stack.storyhook(*command, **stack.plan.environment)
            told = [line for line in refused.stderr.splitlines() if "[info " not in line]  # the web server's
            assert (refused.returncode, len(told)) == (2, 1), refused.stderr
            assert "restore" in refused.stderr
        assert redis.dbsize() == before
        redis.delete("g:meta")


def answers(customer: Customer) -> bool:
    with suppress(requests.RequestException):
        return customer.call("GET", "/healthz").ok
    return False
