"""Batches: accepted in one step, counted in the step that ends each item, over exactly when its items are."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from service.actions.audit import audit
from service.actions.batch import (
    GONE,
    BatchOptions,
    all_results,
    cancel_batch,
    find_batch,
    item_ids,
    list_batches,
    results,
    submit_batch,
)
from service.actions.cancel import cancel_request
from service.actions.lookup import wait_for
from service.config import Settings
from service.domain import ids
from service.domain.batches import BatchRecord, BatchSubmission, view
from service.domain.credits import Balance
from service.domain.errors import (
    Conflict,
    IdempotencyKeyReuse,
    InsufficientCredits,
    LeaseLost,
    NotFound,
    ValidationFailed,
)
from service.domain.namelists import NAMES_MOST, from_json, from_ndjson
from service.domain.options import PLAIN, Options
from service.domain.ports import Services
from service.domain.requests import BULK, INTERACTIVE, Claim
from service.domain.targets import named
from service.stores import keys
from service.stores.batches import _keys
from service.stores.requests import LEFT_FOR
from tests.conftest import SHARDS, RecordingQueue, await_true, finish_one, make_services
from tests.redis.kit import Lua, at_once, batch_of, ending, snapshot, submission
from tests.upstreams import StoriesByName
from workers import gather, scrape, sweep
from workers.places import Places
from workers.sources.contract import Found, reel_found

HOOK = "https://example.com/hook"
HOST = "example.com:443"
EACH = BatchOptions(webhook_url=None, webhook_mode="each", max_age=0)
FAILED = ending(status="failed", outcome="", code="account_private", charge=0, item_count=0)


@pytest.fixture
def account_id(services: Services) -> str:
    return account_of(services)


def account_of(services: Services, credits: int = 100) -> str:
    made = services.accounts.create("anna@example.com", "hash")
    if credits:
        services.credits.add(made.account_id, credits, entry_type="topup", note="")
    return made.account_id


def submit(services: Services, account_id: str, names: int | list[str] = 3, **options: Any) -> BatchRecord:
    """Accept a batch the way the API does."""
    given = [f"name{number}" for number in range(1, names + 1)] if isinstance(names, int) else names
    record, _, _ = submit_batch(services, account_id, from_json(given), replace(EACH, **options))
    return record


def now(services: Services, batch: BatchRecord) -> BatchRecord:
    found = services.batches.get(batch.batch_id)
    assert found is not None
    return found


def take(services: Services, batch: BatchRecord, number: int) -> Claim:
    claim = services.requests.claim(ids.item_of(batch.batch_id, number), batch.batch_id)
    assert claim is not None
    return claim


def end(services: Services, batch: BatchRecord, *numbers: int, how: Any = None) -> None:
    for number in numbers:
        finish_one(services.requests, take(services, batch, number), how or ending())


def expire_lease(redis: Redis, request_id: str) -> None:
    redis.hset(keys.request(request_id), "lease_until", 1)


def states(services: Services, batch: BatchRecord) -> dict[str, int]:
    return {name: count for name, count in view(now(services, batch))["states"].items() if count}


def assert_adds_up(services: Services, batch: BatchRecord) -> dict[str, Any]:
    """Check what a batch tells against its items, one by one, and the ledger; return what it tells."""
    seen = view(now(services, batch), services.clock())
    items = [item for item in services.requests.get_many(item_ids(batch)) if item is not None]
    assert len(items) == seen["total"] == sum(seen["states"].values())
    assert min(seen["states"].values()) >= 0
    counted = Counter(item.status for item in items)
    assert {state: count for state, count in seen["states"].items() if count} == counted
    outcomes = Counter(item.outcome or item.code for item in items if item.is_final)
    assert seen["outcomes"] == outcomes
    assert seen["itemCount"] == sum(item.item_count for item in items)
    assert seen["cached"] == sum(item.cached for item in items)
    assert seen["creditsCharged"] == sum(item.charged for item in items)
    assert seen["creditsHeld"] == sum(item.hold for item in items if not item.is_final)
    assert bool(seen["finishedAt"]) == (seen["status"] != "processing") == all(i.is_final for i in items)
    assert audit(services).differences == []
    return seen


def ledger(services: Services, account_id: str, kind: str) -> list[tuple[str | None, int]]:
    page = services.credits.ledger(account_id, request_id=None, cursor=None, limit=1_000)
    return [(entry.request_id, entry.amount) for entry in page.items if entry.type == kind][::-1]


# --- accepted in one step ------------------------------------------------------------------------


def test_a_batch_is_stored_held_opened_and_listed_in_its_order(
    services: Services, account_id: str, redis: Redis, queue: RecordingQueue
) -> None:
    record, unpaid, replayed = submit_batch(
        services,
        account_id,
        from_ndjson(b'"anna"\n{"username": "bert", "externalId": "no. 7"}\n"carl"\n"anna"\n'),
        BatchOptions(webhook_url=HOOK, webhook_mode="each", max_age=60),
    )
    assert (unpaid, replayed) == ([], False)
    assert now(services, record) == record
    assert (record.total, record.left, record.processing, record.hold) == (3, 3, 0, 1)
    assert services.credits.balance(account_id) == Balance(100, 3)

    names = item_ids(record)
    assert ledger(services, account_id, "hold") == [(record.batch_id, -3)], "one entry for all"
    items = [item for item in services.requests.get_many(names) if item is not None]
    assert [item.username for item in items] == ["anna", "bert", "carl"]
    assert [item.external_id for item in items] == [None, "no. 7", None]
    assert {item.batch_id for item in items} == {record.batch_id}
    assert {(item.queue, item.status, item.hold, item.max_age) for item in items} == {(BULK, "queued", 1, 60)}
    assert {item.webhook_url for item in items} == {HOOK}
    assert {item.created_at for item in items} == {record.created_at}

    shard = ids.shard_in(account_id)
    looks = dict(redis.zrange(keys.open_requests(shard), 0, -1, withscores=True))
    grace = services.policy.pickup_grace * 1000
    assert looks == {name: record.created_at + grace + place for place, name in enumerate(names, 1)}
    listed = services.requests.page(account_id, status=None, username=None, cursor=None, limit=9).items
    assert [each.request_id for each in listed] == names[::-1]
    assert services.bulk.take(9) == names
    assert queue.published == [("gather", "bulk")]
    counters = services.stats.counters()
    assert (counters["accepted"], counters["batches"], counters["held"]) == (3, 1, 3)
    assert assert_adds_up(services, record)["creditsHeld"] == 3


def test_the_items_of_a_batch_have_its_options(services: Services, account_id: str) -> None:
    chosen = Options(shape="story", archive=True)
    asked = (
        from_ndjson(b'"anna"\n{"username": "bert", "externalId": "no. 7"}\n'),
        BatchOptions(None, "each", 60, result=chosen),
    )
    record, _, _ = submit_batch(services, account_id, *asked)
    items = [item for item in services.requests.get_many(item_ids(record)) if item is not None]
    assert [(item.target, item.external_id) for item in items] == [
        (named("anna"), None),
        (named("bert"), "no. 7"),
    ]
    assert [item.options for item in items] == [chosen, chosen]
    plain = submit(services, account_id, 1)
    assert [item.options for item in services.requests.get_many(item_ids(plain)) if item] == [PLAIN]


def test_a_key_stands_for_one_way_to_ask_for_a_batch(services: Services, account_id: str) -> None:
    asked: dict[str, Any] = {"idempotency_key": "k", "options": Options(shape="story")}
    first = services.batches.submit(batch_of(account_id, **asked))
    assert services.batches.submit(batch_of(account_id, **asked)).batch_id == first.batch_id
    with pytest.raises(IdempotencyKeyReuse):
        services.batches.submit(batch_of(account_id, **{**asked, "options": PLAIN}))


def test_ten_thousand_are_accepted_at_once(settings: Settings, valkey: Redis, queue: RecordingQueue) -> None:
    services = make_services(settings, valkey, queue)
    account_id = account_of(services, NAMES_MOST)
    record = submit(services, account_id, NAMES_MOST, webhook_url=HOOK, webhook_mode="both")
    assert services.credits.balance(account_id) == Balance(NAMES_MOST, NAMES_MOST)
    assert services.bulk.waiting() == NAMES_MOST
    assert valkey.zcard(keys.open_requests(ids.shard_in(account_id))) == NAMES_MOST
    last = services.requests.get(ids.item_of(record.batch_id, NAMES_MOST))
    assert last is not None
    assert last.username == f"name{NAMES_MOST}"
    with pytest.raises(InsufficientCredits):
        submit(services, account_id, 1)


def call_script(lua: Lua, made: BatchSubmission, batches: Any) -> Any:
    return lua("submit_batch", _keys(made, batches._policy.names_limits), *batches._args(made))


@pytest.mark.parametrize("changes", [{}, {"idempotency_key": "k"}, {"clamp": True}, {"hold": 0}])
def test_a_lost_reply_is_asked_for_again_and_nothing_happens_twice(
    services: Services, account_id: str, redis: Redis, changes: dict[str, Any]
) -> None:
    credits = services.credits.balance(account_id).available
    made = batch_of(account_id, credits + 10 if changes.get("clamp") else 3, webhook_url=HOOK, **changes)
    lua = Lua(redis)
    first = call_script(lua, made, services.batches)
    before = snapshot(redis)
    assert call_script(lua, made, services.batches) == first
    assert snapshot(redis) == before
    assert first[2] == (credits if changes.get("clamp") else 3)

    record = services.batches.submit(made)
    end(services, record, *range(1, record.total + 1), how=ending(charge=made.hold))
    before = snapshot(redis)
    assert call_script(lua, made, services.batches) == first, "also when it has ended since"
    assert snapshot(redis) == before


def test_a_batch_that_is_refused_leaves_nothing(services: Services, account_id: str, redis: Redis) -> None:
    before = snapshot(redis)
    for clamp, hold in [(False, 1), (False, 50), (True, 101)]:
        with pytest.raises(InsufficientCredits) as caught:
            services.batches.submit(
                batch_of(account_id, 101, clamp=clamp, hold=hold, idempotency_key="k", webhook_url=HOOK)
            )
        assert "100 are available" in caught.value.message
    assert snapshot(redis) == before


# --- as many as the balance pays for -------------------------------------------------------------


@pytest.mark.parametrize(
    ("credits", "hold", "accepted"),
    [
        (0, 1, 0), (1, 1, 1), (4, 1, 4), (5, 1, 5), (6, 1, 5),
        (2, 3, 0), (3, 3, 1), (14, 3, 4), (15, 3, 5), (0, 0, 5),
    ],
)  # fmt: skip
def test_a_clamped_batch_has_as_many_items_as_are_paid(
    services: Services, redis: Redis, credits: int, hold: int, accepted: int
) -> None:
    account_id = account_of(services, credits)
    made = batch_of(account_id, 5, hold=hold, clamp=True)
    if not accepted:
        before = snapshot(redis)
        with pytest.raises(InsufficientCredits):
            services.batches.submit(made)
        assert snapshot(redis) == before
        return
    record = services.batches.submit(made)
    assert (record.total, record.left) == (accepted, accepted)
    assert services.credits.balance(account_id) == Balance(credits, accepted * hold)
    assert services.requests.get(ids.item_of(record.batch_id, accepted)) is not None
    assert services.requests.get(ids.item_of(record.batch_id, accepted + 1)) is None
    assert_adds_up(services, record)


def test_the_unpaid_are_the_last_of_the_list_and_told_again_on_a_replay(services: Services) -> None:
    account_id = account_of(services, 2)
    names = from_json(["anna", "bert", "bad name", "anna", "carl", "dora"])
    options = replace(EACH, clamp=True, idempotency_key="k")
    record, unpaid, replayed = submit_batch(services, account_id, names, options)
    assert (record.total, unpaid, replayed) == (2, ["carl", "dora"], False)
    services.credits.add(account_id, 10, entry_type="topup", note="")
    again, unpaid, replayed = submit_batch(services, account_id, names, options)
    assert (again.batch_id, unpaid, replayed) == (record.batch_id, ["carl", "dora"], True)
    assert services.credits.balance(account_id).held == 2


def test_without_a_price_nothing_is_written_into_the_ledger(services: Services) -> None:
    account_id = account_of(services, 0)
    record = services.batches.submit(batch_of(account_id, 5, hold=0))
    end(services, record, 1, 2, how=ending(charge=0))
    assert services.credits.balance(account_id) == Balance(0, 0)
    assert services.credits.ledger(account_id, request_id=None, cursor=None, limit=9).items == []
    assert_adds_up(services, record)


def test_many_at_once_never_hold_more_than_there_is(
    settings: Settings, valkey: Redis, queue: RecordingQueue
) -> None:
    services = make_services(settings, valkey, queue)
    account_id = account_of(services, 50)

    def call(number: int) -> int:
        try:
            if number % 3 == 0:
                services.requests.submit(submission(account_id, at=services.clock()))
                return 1
            made = batch_of(account_id, 7, at=services.clock(), clamp=number % 3 == 1)
            return services.batches.submit(made).total
        except InsufficientCredits:
            return 0

    accepted = at_once(24, call)
    assert sum(accepted) == 50, "those who take what is left take all of it"
    assert services.credits.balance(account_id) == Balance(50, 50)
    assert audit(services).differences == []


# --- the same call twice -------------------------------------------------------------------------


def test_an_idempotency_key_stands_for_one_batch(
    services: Services, account_id: str, queue: RecordingQueue
) -> None:
    first = submit(services, account_id, idempotency_key="k", webhook_url=HOOK)
    assert submit(services, account_id, idempotency_key="k", webhook_url=HOOK) == first
    assert services.credits.balance(account_id).held == 3
    assert len(queue.published) == 1
    for other in (
        {"names": 4},
        {"webhook_url": None},
        {"max_age": 5},
        {"clamp": True},
        {"webhook_mode": "both"},
    ):
        with pytest.raises(IdempotencyKeyReuse):
            submit(services, account_id, **{"idempotency_key": "k", "webhook_url": HOOK, **other})  # type: ignore[arg-type]
    end(services, first, 1)
    assert submit(services, account_id, idempotency_key="k", webhook_url=HOOK) == now(services, first)
    assert services.credits.balance(account_id) == Balance(99, 2)


def test_a_key_stands_for_a_batch_or_for_a_single_request(services: Services, account_id: str) -> None:
    submit(services, account_id, idempotency_key="batch")
    with pytest.raises(IdempotencyKeyReuse):
        services.requests.submit(submission(account_id, idempotency_key="batch"))
    services.requests.submit(submission(account_id, idempotency_key="single"))
    with pytest.raises(IdempotencyKeyReuse):
        submit(services, account_id, ["anna"], idempotency_key="single")
    assert services.credits.balance(account_id).held == 4


def test_the_key_of_a_batch_that_is_gone_is_told(services: Services, account_id: str, redis: Redis) -> None:
    record = submit(services, account_id, idempotency_key="k")
    redis.delete(keys.batch(record.batch_id))
    with pytest.raises(Conflict):
        submit(services, account_id, idempotency_key="k")


def test_twenty_at_once_with_one_key_are_one_batch(
    settings: Settings, valkey: Redis, queue: RecordingQueue
) -> None:
    services = make_services(settings, valkey, queue)
    account_id = account_of(services)
    made = at_once(20, lambda _: submit(services, account_id, 5, idempotency_key="k"))
    assert len({record.batch_id for record in made}) == 1
    assert services.credits.balance(account_id).held == 5
    assert services.bulk.waiting() == 5


# --- the counts ----------------------------------------------------------------------------------


def test_every_step_of_an_item_is_counted_in_its_batch(
    services: Services, account_id: str, redis: Redis
) -> None:
    batch = submit(services, account_id, 6)
    assert view(now(services, batch))["startedAt"] is None

    first = take(services, batch, 1)
    assert states(services, batch) == {"queued": 5, "processing": 1}
    started = now(services, batch).started_at
    assert started
    services.requests.release(first)
    assert states(services, batch) == {"queued": 6}
    first = take(services, batch, 1)
    expire_lease(redis, first.request.request_id)
    second = take(services, batch, 1)
    assert states(services, batch) == {"queued": 5, "processing": 1}, "taken over is not taken twice"
    with pytest.raises(LeaseLost):
        finish_one(services.requests, first, ending())
    with pytest.raises(LeaseLost):
        services.requests.release(first)
    assert states(services, batch) == {"queued": 5, "processing": 1}
    assert_adds_up(services, batch)

    finish_one(services.requests, second, ending())
    finish_one(services.requests, second, ending())  # the reply was lost
    assert states(services, batch) == {"queued": 5, "succeeded": 1}
    end(services, batch, 2, how=FAILED)
    end(services, batch, 3, how=ending(outcome="empty", item_count=0, cached=True))
    finish_one(services.requests, take(services, batch, 4), ending(charge=0, cached=True))
    cancel_request(services, account_id, ids.item_of(batch.batch_id, 5))
    cancel_request(services, account_id, ids.item_of(batch.batch_id, 5))
    seen = assert_adds_up(services, batch)
    assert seen["outcomes"] == {"account_private": 1, "cancelled": 1, "empty": 1, "found": 2}
    assert (seen["creditsCharged"], seen["creditsHeld"], seen["itemCount"], seen["cached"]) == (2, 1, 6, 2)
    assert (seen["status"], seen["progress"], seen["startedAt"] is None) == ("processing", 0.8333, False)
    assert now(services, batch).started_at == started

    end(services, batch, 6)
    assert assert_adds_up(services, batch)["status"] == "completed"
    assert services.credits.balance(account_id) == Balance(97, 0)
    assert services.stats.counters()["held"] == 0


def test_an_item_that_was_given_back_can_be_cancelled_and_cancelled_again(
    services: Services, account_id: str
) -> None:
    batch = submit(services, account_id, 2)
    services.requests.release(take(services, batch, 1))
    item = ids.item_of(batch.batch_id, 1)
    for _ in range(2):
        assert cancel_request(services, account_id, item).status == "cancelled"
    assert assert_adds_up(services, batch)["outcomes"] == {"cancelled": 1}


def test_an_item_nobody_can_be_got_to_work_on_is_counted_as_failed(
    services: Services, account_id: str, redis: Redis
) -> None:
    batch = submit(services, account_id, 1)
    record = services.requests.get(item_ids(batch)[0])
    assert record is not None
    scrape.give_up(services, record)
    assert assert_adds_up(services, batch)["outcomes"] == {"upstream_error": 1}


def test_an_item_whose_batch_is_gone_ends_all_the_same_and_makes_no_other(
    services: Services, account_id: str, redis: Redis
) -> None:
    batch = submit(services, account_id, 2, webhook_url=HOOK, webhook_mode="both")
    redis.delete(keys.batch(batch.batch_id))
    services.requests.release(take(services, batch, 1))
    end(services, batch, 1, 2)
    assert services.credits.balance(account_id) == Balance(98, 0)
    assert services.batches.get(batch.batch_id) is None
    with pytest.raises(NotFound):
        find_batch(services, account_id, batch.batch_id)


# --- the end -------------------------------------------------------------------------------------


def summary_of(batch: BatchRecord) -> str:
    return ids.delivery_of(batch.batch_id)


def test_a_batch_lives_on_for_as_long_as_results_do_and_not_before_its_end(
    services: Services, account_id: str, redis: Redis
) -> None:
    batch = submit(services, account_id, 2)
    end(services, batch, 1)
    assert redis.ttl(keys.batch(batch.batch_id)) == -1
    end(services, batch, 2)
    ttl = services.policy.result_ttl
    assert ttl - 60 < redis.ttl(keys.batch(batch.batch_id)) <= ttl


def test_of_many_who_end_items_at_once_one_ends_the_batch(
    settings: Settings, valkey: Redis, queue: RecordingQueue
) -> None:
    services = make_services(settings, valkey, queue)
    account_id = account_of(services, 1_000)
    for _ in range(5):
        batch = submit(services, account_id, 24, webhook_url=HOOK, webhook_mode="summary")
        claims = [take(services, batch, number) for number in range(1, 25)]
        with services.requests.waiter(batch.batch_id) as waiter:
            at_once(24, lambda number, claims=claims: finish_one(services.requests, claims[number], ending()))  # type: ignore[misc]
            assert waiter.wait(60)
            assert not waiter.wait(0.05), "it ended once"
        assert assert_adds_up(services, batch)["status"] == "completed"
        delivery = services.deliveries.get(summary_of(batch))
        assert delivery is not None
        assert (delivery.request_id, delivery.host, delivery.status) == (batch.batch_id, HOST, "pending")
    owed = services.deliveries.page(account_id, statuses=None, since_ms=0, cursor=None, limit=100).items
    assert len(owed) == 5


@pytest.mark.parametrize("mode", ["each", "summary", "both"])
@pytest.mark.parametrize("last", ["finished", "cancelled"])
def test_what_is_owed_is_what_the_mode_says(
    services: Services, account_id: str, queue: RecordingQueue, mode: str, last: str
) -> None:
    batch = submit(services, account_id, 2, webhook_url=HOOK, webhook_mode=mode)
    items = [ids.delivery_of(item) for item in item_ids(batch)]
    owed = finish_one(services.requests, take(services, batch, 1), ending())
    assert (owed is not None) == (mode != "summary")
    assert services.deliveries.get(summary_of(batch)) is None, "it is not over"
    if last == "finished":
        end(services, batch, 2)
    else:
        cancel_batch(services, account_id, batch.batch_id)
    owed = [each for each in [*items, summary_of(batch)] if services.deliveries.get(each) is not None]
    page = services.deliveries.page(account_id, statuses=None, since_ms=0, cursor=None, limit=9).items
    expected = {*(items if mode != "summary" else ()), *([summary_of(batch)] if mode != "each" else ())}
    assert set(owed) == expected
    assert {each.delivery_id for each in page} == expected - ({items[1]} if last == "cancelled" else set())
    assert {each.is_of_batch for each in page if each.delivery_id == summary_of(batch)} <= {True}
    assert_adds_up(services, batch)

    queue.published.clear()
    sweep.pump_deliveries(services)
    published = {name for hint in queue.published if hint[0] == "deliver" for name in hint[2::2]}
    assert published == ({summary_of(batch)} if mode != "each" else set()), "nobody told a deliverer of it"


def test_who_waits_for_a_batch_is_woken_by_its_last_item(
    settings: Settings, valkey: Redis, queue: RecordingQueue
) -> None:
    services = make_services(settings, valkey, queue)
    account_id = account_of(services)
    batch = submit(services, account_id, 2)
    found: list[BatchRecord] = []

    def wait() -> None:
        found.append(wait_for(services, batch.batch_id, lambda: now(services, batch), 60))

    waiting = threading.Thread(target=wait)
    waiting.start()
    channel = keys.done(batch.batch_id)
    await_true(lambda: valkey.pubsub_numsub(channel)[0][1] == 1)
    end(services, batch, 1)
    assert waiting.is_alive()
    started = time.monotonic()
    end(services, batch, 2)
    waiting.join(60)
    assert time.monotonic() - started < 30
    assert [each.status for each in found] == ["completed"]


# --- cancelled in the middle ---------------------------------------------------------------------


def test_a_cancel_ends_what_has_not_begun_and_leaves_the_rest_to_its_end(
    services: Services, account_id: str, queue: RecordingQueue
) -> None:
    batch = submit(services, account_id, 6)
    end(services, batch, 1)
    running = take(services, batch, 2)
    seen = view(cancel_batch(services, account_id, batch.batch_id))
    assert seen["status"] == "processing", "one is still under way"
    assert {name: n for name, n in seen["states"].items() if n} == {
        "processing": 1, "succeeded": 1, "cancelled": 4,
    }  # fmt: skip
    assert services.bulk.absent(item_ids(batch)[2:]) == item_ids(batch)[2:]
    assert services.credits.balance(account_id) == Balance(99, 1)
    assert view(cancel_batch(services, account_id, batch.batch_id)) == seen, "twice is once"
    finish_one(services.requests, running, ending())
    assert assert_adds_up(services, batch)["status"] == "cancelled"
    ended = now(services, batch)
    assert cancel_batch(services, account_id, batch.batch_id) == ended


def test_a_batch_that_has_ended_is_not_cancelled_any_more(
    services: Services, account_id: str, redis: Redis
) -> None:
    batch = submit(services, account_id, 1)
    end(services, batch, 1)
    before = snapshot(redis)
    assert cancel_batch(services, account_id, batch.batch_id).status == "completed"
    assert snapshot(redis) == before


def test_more_than_a_page_is_cancelled_and_each_owes_its_webhook(
    services: Services, queue: RecordingQueue
) -> None:
    account_id = account_of(services, 450)
    batch = submit(services, account_id, 450, webhook_url=HOOK, webhook_mode="both")
    cancel_batch(services, account_id, batch.batch_id)
    told = [name for hint in queue.published if hint[0] == "deliver" for name in hint[2::2]]
    assert told == [ids.delivery_of(item) for item in item_ids(batch)]
    assert services.deliveries.get(summary_of(batch)) is not None
    assert services.bulk.waiting() == 0
    assert assert_adds_up(services, batch)["outcomes"] == {"cancelled": 450}
    assert services.credits.balance(account_id) == Balance(450, 0)


def test_another_accounts_batch_is_not_there(services: Services, account_id: str) -> None:
    batch = submit(services, account_id, 1)
    for number in range(SHARDS + 1):
        other = services.accounts.create(f"other{number}@example.com", "hash").account_id
        with pytest.raises(NotFound):
            cancel_batch(services, other, batch.batch_id)
    assert states(services, batch) == {"queued": 1}


def test_a_cancel_in_the_midst_of_workers_leaves_every_item_ended_once(
    settings: Settings, valkey: Redis, queue: RecordingQueue
) -> None:
    services = make_services(settings, valkey, queue)
    account_id = account_of(services, 1_000)
    batch = submit(services, account_id, 200, webhook_url=HOOK, webhook_mode="summary")
    ended = Counter[str]()
    lock = threading.Lock()
    cancelling = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            await_true(lambda: now(services, batch).left < 190)
            cancelling.set()
            cancel_batch(services, account_id, batch.batch_id)
            return
        chance = random.Random(number)
        while taken := services.bulk.take(3):
            if len(ended) > 100:  # so that they are not through before it is cancelled
                cancelling.wait(60)
            for item in taken:
                claim = services.requests.claim(item, batch.batch_id)
                if claim is None:
                    continue
                if chance.random() < 0.2:
                    services.requests.release(claim)
                    services.bulk.push(account_id, [item])
                    continue
                finish_one(services.requests, claim, chance.choice([ending(), FAILED]))
                with lock:
                    ended[item] += 1

    at_once(5, work)
    # What was given back after the cancel had passed it by is worked on like anything else.
    for item in item_ids(batch):
        claim = services.requests.claim(item, batch.batch_id)
        if claim is not None:
            finish_one(services.requests, claim, ending())
    assert max(ended.values()) == 1
    seen = assert_adds_up(services, batch)
    assert seen["status"] == "cancelled"
    assert seen["states"]["succeeded"] + seen["states"]["failed"] >= 10
    owed = services.deliveries.page(account_id, statuses=None, since_ms=0, cursor=None, limit=100).items
    assert [each.delivery_id for each in owed] == [summary_of(batch)]


# --- whatever happens ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_after_every_step_of_a_random_walk_the_numbers_add_up(
    services: Services, account_id: str, redis: Redis, seed: int
) -> None:
    chance = random.Random(seed)
    hold = chance.choice([0, 1, 3])
    services.credits.add(account_id, 20, entry_type="topup", note="")
    made = batch_of(
        account_id, 5, hold=hold, webhook_url=HOOK, webhook_mode=chance.choice(["each", "summary", "both"])
    )
    batch = services.batches.submit(made)
    services.bulk.push(account_id, item_ids(batch))
    claims: list[Claim] = []

    def claim(item: str) -> None:
        taken = services.requests.claim(item, batch.batch_id)
        if taken is not None:
            claims.append(taken)

    def finish(_: str) -> None:
        if claims:
            how = chance.choice(
                [ending(charge=chance.randint(0, hold)), FAILED, ending(charge=0, cached=True)]
            )
            finish_one(services.requests, chance.choice(claims), how)

    def release(_: str) -> None:
        if claims:
            services.requests.release(chance.choice(claims))

    steps: list[Callable[[str], object]] = [
        claim, claim, claim, finish, finish, release,
        lambda item: expire_lease(redis, item) if redis.hexists(keys.request(item), "lease_until") else None,
        lambda item: cancel_request(services, account_id, item),
        lambda item: chance.random() < 0.1 and cancel_batch(services, account_id, batch.batch_id),
        services.requests.postpone,
        lambda item: services.batches.submit(made),
    ]  # fmt: skip
    for _ in range(60):
        with suppress(LeaseLost, Conflict):
            chance.choice(steps)(chance.choice(item_ids(batch)))
        seen = assert_adds_up(services, batch)
        charged = -sum(amount for _, amount in ledger(services, account_id, "charge"))
        assert seen["creditsCharged"] == charged
        assert services.credits.balance(account_id).held == seen["creditsHeld"]
        owed = services.deliveries.get(summary_of(batch)) is not None
        assert owed == (seen["status"] != "processing" and made.owes_summary)


# --- lists and results ---------------------------------------------------------------------------


def test_batches_are_listed_newest_first_and_in_pages(services: Services, account_id: str) -> None:
    at = services.clock()
    made = [services.batches.submit(batch_of(account_id, 1, at=at + number)).batch_id for number in range(5)]
    found, cursor = [], None
    for expected in (2, 2, 1):
        page = list_batches(services, account_id, cursor=cursor, limit=2)
        assert len(page.items) == expected
        found += [each.batch_id for each in page.items]
        cursor = page.next_cursor
    assert (found, cursor) == (made[::-1], None)
    for foreign in ("x", ids.new_batch_id(15, at), ids.item_of(made[0], 1)):
        with pytest.raises(ValidationFailed):
            list_batches(services, account_id, cursor=foreign, limit=2)


def test_a_batch_that_is_gone_is_not_listed_and_its_id_trimmed(
    services: Services, account_id: str, redis: Redis
) -> None:
    kept = submit(services, account_id, 1)
    gone = services.batches.submit(batch_of(account_id, 1, at=1_000))
    redis.delete(keys.batch(gone.batch_id))
    assert [each.batch_id for each in list_batches(services, account_id, cursor=None, limit=9).items] == [
        kept.batch_id
    ]
    assert services.batches.trim(account_id) == 1
    assert redis.zrange(keys.account_batches(account_id), 0, -1) == [kept.batch_id]


def test_a_submit_trims_the_lists_of_what_has_passed_its_lifetime(
    services: Services, account_id: str, redis: Redis
) -> None:
    old = services.batches.submit(batch_of(account_id, 2, at=1_000))
    assert services.batches.trim(account_id) == 1
    redis.zadd(keys.account_batches(account_id), {old.batch_id: 0})
    kept = submit(services, account_id, 1)
    assert redis.zrange(keys.account_batches(account_id), 0, -1) == [kept.batch_id]
    assert redis.zrange(keys.account_requests(account_id), 0, -1) == item_ids(kept)


def test_results_come_in_the_order_of_the_list_whatever_became_of_each(
    services: Services, account_id: str, redis: Redis
) -> None:
    names = from_ndjson(b"\n".join(b'{"username": "n%d", "externalId": "x%d"}' % (n, n) for n in range(7)))
    batch, _, _ = submit_batch(services, account_id, names, EACH)
    items = item_ids(batch)
    for number in (5, 3, 1, 2):  # ended in another order
        end(services, batch, number, how=ending(envelope=b'{"requestId":"%s"}' % items[number - 1].encode()))
    cancel_request(services, account_id, items[3])
    take(services, batch, 6)
    redis.delete(keys.result(items[1]))
    redis.delete(keys.request(items[2]), keys.result(items[2]))

    read, cursor = [], None
    for _ in range(4):
        page = results(services, batch, cursor, 2)
        read += page.items
        cursor = page.next_cursor
    assert cursor is None
    assert read == list(all_results(services, batch, 0))
    found = [json.loads(each) for each in read]
    assert [each["requestId"] for each in found] == items
    assert [each.get("status") for each in found] == [
        None, None, None, "cancelled", None, "processing", "queued",
    ]  # fmt: skip
    assert [each.get("error") for each in found[1:3]] == [GONE, GONE]
    assert found[3]["code"] == "cancelled"
    for number in (3, 5, 6):
        assert (found[number]["batchId"], found[number]["externalId"]) == (batch.batch_id, f"x{number}")
    assert list(all_results(services, batch, 5)) == read[5:]
    assert results(services, batch, "7", 2).items == results(services, batch, "999999", 2).items == []


@pytest.mark.parametrize("cursor", ["", "-1", "x", "1.5", "1000000", "1\n", " 1", "١", "req_1"])
def test_a_cursor_that_is_none_is_refused(services: Services, account_id: str, cursor: str) -> None:
    batch = submit(services, account_id, 1)
    with pytest.raises(ValidationFailed) as caught:
        results(services, batch, cursor, 2)
    assert list(caught.value.details or {}) == ["cursor"]


# --- worked on -----------------------------------------------------------------------------------


class Upstream(StoriesByName):
    """Finds everybody in one call."""

    name = "fake"

    def stories(self, username: str) -> Found:
        return reel_found("5", {"pk": "5", "username": username}, None)

    def reels(self, usernames: Any) -> dict[str, Any]:
        return {name: self.stories(name) for name in usernames}


def test_a_batch_is_worked_off_by_workers_in_groups(
    services: Services, account_id: str, queue: RecordingQueue
) -> None:
    batch = submit(services, account_id, 65, webhook_url=HOOK, webhook_mode="both")
    assert queue.published == [("gather", "bulk")] * 3
    for _ in range(3):
        gather.run(services, Upstream(), Places(1), lambda: False)
    seen = assert_adds_up(services, batch)
    assert (seen["status"], seen["outcomes"]) == ("completed", {"empty": 65})
    envelope = json.loads(next(all_results(services, batch, 64)))
    assert (envelope["username"], envelope["batchId"]) == ("name65", batch.batch_id)
    assert "externalId" not in envelope


# --- swept ---------------------------------------------------------------------------------------


def let_time_pass(redis: Redis) -> None:
    """Make every open request due for a look, the oldest first."""
    for shard in range(SHARDS):
        names = redis.zrange(keys.open_requests(shard), 0, -1)
        if names:
            redis.zadd(keys.open_requests(shard), {name: 1 + place for place, name in enumerate(names)})


def looks(redis: Redis, batch: BatchRecord) -> list[float]:
    """The seconds until each item is looked at."""
    shard = ids.shard_in(batch.batch_id)
    return [score / 1000 - time.time() for score in redis.zmscore(keys.open_requests(shard), item_ids(batch))]


class Sent:
    """Counts the calls of the bulk queue's push."""

    def __init__(self, bulk: Any) -> None:
        self.bulk = bulk
        self.pushed: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bulk, name)

    def push(self, account_id: str, request_ids: Any) -> Any:
        self.pushed.append(len(request_ids))
        return self.bulk.push(account_id, request_ids)


