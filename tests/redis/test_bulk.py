"""The bulk queue: whose turn it is, and requests worked on many at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from redis import Redis

from service.actions.audit import audit
from service.config import Settings
from service.domain import ids
from service.domain.dispatch import CHUNK, HINTS_MOST, publish_bulk
from service.domain.errors import AccountPrivate, FetchError, UpstreamFailed
from service.domain.ports import Services
from service.domain.requests import BULK, GATHER
from service.stores import keys
from tests.conftest import SHARDS, RecordingQueue, make_services
from tests.redis.kit import Lua, submission
from workers import gather, sweep
from workers.sources.contract import GoOn, Reel, always

A, B, C = (ids.new_id(ids.ACCOUNT, shard, 1_700_000_000_000) for shard in range(3))


def reel(username: str) -> Reel:
    user = {"pk": "5", "username": username}
    return Reel("5", user, {"id": "5", "user": user, "items": [{"pk": "1"}]})


class Upstream:
    """Finds those in ``together`` in one call, the others alone; errors are raised or given."""

    name = "fake"

    def __init__(self, alone: Sequence[str] = (), errors: dict[str, FetchError] | None = None) -> None:
        self.alone = set(alone)
        self.errors = errors or {}
        self.together: list[list[str]] = []
        self.asked: list[str] = []

    def stories(self, username: str) -> Reel:
        self.asked.append(username)
        if username in self.errors:
            raise self.errors[username]
        return reel(username)

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Reel | FetchError]:
        self.together.append(list(usernames))
        found = {name: self.errors.get(name) or reel(name) for name in usernames}
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
    gather.run(services, upstream, threading.BoundedSemaphore(places), lambda: stopping)


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
    assert services.bulk.push(A, ["a0", "a2"]) == 1
    assert services.bulk.take(9) == ["a0", "a1", "a2"]
    assert services.bulk.take(9) == []


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


def test_the_scripts_touch_their_keys_only(valkey: Redis) -> None:
    lua = Lua(valkey)
    assert lua.redis.eval("return 1", 0) == 1
    assert lua("bulk_take", ["queue", "clock"], 5) == []


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


def test_a_worker_that_is_to_end_leaves_what_it_has_not_begun(
    services: Services, account_id: str, queue: RecordingQueue
) -> None:
    upstream = Upstream(alone=["anna", "bert"])
    asked = ask(services, account_id, "anna", "bert")
    queue.published.clear()
    work(services, upstream, stopping=True)
    assert upstream.asked == []
    assert sorted(services.bulk.take(9)) == sorted(asked)
    assert queue.published == [(GATHER, BULK)] * 2


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


def test_threads_are_left_for_those_who_wait(services: Services, account_id: str) -> None:
    [asked] = ask(services, account_id, "anna")
    places = threading.BoundedSemaphore(1)
    with places:
        gather.run(services, Upstream(), places, lambda: False)
    assert outcome(services, asked) == ("queued", 0)
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
