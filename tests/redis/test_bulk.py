"""The bulk queue: whose turn it is, and requests worked on many at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from redis import Redis
from redis.connection import AbstractConnection

import workers.places
from service.actions.audit import audit
from service.actions.batch import cancel_batch
from service.config import Settings
from service.domain import ids
from service.domain.dispatch import HINTS_MOST, hand_over, publish_bulk
from service.domain.errors import AccountPrivate, FetchError, StoreUnavailable, UpstreamFailed
from service.domain.options import Options
from service.domain.policy import Policy
from service.domain.ports import Services
from service.domain.requests import BULK, DELIVER, GATHER, INTERACTIVE, SCRAPE, Owed
from service.stores import keys
from service.stores.connection import nodes
from tests.conftest import SHARDS, RecordingQueue, make_services
from tests.redis.kit import Lua, batch_of, items_of, submission
from tests.upstreams import StoriesByName
from workers import gather, scrape, sweep
from workers.places import Places
from workers.sources.contract import Found, GoOn, always, reel_found

CHUNK = Policy().reels_at_once
A, B, C = (ids.new_id(ids.ACCOUNT, shard, 1_700_000_000_000) for shard in range(3))


def reel(username: str) -> Found:
    user = {"pk": "5", "username": username}
    return reel_found("5", user, {"id": "5", "user": user, "items": [{"pk": "1"}]})


class Upstream(StoriesByName):
    """Finds those in ``together`` in one call, the others alone; errors are raised or given."""

    name = "fake"

    def __init__(self, alone: Sequence[str] = (), errors: dict[str, FetchError] | None = None) -> None:
        self.alone = set(alone)
        self.errors = errors or {}
        self.together: list[list[str]] = []
        self.asked: list[str] = []
        # Called with each name of a group, and with each that is asked for alone.
        self.before: Callable[[str], None] = lambda _: None
        self.before_one: Callable[[str], None] = lambda _: None

    def stories(self, username: str) -> Found:
        self.asked.append(username)
        self.before_one(username)
        if username in self.errors:
            raise self.errors[username]
        return reel(username)

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        self.together.append(list(usernames))
        found = {}
        for name in usernames:
            self.before(name)
            if not go_on():
                break
            found[name] = self.errors.get(name) or reel(name)
        return {name: brought for name, brought in found.items() if name not in self.alone}


@pytest.fixture
def account_id(services: Services) -> str:
    made = services.accounts.create("anna@example.com", "hash")
    services.credits.add(made.account_id, 1_000, entry_type="topup", note="")
    return made.account_id


def ask(services: Services, account_id: str, *usernames: str, **changes: Any) -> list[str]:
    made = [
        services.requests.submit(submission(account_id, username=name, **changes)).request_id
        for name in usernames
    ]
    publish_bulk(services, account_id, made)
    return made


def work(services: Services, upstream: Upstream, *, places: int = 1, stopping: bool = False) -> None:
    gather.run(services, upstream, Places(places), lambda: stopping)


def outcome(services: Services, request_id: str) -> tuple[str, int]:
    record = services.requests.get(request_id)
    assert record is not None
    return record.outcome or record.code or record.status, record.charged


# --- whose turn it is ----------------------------------------------------------------------------


def test_accounts_take_turns_whatever_each_has_waiting(services: Services) -> None:
    services.bulk.push(A, [f"a{number}" for number in range(100)])
    assert services.bulk.take(3) == ["a0", "a1", "a2"]
    services.bulk.push(B, ["b0", "b1"])
    services.bulk.push(C, ["c0"])
    taken = services.bulk.take(6)
    assert set(taken[:4]) >= {"b0", "c0"}, "who comes anew does not stand behind the hundred"
    assert [name for name in taken if name[0] == "a"] == ["a3", "a4", "a5"]
    assert services.bulk.waiting() == 94


def test_two_long_lists_are_worked_on_in_turns(services: Services) -> None:
    services.bulk.push(A, [f"a{number}" for number in range(50)])
    services.bulk.push(B, [f"b{number}" for number in range(50)])
    first = services.bulk.take(20)
    assert (sum(name[0] == "a" for name in first), sum(name[0] == "b" for name in first)) == (10, 10)


def test_what_waits_already_is_not_added_and_keeps_its_place(services: Services) -> None:
    assert services.bulk.push(A, ["a0", "a1"]) == 2
    assert services.bulk.push(A, ["a0", "a2", "a3"]) == 2
    assert services.bulk.take(9) == ["a0", "a1", "a2", "a3"]
    assert services.bulk.take(9) == []


def test_a_single_request_relies_on_a_worker_who_is_on_the_way(services: Services, redis: Redis) -> None:
    assert services.bulk.push(A, ["a0"]) == 1
    assert services.bulk.push(B, ["b0"]) == 0
    assert sorted(services.bulk.take(9)) == ["a0", "b0"]
    assert services.bulk.push(A, ["a1"]) == 1, "who came took what there was"
    assert redis.pttl(keys.BULK_CALLED) > 0
    redis.delete(keys.BULK_CALLED)  # as it ends by itself, when the message was lost
    assert services.bulk.push(A, ["a2"]) == 1


def test_an_empty_queue_forgets_who_was_ahead(services: Services, redis: Redis) -> None:
    services.bulk.push(A, ["a0"])
    services.bulk.take(1)
    assert not redis.exists(keys.BULK_CLOCK)


def test_ten_thousand_go_in_at_once(services: Services) -> None:
    assert services.bulk.push(A, [f"a{number}" for number in range(10_000)]) == 10_000
    assert services.bulk.waiting() == 10_000


def test_workers_are_called_for_as_many_as_they_can_use(services: Services, queue: RecordingQueue) -> None:
    publish_bulk(services, A, ["a"])
    publish_bulk(services, A, [f"b{number}" for number in range(CHUNK + 1)])
    assert queue.published == [(GATHER, BULK)] * 3
    queue.published.clear()
    publish_bulk(services, A, [f"c{number}" for number in range(10_000)])
    assert len(queue.published) == HINTS_MOST


def test_a_broker_that_does_not_answer_is_asked_once(
    services: Services, queue: RecordingQueue, account_id: str, redis: Redis
) -> None:
    asked: list[str] = []

    def silent(task: str, *_: str) -> bool:
        asked.append(task)
        return False

    queue.enqueue = silent  # type: ignore[method-assign]
    publish_bulk(services, A, [f"a{number}" for number in range(10_000)])
    assert asked == [GATHER]
    assert not hand_over(services, [Owed(f"msg_{number}", f"host{number}") for number in range(30)])
    assert asked == [GATHER, DELIVER]
    for _ in range(5):
        services.requests.submit(submission(account_id, queue=INTERACTIVE))
    overdue(services, redis)
    sweep.sweep_requests(services)
    assert asked == [GATHER, DELIVER, SCRAPE]


def test_the_scripts_touch_their_keys_only(valkey: Redis) -> None:
    lua = Lua(valkey)
    assert lua.redis.eval("return 1", 0) == 1
    assert lua("bulk_take", ["queue", "clock", "called"], 5) == []


# --- many at a time ------------------------------------------------------------------------------


def test_all_that_waits_is_asked_for_in_one_call(services: Services, account_id: str) -> None:
    asked, upstream = ask(services, account_id, "anna", "bert", "carl"), Upstream()
    work(services, upstream)
    assert (upstream.together, upstream.asked) == ([["anna", "bert", "carl"]], [])
    assert [outcome(services, each) for each in asked] == [("found", 1)] * 3
    data = [json.loads(services.requests.envelope(each) or b"")["data"]["user"]["username"] for each in asked]
    assert data == ["anna", "bert", "carl"]
    assert audit(services).differences == []


def test_a_single_one_is_asked_for_as_ever(services: Services, account_id: str) -> None:
    [asked], upstream = ask(services, account_id, "anna"), Upstream()
    work(services, upstream)
    assert (upstream.together, upstream.asked) == ([], ["anna"])
    assert outcome(services, asked) == ("found", 1)


def test_what_goes_alone_is_shared_with_others_who_have_a_place(
    services: Services, queue: RecordingQueue, account_id: str
) -> None:
    never_grouped = Options(force=True)
    given = ask(services, account_id, *(f"name{number}" for number in range(8)), options=never_grouped)
    upstream = Upstream()
    queue.published.clear()
    upstream.before_one = lambda _: (
        None if len(upstream.asked) > 1 else waiting.append(services.bulk.waiting())
    )
    waiting: list[int] = []
    work(services, upstream)
    assert waiting == [4], "before the first of them is asked for the others' half is handed on"
    assert queue.published[0] == (GATHER, BULK)
    for _ in range(4):
        work(services, upstream)
    assert [outcome(services, each)[0] for each in given] == ["found"] * 8
    assert (upstream.together, len(upstream.asked)) == ([], 8)


def test_the_same_name_twice_is_one_fetch_of_which_both_have_something(
    services: Services, account_id: str
) -> None:
    asked, upstream = ask(services, account_id, "anna", "bert", "anna"), Upstream()
    work(services, upstream)
    assert upstream.together == [["anna", "bert"]]
    assert [outcome(services, each) for each in asked] == [("found", 1)] * 3
    assert json.loads(services.requests.envelope(asked[2]) or b"")["cached"] is True


def test_what_is_shared_already_is_not_asked_for(services: Services, account_id: str) -> None:
    upstream = Upstream()
    ask(services, account_id, "anna", max_age=60)
    work(services, upstream)
    [again, other] = ask(services, account_id, "anna", "bert", max_age=60)
    work(services, upstream)
    assert (upstream.asked, upstream.together) == (["anna"], [["bert"]])
    assert [outcome(services, each) for each in (again, other)] == [("found", 1)] * 2


def test_a_final_error_of_one_ends_that_one(services: Services, account_id: str) -> None:
    upstream = Upstream(errors={"bert": AccountPrivate()})
    asked = ask(services, account_id, "anna", "bert")
    work(services, upstream)
    assert [outcome(services, each) for each in asked] == [("found", 1), ("account_private", 0)]
    assert services.credits.balance(account_id).balance == 999


def test_what_the_one_call_does_not_tell_is_asked_for_alone(services: Services, account_id: str) -> None:
    upstream = Upstream(alone=["bert", "carl"], errors={"carl": UpstreamFailed(retry_after=9)})
    asked = ask(services, account_id, "anna", "bert", "carl")
    work(services, upstream)
    assert upstream.asked[0] == "bert"
    assert set(upstream.asked) == {"bert", "carl"}
    assert [outcome(services, each)[0] for each in asked] == ["found", "found", "upstream_error"]
    attempts = [services.requests.get(each).attempts for each in asked]  # type: ignore[union-attr]
    assert attempts == [1, 1, 1], "a try together that tells nothing is none"
    assert audit(services).differences == []


def test_a_worker_that_is_to_end_takes_nothing(services: Services, account_id: str) -> None:
    asked, upstream = ask(services, account_id, "anna", "bert"), Upstream()
    work(services, upstream, stopping=True)
    assert (upstream.together, upstream.asked) == ([], [])
    assert services.bulk.take(9) == asked


def test_a_worker_that_is_to_end_leaves_what_it_has_not_begun(
    services: Services, account_id: str, queue: RecordingQueue
) -> None:
    """It ends within one try: the source is told, what it found till then counts, the others are put back."""
    upstream = Upstream(alone=["bert"])
    stopping = threading.Event()

    def told(name: str) -> None:
        if name == "bert":
            stopping.set()

    upstream.before = told
    asked = ask(services, account_id, "anna", "bert", "carl")
    queue.published.clear()
    gather.run(services, upstream, Places(1), stopping.is_set)
    assert upstream.asked == []
    assert [outcome(services, each) for each in asked] == [("found", 1), ("queued", 0), ("queued", 0)]
    assert queue.published == [(GATHER, BULK)]
    work(services, Upstream())
    assert [outcome(services, each) for each in asked] == [("found", 1)] * 3
    assert audit(services).differences == []


def test_the_next_chunk_is_another_message(
    services: Services, account_id: str, queue: RecordingQueue
) -> None:
    ask(services, account_id, *[f"user{number}" for number in range(CHUNK + 5)])
    queue.published.clear()
    work(services, Upstream())
    assert services.bulk.waiting() == 5
    assert queue.published == [(GATHER, BULK)]
    work(services, Upstream())
    assert services.bulk.waiting() == 0


def test_who_comes_soon_after_others_waits_for_company(
    services: Services, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(seconds: float) -> None:
        assert 0 < seconds <= 60
        ask(services, account_id, "carl")

    monkeypatch.setattr(workers.places, "APART", 60)
    monkeypatch.setattr(gather.time, "sleep", meanwhile)
    upstream, places = Upstream(), Places(2)
    for name in ("anna", "bert"):
        ask(services, account_id, name)
        gather.run(services, upstream, places, lambda: False)
    assert (upstream.asked, [sorted(names) for names in upstream.together]) == (["anna"], [["bert", "carl"]])


def test_a_full_group_waits_for_nobody(
    services: Services, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.places, "APART", 60)
    monkeypatch.setattr(gather.time, "sleep", lambda _: pytest.fail("it waited"))
    upstream, places = Upstream(), Places(1)
    for _ in range(2):
        ask(services, account_id, *(f"user{number}" for number in range(CHUNK)), max_age=0)
        gather.run(services, upstream, places, lambda: False)
    assert [len(names) for names in upstream.together] == [CHUNK] * 2


def test_threads_are_left_for_those_who_wait(services: Services, account_id: str) -> None:
    [asked] = ask(services, account_id, "anna")
    places = Places(1)
    assert places.take()
    gather.run(services, Upstream(), places, lambda: False)
    assert outcome(services, asked) == ("queued", 0)
    places.leave()
    gather.run(services, Upstream(), places, lambda: False)
    assert outcome(services, asked) == ("found", 1)


def test_what_was_cancelled_is_left_out(services: Services, account_id: str) -> None:
    from tests.redis.kit import CANCEL

    first, second = ask(services, account_id, "anna", "bert")
    record = services.requests.get(first)
    assert record is not None
    services.requests.cancel(record, CANCEL)
    work(services, upstream := Upstream())
    assert upstream.together == [["bert"]]
    assert outcome(services, second) == ("found", 1)


# --- what is lost on the way ---------------------------------------------------------------------


def overdue(services: Services, redis: Redis) -> None:
    for shard in range(SHARDS):
        for name in redis.zrange(keys.open_requests(shard), 0, -1):
            redis.zadd(keys.open_requests(shard), {name: 1})


def test_what_got_lost_from_the_queue_is_put_back(
    services: Services, account_id: str, redis: Redis, queue: RecordingQueue
) -> None:
    [asked] = ask(services, account_id, "anna")
    services.bulk.take(1)  # by a worker that died
    queue.published.clear()
    overdue(services, redis)
    assert sweep.sweep_requests(services) == 1
    assert services.bulk.take(9) == [asked]
    assert queue.published == [(GATHER, BULK)]


def test_who_waits_in_the_queue_is_not_looked_for_in_vain(
    settings: Settings, redis: Redis, queue: RecordingQueue
) -> None:
    services = make_services(settings, redis, queue, sweep_limit=1)
    account_id = services.accounts.create("anna@example.com", "hash").account_id
    services.credits.add(account_id, 10, entry_type="topup", note="")
    [asked] = ask(services, account_id, "anna")
    for _ in range(5):
        overdue(services, redis)
        assert sweep.sweep_requests(services) == 0
    assert outcome(services, asked) == ("queued", 0)


def test_a_lost_message_is_pumped_anew_and_no_more_than_needed(
    services: Services, account_id: str, queue: RecordingQueue
) -> None:
    assert sweep.pump_bulk(services) == 0
    ask(services, account_id, "anna")
    assert sweep.pump_bulk(services) == 1
    assert queue.published == [(GATHER, BULK)], "one is on the way"
    queue.published.clear()
    assert sweep.pump_bulk(services) == 1
    assert queue.published == [(GATHER, BULK)]


class _Killed(BaseException):
    """What ends a process leaves nobody time for anything."""


def run_out(services: Services, redis: Redis, *request_ids: str) -> None:
    """Let the leases of a worker that is gone be over: those of requests and those of flights."""
    for each in request_ids:
        redis.hset(keys.request(each), "lease_until", 1)
    for flight in list(redis.scan_iter("{f:*}:flight")):
        redis.delete(flight)
    overdue(services, redis)


def test_what_a_worker_that_was_killed_had_in_hand_is_done_by_another(
    services: Services, account_id: str, redis: Redis
) -> None:
    def killed(name: str) -> None:
        if name == "bert":
            raise _Killed

    asked, upstream = ask(services, account_id, "anna", "bert", "carl"), Upstream()
    upstream.before = killed
    with pytest.raises(_Killed):
        work(services, upstream)
    assert [outcome(services, each) for each in asked] == [("processing", 0)] * 3
    run_out(services, redis, *asked)
    assert sweep.sweep_requests(services) == 3
    work(services, again := Upstream())
    assert [sorted(names) for names in again.together] == [["anna", "bert", "carl"]]
    assert [outcome(services, each) for each in asked] == [("found", 1)] * 3
    assert [services.requests.get(each).attempts for each in asked] == [2, 2, 2]  # type: ignore[union-attr]
    assert audit(services).differences == []


def test_one_that_takes_workers_down_is_given_up_and_the_others_are_not(
    services: Services, account_id: str, redis: Redis
) -> None:
    def killed(name: str) -> None:
        if name == "carl":
            raise _Killed

    names = ["anna", "bert", "carl", "dora", "emil"]
    asked, upstream = ask(services, account_id, *names), Upstream()
    upstream.before = upstream.before_one = killed
    for _ in range(2 * services.policy.max_attempts):  # those that go alone are shared among workers
        with suppress(_Killed):
            work(services, upstream)
        run_out(services, redis, *[each for each in asked if outcome(services, each)[0] == "processing"])
        sweep.sweep_requests(services)
    assert [outcome(services, each)[0] for each in asked] == [
        "upstream_error" if name == "carl" else "found" for name in names
    ]
    assert audit(services).differences == []


# --- what goes wrong with many at a time ---------------------------------------------------------


def test_a_group_that_takes_long_keeps_its_claims(
    services: Services, account_id: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, upstream, seen = ask(services, account_id, "anna", "bert", "carl"), Upstream(), []

    def late(_: str) -> None:
        seen.append([services.requests.claim(each) for each in asked])
        for each in asked:
            redis.hset(keys.request(each), "lease_until", 1)

    monkeypatch.setattr(gather, "RENEW_EVERY", -1)
    upstream.before = late
    work(services, upstream)
    assert seen == [[None] * 3] * 3, "before each call the leases are as long as ever"
    assert [outcome(services, each) for each in asked] == [("found", 1)] * 3


def test_a_claim_that_was_lost_meanwhile_is_left_to_who_has_it(
    services: Services, account_id: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, upstream, taken = ask(services, account_id, "anna", "bert"), Upstream(), []

    def lost(name: str) -> None:
        if name == "anna":
            redis.hset(keys.request(asked[0]), "lease_until", 1)
            taken.append(services.requests.claim(asked[0]))

    monkeypatch.setattr(gather, "RENEW_EVERY", -1)
    upstream.before = lost
    work(services, upstream)
    assert [outcome(services, each) for each in asked] == [("processing", 0), ("found", 1)]
    services.requests.release(taken[0])
    work(services, Upstream())
    assert audit(services).differences == []


def test_who_waits_for_a_fetch_that_another_worker_is_to_settle_gets_its_own(
    services: Services, account_id: str, queue: RecordingQueue
) -> None:
    """A flight without a claim: the request is in somebody else's hands already."""
    first, other = ask(services, account_id, "anna", "bert")
    assert services.requests.claim(first) is not None
    [late] = ask(services, account_id, "anna")
    work(services, upstream := Upstream())
    assert upstream.together == [["bert"]]
    assert [outcome(services, each)[0] for each in (first, other, late)] == ["processing", "found", "queued"]
    work(services, upstream)
    assert outcome(services, late) == ("found", 1)


