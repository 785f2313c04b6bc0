"""Requests over the fake store and over a real one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from redis import Redis

from service.domain import ids
from service.domain.accounts import Limit, LimitState, refuse_exceeded
from service.domain.errors import (
    Conflict,
    IdempotencyKeyReuse,
    InsufficientCredits,
    LeaseLost,
    RateLimited,
)
from service.domain.options import PLAIN, Options
from service.domain.policy import Policy
from service.domain.requests import INTERACTIVE, Page, RequestRecord
from service.domain.targets import KINDS, STORY_ID, USER_ID, Target, named
from service.stores import keys
from service.stores import requests as module
from service.stores.bulk import Bulk
from service.stores.connection import nodes, open_store
from service.stores.credits import Credits
from service.stores.requests import Requests
from tests.conftest import SHARDS, await_true, finish_one
from tests.redis.kit import ACCOUNT, CANCEL, NOW, ending, queued, submission

DAY_MS = 86_400_000


@pytest.fixture
def requests(redis: Redis) -> Requests:
    Credits(redis).add(ACCOUNT, 1000, entry_type="topup", note="")
    return Requests(redis, Policy(lease=60, pickup_grace=60), SHARDS)


def submitted(requests: Requests, count: int, **changes: object) -> list[str]:
    """Ids of as many new requests, oldest first."""
    made = [submission(at=NOW + number, **changes) for number in range(count)]
    return [requests.submit(one).request_id for one in made]


def done(requests: Requests, request_id: str, **changes: object) -> None:
    claim = requests.claim(request_id)
    assert claim is not None
    finish_one(requests, claim, ending(**changes))


# --- the life of one -----------------------------------------------------------------------------


def test_what_submit_returns_is_what_is_stored(requests: Requests) -> None:
    made = submission(webhook_url="https://example.com/hook", queue=INTERACTIVE)
    record = requests.submit(made)
    assert requests.get(made.request_id) == record
    assert (record.status, record.queue, record.webhook_url) == ("queued", INTERACTIVE, made.webhook_url)
    assert not record.is_final


def test_what_nobody_waits_for_stands_in_the_bulk_queue_when_it_is_stored(redis: Redis) -> None:
    Credits(redis).add(ACCOUNT, 1, entry_type="topup", note="")
    requests, bulk = Requests(redis, Policy(), SHARDS), Bulk(redis)
    poor = submission(at=NOW + 1)
    waited_for = requests.submit(submission(queue=INTERACTIVE, hold=0))
    asked = requests.submit(submission())
    with pytest.raises(InsufficientCredits):
        requests.submit(poor)
    assert (waited_for.uncalled, asked.uncalled) == (0, 1)
    assert bulk.take(9) == [asked.request_id]


def test_a_look_tells_all_that_an_answer_does(requests: Requests) -> None:
    [request_id] = submitted(requests, 1)
    before = requests.look(request_id, ACCOUNT)
    assert before is not None
    assert (before, before.envelope, before.available) == (requests.get(request_id), None, 999)
    done(requests, request_id)
    after = requests.look(request_id, ACCOUNT)
    assert after is not None
    assert (after, after.envelope) == (requests.get(request_id), requests.envelope(request_id))
    assert (after.is_final, after.available) == (True, 999)
    assert requests.look(submission(at=NOW + 1).request_id, ACCOUNT) is None


def test_a_call_is_counted_as_its_request_is_stored(redis: Redis) -> None:
    policy = Policy(rate_limits=(Limit(1, 60),))
    requests, told = Requests(redis, policy, SHARDS), list[LimitState]()

    def counted(states: Sequence[LimitState]) -> None:
        told.extend(states)
        refuse_exceeded(states)

    requests.submit(submission(hold=0), counted)
    with pytest.raises(RateLimited):
        requests.submit(submission(hold=0, at=NOW + 1), counted)
    assert [(state.remaining, state.exceeded) for state in told] == [(0, False), (0, True)]
    assert len(page(requests).items) == 1
    requests.submit(submission(hold=0, at=NOW + 1))
    assert len(page(requests).items) == 2, "what no caller asks for is not counted"


@pytest.mark.parametrize(
    "options",
    [PLAIN, Options(amount=3, shape="story", archive=True, force=True, tariff="hiker", first_byte=9)],
)
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_asked_about_and_however_comes_back(
    requests: Requests, kind: str, options: Options
) -> None:
    made = submission(operation="highlight", target=Target(kind, "17 ü"), options=options)
    record = requests.submit(made)
    assert requests.get(made.request_id) == record
    assert (record.operation, record.target, record.options) == ("highlight", made.target, options)
    claim = requests.claim(made.request_id)
    assert claim is not None
    assert (claim.request.target, claim.request.options) == (made.target, options)
    [listed] = page(requests).items
    assert (listed.target, listed.options) == (made.target, options)


def test_a_key_stands_for_one_way_of_asking(requests: Requests) -> None:
    first = requests.submit(submission(idempotency_key="k", options=Options(amount=3)))
    again = submission(at=NOW + 1, idempotency_key="k", options=Options(amount=3))
    assert requests.submit(again).request_id == first.request_id
    for other in ({"options": Options(amount=4)}, {"options": PLAIN}, {"target": Target(USER_ID, "anna")}):
        with pytest.raises(IdempotencyKeyReuse):
            requests.submit(
                submission(**{"at": NOW + 2, "idempotency_key": "k", "options": Options(amount=3), **other})
            )


def test_a_finished_request_tells_who_gave_it(redis: Redis, requests: Requests) -> None:
    [request_id] = submitted(requests, 1)
    done(requests, request_id, source="instagrapi", owner="7", owner_name="anna")
    record = requests.get(request_id)
    assert record is not None
    assert record.source == "instagrapi"
    assert redis.hmget(keys.request(request_id), "owner", "owner_name") == ["7", "anna"]


def test_a_list_by_name_shows_what_was_asked_by_that_name(requests: Requests) -> None:
    targets = [named("anna"), Target(USER_ID, "anna"), Target(STORY_ID, "7"), named("bert")]
    made = [requests.submit(submission(at=NOW + at, target=target)) for at, target in enumerate(targets)]
    assert page(requests, username="anna").items == made[:1]
    assert len(page(requests).items) == 4


def test_a_submission_the_account_cannot_pay_is_refused_and_leaves_no_trace(requests: Requests) -> None:
    made = submission(hold=1001)
    with pytest.raises(InsufficientCredits, match=r"1001 credit.*1000 are available"):
        requests.submit(made)
    assert requests.get(made.request_id) is None
    assert page(requests).items == []


def test_a_request_that_never_was_is_nothing(requests: Requests) -> None:
    unknown = submission().request_id
    assert requests.get(unknown) is None
    assert requests.envelope(unknown) is None
    assert requests.claim(unknown) is None


def test_a_finished_request_shows_how_it_ended_and_its_envelope(requests: Requests) -> None:
    [request_id] = submitted(requests, 1)
    assert requests.envelope(request_id) is None
    envelope = json.dumps({"text": "größer 🙂" * 1000}).encode()
    done(requests, request_id, envelope=envelope)
    record = requests.get(request_id)
    assert record is not None
    assert (record.status, record.outcome, record.code) == ("succeeded", "found", None)
    assert (record.charged, record.item_count, record.attempts) == (1, 3, 1)
    assert record.finished_at >= record.created_at
    assert requests.envelope(request_id) == envelope


def test_an_envelope_is_stored_small(redis: Redis, requests: Requests) -> None:
    [request_id] = submitted(requests, 1)
    done(requests, request_id, envelope=b'{"items":[' + b'{"pk":"1"},' * 10_000 + b"1]}")
    assert redis.strlen(keys.result(request_id)) < 5_000


def test_only_the_holder_of_the_claim_may_renew_or_finish(redis: Redis, requests: Requests) -> None:
    [request_id] = submitted(requests, 1)
    first = requests.claim(request_id)
    assert first is not None
    assert requests.claim(request_id) is None
    redis.hset(keys.request(request_id), "lease_until", 1)
    second = requests.claim(request_id)
    assert second is not None
    assert second.fence > first.fence
    with pytest.raises(LeaseLost):
        requests.renew(first)
    with pytest.raises(LeaseLost):
        finish_one(requests, first, ending())
    requests.renew(second)
    assert finish_one(requests, second, ending()) is None


def test_finish_tells_what_delivery_is_owed_and_to_whom(requests: Requests) -> None:
    [request_id] = submitted(requests, 1, webhook_url="https://Example.com/hook")
    claim = requests.claim(request_id)
    assert claim is not None
    owed = finish_one(requests, claim, ending())
    assert owed is not None
    assert (owed.delivery_id, owed.host) == (ids.delivery_of(request_id), "example.com:443")
    assert finish_one(requests, claim, ending()) == owed


def test_a_queued_request_can_be_cancelled_and_then_not_be_claimed(requests: Requests) -> None:
    made = submission()
    requests.submit(made)
    assert requests.cancel(queued(made), CANCEL) is None
    record = requests.get(made.request_id)
    assert record is not None
    assert record.status == "cancelled"
    assert requests.claim(made.request_id) is None


def test_a_claimed_request_cannot_be_cancelled(requests: Requests) -> None:
    made = submission()
    requests.submit(made)
    requests.claim(made.request_id)
    with pytest.raises(Conflict):
        requests.cancel(queued(made), CANCEL)


# --- pages ---------------------------------------------------------------------------------------


def page(
    requests: Requests,
    cursor: str | None = None,
    limit: int = 10,
    *,
    status: str | None = None,
    username: str | None = None,
    account_id: str = ACCOUNT,
) -> Page[RequestRecord]:
    return requests.page(account_id, status=status, username=username, cursor=cursor, limit=limit)


def all_pages(requests: Requests, limit: int, **filters: str) -> list[list[str]]:
    found: list[list[str]] = []
    cursor: str | None = None
    while True:
        one = page(requests, cursor, limit, **filters)  # type: ignore[arg-type]
        found.append([record.request_id for record in one.items])
        cursor = one.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 7, 25, 50, 100])
def test_pages_show_every_request_once_newest_first(requests: Requests, limit: int) -> None:
    made = submitted(requests, 50)
    pages = all_pages(requests, limit)
    assert [request_id for one in pages for request_id in one] == made[::-1]
    assert all(len(one) <= limit for one in pages)


def test_the_only_page_has_no_next_one(requests: Requests) -> None:
    submitted(requests, 3)
    assert page(requests).next_cursor is None


def test_pages_show_only_what_the_filters_let_through(requests: Requests) -> None:
    of_anna = submitted(requests, 30)
    submitted(requests, 30, username="bert")
    for request_id in of_anna[::3]:
        done(requests, request_id)
    wanted = all_pages(requests, 4, status="succeeded", username="anna")
    assert [request_id for one in wanted for request_id in one] == of_anna[::3][::-1]
    assert [one for one in all_pages(requests, 4, status="succeeded", username="bert") if one] == []


def test_a_page_may_come_short_and_the_next_ones_go_on_from_there(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCAN_MOST", 20)
    [wanted, *_] = submitted(requests, 1, username="bert") + submitted(requests, 50)
    pages = all_pages(requests, 10, username="bert")
    assert pages[0] == []
    assert [request_id for one in pages for request_id in one] == [wanted]


def test_pages_show_nothing_of_other_accounts(requests: Requests) -> None:
    submitted(requests, 3)
    other = ids.new_id(ids.ACCOUNT, 2, NOW)
    assert page(requests, account_id=other).items == []


def test_pages_leave_out_records_whose_lifetime_is_over(redis: Redis, requests: Requests) -> None:
    made = submitted(requests, 40)
    for request_id in made[:35:2]:
        redis.delete(keys.request(request_id))
    left = [request_id for request_id in made if redis.exists(keys.request(request_id))]
    assert [request_id for one in all_pages(requests, 5) for request_id in one] == left[::-1]


def test_a_request_made_between_two_pages_shifts_nothing(requests: Requests) -> None:
    made = submitted(requests, 10)
    first = page(requests, limit=5)
    requests.submit(submission(at=NOW + 1000))
    second = page(requests, first.next_cursor, 5)
    assert [record.request_id for record in first.items + second.items] == made[::-1]


# --- lifetime ------------------------------------------------------------------------------------


def test_trim_drops_ids_past_their_lifetime_only(redis: Redis) -> None:
    now = int(time.time() * 1000)
    requests = Requests(redis, Policy(result_ttl=10 * 86_400), SHARDS)
    births = [now - 12 * DAY_MS, now - 11 * DAY_MS, now - 9 * DAY_MS, now]
    made = [ids.new_id(ids.REQUEST, ids.shard_in(ACCOUNT), birth) for birth in births]
    redis.zadd(keys.account_requests(ACCOUNT), dict.fromkeys(made, 0))
    assert requests.trim(ACCOUNT) == 2
    assert redis.zrange(keys.account_requests(ACCOUNT), 0, -1) == made[2:]
    assert requests.trim(ACCOUNT) == 0


def test_submit_drops_ids_past_their_lifetime_too(redis: Redis, requests: Requests) -> None:
    old = submission(at=NOW - 30 * DAY_MS)
    requests.submit(old)
    new = requests.submit(submission(at=NOW))
    assert redis.zrange(keys.account_requests(ACCOUNT), 0, -1) == [new.request_id]


# --- stranded ------------------------------------------------------------------------------------


def stranded(requests: Requests, redis: Redis) -> list[str]:
    """As if everything open were due for a look."""
    for shard in range(SHARDS):
        for name in redis.zrange(keys.open_requests(shard), 0, -1):
            redis.zadd(keys.open_requests(shard), {name: 1}, xx=True)
    return [record.request_id for record in requests.stranded(100)]


def test_a_request_nobody_picked_up_is_found_once_a_look(redis: Redis, requests: Requests) -> None:
    [request_id] = submitted(requests, 1)
    assert requests.stranded(100) == []  # its message may be on the way
    assert stranded(requests, redis) == [request_id]
    assert requests.stranded(100) == []


def test_stranded_requests_of_every_shard_are_found(redis: Redis, requests: Requests) -> None:
    made = []
    for shard in range(SHARDS):
        account_id = ids.new_id(ids.ACCOUNT, shard, NOW)
        made.append(requests.submit(submission(account_id, hold=0)).request_id)
    assert sorted(stranded(requests, redis)) == sorted(made)


def test_what_has_ended_is_not_stranded(redis: Redis, requests: Requests) -> None:
    [request_id] = submitted(requests, 1)
    done(requests, request_id)
    redis.zadd(keys.open_requests(ids.shard_in(request_id)), {request_id: 1})
    assert requests.stranded(100) == []


# --- waiting -------------------------------------------------------------------------------------


def test_a_waiter_wakes_when_the_request_ends(requests: Requests) -> None:
    [request_id] = submitted(requests, 1)
    with requests.waiter(request_id) as waiter:
        worker = threading.Timer(0.05, done, (requests, request_id))
        worker.start()
        started = time.monotonic()
        assert waiter.wait(60)
        assert time.monotonic() - started < 30
        worker.join()


def test_an_end_between_subscribing_and_waiting_is_heard(requests: Requests) -> None:
    [request_id] = submitted(requests, 1)
    with requests.waiter(request_id) as waiter:
        done(requests, request_id)
        assert waiter.wait(60)


def test_an_end_before_subscribing_is_not_heard_but_stands_in_the_record(requests: Requests) -> None:
    [request_id] = submitted(requests, 1)
    done(requests, request_id)
    with requests.waiter(request_id) as waiter:
        record = requests.get(request_id)
        assert record is not None
        assert record.is_final
        assert not waiter.wait(0.02)


def test_a_waiter_hears_of_its_own_request_only(requests: Requests) -> None:
    mine, other = submitted(requests, 2)
    with requests.waiter(mine) as waiter:
        done(requests, other)
        assert not waiter.wait(0.05)


def test_a_waiter_may_wait_longer_than_the_store_may_take_to_answer(valkey_url: str, valkey: Redis) -> None:
    impatient = open_store(valkey_url, answer_timeout=2.0)
    requests = Requests(impatient, Policy(), SHARDS)
    with requests.waiter(submission().request_id) as waiter:
        assert not waiter.wait(2.5)
    impatient.close()


def test_a_connection_that_is_used_again_hears_nothing_of_who_used_it_before(valkey: Redis) -> None:
    requests = Requests(valkey, Policy(), SHARDS)
    first, second = submission().request_id, submission().request_id
    for _ in range(3):
        with requests.waiter(first):
            valkey.publish(keys.done(first), "succeeded")  # it ends, and nobody reads it
        with requests.waiter(second) as waiter:
            assert not waiter.wait(0.05)
            valkey.publish(keys.done(second), "succeeded")
            assert waiter.wait(60)


def test_a_kept_connection_that_broke_is_made_anew(valkey: Redis) -> None:
    requests = Requests(valkey, Policy(), SHARDS)
    request_id = submission().request_id
    with requests.waiter(request_id):
        pass
    valkey.client_kill_filter(_type="pubsub")
    valkey.client_kill_filter(_type="normal", skipme=True)
    with requests.waiter(request_id) as waiter:
        valkey.publish(keys.done(request_id), "succeeded")
        assert waiter.wait(60)


def test_waiters_give_their_connections_back(valkey: Redis) -> None:
    requests = Requests(valkey, Policy(), SHARDS)
    request_id = submission().request_id
    before = connections(valkey)
    for _ in range(20):
        with requests.waiter(request_id):
            pass
    await_true(lambda: connections(valkey) <= before + 2)


def connections(redis: Redis) -> int:
    # Without those of Sentinels, which come and go on their own.
    known = [client for node in nodes(redis) for client in node.client_list()]
    return sum(not client["name"].startswith("sentinel-") for client in known)


def test_a_client_that_went_away_leaves_no_subscription(valkey: Redis) -> None:
    requests = Requests(valkey, Policy(), SHARDS)
    request_id = submission().request_id
    with requests.waiter(request_id):
        assert valkey.pubsub_numsub(keys.done(request_id)) == [(keys.done(request_id), 1)]
    await_true(lambda: valkey.pubsub_numsub(keys.done(request_id)) == [(keys.done(request_id), 0)])


def test_scripts_are_loaded_again_after_the_server_forgot_them(valkey: Redis) -> None:
    Credits(valkey).add(ACCOUNT, 10, entry_type="topup", note="")
    requests = Requests(valkey, replace(Policy(), lease=60), SHARDS)
    [request_id] = submitted(requests, 1)
    valkey.script_flush()
    claim = requests.claim(request_id)
    assert claim is not None
    valkey.script_flush()
    requests.renew(claim)
    valkey.script_flush()
    finish_one(requests, claim, ending())
    assert Credits(valkey).balance(ACCOUNT).balance == 9
