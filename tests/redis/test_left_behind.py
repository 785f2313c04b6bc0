"""What an account can leave behind without paying: each cause driven to its bound, on a real store.

The table of it stands in ARCHITECTURE.md, "What an account can leave behind without paying".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from service.actions import deliveries
from service.actions import watches as watch_actions
from service.actions.audit import audit
from service.actions.batch import BatchOptions, cancel_batch, find_batch, item_ids, results, submit_batch
from service.actions.cancel import cancel_request
from service.actions.submit import submit
from service.actions.tidy import tidy_ledger
from service.config import Settings
from service.domain import ids
from service.domain.accounts import Limit
from service.domain.batches import BatchRecord
from service.domain.deliveries import Attempt, Plan
from service.domain.errors import (
    AccountPrivate,
    Conflict,
    InsufficientCredits,
    NoSessionFree,
    NotFound,
    RateLimited,
    UserNotFound,
)
from service.domain.namelists import from_json
from service.domain.policy import CANCELLED_TTL
from service.domain.ports import Services
from service.domain.requests import RequestRecord
from service.domain.targets import named
from service.stores import keys
from tests.conftest import RecordingQueue, finish_one, make_services
from tests.redis.kit import ending, snapshot
from tests.redis.test_scrape_run import Upstream
from tests.redis.test_watches import reel
from workers import scrape, watch

ROOT = Path(__file__).parents[2]
HOOK = "https://example.com/hook"
HOST = "example.com:443"
DAY = 86_400
MISSING = ending(status="failed", outcome="", code="user_not_found", charge=0, item_count=0, burdens=True)

Make = Callable[..., Services]


@pytest.fixture
def make(settings: Settings, valkey: Redis, queue: RecordingQueue) -> Make:
    return lambda **policy: make_services(settings, valkey, queue, **{"free_limit": None, **policy})


@pytest.fixture
def services(make: Make) -> Services:
    return make()


@pytest.fixture
def account_id(services: Services) -> str:
    made = services.accounts.create("anna@example.com", "hash").account_id
    services.credits.add(made, 1_000, entry_type="topup", note="")
    return made


def batch(services: Services, account_id: str, names: int, **options: str) -> BatchRecord:
    given = [f"name{number}" for number in range(names)]
    asked = BatchOptions(options.get("url"), options.get("mode", "each"), max_age=0)
    return submit_batch(services, account_id, from_json(given), asked)[0]


def one(services: Services, account_id: str, name: str = "anna", **options: str) -> RequestRecord:
    return submit(services, account_id, "stories", named(name), waited_for=True, max_age=0, **options)[0]  # type: ignore[arg-type]


def end(services: Services, record: RequestRecord, how: object = MISSING) -> None:
    claim = services.requests.claim(record.request_id)
    assert claim is not None
    finish_one(services.requests, claim, how)  # type: ignore[arg-type]


def lasting(redis: Redis, *kinds: str) -> list[str]:
    """Keys of these kinds that stay for longer than what was cancelled may."""
    found = [name for kind in kinds for name in redis.scan_iter(f"*:{kind}:*") if ":acct:" not in name]
    return [name for name in found if not 0 < redis.ttl(name) <= CANCELLED_TTL]


def types(redis: Redis, account_id: str) -> list[str]:
    return [fields["type"] for _, fields in redis.xrange(keys.ledger(account_id))]


def all_of(redis: Redis) -> set[str]:
    return set(redis.scan_iter(count=1_000))


# --- cancelled before it began -------------------------------------------------------------------


@pytest.mark.parametrize(("url", "mode"), [(None, "each"), (HOOK, "each"), (HOOK, "summary"), (HOOK, "both")])
def test_batches_that_are_cancelled_leave_two_entries_each_and_are_forgotten_in_minutes(
    services: Services, account_id: str, valkey: Redis, url: str | None, mode: str
) -> None:
    options = {"mode": mode, **({"url": url} if url else {})}
    for _ in range(3):
        made = batch(services, account_id, 300, **options)
        ended = cancel_batch(services, account_id, made.batch_id)
        assert (ended.status, ended.statuses, ended.left) == ("cancelled", {"cancelled": 300}, 0)
        assert cancel_batch(services, account_id, made.batch_id) == ended, "twice is once"
    assert types(valkey, account_id) == ["topup"] + 3 * ["hold", "release"]
    assert services.credits.balance(account_id).available == 1_000
    assert lasting(valkey, "req", "res", "batch", "msg") == []
    assert services.bulk.waiting() == 0
    shard = ids.shard_in(account_id)
    for index in (keys.account_requests, keys.account_batches, keys.account_deliveries):
        assert valkey.zcard(index(account_id)) == 0
    assert valkey.zcard(keys.open_requests(shard)) == 0
    assert audit(services).differences == []

    assert find_batch(services, account_id, made.batch_id).status == "cancelled"
    page = results(services, made, None, 10)
    assert all(b'"code":"cancelled"' in body for body in page.items), "it is told for a while"


def test_the_largest_batch_is_cancelled_in_one_step(
    services: Services, account_id: str, valkey: Redis
) -> None:
    services.credits.add(account_id, 10_000, entry_type="topup", note="")
    made = batch(services, account_id, 10_000)
    assert cancel_batch(services, account_id, made.batch_id).status == "cancelled"
    assert types(valkey, account_id)[2:] == ["hold", "release"]
    assert services.credits.balance(account_id).held == 0


def test_what_is_left_of_a_batch_that_had_begun_goes_on_and_is_paid(
    services: Services, account_id: str, valkey: Redis
) -> None:
    made = batch(services, account_id, 5)
    names = item_ids(made)
    claims = [services.requests.claim(name, made.batch_id) for name in names[:3]]
    assert claims[0]
    assert claims[1]
    assert claims[2]
    finish_one(services.requests, claims[0], ending())
    finish_one(services.requests, claims[1], MISSING)
    cancel_batch(services, account_id, made.batch_id)
    assert audit(services).differences == []
    assert services.credits.balance(account_id).held == 1
    finish_one(services.requests, claims[2], ending())
    over = find_batch(services, account_id, made.batch_id)
    assert (over.status, over.charged, over.left) == ("cancelled", 2, 0)
    assert over.statuses == {"succeeded": 2, "failed": 1, "cancelled": 2}
    assert types(valkey, account_id)[1:] == ["hold", "charge", "release", "release", "charge"]
    assert (services.credits.balance(account_id).held, audit(services).differences) == (0, [])
    assert valkey.ttl(keys.batch(made.batch_id)) > CANCELLED_TTL, "something of it was paid for"


def test_a_batch_of_the_version_before_is_cancelled_with_an_entry_for_each(
    services: Services, account_id: str, valkey: Redis
) -> None:
    """Its price was held by an entry for each item."""
    made = batch(services, account_id, 3)
    valkey.hdel(keys.batch(made.batch_id), "one_hold")
    [(entry_id, _)] = valkey.xrevrange(keys.ledger(account_id), count=1)
    valkey.xdel(keys.ledger(account_id), entry_id)
    for number, name in enumerate(item_ids(made), 1):
        fields = {"type": "hold", "amount": -1, "balance": 1_000, "held": number, "request": name, "at": 1}
        valkey.xadd(keys.ledger(account_id), fields)  # type: ignore[arg-type]
    assert audit(services).differences == []
    cancel_batch(services, account_id, made.batch_id)
    assert types(valkey, account_id) == ["topup", *3 * ["hold"], *3 * ["release"]]
    assert (services.credits.balance(account_id).held, audit(services).differences) == (0, [])


def test_requests_that_are_cancelled_are_forgotten_in_minutes(
    services: Services, account_id: str, valkey: Redis
) -> None:
    for _ in range(5):
        record = one(services, account_id, webhook_url=HOOK, idempotency_key="again")
        cancel_request(services, account_id, record.request_id)
    assert lasting(valkey, "req", "res", "msg") == []
    assert valkey.zcard(keys.account_requests(account_id)) == 0
    assert services.requests.envelope(record.request_id)
    assert types(valkey, account_id) == ["topup", "hold", "release"], "the key stands for the first"


def test_the_webhook_of_what_was_cancelled_goes_with_it_however_often_it_is_tried(
    services: Services, account_id: str, valkey: Redis
) -> None:
    record = one(services, account_id, webhook_url=HOOK)
    cancel_request(services, account_id, record.request_id)
    delivery_id = ids.delivery_of(record.request_id)
    for status in ("pending", "exhausted"):
        valkey.hset(keys.delivery(delivery_id), "next_at", 1)
        claim = services.deliveries.claim(delivery_id, HOST)
        assert claim is not None
        services.deliveries.record(claim, Attempt(1, 0.1, status=500), Plan(status, wait=60))
        assert lasting(valkey, "msg", "res", "req") == []
    deliveries.replay(services, account_id, delivery_id)
    assert lasting(valkey, "msg", "res", "req") == []


# --- ledgers -------------------------------------------------------------------------------------


def test_of_closed_holds_only_what_was_charged_stays_in_the_ledger(
    services: Services, account_id: str, valkey: Redis
) -> None:
    for how in (ending(), MISSING):
        end(services, one(services, account_id), how)
    cancel_request(services, account_id, one(services, account_id).request_id)
    made = batch(services, account_id, 4)
    for name, how in zip(item_ids(made), (ending(), MISSING), strict=False):
        claim = services.requests.claim(name, made.batch_id)
        assert claim is not None
        finish_one(services.requests, claim, how)
    cancel_batch(services, account_id, made.batch_id)
    still_open = one(services, account_id)
    before = services.credits.balance(account_id)
    now = services.clock() + (services.policy.result_ttl + 60) * 1000
    there = replace(services, clock=lambda: now)
    assert tidy_ledger(there, account_id) == 0, "first it is told that they may go"
    assert audit(services).differences == []
    assert tidy_ledger(there, account_id) == 8
    assert types(valkey, account_id) == ["topup", "charge", "charge", "hold"]
    assert services.credits.balance(account_id) == before
    assert audit(services).differences == []
    end(services, still_open, MISSING)
    assert tidy_ledger(there, account_id) == 2, "the hold that was open is remembered"
    assert types(valkey, account_id) == ["topup", "charge", "charge"]
    assert audit(services).differences == []


def test_a_ledger_within_the_lifetime_of_results_is_left_alone(
    services: Services, account_id: str, valkey: Redis
) -> None:
    cancel_request(services, account_id, one(services, account_id).request_id)
    for _ in range(3):
        assert tidy_ledger(services, account_id) == 0
    assert types(valkey, account_id) == ["topup", "hold", "release"]


# --- names of batches ----------------------------------------------------------------------------


def test_names_count_and_what_does_not_fit_leaves_nothing(make: Make, account_id: str, valkey: Redis) -> None:
    services = make(names_limits=(Limit(500, 3_600), Limit(900, DAY)))
    for _ in range(2):
        made = batch(services, account_id, 250)
        cancel_batch(services, account_id, made.batch_id)
    before = snapshot(valkey)
    with pytest.raises(RateLimited, match=r"NAMES_LIMITS: at most 500 names of batches per hour") as caught:
        batch(services, account_id, 1)
    assert 0 < (caught.value.retry_after or 0) <= 3_600
    assert snapshot(valkey) == before
    valkey.delete(keys.names(account_id, 3_600))
    batch(services, account_id, 400)
    valkey.delete(keys.names(account_id, 3_600))
    with pytest.raises(RateLimited, match="900 names of batches per day; these are 2, and 0 are left"):
        batch(services, account_id, 2)
    assert int(valkey.get(keys.names(account_id, DAY)) or 0) == 900
    assert 0 < valkey.ttl(keys.names(account_id, DAY)) <= DAY


def test_names_that_are_not_accepted_do_not_count(make: Make, account_id: str, valkey: Redis) -> None:
    services = make(names_limits=(Limit(2_000, 3_600),))
    with pytest.raises(InsufficientCredits):
        batch(services, account_id, 1_001)
    assert not valkey.exists(keys.names(account_id, 3_600))


# --- what ends free ------------------------------------------------------------------------------


def test_free_endings_have_an_end(make: Make, account_id: str, valkey: Redis) -> None:
    services = make(free_limit=Limit(10, 3_600))
    for number in range(11):
        record = one(services, account_id, f"missing{number}")
        scrape.run(services, Upstream(UserNotFound() if number % 2 else AccountPrivate()), record.request_id)
    before = snapshot(valkey)
    for call in (lambda: one(services, account_id), lambda: batch(services, account_id, 3)):
        with pytest.raises(RateLimited, match=r"FREE_LIMIT: at most 10 requests per hour") as caught:
            call()
        assert 300 < (caught.value.retry_after or 0) <= 360
    assert snapshot(valkey) == before
    assert 3_600 < valkey.ttl(keys.free_endings(account_id)) <= 3_960


def test_a_batch_accepted_before_weighs_for_as_long_as_its_free_endings(
    make: Make, account_id: str, valkey: Redis
) -> None:
    services = make(free_limit=Limit(10, 3_600))
    made = batch(services, account_id, 30)
    for name in item_ids(made):
        claim = services.requests.claim(name, made.batch_id)
        assert claim is not None
        finish_one(services.requests, claim, MISSING)
    with pytest.raises(RateLimited) as caught:
        one(services, account_id)
    assert 7_100 < (caught.value.retry_after or 0) <= 7_200


def test_what_is_paid_for_makes_up_for_what_is_free(make: Make, account_id: str, valkey: Redis) -> None:
    services = make(free_limit=Limit(4, 3_600))
    for number in range(30):
        end(services, one(services, account_id), ending() if number % 2 else MISSING)
    assert not valkey.exists(keys.free_endings(account_id))


def test_where_nobody_was_asked_nothing_counts(make: Make, account_id: str, valkey: Redis) -> None:
    services = make(free_limit=Limit(1, 3_600))
    for _ in range(3):
        record = one(services, account_id)
        scrape.run(services, Upstream(NoSessionFree(None)), record.request_id)
        ended = services.requests.get(record.request_id)
        assert ended is not None
        assert ended.code == "upstream_blocked"
    assert not valkey.exists(keys.free_endings(account_id))


def test_a_call_that_is_free_since_nobody_waited_for_its_result_counts(
    make: Make, account_id: str, valkey: Redis
) -> None:
    services = make(free_limit=Limit(1, 3_600))
    record = one(services, account_id)
    services.requests.abandon(record.request_id)
    scrape.run(services, Upstream(reel(1)), record.request_id)
    assert valkey.exists(keys.free_endings(account_id))


def test_a_known_idempotency_key_is_answered_whatever_was_free(make: Make, account_id: str) -> None:
    services = make(free_limit=Limit(1, 3_600))
    first = one(services, account_id, idempotency_key="k")
    end(services, first)
    end(services, _before_the_limit(make, account_id))
    assert one(services, account_id, idempotency_key="k").request_id == first.request_id
    with pytest.raises(RateLimited):
        one(services, account_id)


def _before_the_limit(make: Make, account_id: str) -> RequestRecord:
    return one(make(), account_id)


def test_runs_of_watches_stand_still_while_too_much_is_free(
    make: Make, account_id: str, valkey: Redis
) -> None:
    services = make(free_limit=Limit(1, 3_600))
    watched = watching(services, account_id)
    valkey.set(keys.free_endings(account_id), 1, px=9_000_000)
    watch.run(services, watched)
    found = services.watches.get(watched)
    assert found is not None
    assert (found.last_outcome, found.running, found.is_active) == ("rate_limited", None, True)
    assert found.next_run_at > services.clock()
    with pytest.raises(RateLimited):
        watch_actions.run_by_hand(services, account_id, watched)


# --- watches -------------------------------------------------------------------------------------


def watching(services: Services, account_id: str, **options: str) -> str:
    made, _ = watch_actions.add_watch(
        services, account_id, username="anna", every="15m", webhook_url=HOOK, only_new=True, heartbeat=False,
        max_age=0, **options,  # type: ignore[arg-type]
    )  # fmt: skip
    return made.watch_id


def test_a_run_that_told_nothing_and_cost_nothing_is_kept_for_a_day(
    services: Services, account_id: str, valkey: Redis
) -> None:
    watched = watching(services, account_id)
    watch.run(services, watched)
    request_id = services.watches.get(watched).running  # type: ignore[union-attr]
    scrape.run(services, Upstream(reel()), str(request_id))
    ended = services.requests.get(str(request_id))
    assert ended is not None
    assert (ended.outcome, ended.silent) == ("nothing_new", True)
    assert valkey.ttl(keys.request(str(request_id))) <= DAY
    assert valkey.ttl(keys.result(str(request_id))) <= DAY


def test_watches_that_are_deleted_leave_nothing(services: Services, account_id: str, valkey: Redis) -> None:
    before = all_of(valkey)
    for _ in range(services.policy.watches_most + 20):
        watch_actions.delete_watch(services, account_id, watching(services, account_id))
    assert all_of(valkey) == before


def test_an_account_has_so_many_watches(make: Make, account_id: str, valkey: Redis) -> None:
    services = make(watches_most=3)
    for _ in range(3):
        watching(services, account_id)
    before = all_of(valkey)
    with pytest.raises(Conflict):
        watching(services, account_id)
    assert all_of(valkey) == before


# --- calls, keys, attempts -----------------------------------------------------------------------


def test_calls_that_are_refused_leave_nothing(services: Services, account_id: str, valkey: Redis) -> None:
    poor = services.accounts.create("poor@example.com", "hash").account_id
    before = snapshot(valkey)
    for _ in range(20):
        for call in (lambda: one(services, poor, idempotency_key="k"), lambda: batch(services, poor, 3)):
            with pytest.raises(InsufficientCredits):
                call()
        with pytest.raises(NotFound):
            cancel_batch(services, poor, "bat_0001m7xt6136bt5vc71920hs0000")
    assert snapshot(valkey) == before


def test_idempotency_keys_end_by_themselves(services: Services, account_id: str, valkey: Redis) -> None:
    for number in range(20):
        record = one(services, account_id, idempotency_key=f"key {number}")
        cancel_request(services, account_id, record.request_id)
    found = list(valkey.scan_iter("*:idem:*"))
    assert len(found) == 20
    assert all(0 < valkey.ttl(name) <= DAY for name in found)


def test_the_log_of_a_delivery_that_is_replayed_again_and_again_has_an_end(
    services: Services, account_id: str, valkey: Redis
) -> None:
    record = one(services, account_id, webhook_url=HOOK)
    end(services, record)
    delivery_id = ids.delivery_of(record.request_id)
    for _ in range(50):
        valkey.hset(keys.delivery(delivery_id), "next_at", 1)
        claim = services.deliveries.claim(delivery_id, HOST)
        assert claim is not None
        services.deliveries.record(claim, Attempt(1, 0.1, status=500, snippet="x" * 1_024), Plan("exhausted"))
        deliveries.replay(services, account_id, delivery_id)
    assert valkey.llen(keys.delivery_log(delivery_id)) == 30
    assert services.deliveries.get(delivery_id).attempts == 50  # type: ignore[union-attr]


def test_tries_of_receivers_end_by_themselves(services: Services, account_id: str, valkey: Redis) -> None:
    before = all_of(valkey)
    for _ in range(5):
        made, _ = deliveries.send_test(services, account_id, HOOK, seconds=0, give_up=lambda: True)
        claim = services.deliveries.claim(made.delivery_id, made.host)
        assert claim is not None
        services.deliveries.record(claim, Attempt(1, 0.1, status=500), Plan("exhausted"))
    new = (
        all_of(valkey)
        - before
        - {keys.account_deliveries(account_id), keys.due_hosts(ids.shard_in(account_id))}
    )
    new -= {keys.stats(ids.shard_in(account_id))}
    assert len(new) == 15, "delivery, log and body of each"
    assert all(0 < valkey.ttl(name) <= DAY for name in new)


def test_every_cause_in_the_table_names_a_test_of_this_file() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    table = text.split("### What an account can leave behind without paying")[1].split("\n### ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "`test_" in line]
    named_tests = {part for row in rows for part in row.split("`") if part.startswith("test_")}
    assert len(rows) > 8
    assert named_tests <= set(globals()), named_tests - set(globals())