@pytest.mark.parametrize("error", [StoreUnavailable(), RuntimeError("a mistake of ours")], ids=repr)
def test_whatever_ends_the_one_call_each_is_asked_for_alone(
    services: Services, account_id: str, error: Exception
) -> None:
    def ends(name: str) -> None:
        if name == "bert":
            raise error

    asked, upstream = ask(services, account_id, "anna", "bert"), Upstream()
    upstream.before = ends
    work(services, upstream)
    assert upstream.asked == ["anna", "bert"]
    assert [outcome(services, each) for each in asked] == [("found", 1)] * 2


def test_a_reel_that_cannot_be_used_spoils_no_other(
    services: Services, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = reel_found("5", {"pk": "5", "username": "bert"}, {"items": object()})
    asked, upstream = ask(services, account_id, "anna", "bert", "carl"), Upstream()
    monkeypatch.setattr(
        upstream, "reels", lambda names, _: {name: reel(name) for name in names} | {"bert": odd}
    )
    work(services, upstream)
    assert [outcome(services, each)[0] for each in asked] == ["found", "internal_error", "found"]
    assert services.credits.balance(account_id).balance == 998
    assert audit(services).differences == []


def test_what_was_found_outlives_a_short_outage_of_the_store(
    services: Services, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, upstream, finish, tries = (
        ask(services, account_id, "anna", "bert"),
        Upstream(),
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
    work(services, upstream)
    assert [outcome(services, each) for each in asked] == [("found", 1)] * 2
    assert (len(upstream.together), upstream.asked) == (1, [])


def test_what_was_found_is_kept_when_the_store_fails_in_between(
    services: Services, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out(*_: Any) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(services.requests, "release", out)
    asked = ask(services, account_id, "anna", "bert", "carl")
    work(services, Upstream(alone=["anna"]))
    assert [outcome(services, each)[0] for each in asked] == ["processing", "found", "found"]
    ask(services, account_id, "carl", max_age=60)
    work(services, upstream := Upstream())
    assert upstream.asked == [], "it was landed, too"


def test_what_was_found_is_shared_after_a_short_outage_of_the_store(
    services: Services, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    land_many = services.reels.land_many

    def once_out(_: Any) -> None:
        monkeypatch.setattr(services.reels, "land_many", land_many)
        raise StoreUnavailable

    monkeypatch.setattr(scrape, "SETTLE_EVERY", 0.01)
    monkeypatch.setattr(services.reels, "land_many", once_out)
    for names in (["anna", "bert"], ["carl"]):
        ask(services, account_id, *names)
        work(services, Upstream())
        monkeypatch.setattr(services.reels, "land_many", once_out)
    ask(services, account_id, "anna", "carl", max_age=60)
    work(services, upstream := Upstream())
    assert (upstream.together, upstream.asked) == ([], [])


def test_nobody_waits_for_a_fetch_that_the_store_has_prevented(
    services: Services, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, upstream = ask(services, account_id, "anna", "bert"), Upstream()
    claim_many = services.requests.claim_many

    def once(*args: Any) -> None:
        monkeypatch.setattr(services.requests, "claim_many", claim_many)
        raise StoreUnavailable

    monkeypatch.setattr(services.requests, "claim_many", once)
    with pytest.raises(StoreUnavailable):
        work(services, upstream)
    [late] = [services.requests.submit(submission(account_id, username="anna")).request_id]
    scrape.run(services, upstream, late)
    assert outcome(services, late)[0] == "found"
    for each in asked:
        scrape.run(services, upstream, each)
    assert [outcome(services, each)[0] for each in asked] == ["found", "found"]


def test_a_store_that_cannot_be_asked_whether_claims_hold_ends_nothing(
    services: Services, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out(_: Any) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(gather, "RENEW_EVERY", -1)
    monkeypatch.setattr(services.requests, "renew_many", out)
    asked = ask(services, account_id, "anna", "bert")
    work(services, Upstream())
    assert [outcome(services, each) for each in asked] == [("found", 1)] * 2


# --- what it asks of the store -------------------------------------------------------------------


def test_thirty_requests_take_few_round_trips(
    settings: Settings, valkey: Redis, queue: RecordingQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = make_services(settings, valkey, queue)
    account_id = services.accounts.create("anna@example.com", "hash").account_id
    services.credits.add(account_id, 100, entry_type="topup", note="")
    asked, trips = ask(services, account_id, *[f"user{number}" for number in range(CHUNK)]), []
    send = AbstractConnection.send_packed_command

    def counted(*args: Any, **options: Any) -> None:
        trips.append(1)
        send(*args, **options)

    valkey.script_flush()  # a store that was restarted has forgotten the scripts
    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
    work(services, Upstream())
    monkeypatch.undo()
    # The scripts are sent anew, or it were a few less; a cluster takes one for each node.
    assert len(trips) < 20 * len(nodes(valkey))
    assert [outcome(services, each) for each in asked] == [("found", 1)] * CHUNK


def test_what_is_given_back_of_a_cancelled_batch_ends_with_it(services: Services, account_id: str) -> None:
    batch = services.batches.submit(batch_of(account_id, ["anna", "bert", "carl"]))
    publish_bulk(services, account_id, items_of(batch))

    class Cancelling(Upstream):
        def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
            cancel_batch(services, account_id, batch.batch_id)
            return super().reels(usernames, go_on)

    upstream = Cancelling(alone=["bert", "carl"])
    work(services, upstream)
    assert [outcome(services, each) for each in items_of(batch)] == [("found", 1), *[("cancelled", 0)] * 2]
    assert upstream.asked == [], "nobody asks for them alone"
    ended = services.batches.get(batch.batch_id)
    assert ended is not None
    assert (ended.status, dict(ended.statuses)) == ("cancelled", {"succeeded": 1, "cancelled": 2})
    assert services.credits.balance(account_id).held == 0
    assert audit(services).differences == []
