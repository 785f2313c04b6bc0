"""Watches over a fake store and a real one: whole runs with a hand-written upstream, and what goes wrong."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import fakeredis
import pytest
import time_machine
from redis import Redis
from redis.exceptions import ConnectionError as StoreGone
from structlog.testing import capture_logs

from service.actions import watches as actions
from service.actions.audit import audit
from service.actions.cancel import cancel_request
from service.broker import make_celery
from service.config import Settings
from service.domain import ids
from service.domain.credits import Balance, price_list
from service.domain.deliveries import Attempt, Plan
from service.domain.errors import (
    AccountPrivate,
    Conflict,
    InsufficientCredits,
    NotFound,
    StoreUnavailable,
    UpstreamFailed,
    UserNotFound,
)
from service.domain.options import PLAIN, Options
from service.domain.ports import Services
from service.domain.requests import RequestRecord, Run
from service.domain.targets import named
from service.domain.watches import GRACE_MS, OWED_FOR_MS, RUN, Watch
from service.stores import keys
from tests.conftest import SHARDS, RecordingQueue, finish_one, make_services
from tests.redis.kit import submission
from tests.redis.test_scrape_run import NO_STORIES, USER, Upstream
from workers import schedule, scrape, sweep, watch
from workers.schedule import LastingScheduler, configure_beat
from workers.sources.contract import Found, reel_found

HOOK = "https://example.com/hook"
HOST = "example.com:443"
FAR = 4_000_000_000  # when items expire, Unix seconds
CREDITS = 20


def reel(*pks: int, expiring_at: int = FAR) -> Found:
    items = [{"pk": pk, "expiring_at": expiring_at} for pk in pks]
    return reel_found("42", USER, {"id": 42, "user": USER, "items": items})


class Life:
    """Anna's account, her watch, and the workers and receivers of it."""

    def __init__(self, services: Services, redis: Redis, queue: RecordingQueue) -> None:
        self.services, self.redis, self.queue = services, redis, queue
        self.account_id = services.accounts.create("anna@example.com", "hash").account_id
        services.credits.add(self.account_id, CREDITS, entry_type="topup", note="")
        self.watch_id = ""

    def add(self, **changes: Any) -> Watch:
        asked = {
            "username": "anna", "every": "15m", "webhook_url": HOOK, "only_new": True,
            "heartbeat": False, "max_age": 0, **changes,
        }  # fmt: skip
        made, _ = actions.add_watch(self.services, self.account_id, **asked)
        self.watch_id = made.watch_id
        return made

    @property
    def watch(self) -> Watch:
        return actions.find_watch(self.services, self.account_id, self.watch_id)

    def due(self) -> str | None:
        """Its time has come; return the id of the open request."""
        watch.run(self.services, self.watch_id)
        return self.watch.running

    def run(self, answer: Any) -> dict[str, Any]:
        """Run once, from the due time to the end; return the envelope."""
        request_id = self.due()
        assert request_id is not None
        return self.work(request_id, answer)

    def work(self, request_id: str, *answers: Any) -> dict[str, Any]:
        scrape.run(self.services, Upstream(*answers), request_id)
        body = self.services.requests.envelope(request_id)
        assert body is not None
        envelope: dict[str, Any] = json.loads(body)
        return envelope

    def deliver(self, status: str, request_id: str | None = None) -> str:
        """Let the webhook of the last run end like this; return the id of the delivery."""
        delivery_id = ids.delivery_of(request_id or str(self.watch.last_request_id))
        self.redis.hset(keys.delivery(delivery_id), "next_at", 1)
        claim = self.services.deliveries.claim(delivery_id, HOST)
        assert claim is not None
        self.services.deliveries.record(claim, Attempt(1, 0.1, status=200), Plan(status, wait=60))
        return delivery_id

    def webhooks(self) -> list[list[str]]:
        """The items of every webhook owed so far, oldest first."""
        page = self.services.deliveries.page(
            self.account_id, statuses=None, since_ms=0, cursor=None, limit=100
        )
        bodies = [self.services.requests.envelope(each.request_id) for each in reversed(page.items)]
        return [pks(json.loads(body)) for body in bodies if body]

    def balance(self) -> Balance:
        return self.services.credits.balance(self.account_id)

    def keys_of_the_watch(self) -> list[str]:
        return [name for name in self.redis.scan_iter() if self.watch_id in name]


def pks(envelope: dict[str, Any]) -> list[str]:
    return [item["pk"] for item in envelope.get("data", {"items": []})["items"]]


@pytest.fixture
def life(settings: Settings, redis: Redis, queue: RecordingQueue) -> Life:
    made = make_services(settings, redis, queue, fetch_tries=1, watches_most=3, max_attempts=3)
    return Life(made, redis, queue)


# --- what is new ---------------------------------------------------------------------------------


