"""Requests for which no session is free: put back with a time, and ended when that takes too long."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from service.actions.audit import audit
from service.config import Settings
from service.domain import ids
from service.domain.credits import Balance
from service.domain.dispatch import publish_bulk
from service.domain.errors import FetchError, NoSessionFree, UpstreamTimeout, UserNotFound
from service.domain.instagram import Leased, Pace, settings_from_sessionid
from service.domain.ports import Services
from service.domain.ports.instagram import SessionStore
from service.domain.requests import BULK, GATHER, INTERACTIVE, RequestRecord
from service.stores import keys
from tests.conftest import SHARDS, RecordingQueue, make_services
from tests.redis.kit import CANCEL, submission
from tests.upstreams import StoriesByName
from workers import gather, scrape, sweep
from workers.places import Places
from workers.sources.contract import Found, GoOn, always, reel_found

LOGIN = settings_from_sessionid("42%3Aabcdefghijklmno%3A7")
WAIT = 300.0


class Upstream(StoriesByName):
    """Has no session free while ``nobody`` is set. Asked for one it raises ``answers`` first, then gives
    reels; asked for many it leaves out those in ``alone``.
    """

    name = "fake"

    def __init__(self, *answers: FetchError, alone: Sequence[str] = (), **options: Any) -> None:
        self.nobody: NoSessionFree | None = options.get("nobody")
        self.sessions: SessionStore | None = None
        self.answers = list(answers)
        self.alone = set(alone)
        self.asked: list[str] = []
        self.together: list[list[str]] = []
        self.during = lambda: None

    def stories(self, username: str) -> Found:
        self.during()
        if self.nobody:
            raise self.nobody
        self.asked.append(username)
        if self.answers:
            raise self.answers.pop(0)
        return reel(username)

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        if self.nobody:
            raise self.nobody
        self.together.append(list(usernames))
        return {name: reel(name) for name in usernames if name not in self.alone}

    def unserved(self) -> NoSessionFree | None:
        why = self.sessions.free() if self.sessions else None
        return None if why is None else NoSessionFree(why.wait, paced=why.paced)


def reel(username: str) -> Found:
    user = {"pk": "5", "username": username}
    return reel_found("5", user, {"id": "5", "user": user, "items": [{"pk": "1"}]})


@pytest.fixture
def services(settings: Settings, redis: Redis, queue: RecordingQueue) -> Services:
    return make_services(settings, redis, queue, upstream_wait=WAIT, sweep_limit=2, fetch_tries=2)


@pytest.fixture
def account_id(services: Services) -> str:
    made = services.accounts.create("anna@example.com", "hash")
    services.credits.add(made.account_id, 100, entry_type="topup", note="")
    return made.account_id


def ask(services: Services, account_id: str, *usernames: str, queue: str = INTERACTIVE) -> list[str]:
    return [
        services.requests.submit(submission(account_id, username=name, queue=queue)).request_id
        for name in usernames
    ]


def record_of(services: Services, request_id: str) -> RequestRecord:
    record = services.requests.get(request_id)
    assert record is not None
    return record


def outcome(services: Services, request_id: str) -> tuple[str, int]:
    record = record_of(services, request_id)
    return record.outcome or record.code or record.status, record.charged


def comes_in(redis: Redis, request_id: str, since: float | None = None) -> float:
    """In how many seconds the sweep looks at a request, from now or from ``since``, Unix seconds."""
    score = redis.zscore(keys.open_requests(ids.shard_in(request_id)), request_id)
    return score / 1000 - (time.time() if since is None else since)


def let_pass(redis: Redis, seconds: float) -> None:
    for shard in range(SHARDS):
        for name, score in redis.zrange(keys.open_requests(shard), 0, -1, withscores=True):
            redis.zadd(keys.open_requests(shard), {name: score - seconds * 1000})


def is_parked(services: Services, request_id: str) -> bool:
    record = record_of(services, request_id)
    return (record.status, record.attempts) == ("queued", 0) and record.parked > 0


# --- one request ---------------------------------------------------------------------------------


def test_a_request_without_a_session_is_put_back_with_a_time(
    services: Services, account_id: str, redis: Redis, queue: RecordingQueue
) -> None:
    [asked] = ask(services, account_id, "anna")
    before = time.time()
    scrape.run(services, Upstream(nobody=NoSessionFree(40)), asked)
    assert is_parked(services, asked)
    assert comes_in(redis, asked, before) > 39
    assert comes_in(redis, asked) < 40 * 1.1 + scrape.PARKED_APART + 1
    parked = record_of(services, asked).parked / 1000
    assert comes_in(redis, asked) - 1 < parked < comes_in(redis, asked, before) + 1
    assert services.credits.balance(account_id) == Balance(100, 1)
    assert queue.published == [], "its time has not come"
    assert services.stats.counters()["parked"] == 1
    assert audit(services).differences == []


@pytest.mark.parametrize("name", [INTERACTIVE, BULK])
def test_it_is_published_at_its_time_and_not_before(
    services: Services, account_id: str, redis: Redis, queue: RecordingQueue, name: str
) -> None:
    [asked] = ask(services, account_id, "anna", queue=name)
    services.bulk.take(9)  # a worker came
    scrape.run(services, Upstream(nobody=NoSessionFree(40)), asked)
    let_pass(redis, 20)
    assert sweep.sweep_requests(services) == 0
    let_pass(redis, 26)
    assert sweep.sweep_requests(services) == 1
    assert queue.published == [(GATHER, BULK) if name == BULK else ("scrape", INTERACTIVE, asked)]
    assert services.bulk.take(9) == ([asked] if name == BULK else [])
    scrape.run(services, upstream := Upstream(), asked)
    assert (outcome(services, asked), upstream.asked) == (("found", 1), ["anna"])
    assert services.credits.balance(account_id) == Balance(99, 0)


def test_those_put_back_together_do_not_come_back_at_once(
    services: Services, account_id: str, redis: Redis
) -> None:
    asked = ask(services, account_id, *[f"user{number}" for number in range(20)])
    times = []
    for each in asked:
        before = time.time()
        scrape.run(services, Upstream(nobody=NoSessionFree(1)), each)
        times.append(comes_in(redis, each))
        # How long the run and the look themselves took does not matter.
        assert comes_in(redis, each, before) > 0.9
    assert max(times) - min(times) > 0.3
    assert max(times) < 2.2, "1 s and a tenth, and up to 1 s more"


def test_it_waits_up_to_the_limit_and_then_ends_uncharged(
    services: Services, account_id: str, redis: Redis, queue: RecordingQueue
) -> None:
    [asked] = ask(services, account_id, "anna")
    rounds = 0
    while not record_of(services, asked).is_final:
        scrape.run(services, Upstream(nobody=NoSessionFree(50)), asked)
        rounds += 1
        assert rounds < 10
        let_pass(redis, 60)
        sweep.sweep_requests(services)
    record = record_of(services, asked)
    assert (record.status, record.code, record.charged, record.retry_after) == (
        "failed",
        "upstream_blocked",
        0,
        50,
    )
    assert 200_000 < record.parked <= WAIT * 1000 * 1.1
    assert services.credits.balance(account_id) == Balance(100, 0)
    envelope = json.loads(services.requests.envelope(asked) or b"")
    assert envelope["code"] == "upstream_blocked"
    assert "no usable Instagram session" in envelope["error"]
    assert audit(services).differences == []


@pytest.mark.parametrize(("retry_in", "retry_after"), [(None, 300), (WAIT + 1, 301)])
def test_what_would_wait_longer_than_it_may_ends_at_once(
    services: Services, account_id: str, retry_in: float | None, retry_after: int
) -> None:
    [asked] = ask(services, account_id, "anna")
    scrape.run(services, Upstream(nobody=NoSessionFree(retry_in)), asked)
    assert outcome(services, asked) == ("upstream_blocked", 0)
    assert record_of(services, asked).retry_after == retry_after
    assert services.credits.balance(account_id) == Balance(100, 0)


def test_nothing_is_put_back_where_nothing_may_wait(
    settings: Settings, redis: Redis, queue: RecordingQueue
) -> None:
    services = make_services(settings, redis, queue, upstream_wait=0.0)
    account_id = services.accounts.create("anna@example.com", "hash").account_id
    services.credits.add(account_id, 10, entry_type="topup", note="")
    [asked] = ask(services, account_id, "anna")
    scrape.run(services, Upstream(nobody=NoSessionFree(0.5)), asked)
    assert outcome(services, asked) == ("upstream_blocked", 0)


def test_once_something_was_asked_its_error_stands(services: Services, account_id: str) -> None:
    upstream = Upstream(UpstreamTimeout())
    [asked] = ask(services, account_id, "anna")

    def nobody_left() -> None:
        upstream.nobody = NoSessionFree(40) if upstream.asked else None

    upstream.during = nobody_left
    scrape.run(services, upstream, asked)
    assert outcome(services, asked) == ("upstream_timeout", 0)
    assert record_of(services, asked).parked == 0


def test_put_back_however_often_it_is_not_given_up_as_not_worked_on(
    settings: Settings, redis: Redis, queue: RecordingQueue
) -> None:
    """Neither by attempts nor by looks: it is worked on each time."""
    services = make_services(settings, redis, queue, upstream_wait=WAIT, sweep_limit=1, max_attempts=2)
    account_id = services.accounts.create("anna@example.com", "hash").account_id
    services.credits.add(account_id, 10, entry_type="topup", note="")
    [asked] = ask(services, account_id, "anna")
    for _ in range(20):
        scrape.run(services, Upstream(nobody=NoSessionFree(1)), asked)
        let_pass(redis, 5)
        assert sweep.sweep_requests(services) == 1
    assert is_parked(services, asked)
    scrape.run(services, Upstream(), asked)
    assert outcome(services, asked) == ("found", 1)


def test_what_is_put_back_may_be_cancelled(services: Services, account_id: str) -> None:
    [asked] = ask(services, account_id, "anna")
    scrape.run(services, Upstream(nobody=NoSessionFree(40)), asked)
    services.requests.cancel(record_of(services, asked), CANCEL)
    assert services.credits.balance(account_id) == Balance(100, 0)


def test_a_request_taken_over_meanwhile_is_not_put_back(
    services: Services, account_id: str, redis: Redis
) -> None:
    [asked] = ask(services, account_id, "anna")
    upstream = Upstream(nobody=NoSessionFree(40))

    def taken_over() -> None:
        redis.hset(keys.request(asked), "lease_until", 1)
        assert services.requests.claim(asked) is not None

    upstream.during = taken_over
    scrape.run(services, upstream, asked)
    assert (record_of(services, asked).status, record_of(services, asked).parked) == ("processing", 0)


# --- who waits for the same reel -----------------------------------------------------------------


def board_others(services: Services, upstream: Upstream, others: Sequence[str]) -> None:
    """Let other workers take up requests for the same reel while the first one looks for a session."""

    def meanwhile() -> None:
        upstream.during = lambda: None
        for each in others:
            scrape.run(services, upstream, each)

    upstream.during = meanwhile


def test_who_waits_for_the_same_reel_is_put_off_as_well(
    services: Services, account_id: str, redis: Redis, queue: RecordingQueue
) -> None:
    first, *others = ask(services, account_id, *["anna"] * 4)
    upstream = Upstream(nobody=NoSessionFree(40))
    board_others(services, upstream, others)
    before = time.time()
    scrape.run(services, upstream, first)
    assert all(is_parked(services, each) for each in (first, *others))
    assert all(comes_in(redis, each, before) > 39 for each in others)
    assert all(comes_in(redis, each) < 46 for each in others)
    assert queue.published == [], "nobody spins"
    assert services.reels.board("anna", "req_9") is not None, "the flight is over"


def test_who_waits_is_served_with_the_first_when_a_session_is_back(
    services: Services, account_id: str
) -> None:
    first, *others = ask(services, account_id, *["anna"] * 3)
    upstream = Upstream(nobody=NoSessionFree(40))
    board_others(services, upstream, others)
    scrape.run(services, upstream, first)
    upstream.nobody = None
    board_others(services, upstream, others)
    scrape.run(services, upstream, first)
    assert [outcome(services, each) for each in (first, *others)] == [("found", 1)] * 3
    assert len(upstream.asked) == 1
    assert audit(services).differences == []


def test_each_waits_by_its_own_account(services: Services, account_id: str, queue: RecordingQueue) -> None:
    early, late = ask(services, account_id, "anna", "anna")
    for _ in range(5):
        scrape.run(services, Upstream(nobody=NoSessionFree(50)), early)
    upstream = Upstream(nobody=NoSessionFree(50))
    board_others(services, upstream, [early])
    scrape.run(services, upstream, late)
    assert (outcome(services, early), is_parked(services, late)) == (("upstream_blocked", 0), True)
    upstream = Upstream(nobody=NoSessionFree(None))
    [another] = ask(services, account_id, "anna")
    board_others(services, upstream, [late])
    scrape.run(services, upstream, another)
    assert [outcome(services, each) for each in (late, another)] == [("upstream_blocked", 0)] * 2
    assert queue.published == []
    assert services.credits.balance(account_id) == Balance(100, 0)


def test_who_only_waits_is_not_given_up_either(services: Services, account_id: str, redis: Redis) -> None:
    first, other = ask(services, account_id, "anna", "anna")
    for _ in range(10):
        upstream = Upstream(nobody=NoSessionFree(1))
        board_others(services, upstream, [other])
        scrape.run(services, upstream, first)
        let_pass(redis, 5)
        sweep.sweep_requests(services)
    assert is_parked(services, other)


# --- the bulk queue ------------------------------------------------------------------------------


def ask_in_bulk(services: Services, account_id: str, *usernames: str) -> list[str]:
    made = ask(services, account_id, *usernames, queue=BULK)
    publish_bulk(services, account_id, made)
    return made


def work(services: Services, upstream: Upstream) -> None:
    upstream.sessions = services.sessions
    gather.run(services, upstream, Places(1), lambda: False)


@pytest.mark.parametrize("rest", [200, 299])
def test_nothing_is_taken_from_the_queue_while_all_rest(
    services: Services, account_id: str, queue: RecordingQueue, rest: int
) -> None:
    services.sessions.add("main", LOGIN)
    services.sessions.rest("main", rest)
    asked = ask_in_bulk(services, account_id, "anna", "bert")
    queue.published.clear()
    work(services, upstream := Upstream())
    assert (upstream.together, upstream.asked, queue.published) == ([], [], [])
    assert services.bulk.waiting() == 2
    assert sweep.pump_bulk(services) == 2
    assert queue.published == [(GATHER, BULK)], "the pump asks again"
    services.sessions.resume("main")
    work(services, upstream)
    assert [outcome(services, each) for each in asked] == [("found", 1)] * 2


def test_nothing_is_taken_from_the_queue_while_all_are_held(services: Services, account_id: str) -> None:
    services.sessions.add("main", LOGIN)
    services.sessions.lease(60)
    ask_in_bulk(services, account_id, "anna")
    work(services, Upstream())
    assert services.bulk.waiting() == 1


def test_what_the_queue_cannot_wait_for_is_ended(services: Services, account_id: str) -> None:
    services.sessions.add("main", LOGIN)
    services.sessions.rest("main", 5_000)
    asked = ask_in_bulk(services, account_id, "anna", "bert")
    work(services, Upstream(nobody=NoSessionFree(5_000)))
    assert [outcome(services, each) for each in asked] == [("upstream_blocked", 0)] * 2
    assert services.credits.balance(account_id) == Balance(100, 0)


def test_a_group_without_a_session_is_put_back_with_a_time(
    services: Services, account_id: str, redis: Redis, queue: RecordingQueue
) -> None:
    asked = ask_in_bulk(services, account_id, "anna", "bert", "anna")
    queue.published.clear()
    before = time.time()
    work(services, Upstream(nobody=NoSessionFree(40)))
    assert all(is_parked(services, each) for each in asked), "who waits for the same reel as well"
    assert all(comes_in(redis, each, before) > 39 for each in asked)
    assert all(comes_in(redis, each) < 46 for each in asked)
    assert (queue.published, services.bulk.waiting()) == ([], 0)
    let_pass(redis, 46)
    assert sweep.sweep_requests(services) == 3
    work(services, upstream := Upstream())
    assert [outcome(services, each) for each in asked] == [("found", 1)] * 3
    assert [sorted(each) for each in upstream.together] == [["anna", "bert"]]
    assert audit(services).differences == []


def test_what_a_group_left_over_waits_in_the_queue_when_nobody_is_free(
    services: Services, account_id: str
) -> None:
    services.sessions.add("main", LOGIN)
    asked = ask_in_bulk(services, account_id, "anna", "bert", "carl")
    upstream = Upstream(alone=["bert", "carl"])
    found = upstream.reels

    def used_up(usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        services.sessions.rest("main", 60)
        return found(usernames)

    upstream.reels = used_up  # type: ignore[method-assign]
    work(services, upstream)
    assert outcome(services, asked[0]) == ("found", 1)
    assert services.bulk.absent(asked) == asked[:1]
    assert [outcome(services, each) for each in asked[1:]] == [("queued", 0)] * 2
    assert upstream.asked == []


def test_what_a_group_left_over_is_asked_for_alone_while_somebody_is_free(
    services: Services, account_id: str
) -> None:
    services.sessions.add("main", LOGIN)
    asked = ask_in_bulk(services, account_id, "anna", "bert")
    upstream = Upstream(UserNotFound(), alone=["bert"])
    work(services, upstream)
    assert [outcome(services, each) for each in asked] == [("found", 1), ("user_not_found", 0)]


@pytest.mark.parametrize(
    ("name", "paced", "ends"),
    [(BULK, True, False), (INTERACTIVE, True, True), (BULK, False, True)],
    ids=["bulk-paced", "interactive-paced", "bulk-resting"],
)
def test_nobody_waits_too_long_for_the_end_of_a_budgets_window_but_callers(
    services: Services, account_id: str, name: str, paced: bool, ends: bool
) -> None:
    [asked] = ask(services, account_id, "anna", queue=name)
    scrape.run(services, Upstream(nobody=NoSessionFree(10 * WAIT, paced=paced)), asked)
    assert record_of(services, asked).is_final is ends
    assert is_parked(services, asked) is not ends


def test_the_bulk_queue_waits_for_budgets_however_long(
    settings: Settings, redis: Redis, queue: RecordingQueue
) -> None:
    pace = Pace(session_minute=3, session_hour=3)
    services = make_services(replace(settings, pace=pace), redis, queue, upstream_wait=WAIT)
    made = services.accounts.create("anna@example.com", "hash")
    services.credits.add(made.account_id, 100, entry_type="topup", note="")
    services.sessions.add("main", LOGIN)
    leased = services.sessions.lease(60, 3, 3)
    assert isinstance(leased, Leased)
    services.sessions.release(leased, used=3)
    ask_in_bulk(services, made.account_id, "anna", "bert")
    upstream = Upstream()
    work(services, upstream)
    assert (services.bulk.waiting(), upstream.together, upstream.asked) == (2, [], [])
