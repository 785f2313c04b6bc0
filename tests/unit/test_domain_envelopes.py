"""The one envelope of sync answers, polls and webhooks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.domain import envelopes
from service.domain.requests import CANCELLED, PROCESSING, RequestRecord
from service.domain.targets import HIGHLIGHT_ID, MEDIA_URL, STORY_ID, USER_ID, USERNAME, Target, named

AT = 1_700_000_000_123
REQUEST = RequestRecord("req_1", "acc_1", "stories", named("anna"), "bulk", PROCESSING, hold=1, created_at=AT)


def test_a_success_carries_the_data_and_counts_its_items() -> None:
    data = {"id": "1", "user": {}, "items": [{}, {}]}
    made = envelopes.success(REQUEST, outcome="found", data=data, charged=1, now_ms=AT + 1000, item_count=2)
    assert made == {
        "success": True,
        "requestId": "req_1",
        "status": "succeeded",
        "outcome": "found",
        "operation": "stories",
        "username": "anna",
        "data": data,
        "itemCount": 2,
        "source": "",
        "cached": False,
        "age": 0,
        "creditsCharged": 1,
        "createdAt": "2023-11-14T22:13:20.123Z",
        "finishedAt": "2023-11-14T22:13:21.123Z",
    }


def test_a_failure_says_what_happened_in_a_word_and_in_a_sentence() -> None:
    made = envelopes.failure(REQUEST, code="account_private", message="It is private.", now_ms=AT)
    assert (made["success"], made["status"]) == (False, "failed")
    assert (made["code"], made["error"], made["creditsCharged"]) == ("account_private", "It is private.", 0)
    assert "data" not in made


def test_a_cancelled_request_says_so() -> None:
    made = envelopes.failure(REQUEST, code=CANCELLED, message="m", now_ms=AT, status=CANCELLED)
    assert made["status"] == "cancelled"


def test_a_running_request_has_neither_data_nor_an_end() -> None:
    made = envelopes.running(REQUEST)
    assert (made["success"], made["status"], made["requestId"]) == (True, "processing", "req_1")
    assert not {"data", "finishedAt", "error"} & set(made)


def test_a_summary_has_no_end_before_the_end() -> None:
    assert envelopes.summary(REQUEST)["finishedAt"] is None


def test_all_ways_to_show_a_request_agree_on_id_and_name() -> None:
    shown = [
        envelopes.success(REQUEST, outcome="empty", data={"items": []}, charged=0, now_ms=AT, item_count=0),
        envelopes.failure(REQUEST, code="c", message="m", now_ms=AT),
        envelopes.running(REQUEST),
        envelopes.summary(REQUEST),
    ]
    common = {(one["requestId"], one["operation"], one["username"], one["createdAt"]) for one in shown}
    assert common == {("req_1", "stories", "anna", "2023-11-14T22:13:20.123Z")}


def test_a_success_tells_who_gave_it_and_how_old_it_is() -> None:
    made = envelopes.success(
        REQUEST, outcome="found", data={}, charged=1, now_ms=AT, item_count=1, source="instagrapi", age=7
    )
    assert (made["itemCount"], made["source"], made["cached"], made["age"]) == (1, "instagrapi", True, 7)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (USERNAME, "username"),
        (USER_ID, "userId"),
        (STORY_ID, "storyId"),
        (HIGHLIGHT_ID, "highlightId"),
        (MEDIA_URL, "mediaUrl"),
    ],
)
def test_what_was_asked_for_goes_by_one_name_and_no_other(kind: str, name: str) -> None:
    made = envelopes.running(replace(REQUEST, operation="story", target=Target(kind, "42")))
    assert (made["operation"], made[name]) == ("story", "42")
    assert {"username", "userId", "storyId", "highlightId", "mediaUrl"} & set(made) == {name}


@pytest.mark.parametrize(("at", "text"), [(0, "1970-01-01T00:00:00.000Z"), (1, "1970-01-01T00:00:00.001Z")])
def test_times_are_iso_8601_in_utc_with_milliseconds(at: int, text: str) -> None:
    assert envelopes.timestamp(at) == text