def test_what_is_new_is_delivered_and_charged_once(life: Life) -> None:
    life.add()
    first = life.run(reel(1, 2))
    assert (first["outcome"], pks(first), first["creditsCharged"]) == ("found", ["1", "2"], 1)
    assert first["watchId"] == life.watch_id
    second = life.run(reel(1, 2))
    assert (second["outcome"], second["status"], pks(second)) == ("nothing_new", "succeeded", [])
    assert (second["itemCount"], second["creditsCharged"]) == (0, 0)
    third = life.run(reel(2, 3))
    assert pks(third) == ["3"]
    assert life.webhooks() == [["1", "2"], ["3"]]
    assert life.balance() == Balance(CREDITS - 2, 0)
    known = life.watch
    assert (known.runs, known.items_delivered, known.last_outcome) == (3, 3, "found")
    assert audit(life.services).differences == []


def test_an_account_without_stories_brings_nothing_new(life: Life) -> None:
    life.add()
    envelope = life.run(NO_STORIES)
    assert (envelope["outcome"], envelope["creditsCharged"]) == ("nothing_new", 0)
    assert life.webhooks() == []
    assert life.balance() == Balance(CREDITS, 0)


def test_nothing_new_costs_what_the_operator_says(
    settings: Settings, redis: Redis, queue: RecordingQueue
) -> None:
    prices = price_list({"stories": {"found": 5, "nothing_new": 2}})
    life = Life(make_services(settings, redis, queue, prices=prices), redis, queue)
    life.add()
    assert life.run(NO_STORIES)["creditsCharged"] == 2
    assert life.balance() == Balance(CREDITS - 2, 0)


def test_a_heartbeat_tells_of_every_run(life: Life) -> None:
    life.add(heartbeat=True)
    for answer in (reel(1), reel(1), UpstreamFailed, UpstreamFailed, NO_STORIES):
        life.run(answer)
    assert life.webhooks() == [["1"], [], [], [], []]
    assert life.watch.items_delivered == 1
    assert [name for name, _ in life.services.watches.owed(life.watch_id)] != [], "of items only"
    assert len(life.services.watches.owed(life.watch_id)) == 1


def test_without_only_new_every_run_shows_all(life: Life) -> None:
    life.add(only_new=False)
    assert pks(life.run(reel(1, 2))) == ["1", "2"]
    assert pks(life.run(reel(1, 2))) == ["1", "2"]
    assert life.run(NO_STORIES)["outcome"] == "empty"
    assert life.balance() == Balance(CREDITS - 3, 0)
    assert life.webhooks() == [["1", "2"], ["1", "2"], []]


def test_a_shared_reel_is_told_apart_all_the_same(life: Life) -> None:
    """Somebody else's fetch of the same reel serves the run, at the price of what is shared."""
    life.add(max_age=60)
    for answer in (["1", "2"], []):
        request_id = life.due()
        assert request_id is not None
        single = life.services.requests.submit(submission(life.account_id))
        scrape.run(life.services, Upstream(reel(1, 2)), single.request_id)
        scrape.run(life.services, Upstream(), request_id)
        record = life.services.requests.get(request_id)
        assert record is not None
        assert record.cached
        assert (record.item_count, record.charged) == (len(answer), len(answer[:1]))
    assert life.watch.running is None


def test_two_watches_of_one_account_know_nothing_of_each_other(life: Life) -> None:
    life.add()
    life.run(reel(1))
    life.add()
    assert pks(life.run(reel(1))) == ["1"]


def test_what_has_expired_is_forgotten_and_what_is_still_shown_is_not(life: Life) -> None:
    life.add()
    life.run(reel(1, 2, expiring_at=1))  # says that it is over, and is shown
    assert life.run(reel(1, 2, expiring_at=1))["outcome"] == "nothing_new"
    life.run(reel(3))
    assert life.redis.zrange(keys.watch_seen(life.watch_id), 0, -1) == ["3"]


# --- overlapping runs, and what is lost on the way -----------------------------------------------


def test_runs_of_a_watch_never_overlap(life: Life, queue: RecordingQueue) -> None:
    life.add()
    request_id = life.due()
    assert life.due() == request_id
    by_hand = actions.run_by_hand(life.services, life.account_id, life.watch_id)
    assert by_hand.request_id == request_id
    assert life.services.bulk.waiting() == 1
    assert life.balance().held == 1
    claim = life.services.requests.claim(str(request_id))
    assert claim is not None
    assert life.due() == request_id, "a run that is worked on is open"
    assert life.services.requests.page(
        life.account_id, status=None, username=None, cursor=None, limit=9
    ).items == [claim.request]


def test_a_worker_that_dies_in_between_costs_and_skips_nothing(life: Life) -> None:
    life.add()
    request_id = str(life.due())
    for _ in range(2):  # taken up, and the worker died
        dead = life.services.requests.claim(request_id)
        assert dead is not None
        life.redis.hset(keys.request(request_id), "lease_until", 1)
        assert life.due() == request_id, "the run is still this one"
    assert pks(life.work(request_id, reel(1))) == ["1"]
    assert life.webhooks() == [["1"]]
    assert life.balance() == Balance(CREDITS - 1, 0)
    assert life.run(reel(1))["outcome"] == "nothing_new"


