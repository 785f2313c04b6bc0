"""Webhooks of real processes: failed attempts, a killed deliverer, and the README's way to verify."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.domain import ids
from tests.conftest import await_true
from tests.e2e.clients import Customer
from tests.e2e.stack import Stack, leaving_nothing
from tests.webhooks.support import Arrival, Receiver, make_due, owe

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
NODE = shutil.which("node")

# Long enough that on a busy machine no attempt times out, and no pump is quicker than a hint.
# Leases outlast the limit of an attempt by 15 seconds.
TIMEOUT = 10
GRACE = 30
SETTINGS = {
    "WEBHOOK_SCHEDULE": "1,1,1,1",
    "WEBHOOK_TIMEOUT": str(TIMEOUT),
    "PICKUP_GRACE": str(GRACE),
}
LEASE = TIMEOUT + 15


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A store, a front end and a deliverer; what is fetched is of no matter here."""
    with leaving_nothing(Stack(tmp_path_factory.mktemp("home"), **SETTINGS)) as stack:
        stack.start("store")
        assert stack.services
        stack.start("web", "deliverer")
        await_true(stack.services.stats.workers, 30)
        yield stack


@pytest.fixture(scope="module")
def customer(stack: Stack) -> Customer:
    customer = stack.customer(credits=0)
    await_true(lambda: answers(customer), 30)
    return customer


def answers(customer: Customer) -> bool:
    try:
        return customer.call("GET", "/healthz").ok
    except OSError:
        return False


def account_of(stack: Stack, customer: Customer) -> str:
    key_id = stack.services.keys.key_id(customer.api_key)
    assert key_id
    key = stack.services.accounts.key(key_id)
    assert key
    return key.account_id


def send(stack: Stack, customer: Customer, receiver: Receiver) -> str:
    """Owe a webhook and tell the deliverer, as a worker does; return the delivery's id."""
    delivery_id = owe(stack.services, account_of(stack, customer), receiver.url)
    stack.services.queue.enqueue("deliver", "deliver", delivery_id, receiver.host)
    return delivery_id


def shown(customer: Customer, delivery_id: str) -> dict[str, Any]:
    body: dict[str, Any] = customer.call("GET", f"/api/webhooks/deliveries/{delivery_id}").json()
    return body


@pytest.fixture(scope="module")
def delivered(stack: Stack, customer: Customer) -> Arrival:
    """A webhook that a receiver really got."""
    with Receiver() as receiver:
        send(stack, customer, receiver)
        await_true(lambda: receiver.arrivals, 20)
    return receiver.arrivals[0]


def test_a_receiver_that_is_busy_for_a_while_gets_it_afterwards(stack: Stack, customer: Customer) -> None:
    with Receiver(503, (503, {"Retry-After": "1"}, b"later"), 503, 200) as receiver:
        delivery_id = send(stack, customer, receiver)
        await_true(lambda: shown(customer, delivery_id)["status"] == "delivered", 30)
    assert {arrival.delivery_id for arrival in receiver.arrivals} == {delivery_id}
    assert len({arrival.body for arrival in receiver.arrivals}) == 1
    for arrival in receiver.arrivals:
        assert verify_as_the_readme_does(customer.secret(), arrival)["requestId"] == ids.request_of(
            delivery_id
        )
    delivery = shown(customer, delivery_id)
    assert delivery["attempts"] == 4
    assert [attempt["status"] for attempt in delivery["log"]] == [503, 503, 503, 200]
    assert delivery["log"][1]["snippet"] == "later"
    assert [str(attempt["timestamp"]) for attempt in delivery["log"]] == [
        arrival.headers["webhook-timestamp"] for arrival in receiver.arrivals
    ]


def test_the_first_attempt_does_not_wait_for_a_tick(stack: Stack, customer: Customer) -> None:
    with Receiver() as receiver:
        delivery_id = send(stack, customer, receiver)
        await_true(lambda: receiver.arrivals, 20)
        await_true(lambda: shown(customer, delivery_id)["status"] == "delivered")
    delivery = stack.services.deliveries.get(delivery_id)
    assert delivery
    [attempt] = stack.services.deliveries.attempts(delivery_id)
    assert attempt.at * 1000 - delivery.created_at < GRACE * 1000