def test_a_batch_that_never_came_into_the_queue_is_published_in_one_go(
    services: Services, redis: Redis, queue: RecordingQueue
) -> None:
    account_id = account_of(services, 200)
    batch = services.batches.submit(batch_of(account_id, 120))
    assert sweep.sweep_requests(services) == 0, "it may be on its way"
    let_time_pass(redis)
    bulk = Sent(services.bulk)
    assert sweep.sweep_requests(replace(services, bulk=bulk)) == 120
    assert bulk.pushed == [120]
    assert services.bulk.take(200) == item_ids(batch)
    assert queue.published == [("gather", "bulk")] * 4


def test_what_stands_in_the_queue_is_left_alone_and_looked_at_later(
    services: Services, account_id: str, redis: Redis, queue: RecordingQueue
) -> None:
    batch = submit(services, account_id, 20)
    queue.published.clear()
    services.bulk.remove(item_ids(batch)[:5])
    let_time_pass(redis)
    assert sweep.sweep_requests(services) == 5
    assert queue.published == [("gather", "bulk")]
    later = LEFT_FOR * services.policy.sweep_interval
    found = looks(redis, batch)
    assert found[:5] == pytest.approx([services.policy.sweep_interval] * 5, abs=14)
    assert found[5:] == pytest.approx([later] * 15, abs=14)
    counts = [redis.hget(keys.request(item), "looks") for item in item_ids(batch)]
    assert counts == ["1"] * 5 + [None] * 15, "waiting one's turn is no look in vain"


