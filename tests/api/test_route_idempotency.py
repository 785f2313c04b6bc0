"""Idempotency-Key: the same key with the same body is the same request, charged once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import TestResponse

from service.config import Settings
from service.domain.credits import Balance
from tests.api.support import CREDITS, STORIES, Caller, Front, fake_store, make_front
from tests.conftest import RecordingQueue

HOOK = "http://127.0.0.1:9999/hook"
ASYNC = {"username": "anna", "webhookUrl": HOOK}


def post(
    front: Front, body: dict[str, Any], key: str | None = None, by: Caller | None = None
) -> TestResponse:
    headers = {"Idempotency-Key": key} if key is not None else {}
    return front.call("POST", STORIES, json=body, headers=headers, by=by)


def credits(front: Front) -> Balance:
    return front.services.credits.balance(front.me.account.account_id)


def test_the_first_answer_comes_back_and_nothing_is_held_again(front: Front) -> None:
    first, again = post(front, ASYNC, "k1"), post(front, ASYNC, "k1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json == first.json
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert credits(front).held == 1
    assert len(front.queue.published) == 1


def test_the_202_comes_back_also_when_the_request_has_ended(front: Front) -> None:
    first = post(front, ASYNC, "k1")
    front.work(first.json["requestId"])
    again = post(front, ASYNC, "k1")
    assert (again.status_code, again.json) == (202, first.json)


def test_a_retried_sync_call_gets_the_result_of_the_first(front: Front) -> None:
    with front.working():
        first, again = post(front, {"username": "anna"}, "k1"), post(front, {"username": "anna"}, "k1")
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.data == first.data
    assert credits(front).balance == CREDITS - 1


def test_a_call_refused_for_want_of_an_archive_may_be_made_without(
    settings: Settings, queue: RecordingQueue
) -> None:
    front = make_front(replace(settings, archive_url=""), fake_store(), queue)
    refused = post(front, {"username": "anna", "archive": True}, "k1")
    assert (refused.status_code, list(refused.json["details"])) == (422, ["archive"])
    assert credits(front).held == 0
    with front.working():
        assert post(front, {"username": "anna"}, "k1").status_code == 200
    assert credits(front).balance == CREDITS - 1


def test_another_body_is_refused(front: Front) -> None:
    post(front, ASYNC, "k1")
    refused = post(front, {"username": "bert", "webhookUrl": HOOK}, "k1")
    assert (refused.status_code, refused.json["code"]) == (422, "idempotency_key_reuse")
    assert credits(front).held == 1


@pytest.mark.parametrize("spelling", ["ANNA", "@anna", "https://www.instagram.com/anna/"])
def test_the_same_account_spelled_otherwise_is_the_same_body(front: Front, spelling: str) -> None:
    first, again = post(front, ASYNC, "k1"), post(front, {**ASYNC, "username": spelling}, "k1")
    assert again.json["requestId"] == first.json["requestId"]


def test_quoted_bare_and_in_the_body_are_one_key(front: Front) -> None:
    answers = [
        post(front, ASYNC, "k1"),
        post(front, ASYNC, '"k1"'),
        post(front, {**ASYNC, "idempotencyKey": "k1"}),
    ]
    assert len({answer.json["requestId"] for answer in answers}) == 1


def test_header_and_body_must_agree(front: Front) -> None:
    refused = post(front, {**ASYNC, "idempotencyKey": "k2"}, "k1")
    assert (refused.status_code, list(refused.json["details"])) == (422, ["idempotencyKey"])


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "clé", "a\tb"])
def test_a_bad_key_is_refused_by_name(front: Front, key: str) -> None:
    refused = post(front, {**ASYNC, "idempotencyKey": key.strip('"')})
    assert (refused.status_code, list(refused.json["details"])) == (422, ["idempotencyKey"])
    assert credits(front).held == 0


def test_another_accounts_key_is_another_key(front: Front) -> None:
    mine = post(front, ASYNC, "k1")
    theirs = post(front, ASYNC, "k1", by=front.other)
    assert mine.json["requestId"] != theirs.json["requestId"]


def test_fifty_at_once_are_one_request(real: Front) -> None:
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: post(real, ASYNC, "k1"), range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json["requestId"] for answer in answers}) == 1
    assert credits(real).held == 1


def test_no_key_is_no_replay(front: Front) -> None:
    assert post(front, ASYNC).json["requestId"] != post(front, ASYNC).json["requestId"]