def test_without_a_hint_the_pump_finds_it(stack: Stack, customer: Customer) -> None:
    with Receiver() as receiver:
        delivery_id = owe(stack.services, account_of(stack, customer), receiver.url)
        make_due(stack.redis, delivery_id)  # the hint's time is over
        await_true(lambda: receiver.arrivals, 30)
        await_true(lambda: shown(customer, delivery_id)["status"] == "delivered")


def test_a_deliverer_killed_during_an_attempt_loses_nothing(stack: Stack, customer: Customer) -> None:
    with Receiver() as receiver:
        receiver.gate.clear()
        delivery_id = send(stack, customer, receiver)
        await_true(lambda: receiver.arrivals, 20)
        stack.restart("deliverer")
        receiver.gate.set()
        delivery = shown(customer, delivery_id)
        assert (delivery["status"], delivery["attempts"]) == ("pending", 0)
        assert customer.call("POST", f"/api/webhooks/deliveries/{delivery_id}/replay").status_code == 409
        await_true(lambda: shown(customer, delivery_id)["status"] == "delivered", LEASE + 45)
    assert [arrival.delivery_id for arrival in receiver.arrivals] == [delivery_id] * 2
    assert len({arrival.body for arrival in receiver.arrivals}) == 1
    secret = customer.secret()
    for arrival in receiver.arrivals:
        assert verify_as_the_readme_does(secret, arrival)["success"] is True
    assert [attempt["status"] for attempt in shown(customer, delivery_id)["log"]] == [204]
    assert stack.services.hosts.room(receiver.host) == (10, 0)


# --- what the README tells receivers to do -------------------------------------------------------


def example(language: str, containing: str) -> str:
    """Return the code of the README that verifies a webhook."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    [found] = [block for block in blocks if containing in block]
    assert isinstance(found, str)
    return found


def verify_as_the_readme_does(secret: str, arrival: Arrival) -> dict[str, Any]:
    space: dict[str, Any] = {}
    exec(example("python", "standardwebhooks").replace("whsec_...", secret), space)
    envelope: dict[str, Any] = space["receive"](arrival.body, dict(arrival.headers))
    return envelope


def test_the_python_example_verifies_a_delivered_webhook(customer: Customer, delivered: Arrival) -> None:
    envelope = verify_as_the_readme_does(customer.secret(), delivered)
    assert envelope["username"] == "anna"
    forged = Arrival(delivered.headers, delivered.body.replace(b"anna", b"otto"))
    with pytest.raises(Exception, match="No matching signature"):
        verify_as_the_readme_does(customer.secret(), forged)


AROUND_N8N = """
const given = JSON.parse(require("fs").readFileSync(0, "utf8"));
const $input = { first: () => ({ json: { headers: given.headers } }) };
const node = { helpers: { getBinaryDataBuffer: async () => Buffer.from(given.body, "base64") } };
(async function () {
%s
}).call(node).then((items) => console.log(JSON.stringify(items[0].json)),
                   (error) => { console.error(error.message); process.exit(3); });
"""


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_the_javascript_example_verifies_a_delivered_webhook(customer: Customer, delivered: Arrival) -> None:
    code = AROUND_N8N % example("javascript", "createHmac").replace("whsec_...", customer.secret())
    taken = in_node(code, delivered)
    assert taken.returncode == 0, taken.stderr
    assert json.loads(taken.stdout) == json.loads(delivered.body)
    forged = in_node(code, Arrival(delivered.headers, delivered.body.replace(b"anna", b"otto")))
    assert (forged.returncode, forged.stdout) == (3, "")
    old = {**delivered.headers, "webhook-timestamp": str(int(delivered.headers["webhook-timestamp"]) - 301)}
    assert in_node(code, Arrival(old, delivered.body)).returncode == 3


def in_node(code: str, arrival: Arrival) -> subprocess.CompletedProcess[str]:
    headers = {name.lower(): value for name, value in arrival.headers.items()}
    given = json.dumps({"headers": headers, "body": b64(arrival.body)})
    assert NODE
    return subprocess.run(
        [NODE, "-e", code], input=given, capture_output=True, text=True, timeout=30, check=False
    )


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
