"""POST /api/instagram/stories: who waits, what comes back, what it costs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from service.domain import errors
from service.domain.credits import price_list
from tests.api.support import (
    CLEAN_REEL,
    CREDITS,
    EMPTY,
    FOUND,
    JSON,
    RAW_USER,
    STORIES,
    Front,
    Timer,
    assert_error,
    assert_sentence,
    failing,
    in_threads,
    make_caller,
)
from tests.conftest import await_true
from workers.sources.contract import reel_found

HOOK = "https://example.com/hook"

FAILURES = [
    (errors.AccountPrivate, 403, "account_private"),
    (errors.UserNotFound, 404, "user_not_found"),
    (errors.UpstreamBlocked, 503, "upstream_blocked"),
    (errors.UpstreamTimeout, 504, "upstream_timeout"),
    (errors.UpstreamFailed, 502, "upstream_error"),
    (errors.OptedOut, 451, "opted_out"),
]


# --- the caller waits ------------------------------------------------------------------------------


def test_a_sync_call_answers_with_the_raw_reel(front: Front) -> None:
    with front.working() as source:
        response = front.stories("nasa")

    assert response.status_code == 200
    assert response.content_type == JSON
    body = response.json
    assert body["success"] is True
    assert body["status"] == "succeeded"
    assert body["outcome"] == "found"
    assert body["username"] == "nasa"
    assert body["itemCount"] == 1
    assert body["creditsCharged"] == 1
    assert body["requestId"].startswith("req_")
    assert body["createdAt"] <= body["finishedAt"]
    assert source.asked == ["nasa"]


def test_every_id_is_a_string_at_every_depth_and_nothing_else_has_changed(front: Front) -> None:
    with front.working():
        response = front.stories()

    assert response.json["data"] == CLEAN_REEL


def test_an_account_without_a_story_succeeds_empty_and_is_charged(front: Front) -> None:
    with front.working(EMPTY):
        response = front.stories()

    assert response.status_code == 200
    body = response.json
    assert body["success"] is True
    assert body["status"] == "succeeded"
    assert body["outcome"] == "empty"
    assert body["itemCount"] == 0
    assert body["creditsCharged"] == 1
    user = {**RAW_USER, "pk": "528817151", "fbid_v2": "17841400660070000"}
    assert body["data"] == {"id": "528817151", "user": user, "items": []}


@pytest.mark.parametrize(("error", "status", "code"), FAILURES)
def test_a_failure_has_its_status_its_code_and_no_price(
    front: Front, error: type[errors.FetchError], status: int, code: str
) -> None:
    with front.working(failing(error)):
        response = front.stories()

    assert response.status_code == status
    assert response.content_type == JSON
    body = response.json
    assert body["success"] is False
    assert body["status"] == "failed"
    assert body["code"] == code
    assert body["creditsCharged"] == 0
    assert body["requestId"] == response.headers["X-Request-Id"]
    assert body["requestId"].startswith("req_")
    assert "data" not in body
    assert_sentence(body["error"])
    assert response.headers["X-Credits-Charged"] == "0"
    assert response.headers["X-Credits-Remaining"] == str(CREDITS)
    assert ("Retry-After" in response.headers) == (status == 503)


def test_an_upstream_that_says_when_to_come_back_is_quoted(quick: Callable[..., Front]) -> None:
    front = quick()
    with front.working(failing(errors.UpstreamBlocked, retry_after=417)):
        response = front.stories()

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "417"


def test_a_worker_that_breaks_ends_the_request_as_our_error_without_a_charge(
    quick: Callable[..., Front],
) -> None:
    front = quick()
    with front.working(RuntimeError("a bug that carries sk_live_secrets")):
        response = front.stories()

    assert response.status_code == 500
    assert response.json["code"] == "internal_error"
    assert response.json["creditsCharged"] == 0
    assert "sk_live_secrets" not in response.text
    assert front.available() == CREDITS


def test_the_headers_of_an_answer_tell_the_request_the_price_and_the_limits(front: Front) -> None:
    with front.working():
        response = front.stories()

    assert response.headers["X-Request-Id"] == response.json["requestId"]
    assert response.headers["X-Credits-Charged"] == "1"
    assert response.headers["X-Credits-Remaining"] == str(CREDITS - 1)
    assert response.headers["RateLimit-Policy"] == (
        '"minute";q=60;w=60, "hour";q=1000;w=3600, "day";q=10000;w=86400'
    )
    assert response.headers["RateLimit"].startswith('"minute";r=59;t=')
    assert "Retry-After" not in response.headers
    assert "Preference-Applied" not in response.headers


def test_the_price_of_the_outcome_is_charged_and_the_rest_of_the_hold_released(
    make: Callable[..., Front],
) -> None:
    prices = price_list({"stories": {"found": 5, "empty": 2, "user_not_found": 1}})
    front = make(prices=prices)
    with front.working(failing(errors.UserNotFound)):
        response = front.stories("nobody")

    assert response.status_code == 404
    assert response.json["creditsCharged"] == 1
    assert response.headers["X-Credits-Charged"] == "1"
    assert response.headers["X-Credits-Remaining"] == str(CREDITS - 1)
    balance = front.get("/api/credits").json
    assert balance == {"balance": CREDITS - 1, "held": 0, "available": CREDITS - 1}


def test_a_price_that_does_not_fit_the_balance_is_402_and_nothing_is_stored(
    make: Callable[..., Front],
) -> None:
    front = make(prices=price_list({"stories": {"found": 3}}))
    poor = make_caller(front.services, "poor@example.com", credits=2)
    before = front.stored()
    response = front.stories(by=poor)

    assert_error(response, 402, "insufficient_credits")
    assert front.stored() == before
    assert front.queue.published == []


def test_credits_that_are_held_cannot_be_spent_twice(make: Callable[..., Front]) -> None:
    front = make()
    poor = make_caller(front.services, "poor@example.com", credits=1)
    held = front.accept(by=poor)
    assert_error(front.stories(prefer="respond-async", by=poor), 402, "insufficient_credits")

    front.work(held, failing(errors.AccountPrivate))
    assert front.stories(prefer="respond-async", by=poor).status_code == 202


def test_one_of_many_who_ask_at_once_gets_the_last_credit(make: Callable[..., Front]) -> None:
    front = make()
    poor = make_caller(front.services, "poor@example.com", credits=1)
    statuses = in_threads(8, lambda: front.stories(prefer="respond-async", by=poor).status_code)

    assert sorted(statuses) == [202] + [402] * 7
    assert len(front.queue.published) == 1


# --- past the deadline -----------------------------------------------------------------------------


def test_past_the_sync_deadline_the_answer_is_202_and_the_same_request_can_be_polled(
    make: Callable[..., Front],
) -> None:
    front = make(sync_deadline=0.05)
    response = front.stories()
    request_id = assert_accepted(response)
    assert front.queue.published == [("scrape", "interactive", request_id)]

    running = front.get(f"/api/requests/{request_id}")
    assert running.status_code == 200
    assert running.json["status"] == "queued"

    front.work(request_id)
    ended = front.get(response.headers["Location"])
    assert ended.status_code == 200
    assert ended.json["requestId"] == request_id
    assert ended.json["data"] == CLEAN_REEL
    assert front.available() == CREDITS - 1


def test_the_default_deadline_is_below_the_30_seconds_of_no_code_tools(
    quick: Callable[..., Front],
) -> None:
    assert 20 <= quick().settings.policy.sync_deadline <= 28


def test_a_call_past_the_cap_of_waiters_is_202_at_once(make: Callable[..., Front]) -> None:
    front = make(sync_waiters=1, sync_deadline=60.0)
    first: list[Any] = []
    thread = threading.Thread(target=lambda: first.append(front.stories("first")))
    thread.start()
    await_true(lambda: front.redis.pubsub_channels("*:done:*"))

    with Timer() as timer:
        second = front.stories("second")
    assert_accepted(second)
    assert timer.seconds < 20

    for _, _, request_id in list(front.queue.published):
        front.work(request_id)
    thread.join(60)
    assert first[0].status_code == 200
    with front.working():
        assert front.stories("third").status_code == 200, "the place was not given back"


# --- nobody waits ----------------------------------------------------------------------------------


def test_a_webhook_url_is_answered_202_at_once(front: Front) -> None:
    with Timer() as timer:
        response = front.stories(fields={"webhookUrl": HOOK})

    assert timer.seconds < 20
    request_id = assert_accepted(response)
    assert front.queue.published == [("gather", "bulk")]
    assert front.services.bulk.take(2) == [request_id]
    assert front.services.requests.get(request_id).webhook_url == HOOK


def test_an_allowed_inner_webhook_url_is_accepted(front: Front) -> None:
    for url in ("http://127.0.0.1:8080/hook", "http://localhost:8090/hook?a=b#c", "HTTPS://Example.com"):
        assert_accepted(front.stories(fields={"webhookUrl": url}))


def test_what_is_accepted_is_held_and_not_yet_charged(front: Front) -> None:
    response = front.stories(fields={"webhookUrl": HOOK})

    assert response.headers["X-Credits-Charged"] == "0"
    assert response.headers["X-Credits-Remaining"] == str(CREDITS - 1)
    assert front.get("/api/credits").json == {"balance": CREDITS, "held": 1, "available": CREDITS - 1}


def test_the_end_of_a_request_with_a_webhook_owes_one_delivery(front: Front) -> None:
    request_id = front.stories(fields={"webhookUrl": HOOK}).json["requestId"]
    front.work(request_id)

    [_, (task, queue, delivery_id, host)] = front.queue.published
    assert (task, queue, host) == ("deliver", "deliver", "example.com:443")
    claim = front.services.deliveries.claim(delivery_id, host)
    assert claim.body == front.get(f"/api/requests/{request_id}").data
    assert claim.delivery.url == HOOK


def test_respond_async_is_answered_202_at_once(front: Front) -> None:
    response = front.stories(prefer="respond-async")

    request_id = assert_accepted(response)
    assert response.headers["Preference-Applied"] == "respond-async"
    assert front.queue.published == [("gather", "bulk")]
    assert front.services.bulk.take(2) == [request_id]


@pytest.mark.parametrize("preference", ["Respond-Async", "handling=lenient, respond-async", "RESPOND-ASYNC"])
def test_preferences_ignore_case_and_stand_among_others(quick: Callable[..., Front], preference: str) -> None:
    # RFC 7240, section 2: preference names are case-insensitive.
    front = quick(sync_deadline=0.3)
    response = front.stories(prefer=preference)

    assert_accepted(response)
    assert "respond-async" in response.headers.get("Preference-Applied", "")


def test_wait_shortens_the_wait(make: Callable[..., Front]) -> None:
    front = make(sync_deadline=60.0)
    with Timer() as timer:
        response = front.stories(prefer="wait=1")

    assert_accepted(response)
    assert response.headers["Preference-Applied"] == "wait=1"
    assert 0.9 <= timer.seconds < 20
    assert front.queue.published[0][1] == "interactive"


def test_wait_lengthens_the_wait_up_to_a_cap(quick: Callable[..., Front]) -> None:
    front = quick(sync_deadline=0.0, sync_deadline_max=1.0)
    with Timer() as timer:
        response = front.stories(prefer="wait=600")

    assert_accepted(response)
    assert response.headers["Preference-Applied"] == "wait=1"
    assert 0.9 <= timer.seconds < 20


def test_wait_is_applied_to_an_answer_that_came_in_time(quick: Callable[..., Front]) -> None:
    front = quick(sync_deadline=0.0)
    with front.working():
        response = front.stories(prefer="wait=50")

    assert response.status_code == 200
    assert response.headers["Preference-Applied"] == "wait=50"


def test_wait_of_zero_is_answered_202_at_once(quick: Callable[..., Front]) -> None:
    front = quick()
    with Timer() as timer:
        response = front.stories(prefer="wait=0")

    assert_accepted(response)
    assert timer.seconds < 20


@pytest.mark.parametrize(
    "preference", ["wait=-1", "wait=abc", "wait", "wait=", "wait=1.5", "=,;", "return=minimal"]
)
def test_a_preference_that_makes_no_sense_is_ignored(quick: Callable[..., Front], preference: str) -> None:
    front = quick()
    with front.working():
        response = front.stories(prefer=preference)

    assert response.status_code == 200
    assert "Preference-Applied" not in response.headers


def test_a_preference_of_thousands_of_digits_breaks_nothing(quick: Callable[..., Front]) -> None:
    front = quick(sync_deadline_max=50.0)
    with front.working():
        response = front.stories(prefer="wait=" + "9" * 5000)

    assert response.status_code == 200


# --- the broker is out -----------------------------------------------------------------------------


def test_a_broken_broker_is_no_failure_of_the_request(make: Callable[..., Front]) -> None:
    front = make(pickup_grace=0)
    front.queue.broken = True
    request_id = assert_accepted(front.stories(prefer="respond-async"))

    assert front.get(f"/api/requests/{request_id}").json["status"] == "queued"
    assert [record.request_id for record in front.services.requests.stranded(10)] == [request_id]
    assert front.available() == CREDITS - 1


def test_a_caller_who_waits_behind_a_broken_broker_gets_202(make: Callable[..., Front]) -> None:
    front = make(sync_deadline=0.05)
    front.queue.broken = True

    assert_accepted(front.stories())


# --- usernames -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nasa", "nasa"),
        ("@nasa", "nasa"),
        ("  nasa \n", "nasa"),
        ("NASA.Hubble_1", "nasa.hubble_1"),
        ("@NASA", "nasa"),
        ("https://www.instagram.com/nasa/", "nasa"),
        ("https://instagram.com/nasa", "nasa"),
        ("http://www.instagram.com/NASA?igsh=abc#top", "nasa"),
        ("HTTPS://WWW.Instagram.com/nasa/", "nasa"),
        ("instagram.com/nasa", "nasa"),
        ("https://www.instagram.com/stories/nasa/", "nasa"),
        ("https://www.instagram.com/stories/nasa/3411111111111111111/", "nasa"),
        ("https://www.instagram.com/@nasa", "nasa"),
        ("a", "a"),
        ("a" * 30, "a" * 30),
    ],
)
def test_a_username_comes_in_many_forms_and_is_reduced_to_the_name(
    table: Front, text: str, name: str
) -> None:
    response = table.stories(text, prefer="respond-async")

    request_id = assert_accepted(response)
    assert response.json["username"] == name
    assert table.services.requests.get(request_id).username == name


def test_the_worker_is_asked_for_the_reduced_name(quick: Callable[..., Front]) -> None:
    front = quick()
    with front.working() as source:
        response = front.stories("https://www.instagram.com/NASA/")

    assert source.asked == ["nasa"]
    assert response.json["username"] == "nasa"


# --- other small things ----------------------------------------------------------------------------


def test_the_content_type_may_carry_a_charset(table: Front) -> None:
    response = table.call(
        "POST",
        STORIES,
        data=b'{"username": "nasa"}',
        content_type="application/json; charset=utf-8",
        headers={"Prefer": "respond-async"},
    )
    assert_accepted(response)


def test_a_body_of_exactly_the_limit_is_read(table: Front) -> None:
    body = b'{"username": "nasa"}'
    body += b" " * (table.settings.max_body - len(body))
    headers = {"Prefer": "respond-async"}

    assert_accepted(table.call("POST", STORIES, data=body, content_type=JSON, headers=headers))
    assert_error(
        table.call("POST", STORIES, data=body + b" ", content_type=JSON, headers=headers),
        413,
        "payload_too_large",
    )


def test_a_huge_reel_comes_through_whole(front: Front) -> None:
    items = [{"pk": 3411111111111111111 + n, "caption": "x" * 2_000} for n in range(500)]
    with front.working(reel_found("1", {"pk": 1}, {"id": 1, "items": items})):
        response = front.stories()

    assert response.json["itemCount"] == 500
    assert [item["pk"] for item in response.json["data"]["items"]] == [str(item["pk"]) for item in items]


def test_calls_at_once_each_get_their_own_answer(front: Front) -> None:
    with front.working(FOUND):
        names = [f"user{n}" for n in range(12)]
        bodies = in_threads(names, lambda name: front.stories(name).json)

    assert [body["username"] for body in bodies] == names
    assert len({body["requestId"] for body in bodies}) == 12
    assert front.available() == CREDITS - 12


def assert_accepted(response: Any) -> str:
    """Check a 202 whole, and return the id of the request."""
    assert response.status_code == 202, response.text
    assert response.content_type == JSON
    body = response.json
    assert body["success"] is True
    assert body["status"] == "processing"
    assert_sentence(body["message"])
    assert "data" not in body
    request_id: str = body["requestId"]
    assert request_id.startswith("req_")
    assert response.headers["Location"] == f"/api/requests/{request_id}"
    assert response.headers["X-Request-Id"] == request_id
    assert int(response.headers["Retry-After"]) > 0
    assert response.headers["X-Credits-Charged"] == "0"
    return request_id
