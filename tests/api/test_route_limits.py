"""Rate limits: calls that start work count, looking is free."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from service.domain.accounts import Limit
from service.domain.errors import UserNotFound
from tests.api.support import (
    BATCH,
    CREDITS,
    STORIES,
    Front,
    assert_error,
    failing,
    in_threads,
    make_caller,
)


def test_a_call_over_the_limit_is_429_and_leaves_no_trace(make: Callable[..., Front]) -> None:
    front = make(rate_limits=(Limit(2, 60),))
    for _ in range(2):
        front.accept()
    before, published = front.stored(), list(front.queue.published)
    response = front.stories(prefer="respond-async")

    assert_error(response, 429, "rate_limited")
    assert 0 < int(response.headers["Retry-After"]) <= 60
    assert response.headers["RateLimit-Policy"] == '"minute";q=2;w=60'
    assert re.fullmatch(r'"minute";r=0;t=\d+', response.headers["RateLimit"])
    assert front.stored() == before
    assert front.queue.published == published
    assert front.available() == CREDITS - 2


def test_the_headers_count_down(make: Callable[..., Front]) -> None:
    front = make(rate_limits=(Limit(3, 60),))
    left = []
    for _ in range(3):
        header = front.stories(prefer="respond-async").headers["RateLimit"]
        remaining, resets = re.fullmatch(r'"minute";r=(\d+);t=(\d+)', header).groups()
        assert 0 < int(resets) <= 60
        left.append(int(remaining))

    assert left == [2, 1, 0]


def test_the_call_comes_through_again_when_the_window_is_over(make: Callable[..., Front]) -> None:
    front = make(rate_limits=(Limit(1, 60),))
    front.accept()
    assert front.stories(prefer="respond-async").status_code == 429
    [window] = front.redis.keys("*:rate:60")
    assert 0 < front.redis.ttl(window) <= 60
    front.redis.delete(window)

    front.accept()


def test_what_was_refused_does_not_count_against_a_longer_window(make: Callable[..., Front]) -> None:
    front = make(rate_limits=(Limit(1, 30), Limit(3, 60)))
    front.accept()
    for _ in range(5):
        response = front.stories(prefer="respond-async")
        assert response.status_code == 429
        assert 0 < int(response.headers["Retry-After"]) <= 30
    assert '"minute";r=2;' in response.headers["RateLimit"]
    assert '"30s";r=0;' in response.headers["RateLimit"]


def test_each_account_has_its_own_limit_whatever_key_it_uses(make: Callable[..., Front]) -> None:
    front = make(rate_limits=(Limit(1, 60),))
    front.accept()
    second = front.call("POST", "/keys", json={"name": "second"}).json["key"]
    response = front.client.post(STORIES, json={"username": "nasa"}, headers={"x-access-key": second})

    assert_error(response, 429, "rate_limited")
    front.accept(by=front.other)


def test_looking_is_not_limited(make: Callable[..., Front]) -> None:
    front = make(rate_limits=(Limit(1, 60),))
    request_id = front.accept()
    assert front.stories(prefer="respond-async").status_code == 429

    for _ in range(3):
        for path in (
            "/api/requests", f"/api/requests/{request_id}", "/api/credits", "/api/credits/ledger",
            "/api/prices", "/api/webhooks/secret", "/api/webhooks/deliveries", "/keys",
        ):  # fmt: skip
            assert front.get(path).status_code == 200
    assert front.call("POST", f"/api/requests/{request_id}/cancel").status_code == 200


def test_no_more_than_the_limit_comes_through_at_once(make: Callable[..., Front]) -> None:
    front = make(rate_limits=(Limit(5, 60),))
    statuses = in_threads(12, lambda: front.stories(prefer="respond-async").status_code)

    assert sorted(statuses) == [202] * 5 + [429] * 7


def test_the_limit_is_looked_at_before_the_purse(make: Callable[..., Front]) -> None:
    front = make(rate_limits=(Limit(1, 60),))
    poor = make_caller(front.services, "poor@example.com", credits=0)

    assert front.stories(by=poor).status_code == 402
    assert front.stories(by=poor).status_code == 429


def test_a_call_that_is_refused_for_want_of_credits_tells_of_the_limits_too(
    make: Callable[..., Front],
) -> None:
    front = make(rate_limits=(Limit(5, 60),))
    poor = make_caller(front.services, "poor@example.com", credits=0)

    assert '"minute";r=4;' in front.stories(by=poor).headers["RateLimit"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", STORIES, {}),
        ("POST", STORIES, {"username": "a b"}),
        ("POST", STORIES, {"username": "nasa", "webhookUrl": "http://example.com:22/"}),
        ("POST", "/api/instagram/stories/batch", {"usernames": []}),
        ("POST", "/api/watches", {"username": "nasa", "every": "1s"}),
        ("POST", "/api/webhooks/test", {"url": "ftp://example.com"}),
        ("POST", "/api/webhooks/replay", {"since": "yesterday"}),
        ("GET", "/api/instagram/download", None),
        ("GET", "/v1/user/stories", None),
    ],
)
def test_a_refused_call_counts_once(
    make: Callable[..., Front], method: str, path: str, body: dict[str, object] | None
) -> None:
    front = make(rate_limits=(Limit(2, 60),))
    statuses = [front.call(method, path, json=body).status_code for _ in range(3)]
    assert statuses == [422, 422, 429]


def test_looking_wrongly_is_not_counted(make: Callable[..., Front]) -> None:
    front = make(rate_limits=(Limit(1, 60),))
    for path in ("/api/requests?limit=x", "/api/requests/req_x", "/api/credits/ledger?cursor=x"):
        assert front.get(path).status_code in {404, 422}

    front.accept()


def test_an_installation_without_limits_sends_no_headers_of_them(make: Callable[..., Front]) -> None:
    front = make(rate_limits=())
    response = front.stories(prefer="respond-async")

    assert response.status_code == 202
    assert "RateLimit" not in response.headers
    assert "RateLimit-Policy" not in response.headers


def test_names_that_do_not_fit_are_429_and_leave_no_trace(make: Callable[..., Front]) -> None:
    front = make(names_limits=(Limit(3, 3_600), Limit(5, 86_400)))
    assert front.call("POST", BATCH, json={"usernames": ["anna", "bert"]}).status_code == 202
    before, published = front.stored(), list(front.queue.published)
    response = front.call("POST", BATCH, json={"usernames": ["carl", "dora"], "idempotencyKey": "k"})

    body = assert_error(response, 429, "rate_limited")
    assert "NAMES_LIMITS: at most 3 names of batches per hour; these are 2, and 1 are left." in body["error"]
    assert 0 < int(response.headers["Retry-After"]) <= 3_600
    assert front.stored() == before
    assert front.queue.published == published
    assert front.call("POST", BATCH, json={"usernames": ["carl"], "idempotencyKey": "k"}).status_code == 202
    other = front.call("POST", BATCH, by=front.other, json={"usernames": ["anna", "bert", "carl"]})
    assert other.status_code == 202, "each account has its own"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (STORIES, {"username": "anna"}),
        (BATCH, {"usernames": ["anna"]}),
        ("/api/instagram/user", {"userId": "17"}),
        ("/api/instagram/download", {"storyId": "17"}),
    ],
)
def test_work_is_429_while_too_much_has_ended_free(
    make: Callable[..., Front], path: str, body: dict[str, object]
) -> None:
    front = make(free_limit=Limit(2, 3_600))
    for number in range(3):
        front.ended(f"missing{number}", failing(UserNotFound))
    before, published = front.stored(), list(front.queue.published)
    response = front.call("POST", path, json=body)

    told = assert_error(response, 429, "rate_limited")
    assert told["error"].startswith("FREE_LIMIT: at most 2 requests per hour may end without a result")
    assert 0 < int(response.headers["Retry-After"]) <= 1_800
    assert front.stored() == before
    assert front.queue.published == published
    assert front.get("/api/requests").status_code == 200, "looking is as free as ever"
    assert (
        front.call(
            "POST", STORIES, by=front.other, json={"username": "anna"}, headers={"Prefer": "respond-async"}
        ).status_code
        == 202
    )