def test_a_worker_that_comes_back_late_changes_nothing(life: Life) -> None:
    """It looked at what is new before the other one ended the run: what it found is dropped."""
    life.add()
    request_id = str(life.due())

    def overtaken() -> Found:
        life.redis.hset(keys.request(request_id), "lease_until", 1)
        life.redis.delete(keys.flight("anna"))
        life.work(request_id, reel(1))
        return reel(1, 2)

    scrape.run(life.services, Upstream(overtaken), request_id)
    assert life.webhooks() == [["1"]]
    assert life.watch.runs == 1
    assert pks(life.run(reel(1, 2))) == ["2"]


def test_a_lost_reply_at_the_end_counts_once(life: Life) -> None:
    life.add()
    claim = life.services.requests.claim(str(life.due()))
    assert claim is not None
    ending = scrape.Endings(life.services, claim).succeeded(reel(1))
    owed = [finish_one(life.services.requests, claim, ending) for _ in range(3)]
    assert owed[0] == owed[1] == owed[2]
    assert (life.watch.runs, life.watch.items_delivered) == (1, 1)
    assert life.services.watches.owed(life.watch_id)[0][0] == claim.request.request_id


def test_a_run_whose_request_has_ended_without_a_word_holds_up_nothing(life: Life) -> None:
    life.add()
    life.run(reel(1))
    life.redis.hset(keys.watch(life.watch_id), "running", str(life.watch.last_request_id))
    before = life.watch.running
    assert life.due() != before


def test_a_run_that_is_given_up_ends_the_run(life: Life) -> None:
    life.add()
    record = life.services.requests.get(str(life.due()))
    assert record is not None
    scrape.give_up(life.services, record)
    assert (life.watch.running, life.watch.last_outcome) == (None, "upstream_error")
    assert life.webhooks() == []


def test_a_run_that_is_cancelled_ends_the_run_in_silence(life: Life) -> None:
    life.add()
    cancel_request(life.services, life.account_id, str(life.due()))
    assert (life.watch.running, life.watch.last_outcome) == (None, "cancelled")
    assert life.webhooks() == []
    assert life.balance() == Balance(CREDITS, 0)
    life.add(only_new=False)
    request_id = str(life.due())
    cancel_request(life.services, life.account_id, request_id)
    assert life.services.deliveries.get(ids.delivery_of(request_id)) is not None, "told, and in no list"


# --- failing fetches -----------------------------------------------------------------------------


def test_trouble_upstream_is_silent_free_and_made_up_for(life: Life) -> None:
    life.add()
    life.run(reel(1))
    for _ in range(2):
        envelope = life.run(UpstreamFailed)
        assert (envelope["status"], envelope["code"]) == ("failed", "upstream_error")
    assert life.watch.last_outcome == "upstream_error"
    assert pks(life.run(reel(1, 2))) == ["2"]
    assert life.webhooks() == [["1"], ["2"]]
    assert life.balance() == Balance(CREDITS - 2, 0)


def test_an_account_that_closes_is_told_once_until_it_is_well_again(life: Life) -> None:
    life.add()
    private, missing = AccountPrivate, UserNotFound
    answers = (private, private, UpstreamFailed, private, missing, reel(1), private, NO_STORIES, private)
    outcomes = []
    for answer in answers:
        before = len(life.webhooks())
        life.run(answer)
        outcomes.append((life.watch.last_outcome, len(life.webhooks()) - before))
    assert outcomes == [
        ("account_private", 1),
        ("account_private", 0),
        ("upstream_error", 0),
        ("account_private", 0),
        ("user_not_found", 1),
        ("found", 1),
        ("account_private", 1),
        ("nothing_new", 0),
        ("account_private", 1),
    ]
    assert [name for name, _ in life.services.watches.owed(life.watch_id)] != []


# --- failing webhooks ----------------------------------------------------------------------------


def state(life: Life, delivery_id: str) -> str:
    delivery = life.services.deliveries.get(delivery_id)
    assert delivery is not None
    return delivery.status


def test_a_webhook_that_was_delivered_is_owed_no_longer(life: Life) -> None:
    life.add()
    life.run(reel(1))
    assert len(life.services.watches.owed(life.watch_id)) == 1
    life.deliver("delivered")
    life.run(reel(1))
    assert life.services.watches.owed(life.watch_id) == []


def test_a_webhook_that_is_under_way_is_left_alone(life: Life) -> None:
    life.add()
    life.run(reel(1))
    delivery_id = life.deliver("pending")
    life.queue.published.clear()
    life.run(reel(1, 2))
    assert ("deliver", "deliver", delivery_id, HOST) not in life.queue.published
    assert len(life.services.watches.owed(life.watch_id)) == 2
    assert life.webhooks() == [["1"], ["2"]]