def test_what_has_ended_is_not_opened_again_by_leaving_it(
    services: Services, account_id: str, redis: Redis
) -> None:
    batch = submit(services, account_id, 2)
    end(services, batch, 1)
    services.requests.leave([*item_ids(batch), "req_0301m7xt6136bt5vc71920hsxsgv"])
    assert redis.zrange(keys.open_requests(ids.shard_in(account_id)), 0, -1) == item_ids(batch)[1:]
    assert redis.exists(keys.open_requests(3)) == (ids.shard_in(account_id) == 3)
    services.requests.leave([])


def test_behind_ten_thousand_that_wait_a_lost_request_is_found_at_once(
    settings: Settings, valkey: Redis, queue: RecordingQueue
) -> None:
    services = make_services(settings, valkey, queue)
    account_id = account_of(services, NAMES_MOST + 1)
    submit(services, account_id, NAMES_MOST - 1)
    lost = services.requests.submit(submission(account_id, at=services.clock(), queue=INTERACTIVE))
    let_time_pass(valkey)
    shard = keys.open_requests(ids.shard_in(account_id))
    valkey.zadd(shard, {lost.request_id: 10**9})  # due, and the last of all
    queue.published.clear()
    assert sweep.sweep_requests(services) == 1
    assert queue.published == [("scrape", INTERACTIVE, lost.request_id)]


