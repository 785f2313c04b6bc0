"""One request worked on: a hand-written upstream, a store that is fake or real."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from redis import Redis

from service.config import Settings
from service.domain.credits import Balance, price_list, tariff_of
from service.domain.errors import (
    AccountPrivate,
    FetchError,
    HighlightNotFound,
    OptedOut,
    Retry,
    StoreUnavailable,
    StoryNotFound,
    UpstreamBlocked,
    UpstreamFailed,
    UpstreamTimeout,
    UserNotFound,
    ValidationFailed,
)
from service.domain.operations import Ask
from service.domain.options import Options
from service.domain.ports import Services
from service.domain.requests import INTERACTIVE, RequestRecord
from service.domain.stories import with_string_ids
from service.domain.targets import HIGHLIGHT_ID, STORY_ID, USER_ID, Target, named
from service.stores import keys
from tests.conftest import RecordingQueue, make_services
from tests.redis.kit import ACCOUNT, submission
from tests.upstreams import StoriesByName
from workers import scrape
from workers.sources.contract import Found, reel_found

USER = {"pk": 42, "username": "anna"}
STORIES = reel_found(
    "42", USER, {"id": 42, "user": USER, "items": [{"pk": 3_741_925_019_028_375_123}, {"pk": 2}]}
)
NO_STORIES = reel_found("42", USER, None)


class Upstream(StoriesByName):
    """Gives one answer after the other; an exception is raised, a function is called."""

    name = "upstream"

    def __init__(self, *answers: Any) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)

    def stories(self, username: str) -> Found:
        self.asked.append(username)
        answer = self._answers.pop(0)
        if callable(answer) and not isinstance(answer, type):
            answer = answer()
        if isinstance(answer, Exception) or (isinstance(answer, type) and issubclass(answer, Exception)):
            raise answer
        assert isinstance(answer, Found)
        return answer


@pytest.fixture
def services(settings: Settings, redis: Redis, queue: RecordingQueue) -> Services:
    made = make_services(settings, redis, queue, fetch_tries=2, max_attempts=3)
    made.credits.add(ACCOUNT, 10, entry_type="topup", note="")
    return made


def submit(services: Services, **changes: Any) -> str:
    return services.requests.submit(submission(**changes)).request_id


def worked_on(
    services: Services, upstream: Upstream, request_id: str
) -> tuple[RequestRecord, dict[str, Any]]:
    """The record and envelope after a worker ran."""
    scrape.run(services, upstream, request_id)
    record, envelope = services.requests.get(request_id), services.requests.envelope(request_id)
    assert record is not None
    assert envelope is not None
    return record, json.loads(envelope)


def balance(services: Services) -> Balance:
    return services.credits.balance(ACCOUNT)


def test_stories_are_stored_and_charged(services: Services) -> None:
    upstream = Upstream(STORIES)
    request_id = submit(services)
    record, envelope = worked_on(services, upstream, request_id)
    assert upstream.asked == ["anna"]
    assert (record.status, record.outcome, record.item_count, record.charged) == ("succeeded", "found", 2, 1)
    assert envelope["data"]["items"][0]["pk"] == "3741925019028375123"
    assert (envelope["success"], envelope["requestId"], envelope["creditsCharged"]) == (True, request_id, 1)
    assert balance(services) == Balance(9, 0)


def test_an_account_without_stories_is_empty_and_charged(services: Services) -> None:
    record, envelope = worked_on(services, Upstream(NO_STORIES), submit(services))
    assert (record.status, record.outcome, record.item_count) == ("succeeded", "empty", 0)
    assert envelope["data"] == {"id": "42", "user": {"pk": "42", "username": "anna"}, "items": []}
    assert balance(services) == Balance(9, 0)


def test_a_success_tells_who_gave_it_and_whose_it_is(services: Services, redis: Redis) -> None:
    record, envelope = worked_on(services, Upstream(STORIES), submit(services))
    assert (record.source, envelope["source"]) == ("upstream", "upstream")
    assert redis.hmget(keys.request(record.request_id), "owner", "owner_name") == ["42", "anna"]
    failed, envelope = worked_on(services, Upstream(UserNotFound), submit(services))
    assert failed.source is None
    assert "source" not in envelope


@pytest.mark.parametrize(("amount", "shown"), [(0, 2), (1, 1), (2, 2), (9, 2)])
def test_no_more_is_shown_than_was_asked_for_at_the_same_price(
    services: Services, amount: int, shown: int
) -> None:
    record, envelope = worked_on(
        services, Upstream(STORIES), submit(services, options=Options(amount=amount))
    )
    assert [item["pk"] for item in envelope["data"]["items"]] == ["3741925019028375123", "2"][:shown]
    assert (envelope["itemCount"], record.item_count, record.charged) == (shown, shown, 1)
    assert STORIES.data["items"][1] == {"pk": 2}, "what was found stays whole"


def test_who_shares_what_another_asked_little_of_gets_all_of_it(services: Services) -> None:
    upstream = Upstream(STORIES)
    _, little = worked_on(services, upstream, submit(services, options=Options(amount=1)))
    _, whole = worked_on(services, upstream, submit(services, max_age=60))
    assert (little["itemCount"], whole["itemCount"]) == (1, 2)
    assert (little["cached"], whole["cached"], len(upstream.asked)) == (False, True, 1)


class Anything(Upstream):
    """Serves whatever it is asked."""

    def fetch(self, ask: Ask) -> Found:
        self.asks.append(ask)
        return self.stories(ask.target.value).given_by(self.name)

    def __init__(self, *answers: Any) -> None:
        super().__init__(*answers)
        self.asks: list[Ask] = []


ACCOUNT_ITSELF = Found({"id": 42, "user": USER})
ONE_STORY = Found({"id": 42, "user": USER, "items": [{"pk": 2}]})
TRAY = Found({"id": "42", "user": USER, "tray": [{"id": "highlight:1"}, {"id": "highlight:2"}]})
NO_TRAY = Found({"id": "42", "user": USER, "tray": []})
HIGHLIGHT = Found({"id": "highlight:17", "user": USER, "title": "", "items": [{"pk": 2}, {"pk": 3}]})


@pytest.mark.parametrize(
    ("asked", "answer", "ends"),
    [
        (("stories", Target(USER_ID, "42")), STORIES, ("found", 2)),
        (("stories", Target(USER_ID, "42")), NO_STORIES, ("empty", 0)),
        (("story", Target(STORY_ID, "2")), ONE_STORY, ("found", 1)),
        (("highlights", named("anna")), TRAY, ("found", 2)),
        (("highlights", Target(USER_ID, "42")), NO_TRAY, ("empty", 0)),
        (("highlight", Target(HIGHLIGHT_ID, "17")), HIGHLIGHT, ("found", 2)),
        (("user", named("anna")), ACCOUNT_ITSELF, ("found", 1)),
    ],
)
def test_every_operation_ends_with_what_it_counts(
    services: Services, redis: Redis, asked: tuple[str, Target], answer: Found, ends: tuple[str, int]
) -> None:
    (operation, target), upstream = asked, Anything(answer)
    request_id = submit(services, operation=operation, target=target, options=Options(force=True))
    record, envelope = worked_on(services, upstream, request_id)
    assert upstream.asks == [Ask(operation, target, force=True)]
    assert (record.outcome, record.item_count, record.charged) == (*ends, 1)
    assert (envelope["operation"], envelope["outcome"], envelope["itemCount"]) == (operation, *ends)
    assert envelope["data"] == with_string_ids(answer.data)
    assert redis.hmget(keys.request(request_id), "owner", "owner_name") == ["42", "anna"]


def test_only_so_many_highlights_are_shown_and_an_account_is_always_one(services: Services) -> None:
    changes = {"options": Options(amount=1)}
    made = submit(services, operation="highlights", target=named("anna"), **changes)
    _, envelope = worked_on(services, Anything(TRAY), made)
    assert (envelope["data"]["tray"], envelope["itemCount"]) == ([{"id": "highlight:1"}], 1)
    made = submit(services, operation="user", target=named("anna"), **changes)
    _, envelope = worked_on(services, Anything(ACCOUNT_ITSELF), made)
    assert (envelope["itemCount"], envelope["data"]["user"]["pk"]) == (1, "42")


def test_what_was_found_for_one_ask_serves_no_other(services: Services) -> None:
    upstream = Anything(STORIES, STORIES, STORIES)
    asked = [
        {},
        {"options": Options(force=True)},
        {"target": Target(USER_ID, "42")},
        {"options": Options(amount=1)},
        {"target": Target(USER_ID, "42"), "options": Options(shape="raw", amount=9)},
    ]
    cached = [worked_on(services, upstream, submit(services, max_age=60, **each))[0].cached for each in asked]
    assert cached == [False, False, False, True, True]
    assert len(upstream.asks) == 3


@pytest.mark.parametrize(("force", "charged"), [(False, 2), (True, 1)])
def test_a_compatible_call_is_charged_by_its_tariff(services: Services, force: bool, charged: int) -> None:
    options = Options(force=force, tariff=tariff_of("stories", USER_ID))
    hold = services.policy.prices.hold_for("stories", options)
    request_id = submit(services, target=Target(USER_ID, "42"), hold=hold, options=options)
    record, envelope = worked_on(services, Anything(STORIES), request_id)
    assert (record.charged, envelope["creditsCharged"]) == (charged, charged)
    assert balance(services) == Balance(10 - charged, 0)


@pytest.mark.parametrize("error", [StoryNotFound, HighlightNotFound, AccountPrivate])
def test_what_is_not_there_costs_nothing_by_any_tariff(services: Services, error: type[FetchError]) -> None:
    options = Options(tariff=tariff_of("story", STORY_ID))
    made = submit(services, operation="story", target=Target(STORY_ID, "2"), options=options)
    record, envelope = worked_on(services, Anything(error), made)
    assert (record.code, record.charged, envelope["storyId"]) == (error.code, 0, "2")
    assert balance(services) == Balance(10, 0)


@pytest.mark.parametrize("error", [AccountPrivate, UserNotFound, OptedOut])
def test_a_final_answer_is_not_asked_for_again_and_costs_nothing(
    services: Services, error: type[FetchError]
) -> None:
    upstream = Upstream(error)
    record, envelope = worked_on(services, upstream, submit(services))
    assert len(upstream.asked) == 1
    assert (record.status, record.code, record.outcome) == ("failed", error.code, None)
    assert (envelope["success"], envelope["code"]) == (False, error.code)
    assert envelope["error"] == error.default_message
    assert balance(services) == Balance(10, 0)


@pytest.mark.parametrize("error", [UpstreamTimeout, UpstreamFailed, UpstreamBlocked])
def test_what_may_work_in_a_moment_or_elsewhere_is_tried_again(
    services: Services, error: type[FetchError]
) -> None:
    upstream = Upstream(error, STORIES)
    record, _ = worked_on(services, upstream, submit(services))
    assert len(upstream.asked) == 2
    assert record.status == "succeeded"


@pytest.mark.parametrize("error", [UpstreamTimeout, UpstreamFailed, UpstreamBlocked])
def test_when_the_tries_are_used_up_the_last_error_stands(
    services: Services, error: type[FetchError]
) -> None:
    upstream = Upstream(UpstreamTimeout, error)
    record, _ = worked_on(services, upstream, submit(services))
    assert (record.status, record.code) == ("failed", error.code)
    assert balance(services) == Balance(10, 0)


def test_an_error_may_forbid_the_second_try_its_class_allows(services: Services) -> None:
    upstream = Upstream(UpstreamBlocked(retry=Retry.NEVER))
    worked_on(services, upstream, submit(services))
    assert len(upstream.asked) == 1


def test_elsewhere_is_tried_without_a_pause(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(scrape.time, "sleep", pauses.append)
    worked_on(services, Upstream(UpstreamBlocked, STORIES), submit(services))
    assert pauses == []
    worked_on(services, Upstream(UpstreamTimeout, STORIES), submit(services))
    assert len(pauses) == 1
    assert 0 < pauses[0] < 1


@pytest.mark.parametrize(
    ("error", "wait"), [(UpstreamBlocked(), 60), (UpstreamBlocked(retry_after=7), 7), (UserNotFound(), 0)]
)
def test_a_refusal_says_when_to_come_back(services: Services, error: FetchError, wait: int) -> None:
    record, _ = worked_on(services, Upstream(error, error), submit(services))
    assert record.retry_after == wait


@pytest.mark.parametrize("error", [RuntimeError("a mistake of ours"), KeyError("pk"), ValidationFailed()])
def test_what_nobody_expected_ends_as_our_own_error_and_costs_nothing(
    services: Services, error: Exception
) -> None:
    record, envelope = worked_on(services, Upstream(error), submit(services))
    assert (record.status, record.code) == ("failed", "internal_error")
    assert "mistake" not in json.dumps(envelope)
    assert balance(services) == Balance(10, 0)


def test_a_reel_that_cannot_be_used_ends_as_our_own_error_and_costs_nothing(services: Services) -> None:
    record, _ = worked_on(services, Upstream(reel_found("42", USER, {"items": object()})), submit(services))
    assert (record.status, record.code) == ("failed", "internal_error")
    assert balance(services) == Balance(10, 0)


def test_half_an_emoji_in_a_caption_is_no_reason_to_fail(services: Services) -> None:
    """JSON may carry a lone surrogate, where a text was cut in the middle of a pair."""
    caption = json.loads('"so nice \\ud83d"')
    reel = reel_found(
        "42", USER, {"id": 42, "user": USER, "items": [{"pk": 1, "caption": {"text": caption}}]}
    )
    record, envelope = worked_on(services, Upstream(reel), submit(services))
    assert record.status == "succeeded"
    assert envelope["data"]["items"][0]["caption"]["text"].startswith("so nice")


def test_an_outcome_an_operator_priced_is_charged(
    settings: Settings, redis: Redis, queue: RecordingQueue
) -> None:
    prices = price_list({"stories": {"found": 5, "user_not_found": 2}})
    services = make_services(settings, redis, queue, prices=prices)
    services.credits.add(ACCOUNT, 10, entry_type="topup", note="")
    record, envelope = worked_on(services, Upstream(UserNotFound), submit(services, hold=5))
    assert (record.charged, envelope["creditsCharged"]) == (2, 2)
    assert balance(services) == Balance(8, 0)


def test_a_price_raised_meanwhile_charges_no_more_than_was_held(
    settings: Settings, redis: Redis, queue: RecordingQueue
) -> None:
    services = make_services(settings, redis, queue, prices=price_list({"stories": {"found": 5}}))
    services.credits.add(ACCOUNT, 10, entry_type="topup", note="")
    record, _ = worked_on(services, Upstream(STORIES), submit(services, hold=1))
    assert record.charged == 1


# --- who works -----------------------------------------------------------------------------------


def test_a_message_that_comes_twice_is_worked_on_once(services: Services) -> None:
    upstream = Upstream(STORIES)
    request_id = submit(services)
    scrape.run(services, upstream, request_id)
    scrape.run(services, upstream, request_id)
    assert len(upstream.asked) == 1
    assert balance(services) == Balance(9, 0)


def test_a_message_about_nothing_is_nothing(services: Services) -> None:
    upstream = Upstream()
    scrape.run(services, upstream, submission().request_id)
    assert upstream.asked == []


def test_a_worker_that_lost_its_lease_drops_what_it_fetched(
    redis: Redis, services: Services, queue: RecordingQueue
) -> None:
    request_id = submit(services, webhook_url="https://example.com/")

    def taken_over() -> Found:
        redis.hset(keys.request(request_id), "lease_until", 1)
        assert services.requests.claim(request_id) is not None
        return STORIES

    scrape.run(services, Upstream(taken_over), request_id)
    record = services.requests.get(request_id)
    assert record is not None
    assert record.status == "processing"
    assert balance(services) == Balance(10, 1)
    assert queue.published == []


def test_a_worker_that_lost_its_lease_does_not_try_again(redis: Redis, services: Services) -> None:
    request_id = submit(services)

    def taken_over() -> Found:
        redis.hset(keys.request(request_id), "lease_until", 1)
        assert services.requests.claim(request_id) is not None
        raise UpstreamBlocked

    upstream = Upstream(taken_over, STORIES)
    scrape.run(services, upstream, request_id)
    assert len(upstream.asked) == 1


def test_a_request_that_takes_workers_down_again_and_again_is_given_up(
    redis: Redis, services: Services
) -> None:
    request_id = submit(services)
    for _ in range(services.policy.max_attempts):
        assert services.requests.claim(request_id) is not None
        redis.hset(keys.request(request_id), "lease_until", 1)
    upstream = Upstream(STORIES)
    record, _ = worked_on(services, upstream, request_id)
    assert upstream.asked == []
    assert (record.status, record.code) == ("failed", "upstream_error")
    assert balance(services) == Balance(10, 0)


def test_the_last_attempt_that_is_allowed_is_made(redis: Redis, services: Services) -> None:
    request_id = submit(services)
    for _ in range(services.policy.max_attempts - 1):
        services.requests.claim(request_id)
        redis.hset(keys.request(request_id), "lease_until", 1)
    record, _ = worked_on(services, Upstream(STORIES), request_id)
    assert record.status == "succeeded"


def test_a_store_that_is_out_leaves_the_request_to_the_sweep(services: Services) -> None:
    request_id = submit(services)
    with pytest.raises(StoreUnavailable):
        scrape.run(services, Upstream(StoreUnavailable), request_id)
    record = services.requests.get(request_id)
    assert record is not None
    assert record.status == "processing"
    assert balance(services) == Balance(10, 1)


# --- the webhook ---------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [STORIES, NO_STORIES, UserNotFound, RuntimeError])
def test_however_it_ends_the_webhook_is_published_and_carries_the_envelope(
    services: Services, queue: RecordingQueue, answer: Any
) -> None:
    request_id = submit(services, webhook_url="https://example.com/hook")
    _, envelope = worked_on(services, Upstream(answer), request_id)
    [(task, name, delivery_id, host)] = queue.published
    assert (task, name, host) == ("deliver", "deliver", "example.com:443")
    claim = services.deliveries.claim(delivery_id, host)
    assert claim is not None
    assert claim.body is not None
    assert json.loads(claim.body) == envelope


def test_without_a_webhook_nothing_is_published(services: Services, queue: RecordingQueue) -> None:
    worked_on(services, Upstream(STORIES), submit(services))
    assert queue.published == []


def test_a_broker_that_is_out_loses_no_webhook(services: Services, queue: RecordingQueue) -> None:
    queue.broken = True
    request_id = submit(services, webhook_url="https://example.com/hook")
    worked_on(services, Upstream(STORIES), request_id)
    page = services.deliveries.page(ACCOUNT, statuses=None, since_ms=0, cursor=None, limit=10)
    assert [delivery.status for delivery in page.items] == ["pending"]


def test_workers_racing_for_one_request_ask_the_upstream_once(services: Services) -> None:
    upstream = Upstream(*[STORIES] * 8)
    request_id = submit(services)
    workers = [threading.Thread(target=scrape.run, args=(services, upstream, request_id)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(upstream.asked) == 1
    assert balance(services) == Balance(9, 0)


def test_a_worker_that_is_told_to_end_makes_no_further_try_and_gives_the_request_back(
    services: Services, queue: RecordingQueue
) -> None:
    request_id, upstream = submit(services, queue=INTERACTIVE), Upstream(UpstreamTimeout(), STORIES)
    queue.published.clear()
    scrape.run(services, upstream, request_id, lambda: True)
    record = services.requests.get(request_id)
    assert record is not None
    assert (record.status, record.attempts) == ("queued", 0)
    assert queue.published == [("scrape", record.queue, request_id)]
    assert services.credits.balance(ACCOUNT) == Balance(10, 1)
    ended, _ = worked_on(services, upstream, request_id)
    assert (ended.status, ended.attempts, len(upstream.asked)) == ("succeeded", 1, 2)


def test_a_worker_that_is_told_to_end_ends_what_it_can(services: Services) -> None:
    request_id = submit(services)
    scrape.run(services, Upstream(STORIES), request_id, lambda: True)
    record = services.requests.get(request_id)
    assert record is not None
    assert record.status == "succeeded"


def test_what_was_fetched_outlives_a_short_outage_of_the_store(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id, upstream, finish, tries = (
        submit(services),
        Upstream(STORIES),
        services.requests.finish_many,
        [],
    )

    def twice_out(endings: Any) -> Any:
        tries.append(1)
        if len(tries) < 3:
            raise StoreUnavailable
        return finish(endings)

    monkeypatch.setattr(scrape, "SETTLE_EVERY", 0.01)
    monkeypatch.setattr(services.requests, "finish_many", twice_out)
    record, _ = worked_on(services, upstream, request_id)
    assert (record.status, record.attempts, len(tries), len(upstream.asked)) == ("succeeded", 1, 3, 1)


def test_a_long_outage_leaves_it_to_the_sweep(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def out(*_: Any) -> Any:
        raise StoreUnavailable

    monkeypatch.setattr(scrape, "SETTLE_PATIENCE", 0.0)
    monkeypatch.setattr(scrape, "SETTLE_EVERY", 0.01)
    monkeypatch.setattr(services.requests, "finish_many", out)
    with pytest.raises(StoreUnavailable):
        scrape.run(services, Upstream(STORIES), submit(services))