@pytest.mark.parametrize("status", ["exhausted", "blocked"])
def test_a_webhook_that_failed_for_good_is_sent_again_by_the_next_run(life: Life, status: str) -> None:
    life.add()
    life.run(reel(1, 2))
    request_id = str(life.watch.last_request_id)
    delivery_id = life.deliver(status)
    assert life.run(reel(1, 2))["outcome"] == "nothing_new", "its items are not new: their webhook is"
    assert state(life, delivery_id) == "pending"
    assert ("deliver", "deliver", delivery_id, HOST) in life.queue.published
    claim = life.services.deliveries.claim(delivery_id, HOST)
    assert claim is not None
    assert claim.body == life.services.requests.envelope(request_id), "the very same"
    life.services.deliveries.record(claim, Attempt(1, 0.1, status=200), Plan("delivered"))
    life.run(reel(1, 2))
    assert life.services.watches.owed(life.watch_id) == []
    assert life.balance() == Balance(CREDITS - 1, 0), "and nothing charged again"


def test_after_a_day_a_failed_webhook_is_let_go(life: Life) -> None:
    life.add()
    life.run(reel(1))
    delivery_id = life.deliver("exhausted")
    long_ago = life.services.clock() - OWED_FOR_MS - 1
    life.redis.zadd(keys.watch_owed(life.watch_id), {str(life.watch.last_request_id): long_ago})
    life.run(reel(1))
    assert state(life, delivery_id) == "exhausted"
    assert life.services.watches.owed(life.watch_id) == []


def test_a_webhook_nothing_is_kept_of_is_let_go(life: Life) -> None:
    life.add()
    life.run(reel(1))
    life.redis.delete(keys.delivery(ids.delivery_of(str(life.watch.last_request_id))))
    life.run(reel(1))
    assert life.services.watches.owed(life.watch_id) == []


@pytest.mark.parametrize("changes", [{}, {"only_new": False}, {"heartbeat": True}], ids=str)
def test_a_receiver_that_is_gone_pauses_the_watch(life: Life, changes: dict[str, Any]) -> None:
    life.add(**changes)
    life.run(reel(1))
    delivery_id = life.deliver("gone")
    assert life.due() is None
    assert (life.watch.status, life.watch.pause_reason) == ("paused", "receiver_gone")
    assert (life.watch.next_run_at, life.services.schedules.entries()) == (0, frozenset())
    assert life.due() is None
    with pytest.raises(Conflict):
        actions.run_by_hand(life.services, life.account_id, life.watch_id)

    actions.resume_watch(life.services, life.account_id, life.watch_id)
    assert life.watch.pause_reason is None
    if not changes.get("only_new", True):
        assert pks(life.run(reel(1))) == ["1"]
        return
    assert state(life, delivery_id) == "pending", "what it missed is sent again"
    assert pks(life.run(reel(1, 2))) == ["2"]


def test_a_receiver_that_is_gone_is_found_by_hand_too(life: Life) -> None:
    life.add()
    life.run(reel(1))
    life.deliver("gone")
    with pytest.raises(Conflict, match="410"):
        actions.run_by_hand(life.services, life.account_id, life.watch_id)
    assert life.watch.pause_reason == "receiver_gone"


# --- credits -------------------------------------------------------------------------------------


def test_without_credits_nothing_is_stored_and_the_next_run_is_planned(life: Life) -> None:
    life.services.credits.add(life.account_id, -CREDITS, entry_type="adjustment", note="")
    life.add()
    before = set(life.redis.scan_iter())
    assert life.due() is None
    assert set(life.redis.scan_iter()) == before
    known = life.watch
    assert (known.last_outcome, known.runs, known.last_run_at) == ("insufficient_credits", 0, 0)
    assert known.next_run_at > life.services.clock() + 800_000
    with pytest.raises(InsufficientCredits):
        actions.run_by_hand(life.services, life.account_id, life.watch_id)
    life.services.credits.add(life.account_id, 1, entry_type="topup", note="")
    assert pks(life.run(reel(1))) == ["1"]


# --- an account that is disabled -----------------------------------------------------------------


def test_the_watch_of_a_disabled_account_stands_still_and_goes_on_when_it_is_enabled(life: Life) -> None:
    life.add()
    life.run(reel(1))
    life.services.accounts.set_disabled(life.account_id, True)
    known, balance = life.watch, life.balance()
    life.redis.zadd(keys.watching(ids.shard_in(life.watch_id)), {life.watch_id: 1})
    for overdue in (1, 0):
        assert sweep.run_overdue_watches(life.services) == overdue
        assert life.due() is None
    after = life.watch
    assert after.next_run_at > life.services.clock() + 800_000
    assert replace(after, next_run_at=known.next_run_at) == known, "nothing else has changed"
    assert (life.balance(), life.webhooks()) == (balance, [["1"]])
    assert life.services.watches.overdue(10) == []
    assert life.services.schedules.entries() == {life.watch_id}

    life.services.accounts.set_disabled(life.account_id, False)
    assert pks(life.run(reel(1, 2))) == ["2"]
    assert audit(life.services).differences == []


