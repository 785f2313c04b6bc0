"""A batch through the whole service: every scene of Instagram in it, each item with its own end."""

from __future__ import annotations

import json
from typing import Any

from tests.conftest import await_true
from tests.e2e.clients import Customer
from tests.e2e.receiver import Receiver
from tests.e2e.stack import Stack

BATCH = "/api/instagram/stories/batch"
# What each name's prefix makes happen, and how it has to end (see workers/simulator/scenes.py).
SCENES = {
    "nasa": "found",
    "stickers_anna": "found",
    "huge_anna": "found",
    "drift_anna": "found",
    "flaky_anna": "found",
    "slow_1_anna": "found",
    "empty_anna": "empty",
    "private_anna": "account_private",
    "notauthorized_anna": "account_private",
    "missing_anna": "user_not_found",
    "ratelimited_anna": "upstream_blocked",
    "wait_anna": "upstream_blocked",
    "feedback_anna": "upstream_blocked",
    "challenge_anna": "upstream_blocked",
    "checkpoint_anna": "upstream_blocked",
    "loginrequired_anna": "upstream_blocked",
    "forbidden_anna": "upstream_error",
    "badrequest_anna": "upstream_error",
    "upgrade_anna": "upstream_error",
    "error_anna": "upstream_error",
    "fail_anna": "upstream_error",
    "html_anna": "upstream_error",
    "truncated_anna": "upstream_timeout",
    "timeout408_anna": "upstream_timeout",
}
WITH_STORIES = sum(end in {"found", "empty"} for end in SCENES.values())


def outcome(envelope: dict[str, Any]) -> str:
    return str(envelope.get("outcome") or envelope["code"])


def test_every_scene_ends_as_it_does_alone_and_spoils_no_other(
    stack: Stack, customer: Customer, receiver: Receiver
) -> None:
    lines = [{"username": name, "externalId": f"row {row}"} for row, name in enumerate(SCENES, 1)]
    made = customer.call(
        "POST",
        BATCH,
        params={"webhookUrl": receiver.url, "webhookMode": "both", "maxAge": 0},
        data="\n".join(map(json.dumps, lines)),
        headers={"Content-Type": "application/x-ndjson"},
    ).json()
    assert (made["accepted"], made["creditsHeld"]) == (len(SCENES), len(SCENES))
    path = f"/api/batches/{made['batchId']}"
    await_true(lambda: customer.call("GET", path, params={"wait": 20}).json()["status"] == "completed", 90)

    view = customer.call("GET", path).json()
    assert view["creditsCharged"] == WITH_STORIES == 100 - customer.credits()["balance"]
    assert (view["creditsHeld"], customer.credits()["held"]) == (0, 0)
    streamed = customer.call("GET", f"{path}/results", params={"format": "ndjson"}).text.splitlines()
    envelopes = [json.loads(line) for line in streamed]
    assert {each["username"]: outcome(each) for each in envelopes} == SCENES
    assert [each["externalId"] for each in envelopes] == [line["externalId"] for line in lines]

    await_true(lambda: len({each.delivery_id for each in list(receiver.arrivals)}) == len(SCENES) + 1, 20)
    told = [each.verified(customer.secret()) for each in list(receiver.arrivals)]
    [summary] = [each for each in told if "requestId" not in each]
    assert summary == {**view, "eta": None}
    assert sorted(outcome(each) for each in told if "requestId" in each) == sorted(SCENES.values())