def test_behind_ten_thousand_that_were_lost_a_request_is_found_within_some_rounds(
    settings: Settings, valkey: Redis, queue: RecordingQueue
) -> None:
    services = make_services(settings, valkey, queue)
    account_id = account_of(services, NAMES_MOST + 1)
    services.batches.submit(batch_of(account_id, NAMES_MOST - 1))
    lost = services.requests.submit(submission(account_id, at=services.clock(), queue=INTERACTIVE))
    let_time_pass(valkey)
    valkey.zadd(keys.open_requests(ids.shard_in(account_id)), {lost.request_id: 10**9})
    for _ in range(NAMES_MOST // sweep.AT_ONCE):
        sweep.sweep_requests(services)
    assert ("scrape", INTERACTIVE, lost.request_id) in queue.published
    assert services.bulk.waiting() == NAMES_MOST - 1


# --- the scripts, alone --------------------------------------------------------------------------


def test_the_scripts_of_a_batch_change_the_keys_they_are_given_only(
    services: Services, account_id: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = batch_of(account_id, 4, webhook_url=HOOK, webhook_mode="both", idempotency_key="k")
    lua = Lua(redis)
    assert call_script(lua, made, services.batches)[0] == "ok"
    batch = now(services, services.batches.submit(made))
    request, open_requests = keys.request(item_ids(batch)[0]), keys.open_requests(ids.shard_in(account_id))
    watched = [request, open_requests, keys.batch(batch.batch_id)]
    [fence, _, _] = lua("claim", watched, item_ids(batch)[0], 5_000)
    watched.insert(2, keys.stats(ids.shard_in(account_id)))
    assert lua("release", watched, item_ids(batch)[0], fence, 5_000, 0) == 1
    assert lua("release", watched, item_ids(batch)[0], fence, 5_000, 0) == 0
    assert states(services, batch) == {"queued": 4}
    assert lua("leave", [open_requests], 5_000, *item_ids(batch), "req_none") == 4
    for number in (1, 2):
        record = services.requests.get(ids.item_of(batch.batch_id, number))
        assert record is not None
        names, values = services.requests._of_the_end(record, "", ending(status="cancelled", charge=0))  # type: ignore[attr-defined]
        assert lua("finish", names, *values)[0] == "ok"
        before = snapshot(redis)
        assert lua("finish", names, *values)[0] == "ok"
        assert snapshot(redis) == before
    monkeypatch.setattr(services.batches, "_cancel", lambda keys, args: lua("cancel_batch", keys, *args))
    found = now(services, batch)
    bodies = dict.fromkeys(item_ids(batch), b"{}")
    assert len(services.batches.cancel(found, bodies)) == 2
    before = snapshot(redis)
    assert services.batches.cancel(found, bodies) == []
    assert snapshot(redis) == before
    assert now(services, batch).status == "cancelled"
    assert re.fullmatch(r"msg_\w+0000", summary_of(batch))
    assert redis.zrange(keys.due(ids.shard_in(account_id), HOST), 0, -1).count(summary_of(batch)) == 1