def test_what_is_queued_goes_on_when_the_account_is_disabled(life: Life) -> None:
    life.add()
    request_id = life.due()
    assert request_id is not None
    life.services.accounts.set_disabled(life.account_id, True)
    assert pks(life.work(request_id, reel(1))) == ["1"]
    assert life.webhooks() == [["1"]]


def test_a_webhook_that_failed_waits_for_the_account_to_be_enabled(life: Life) -> None:
    life.add()
    life.run(reel(1))
    delivery_id = life.deliver("exhausted")
    life.services.accounts.set_disabled(life.account_id, True)
    assert life.due() is None
    delivery = life.services.deliveries.get(delivery_id)
    assert delivery is not None
    assert delivery.status == "exhausted"
    life.services.accounts.set_disabled(life.account_id, False)
    life.due()
    delivery = life.services.deliveries.get(delivery_id)
    assert delivery is not None
    assert delivery.status == "pending"


# --- pausing, resuming, deleting -----------------------------------------------------------------


def test_a_paused_watch_does_not_run_and_keeps_what_it_has_seen(life: Life) -> None:
    life.add()
    life.run(reel(1))
    for _ in range(2):
        actions.pause_watch(life.services, life.account_id, life.watch_id)
        assert (life.watch.status, life.watch.pause_reason) == ("paused", "by_hand")
    assert life.services.schedules.entries() == frozenset()
    assert life.due() is None
    assert life.services.watches.overdue(10) == []
    for _ in range(2):
        actions.resume_watch(life.services, life.account_id, life.watch_id)
    assert life.services.schedules.entries() == {life.watch_id}
    assert abs(life.watch.next_run_at - life.services.clock()) < 60_000
    assert pks(life.run(reel(1, 2))) == ["2"]


def test_a_run_that_is_under_way_when_its_watch_is_paused_ends_as_it_would(life: Life) -> None:
    life.add()
    request_id = str(life.due())
    actions.pause_watch(life.services, life.account_id, life.watch_id)
    life.work(request_id, reel(1))
    assert (life.watch.status, life.watch.running, life.watch.items_delivered) == ("paused", None, 1)


def test_a_deleted_watch_leaves_nothing_and_its_run_ends_like_a_single_request(life: Life) -> None:
    life.add()
    life.run(reel(1))
    request_id = str(life.due())
    watch_id = life.watch_id
    actions.delete_watch(life.services, life.account_id, watch_id)
    assert life.keys_of_the_watch() == []
    assert life.services.schedules.entries() == frozenset()
    assert pks(life.work(request_id, reel(1, 2))) == ["1", "2"]
    assert life.keys_of_the_watch() == [], "the end of the run brings nothing back"
    watch.run(life.services, watch_id)
    for call in (actions.pause_watch, actions.resume_watch, actions.delete_watch, actions.run_by_hand):
        with pytest.raises(NotFound):
            call(life.services, life.account_id, watch_id)
    assert life.services.watches.pause(watch_id, "by_hand") is None
    assert life.services.watches.resume(watch_id) is None
    assert life.keys_of_the_watch() == []
    assert audit(life.services).differences == []


def test_a_watch_that_is_deleted_between_fetch_and_end_stays_deleted(life: Life) -> None:
    life.add()
    claim = life.services.requests.claim(str(life.due()))
    assert claim is not None
    ending = scrape.Endings(life.services, claim).succeeded(reel(1))
    actions.delete_watch(life.services, life.account_id, life.watch_id)
    finish_one(life.services.requests, claim, ending)
    assert life.keys_of_the_watch() == []
    assert life.webhooks() == [["1"]]


def test_an_account_has_only_so_many(life: Life) -> None:
    made = [life.add() for _ in range(3)]
    with pytest.raises(Conflict, match="3"):
        life.add()
    assert life.services.watches.page(life.account_id, cursor=None, limit=10).items == made[::-1]
    again = life.services.watches.add(made[0])
    assert again.created_at == made[0].created_at, "a lost reply is asked for again"
    actions.delete_watch(life.services, life.account_id, made[0].watch_id)
    life.add()


def test_a_list_has_pages(life: Life) -> None:
    made = sorted((life.add().watch_id for _ in range(3)), reverse=True)
    first = life.services.watches.page(life.account_id, cursor=None, limit=2)
    rest = life.services.watches.page(life.account_id, cursor=first.next_cursor, limit=2)
    assert [each.watch_id for each in (*first.items, *rest.items)] == made
    assert rest.next_cursor is None


# --- time ----------------------------------------------------------------------------------------


