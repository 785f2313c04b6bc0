"""What stands in a broker's lists and is no message of ours: dropped with a warning, and work goes on."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.domain.requests import BULK, DELIVER, DELIVERIES, GATHER, INTERACTIVE, SCRAPE
from tests.conftest import await_true
from tests.e2e.receiver import Receiver
from tests.e2e.stack import BROKER, ELSEWHERE, IMPATIENT, Stack, leaving_nothing

pytestmark = pytest.mark.skipif(bool(BROKER or ELSEWHERE), reason="it writes into the lists of a Redis")


@pytest.fixture(scope="module")
def own_stack(home: Callable[[], Path]) -> Iterator[Stack]:
    with leaving_nothing(Stack(home(), LOG_FORMAT="json", **IMPATIENT)) as stack:
        yield stack.start()


def message(task: Any, call: Any, **changes: Any) -> dict[str, Any]:
    """Return a message as Celery writes one, with what a test changes of it."""
    encoded = base64.b64encode(json.dumps(call).encode()).decode()
    made = {
        "body": encoded,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task,
            "id": "an-id",
            "root_id": "an-id",
            "parent_id": None,
            "group": None,
        },
        "properties": {
            "correlation_id": "an-id",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "bulk", "routing_key": "bulk"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "a-tag",
        },
    }
    return {**made, **changes}


def without(name: str) -> dict[str, Any]:
    made = message(SCRAPE, [["req_x"], {}, {}])
    del made["properties"][name]
    return made


def headed(**changes: Any) -> dict[str, Any]:
    made = message(GATHER, [[], {}, {}])
    made["headers"].update(changes)
    return made


EMPTY: dict[str, Any] = {}
NO_MESSAGES = {
    "no JSON": "}{",
    "bytes": b"\xff\xfe\x00",
    "half": '{"body": "',
    "deep": "[" * 100_000,
    "number": "7",
    "text": '"text"',
    "list": "[1, 2]",
    "null": "null",
    "empty": "{}",
    "no properties": json.dumps({"body": "", "headers": {}}),
    "properties of text": json.dumps({"properties": "x", "headers": {}}),
    "no tag": json.dumps(without("delivery_tag")),
    "no delivery info": json.dumps(without("delivery_info")),
    "headers of text": json.dumps(message(SCRAPE, [[], {}, {}], headers="x")),
    "headers of a list": json.dumps(message(SCRAPE, [[], {}, {}], headers=[1])),
    "a body that is no base64": json.dumps(message(SCRAPE, [], body="*")),
    "a date that is none": '{"__type__": "datetime", "__value__": "x"}',
}
NO_CALLS = {
    "unknown task": message("nobody.knows", [[], {}, {}]),
    "task of Celery": message("celery.backend_cleanup", [[], {}, {}]),
    "task of a list": message(["scrape"], [[], {}, {}]),
    "no task": message(None, [[], {}, {}]),
    "no arguments": message(SCRAPE, [[], {}, {}]),
    "one too many": message(SCRAPE, [["req_1", "req_2"], {}, {}]),
    "a number": message(SCRAPE, [[7], {}, {}]),
    "an object": message(SCRAPE, [[{"a": 1}], {}, {}]),
    "no id": message(SCRAPE, [["req_x"], {}, {}]),
    "named": message(SCRAPE, [[], {"request_id": "x"}, {}]),
    "half a pair": message(DELIVER, [["msg_x"], {}, {}]),
    "a body of another form": message(SCRAPE, "text"),
    "a body of a number": message(SCRAPE, 7),
    "pickle": message(SCRAPE, [[], {}, {}], **{"content-type": "application/x-python-serialize"}),
    "unknown encoding": message(SCRAPE, [[], {}, {}], **{"content-encoding": "utf-99"}),
    "expires": headed(expires="never"),
    "eta": headed(eta="tomorrow"),
    "no id at all": headed(id=None),
    "time limit": headed(timelimit="x"),
    "retries": headed(retries="x"),
}


def warnings(stack: Stack, role: str) -> int:
    lines = (stack.logs / f"{role}.log").read_text().splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return sum(line.get("event") == "broker.message_dropped" and line["level"] == "warning" for line in told)


@pytest.mark.parametrize(
    ("role", "queue"), [("worker", INTERACTIVE), ("worker", BULK), ("deliverer", DELIVERIES)]
)
def test_what_is_no_message_ends_no_consumer(
    own_stack: Stack, receiver: Receiver, role: str, queue: str
) -> None:
    before = warnings(own_stack, role)
    lines = [*NO_MESSAGES.values(), *map(json.dumps, NO_CALLS.values())]
    broker = own_stack.broker()
    for line in lines:
        broker.lpush(queue, line)
    await_true(lambda: not broker.llen(queue), 60)
    # Some of these Celery itself takes for a call that is due at once.
    harmless = len(
        [name for name in NO_CALLS if name in {"expires", "eta", "no id at all", "time limit", "retries"}]
    )
    await_true(lambda: warnings(own_stack, role) >= before + len(lines) - harmless, 60)
    assert own_stack.runs(role)
    assert "Traceback" not in own_stack.output(role)

    answer = own_stack.call(
        "POST", "/api/instagram/stories", json={"username": "nasa", "maxAge": 0, "webhookUrl": receiver.url}
    )
    assert answer.status_code == 202
    receiver.wait_for(answer.json()["requestId"])
    await_true(lambda: not broker.hlen("unacked"), 60)
    broker.close()