def test_a_run_plans_the_next_one_and_one_by_hand_does_not(life: Life) -> None:
    life.add(every="2h")
    assert abs(life.watch.next_run_at - life.services.clock()) < 60_000, "the first is at once"
    life.run(reel(1))
    planned = life.watch.next_run_at
    assert abs(planned - life.services.clock() - 7_200_000) < 60_000
    request = actions.run_by_hand(life.services, life.account_id, life.watch_id)
    life.work(request.request_id, reel(1))
    assert life.watch.next_run_at == planned
    [score] = life.redis.zmscore(keys.watching(ids.shard_in(life.watch_id)), [life.watch_id])
    assert score == planned + GRACE_MS


def test_what_beat_misses_the_sweep_runs(life: Life) -> None:
    life.add()
    assert sweep.run_overdue_watches(life.services) == 0, "beat's message may be on its way"
    shard = keys.watching(ids.shard_in(life.watch_id))
    life.redis.zadd(shard, {life.watch_id: 1})
    assert sweep.run_overdue_watches(life.services) == 1
    assert life.watch.running is not None
    assert sweep.run_overdue_watches(life.services) == 0
    life.redis.zadd(shard, {life.watch_id: 1})
    sweep.run_overdue_watches(life.services)
    assert life.services.bulk.waiting() == 1, "the open one is the run"


def test_the_sweep_forgets_a_watch_that_is_no_more(life: Life) -> None:
    life.add()
    shard = keys.watching(ids.shard_in(life.watch_id))
    life.redis.delete(keys.watch(life.watch_id))
    life.redis.zadd(shard, {life.watch_id: 1})
    sweep.run_overdue_watches(life.services)
    assert not life.redis.exists(shard)


def test_a_store_that_is_out_is_no_end_of_a_watch(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    def out(*_: Any) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        for name in ("put", "remove"):
            patch.setattr(life.services.schedules, name, out)
        life.add()
    assert life.services.schedules.entries() == frozenset()
    assert pks(life.run(reel(1))) == ["1"]
    schedule.mend_schedule(life.services)
    assert life.services.schedules.entries() == {life.watch_id}


def test_trouble_with_beats_schedule_is_trouble_with_the_store(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    life.add()

    def gone(*_: Any, **__: Any) -> None:
        raise StoreGone

    monkeypatch.setattr(life.redis, "pipeline", gone)
    with pytest.raises(StoreUnavailable):
        life.services.schedules.put(life.watch)
    with pytest.raises(StoreUnavailable):
        life.services.schedules.remove(life.watch_id)


# --- beat ----------------------------------------------------------------------------------------


class Beats:
    """Beats over the same store, which tell what they would publish."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._settings, self._redis = settings, redis
        self.published: list[tuple[Any, ...]] = []

    def start(self, monkeypatch: pytest.MonkeyPatch) -> LastingScheduler:
        app = make_celery("memory://")
        configure_beat(app, self._settings.redis_url)
        app.redbeat_redis = self._redis
        monkeypatch.setattr(app, "send_task", self._note)
        return LastingScheduler(app=app)

    def _note(self, task: str, args: Any = (), *_: Any, **options: Any) -> None:
        self.published.append((task, *args, options["queue"]))

    def runs(self) -> list[tuple[Any, ...]]:
        return [each for each in self.published if each[0] == RUN]


@pytest.fixture
def beats(settings: Settings, redis: Redis) -> Beats:
    return Beats(settings, redis)


def ticks(beat: LastingScheduler) -> None:
    """Some, because a beat whose lead ran out while the clock jumped takes it anew first."""
    for _ in range(3):
        beat.tick()


@pytest.mark.parametrize("every", ["15m", "*/15 * * * *", "0 8 29 * *"])
def test_beat_runs_a_new_watch_at_once_and_then_when_it_is_time(
    life: Life, beats: Beats, monkeypatch: pytest.MonkeyPatch, every: str
) -> None:
    with time_machine.travel("2026-03-01T10:00:30+00:00", tick=False) as clock:
        life.add(every=every)
        beat = beats.start(monkeypatch)
        ticks(beat)
        assert beats.runs() == [(RUN, life.watch_id, "bulk")]
        if every.startswith("0 8"):
            clock.move_to("2026-03-29T07:59:59+00:00")
            ticks(beat)
            assert len(beats.runs()) == 1
            clock.move_to("2026-03-29T08:00:01+00:00")
        else:
            clock.shift(timedelta(minutes=14, seconds=0 if every == "15m" else 25))
            ticks(beat)
            assert len(beats.runs()) == 1
            clock.shift(timedelta(minutes=1, seconds=6))
        ticks(beat)
        assert len(beats.runs()) == 2
        beat.close()


def test_after_downtime_one_run_makes_up_for_all_that_were_missed(
    life: Life, beats: Beats, monkeypatch: pytest.MonkeyPatch
) -> None:
    with time_machine.travel("2026-03-01T10:00:00+00:00", tick=False) as clock:
        life.add()
        beat = beats.start(monkeypatch)
        ticks(beat)
        beat.close()
        clock.shift(timedelta(hours=9))
        beat = beats.start(monkeypatch)
        for _ in range(3):
            ticks(beat)
        assert len(beats.runs()) == 2
        clock.shift(timedelta(minutes=15, seconds=1))
        ticks(beat)
        assert len(beats.runs()) == 3
        beat.close()


def test_a_watch_comes_and_goes_with_its_entry_while_beat_runs(
    life: Life, beats: Beats, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = beats.start(monkeypatch)
    beat.tick()
    assert beats.published == [(schedule.MEND, "bulk")], "it has the schedule mended at its start"
    life.add()
    beat.tick()
    assert len(beats.runs()) == 1
    actions.pause_watch(life.services, life.account_id, life.watch_id)
    beat.tick()
    actions.resume_watch(life.services, life.account_id, life.watch_id)
    beat.tick()
    assert len(beats.runs()) == 2, "at once after it was resumed"
    actions.delete_watch(life.services, life.account_id, life.watch_id)
    beat.tick()
    assert len(beats.runs()) == 2
    beat.close()


def test_the_schedule_is_mended(life: Life) -> None:
    kept, lost, paused = (life.add() for _ in range(3))
    life.services.schedules.remove(lost.watch_id)
    actions.pause_watch(life.services, life.account_id, paused.watch_id)
    life.services.schedules.put(paused)
    nobody = replace(kept, watch_id=ids.new_id(ids.WATCH, ids.shard_in(life.account_id), 1))
    life.services.schedules.put(nobody)
    life.redis.hset("{beat}:watch:left behind by a beat", "meta", "{}")
    before = life.redis.hgetall(f"{{beat}}:watch:{kept.watch_id}")
    schedule.housekeep(life.services)
    assert life.services.schedules.entries() == {kept.watch_id, lost.watch_id}
    assert life.redis.hgetall(f"{{beat}}:watch:{kept.watch_id}") == before, "what is there stays as it is"
    assert not life.redis.exists("{beat}:watch:left behind by a beat")


def test_a_mended_entry_runs_when_its_watch_is_due_and_not_at_once(life: Life) -> None:
    """After a restore no entry is there: all watches would run in the same second."""
    made = life.add()
    life.due()
    life.services.schedules.remove(made.watch_id)
    schedule.mend_schedule(life.services)
    [(_, due)] = life.redis.zrange("{beat}::schedule", 0, -1, withscores=True)
    assert due == pytest.approx(life.watch.next_run_at / 1000, abs=2)
    assert due > time.time() + 600
    life.redis.hset(keys.watch(made.watch_id), "next_run_at", 1)
    life.services.schedules.remove(made.watch_id)
    schedule.mend_schedule(life.services)
    [(_, due)] = life.redis.zrange("{beat}::schedule", 0, -1, withscores=True)
    assert due <= time.time() + 1, "what was missed is made up for"


def test_an_entry_that_outlived_its_watch_ends_with_its_next_run(life: Life) -> None:
    made = life.add()
    life.services.watches.remove(made)
    assert life.services.schedules.entries() == {made.watch_id}
    watch.run(life.services, made.watch_id)
    assert life.services.schedules.entries() == frozenset()


def test_a_watch_lives_through_a_day_and_a_half_with_an_outage(
    settings: Settings, queue: RecordingQueue
) -> None:
    """On a clock that can be set: every item is delivered once, whatever was missed meanwhile."""
    redis = fakeredis.FakeRedis(decode_responses=True, protocol=2)
    with time_machine.travel("2026-03-01T00:00:00+00:00", tick=False) as clock:
        life = Life(make_services(settings, redis, queue), redis, queue)
        life.services.credits.add(life.account_id, 1_000, entry_type="topup", note="")
        life.add(every="30m")
        expected = []
        for hour in itertools.count():
            now = life.services.clock() // 1000
            live = [number for number in range(hour + 1) if number > hour - 24]
            items = [{"pk": number + 1, "expiring_at": now + (24 + number - hour) * 3_600} for number in live]
            if not 10 <= hour < 16:  # nothing runs for six hours
                life.run(reel_found("42", USER, {"id": 42, "items": items}))
                life.deliver("delivered") if life.watch.last_outcome == "found" else None
            if hour == 36:
                break
            expected.append(str(hour + 1))
            clock.shift(timedelta(hours=1))
        delivered = list(itertools.chain(*life.webhooks()))
        assert delivered == [*expected, "37"]
        assert life.balance().balance == CREDITS + 1_000 - (37 - 6)
        assert redis.zcard(keys.watch_seen(life.watch_id)) <= 25


# --- the store alone -----------------------------------------------------------------------------


def stored(life: Life, watch_id: str, **changes: Any) -> RequestRecord:
    return life.services.requests.submit(
        submission(life.account_id, webhook_url=HOOK, watch=Run(watch_id), **changes)
    )


def test_a_request_tells_whose_run_it_is(life: Life) -> None:
    made = life.add()
    record = stored(life, made.watch_id)
    assert record.watch_id == made.watch_id
    again = life.services.requests.get(record.request_id)
    assert again is not None
    assert again.watch_id == made.watch_id


def test_the_run_of_another_accounts_or_no_watch_is_refused(life: Life) -> None:
    with pytest.raises(Conflict):
        stored(life, ids.new_id(ids.WATCH, ids.shard_in(life.account_id), 1))
    assert life.balance() == Balance(CREDITS, 0)


def test_a_lost_reply_at_the_start_is_asked_for_again(life: Life) -> None:
    made = life.add()
    asked = submission(life.account_id, webhook_url=HOOK, watch=Run(made.watch_id, next_in=1_000))
    records = [life.services.requests.submit(asked) for _ in range(3)]
    assert records[0] == records[1] == records[2]
    assert life.balance().held == 1


def test_all_active_watches_are_found(life: Life) -> None:
    made = [life.add().watch_id for _ in range(3)]
    actions.pause_watch(life.services, life.account_id, made[0])
    found = [each.watch_id for chunk in life.services.watches.active() for each in chunk]
    assert sorted(found) == sorted(made[1:])
    assert ids.shard_in(life.account_id) < SHARDS


def test_each_run_has_the_options_of_its_watch(life: Life) -> None:
    chosen = Options(shape="raw", amount=1, archive=True)
    made = life.add(only_new=False, options=chosen)
    assert (made.options, life.watch.options) == (chosen, chosen)
    for _ in range(2):
        request_id = life.due()
        assert request_id is not None
        record = life.services.requests.get(request_id)
        assert record is not None
        assert (record.options, record.target) == (chosen, named("anna"))
        assert pks(life.work(request_id, reel(1, 2))) == ["1"]


def test_a_watch_nothing_was_chosen_for_has_the_plain_options(life: Life) -> None:
    life.add()
    assert life.watch.options is PLAIN
    assert not life.redis.hexists(keys.watch(life.watch_id), "options")


# --- runs that cannot be paid --------------------------------------------------------------------


def test_a_watch_pauses_after_three_runs_in_a_row_that_could_not_be_paid(life: Life) -> None:
    life.services.credits.add(life.account_id, -CREDITS, entry_type="adjustment", note="")
    life.add()
    for unpaid in (1, 2):
        assert life.due() is None
        assert (life.watch.status, life.watch.last_outcome) == ("active", "insufficient_credits"), unpaid
    life.queue.published.clear()
    assert life.due() is None
    assert (life.watch.status, life.watch.pause_reason) == ("paused", "insufficient_credits")
    assert life.watch.next_run_at == 0
    assert life.redis.zscore(keys.watching(ids.shard_in(life.watch_id)), life.watch_id) is None
    assert life.services.schedules.entries() == frozenset()
    [(_, _, delivery_id, host)] = [each for each in life.queue.published if each[0] == "deliver"]
    assert host == HOST
    told = life.services.deliveries.claim(delivery_id, host)
    assert told is not None
    assert told.body is not None
    body = json.loads(told.body)
    assert (body["watchId"], body["status"]) == (life.watch_id, "paused")
    assert (body["code"], body["pauseReason"]) == ("insufficient_credits", "insufficient_credits")
    assert f"/api/watches/{life.watch_id}/resume" in body["error"]

    life.queue.published.clear()
    assert life.due() is None
    assert life.queue.published == [], "told once"
    life.services.credits.add(life.account_id, 5, entry_type="topup", note="")
    actions.resume_watch(life.services, life.account_id, life.watch_id)
    assert (life.watch.status, life.watch.pause_reason) == ("active", None)
    assert life.run(reel(1))["outcome"] == "found"


def test_runs_that_are_not_paid_count_in_a_row_and_only_those_that_were_due(life: Life) -> None:
    life.add()
    for _ in range(3):
        for _ in range(2):
            held = life.services.credits.balance(life.account_id).available
            life.services.credits.add(life.account_id, -held, entry_type="adjustment", note="")
            assert life.due() is None
            with pytest.raises(InsufficientCredits):
                actions.run_by_hand(life.services, life.account_id, life.watch_id)
        life.services.credits.add(life.account_id, 1, entry_type="topup", note="")
        life.run(reel(1))
    assert life.watch.is_active


def test_an_unpaid_run_whose_reply_was_lost_counts_once(life: Life) -> None:
    life.services.credits.add(life.account_id, -CREDITS, entry_type="adjustment", note="")
    life.add()
    asked = submission(life.account_id, watch=Run(life.watch_id, next_in=900_000))
    for _ in range(5):
        with pytest.raises(InsufficientCredits):
            life.services.requests.submit(asked)
    assert life.watch.is_active


def test_a_pause_for_want_of_credits_is_logged(life: Life) -> None:
    life.services.credits.add(life.account_id, -CREDITS, entry_type="adjustment", note="")
    life.add()
    with capture_logs() as logs:
        for _ in range(3):
            life.due()
    assert [line["event"] for line in logs] == ["watch.not_paid", "watch.not_paid", "watch.paused"]
    assert (logs[-1]["watchId"], logs[-1]["reason"]) == (life.watch_id, "insufficient_credits")
