"""Deliveries from owed to ended, over a fake and a real store, to real receivers.

Time is moved where it is stored; nothing sleeps until it has passed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis
from standardwebhooks import Webhook, WebhookVerificationError
from werkzeug.test import TestResponse

from service.actions import deliveries as actions
from service.actions import watches
from service.actions.accounts import create_key
from service.app import create_app
from service.config import Settings
from service.domain import ids
from service.domain.addresses import AddressPolicy
from service.domain.deliveries import HOST_SLOW_SECONDS, Attempt, Plan
from service.domain.errors import Conflict, LeaseLost, NotFound, WebhookForbidden
from service.domain.policy import Policy
from service.domain.ports import Services
from service.domain.requests import DELIVER, DELIVERIES, Ending, Owed
from service.domain.webhooks import UNREADABLE
from service.stores import keys
from service.stores.hosts import JUDGED_AFTER, OPEN_MS, WINDOW_MINUTES
from tests.conftest import RecordingQueue, await_true, finish_one, make_services
from tests.webhooks.support import Receiver, make_due, new_account, now_ms, owe, waiting
from workers import deliver
from workers.sweep import pump_deliveries
from workers.webhooks.sender import SNIPPET, Sender

PLACES = 10
HOST = "receiver.example:443"
Make = Callable[..., Services]


@pytest.fixture
def make(settings: Settings, redis: Redis, queue: RecordingQueue) -> Make:
    """Make services over a fake, then over a real store, with parts of their policy changed."""
    return lambda **changes: make_services(settings, redis, queue, **changes)


@pytest.fixture
def account_id(services: Services) -> str:
    return new_account(services).account_id


@cache
def sender(addresses: AddressPolicy) -> Sender:
    """Return the one sender of such a policy: opening one takes a while."""
    return Sender(Policy(webhook_addresses=addresses, webhook_connect_timeout=30, webhook_timeout=30))


def run(services: Services, delivery_id: str) -> None:
    """Play the deliverer that got a hint."""
    delivery = services.deliveries.get(delivery_id)
    assert delivery
    deliver.run(services, sender(services.policy.webhook_addresses), [Owed(delivery_id, delivery.host)])


def status(services: Services, delivery_id: str) -> str:
    delivery = services.deliveries.get(delivery_id)
    assert delivery
    return delivery.status


def verify(receiver: Receiver, secret: str) -> None:
    for arrival in receiver.arrivals:
        Webhook(secret).verify(arrival.body, dict(arrival.headers))


# --- one delivery --------------------------------------------------------------------------------


def test_a_receiver_that_takes_it_gets_it_once_and_signed(
    services: Services, redis: Redis, account_id: str, receiver: Receiver
) -> None:
    delivery_id = owe(services, account_id, receiver.url)
    run(services, delivery_id)
    run(services, delivery_id)
    delivery = services.deliveries.get(delivery_id)
    assert delivery
    assert (delivery.status, delivery.attempts, delivery.leased) == ("delivered", 1, False)
    assert waiting(redis, delivery_id) is None
    [attempt] = services.deliveries.attempts(delivery_id)
    assert (attempt.status, attempt.error) == (204, "")
    [arrival] = receiver.arrivals
    assert arrival.delivery_id == delivery_id
    assert arrival.body == services.requests.envelope(ids.request_of(delivery_id))
    assert int(arrival.headers["webhook-timestamp"]) == attempt.at
    assert arrival.headers["Content-Type"] == "application/json"
    assert arrival.headers["User-Agent"].startswith("Storyhook/")
    verify(receiver, services.accounts.webhook_secrets(account_id).current)


def test_one_that_failed_waits_for_its_time_and_is_tried_again_under_the_same_id(
    make: Make, redis: Redis, account_id: str
) -> None:
    services = make(webhook_schedule=(50, 300))
    with Receiver((503, {}, b"busy"), 500, 200) as receiver:
        delivery_id = owe(services, account_id, receiver.url)
        for tries, (low, high) in enumerate([(40, 60), (240, 360)], start=1):
            before = time.time()
            run(services, delivery_id)
            delivery = services.deliveries.get(delivery_id)
            assert delivery
            assert (delivery.status, delivery.tries) == ("pending", tries)
            assert low - 0.5 < delivery.next_at / 1000 - before
            assert (delivery.next_at - now_ms()) / 1000 <= high
            assert low - 0.5 < waiting(redis, delivery_id, before)
            assert waiting(redis, delivery_id) <= high
            run(services, delivery_id)  # a hint that comes too early does nothing
            assert len(receiver.arrivals) == tries
            make_due(redis, delivery_id)
        run(services, delivery_id)
        assert status(services, delivery_id) == "delivered"
        assert {arrival.delivery_id for arrival in receiver.arrivals} == {delivery_id}
        assert len({arrival.body for arrival in receiver.arrivals}) == 1
        verify(receiver, services.accounts.webhook_secrets(account_id).current)
    log = services.deliveries.attempts(delivery_id)
    assert [attempt.status for attempt in log] == [503, 500, 200]
    assert log[0].snippet == "busy"


@pytest.mark.parametrize(("asked", "low", "high"), [("8", 8, 8), ("3600", 10, 10), ("1", 4, 6)])
def test_what_a_receiver_asks_for_is_kept_to(
    services: Services, account_id: str, asked: str, low: float, high: float
) -> None:
    with Receiver((429, {"Retry-After": asked}, b"")) as receiver:
        delivery_id = owe(services, account_id, receiver.url)
        before = time.time()
        run(services, delivery_id)
    delivery = services.deliveries.get(delivery_id)
    assert delivery
    assert low - 0.5 < delivery.next_at / 1000 - before
    assert (delivery.next_at - now_ms()) / 1000 <= high + 0.01


def test_410_ends_it_as_gone(services: Services, redis: Redis, account_id: str) -> None:
    with Receiver(410) as receiver:
        delivery_id = owe(services, account_id, receiver.url)
        run(services, delivery_id)
    assert status(services, delivery_id) == "gone"
    assert waiting(redis, delivery_id) is None


def test_410_pauses_the_watch_whose_run_it_was_at_once(services: Services, account_id: str) -> None:
    """Its next run would find out, but that may be a day away, and resuming it before would be in vain."""
    asked = {"username": "anna", "every": "1d", "only_new": True, "heartbeat": False, "max_age": 60}
    services.credits.add(account_id, 10, entry_type="topup", note="")
    with Receiver(410, 204) as receiver:
        watch, _ = watches.add_watch(services, account_id, webhook_url=receiver.url, **asked)
        record = watches.run_by_hand(services, account_id, watch.watch_id)
        claim = services.requests.claim(record.request_id)
        assert claim
        ending = Ending("succeeded", b"{}", charge=1, outcome="found", item_count=1)
        owed = finish_one(services.requests, claim, ending)
        assert owed
        run(services, owed.delivery_id)
        paused = services.watches.get(watch.watch_id)
        assert paused
        assert (paused.status, paused.pause_reason) == ("paused", "receiver_gone")
        assert watches.resume_watch(services, account_id, watch.watch_id).is_active
        assert watches.run_by_hand(services, account_id, watch.watch_id)


def test_after_the_last_attempt_it_is_exhausted(make: Make, redis: Redis) -> None:
    services = make(webhook_schedule=(1, 1))
    with Receiver(500, 404, 302) as receiver:
        delivery_id = owe(services, new_account(services).account_id, receiver.url)
        for _ in range(3):
            make_due(redis, delivery_id)
            run(services, delivery_id)
    assert status(services, delivery_id) == "exhausted"
    assert waiting(redis, delivery_id) is None
    assert [attempt.status for attempt in services.deliveries.attempts(delivery_id)] == [500, 404, 302]


def test_one_that_leads_inward_ends_as_blocked_and_nothing_arrives(make: Make, receiver: Receiver) -> None:
    services = make(webhook_addresses=AddressPolicy())
    delivery_id = owe(services, new_account(services).account_id, receiver.url)
    run(services, delivery_id)
    assert status(services, delivery_id) == "blocked"
    [attempt] = services.deliveries.attempts(delivery_id)
    assert (attempt.error, attempt.status) == ("blocked", 0)
    assert receiver.arrivals == []


def test_one_whose_body_is_gone_ends_and_says_so(
    services: Services, redis: Redis, account_id: str, receiver: Receiver
) -> None:
    delivery_id = owe(services, account_id, receiver.url)
    redis.delete(keys.result(ids.request_of(delivery_id)))
    run(services, delivery_id)
    assert status(services, delivery_id) == "exhausted"
    assert [attempt.error for attempt in services.deliveries.attempts(delivery_id)] == ["result_expired"]
    assert receiver.arrivals == []


def test_what_a_receiver_says_is_kept_short_and_escaped(services: Services, account_id: str) -> None:
    said = b"\x1b[2J\x00\xff<script>\r\n" + "\u202egröße".encode()
    with Receiver((500, {}, said), (500, {}, b"x" * 100_000)) as receiver:
        first, second = (owe(services, account_id, receiver.url) for _ in range(2))
        run(services, first)
        run(services, second)
    [attempt] = services.deliveries.attempts(first)
    assert attempt.snippet == "\\x1b[2J\\x00\\xff<script>\\r\\n\\u202egröße"
    [attempt] = services.deliveries.attempts(second)
    assert attempt.snippet == "x" * SNIPPET


def test_a_killed_deliverers_work_comes_back_and_the_dead_may_not_record(
    services: Services, redis: Redis, account_id: str, receiver: Receiver
) -> None:
    delivery_id = owe(services, account_id, receiver.url)
    dead = services.deliveries.claim(delivery_id, receiver.host)
    assert dead
    assert services.deliveries.claim(delivery_id, receiver.host) is None
    redis.hset(keys.delivery(delivery_id), "lease_until", now_ms() - 1)
    run(services, delivery_id)
    assert status(services, delivery_id) == "delivered"
    with pytest.raises(LeaseLost):
        services.deliveries.record(dead, Attempt(0, 0.1, status=500), Plan("pending", 5))
    assert status(services, delivery_id) == "delivered"
    assert len(services.deliveries.attempts(delivery_id)) == 1


def test_a_lease_outlasts_an_attempt_and_is_looked_after(
    make: Make, redis: Redis, queue: RecordingQueue, receiver: Receiver
) -> None:
    services = make(webhook_timeout=2)
    delivery_id = owe(services, new_account(services).account_id, receiver.url)
    services.deliveries.claim(delivery_id, receiver.host)
    assert 2 < waiting(redis, delivery_id) <= 17
    make_due(redis, delivery_id)  # the lease is over
    redis.hset(keys.delivery(delivery_id), "lease_until", now_ms() - 1)
    assert pump_deliveries(services) == 1
    assert queue.published[-1] == (DELIVER, DELIVERIES, delivery_id, receiver.host)


# --- places at a host ----------------------------------------------------------------------------


def fill(services: Services, host: str, count: int = PLACES) -> None:
    for number in range(count):
        assert services.hosts.enter(host, f"other-{number}") == 0


def test_without_a_place_it_waits_and_no_attempt_is_used(
    services: Services, redis: Redis, account_id: str, receiver: Receiver
) -> None:
    fill(services, receiver.host)
    delivery_id = owe(services, account_id, receiver.url)
    for _ in range(3):
        before = time.time()
        run(services, delivery_id)
    delivery = services.deliveries.get(delivery_id)
    assert delivery
    assert (delivery.status, delivery.attempts, delivery.tries, delivery.leased) == ("pending", 0, 0, False)
    assert services.deliveries.attempts(delivery_id) == []
    assert receiver.arrivals == []
    assert waiting(redis, delivery_id, before) > 0.5
    assert waiting(redis, delivery_id) <= 1.2
    services.hosts.leave(receiver.host, "other-0", None)
    run(services, delivery_id)
    assert status(services, delivery_id) == "delivered"


def test_no_host_has_more_attempts_in_flight_than_places(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # What was refused is due again after a second, and whoever is done would go on with it.
    monkeypatch.setattr(deliver, "IN_A_ROW", 1)
    services = make(webhook_host_concurrency=3)
    account_id = new_account(services).account_id
    with Receiver() as receiver:
        receiver.gate.clear()
        owed = [owe(services, account_id, receiver.url) for _ in range(8)]
        threads = [threading.Thread(target=run, args=(services, each)) for each in owed]
        for thread in threads:
            thread.start()
        await_true(lambda: len(receiver.arrivals) == 3 and sum(t.is_alive() for t in threads) == 3)
        assert services.hosts.room(receiver.host) == (0, 1)
        receiver.gate.set()
        for thread in threads:
            thread.join(60)
        assert services.hosts.room(receiver.host) == (3, 0)
        assert len(receiver.arrivals) == 3  # the others wait for the pump, not in a thread


def test_places_of_a_killed_deliverer_come_back(services: Services, redis: Redis) -> None:
    fill(services, HOST)
    assert services.hosts.enter(HOST, "msg") == 1
    for number in range(4):
        redis.zadd(keys.host_inflight(HOST), {f"other-{number}": now_ms() - 1})
    assert services.hosts.room(HOST) == (4, 0)
    assert services.hosts.enter(HOST, "msg") == 0
    assert services.hosts.room(HOST) == (3, 0)


def test_places_are_forgotten_with_their_leases(services: Services, redis: Redis) -> None:
    fill(services, HOST, 1)
    lease = (services.policy.webhook_timeout + 15) * 1000
    assert lease / 2 < redis.pttl(keys.host_inflight(HOST)) <= lease


@pytest.mark.parametrize("answer", [429, 502, 503, 504])
def test_a_host_in_trouble_gets_one_attempt_at_a_time_for_a_while(
    services: Services, redis: Redis, account_id: str, answer: int
) -> None:
    with Receiver(answer) as receiver:
        run(services, owe(services, account_id, receiver.url))
    assert services.hosts.room(receiver.host) == (1, 0)
    assert services.hosts.enter(receiver.host, "one") == 0
    assert services.hosts.enter(receiver.host, "two") == 1
    slow_until = int(redis.hget(keys.host_health(receiver.host), "slow_until"))
    assert abs(slow_until - now_ms() - HOST_SLOW_SECONDS * 1000) < 20_000
    redis.hset(keys.host_health(receiver.host), "slow_until", now_ms() - 1)
    assert services.hosts.room(receiver.host) == (PLACES - 1, 0)


@pytest.mark.parametrize("answer", [404, 401, 500, 302])
def test_a_hook_in_trouble_slows_nobody_else_at_its_host(
    services: Services, account_id: str, answer: int
) -> None:
    with Receiver(answer) as receiver:
        run(services, owe(services, account_id, receiver.url))
    assert services.hosts.room(receiver.host) == (PLACES, 0)


# --- the circuit ---------------------------------------------------------------------------------

FINE, FAILED = Attempt(0, 0.1, status=200), Attempt(0, 0.1, status=500)


def attempts(services: Services, *made: Attempt, host: str = HOST) -> None:
    for attempt in made:
        services.hosts.enter(host, "msg")
        services.hosts.leave(host, "msg", attempt)


def open_circuit(services: Services, host: str = HOST) -> None:
    attempts(services, *[FAILED] * JUDGED_AFTER, host=host)


def time_is_up(redis: Redis, host: str = HOST) -> None:
    assert redis.hexists(keys.host_health(host), "open_until")
    redis.hset(keys.host_health(host), "open_until", now_ms() - 1)


@pytest.mark.parametrize(
    ("fine", "failed", "opens"), [(3, 7, True), (0, 10, True), (30, 70, True), (4, 6, False), (0, 9, False)]
)
def test_the_circuit_opens_at_70_percent_of_at_least_10_attempts(
    services: Services, fine: int, failed: int, opens: bool
) -> None:
    attempts(services, *[FINE] * fine, *[FAILED] * failed)
    assert (services.hosts.enter(HOST, "next") > 1) is opens
    assert services.hosts.open_circuits() == ([HOST] if opens else [])


def test_it_stays_closed_while_it_is_not_bad_enough_and_opens_with_the_attempt_that_makes_it_so(
    services: Services,
) -> None:
    attempts(services, *[FINE] * 3, *[FAILED] * 6)
    assert services.hosts.room(HOST) == (PLACES, 0)
    attempts(services, FAILED)
    free, wait = services.hosts.room(HOST)
    assert free == 0
    assert OPEN_MS / 2000 < wait <= OPEN_MS / 1000


def test_what_is_long_ago_is_not_counted(services: Services, redis: Redis) -> None:
    minute = now_ms() // 60_000 - WINDOW_MINUTES
    redis.hset(keys.host_health(HOST), mapping={f"a{minute}": 50, f"f{minute}": 50})
    attempts(services, FAILED)
    assert services.hosts.room(HOST) == (PLACES, 0)
    assert not redis.hexists(keys.host_health(HOST), f"a{minute}")
    recent = now_ms() // 60_000 - WINDOW_MINUTES + 2
    redis.hset(keys.host_health(HOST), mapping={f"a{recent}": 9, f"f{recent}": 9})
    attempts(services, FAILED)
    assert services.hosts.room(HOST)[0] == 0


@pytest.mark.parametrize("error", ["dns_unavailable", "blocked", "result_expired"])
def test_what_was_never_tried_says_nothing_about_the_host(services: Services, error: str) -> None:
    attempts(services, *[Attempt(0, 0.0, error=error)] * 20)
    assert services.hosts.room(HOST) == (PLACES, 0)


def test_what_waits_behind_an_open_circuit_uses_no_attempt(
    services: Services, redis: Redis, account_id: str, receiver: Receiver
) -> None:
    open_circuit(services, receiver.host)
    owed = [owe(services, account_id, receiver.url) for _ in range(3)]
    for delivery_id in owed:
        run(services, delivery_id)
        delivery = services.deliveries.get(delivery_id)
        assert delivery
        assert (delivery.attempts, delivery.status) == (0, "pending")
        assert 5 < waiting(redis, delivery_id) <= 36
    assert receiver.arrivals == []


def test_after_the_wait_there_is_one_probe_at_a_time_and_a_failed_one_opens_it_anew(
    services: Services, redis: Redis
) -> None:
    open_circuit(services)
    time_is_up(redis)
    assert services.hosts.room(HOST) == (1, 0)
    assert services.hosts.enter(HOST, "probe") == 0
    assert services.hosts.enter(HOST, "another") == 1
    services.hosts.leave(HOST, "probe", FAILED)
    assert services.hosts.enter(HOST, "another") > OPEN_MS / 2000
    assert services.hosts.open_circuits() == [HOST]


@pytest.mark.parametrize("answer", [200, 404])
def test_a_probe_that_is_answered_closes_it(services: Services, redis: Redis, answer: int) -> None:
    open_circuit(services)
    time_is_up(redis)
    attempts(services, Attempt(0, 0.1, status=answer))
    assert services.hosts.room(HOST) == (PLACES, 0)
    assert services.hosts.open_circuits() == []
    attempts(services, FAILED)
    assert services.hosts.room(HOST) == (PLACES, 0)


def test_a_probe_that_could_not_be_made_leaves_it_as_it_is(services: Services, redis: Redis) -> None:
    open_circuit(services)
    time_is_up(redis)
    attempts(services, Attempt(0, 0.1, error="dns_unavailable"))
    assert services.hosts.room(HOST) == (1, 0)
    assert services.hosts.open_circuits() == [HOST]


def test_a_host_that_recovers_gets_what_waited(
    make: Make, redis: Redis, account_id: str, queue: RecordingQueue
) -> None:
    services = make(webhook_schedule=(300, 300))  # what failed is not due again by itself
    with Receiver(*[500] * JUDGED_AFTER) as receiver:
        owed = [owe(services, account_id, receiver.url) for _ in range(JUDGED_AFTER + 5)]
        for delivery_id in owed:
            run(services, delivery_id)
        assert len(receiver.arrivals) == JUDGED_AFTER
        for delivery_id in owed:
            make_due(redis, delivery_id)
        assert pump_deliveries(services) == 0
        time_is_up(redis, receiver.host)
        make_due(redis, owed[-1])
        queue.published.clear()
        assert pump_deliveries(services) == 1
        [(_, _, probe, _)] = queue.published
        run(services, probe)
        assert {status(services, delivery_id) for delivery_id in owed} == {"delivered"}


def test_a_circuit_concerns_its_own_host_only(services: Services, account_id: str) -> None:
    open_circuit(services, "127.0.0.1:1")
    with Receiver() as receiver:
        delivery_id = owe(services, account_id, receiver.url)
        run(services, delivery_id)
    assert status(services, delivery_id) == "delivered"


# --- one after the other at the same host --------------------------------------------------------


def test_a_deliverer_goes_on_with_what_is_due_at_the_same_host(
    services: Services, redis: Redis, account_id: str, receiver: Receiver
) -> None:
    owed = [owe(services, account_id, receiver.url) for _ in range(4)]
    for delivery_id in owed:
        make_due(redis, delivery_id)
    run(services, owed[0])
    assert {arrival.delivery_id for arrival in receiver.arrivals} == set(owed)
    assert len(receiver.arrivals) == 4


def test_but_gives_others_a_turn_now_and_then(
    services: Services, redis: Redis, account_id: str, queue: RecordingQueue, receiver: Receiver
) -> None:
    owed = [owe(services, account_id, receiver.url) for _ in range(deliver.IN_A_ROW + 3)]
    for delivery_id in owed:
        make_due(redis, delivery_id)
    queue.published.clear()
    run(services, owed[0])
    assert len(receiver.arrivals) == deliver.IN_A_ROW
    [(task, _, following, host)] = queue.published
    assert (task, host) == (DELIVER, receiver.host)
    run(services, following)
    assert len({arrival.delivery_id for arrival in receiver.arrivals}) == len(owed)


def test_a_slow_host_does_not_keep_a_deliverer_either(
    services: Services,
    redis: Redis,
    account_id: str,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Fifty attempts that time out are minutes; a process that is to stop would wait them out.
    published = services.queue.published
    monkeypatch.setattr(deliver, "IN_A_ROW_SECONDS", 0.0)
    owed = [owe(services, account_id, receiver.url) for _ in range(3)]
    for delivery_id in owed:
        make_due(redis, delivery_id)
    published.clear()
    run(services, owed[0])
    assert len(receiver.arrivals) == 1
    [(task, _, following, host)] = published
    assert (task, host) == (DELIVER, receiver.host)
    assert following in owed[1:]


def test_a_fresh_one_whose_hint_is_on_its_way_is_left_to_it(
    services: Services, account_id: str, receiver: Receiver
) -> None:
    first, _second = (owe(services, account_id, receiver.url) for _ in range(2))
    run(services, first)
    assert [arrival.delivery_id for arrival in receiver.arrivals] == [first]


# --- the pump ------------------------------------------------------------------------------------


def singles(services: Services, account_id: str, host: str, count: int) -> list[str]:
    made = [ids.new_id(ids.DELIVERY, ids.shard_in(account_id), now_ms()) for _ in range(count)]
    for delivery_id in made:
        services.deliveries.create_single(account_id, delivery_id, f"http://{host}/", host, b"{}")
    return made


def let_all_be_due(redis: Redis, account_id: str) -> None:
    """Let the grace of what was just made or handed out be over."""
    shard, past = ids.shard_in(account_id), now_ms() - 1_000
    for host in redis.zrange(keys.due_hosts(shard), 0, -1):
        key = keys.due(shard, str(host))
        for delivery_id in redis.zrange(key, 0, -1):
            redis.zadd(key, {delivery_id: past})
        redis.zadd(keys.due_hosts(shard), {host: past})


def handed_out(queue: RecordingQueue) -> list[str]:
    return [published[2] for published in queue.published]


def test_nothing_is_handed_out_before_its_time(
    services: Services, account_id: str, queue: RecordingQueue
) -> None:
    singles(services, account_id, HOST, 3)
    assert pump_deliveries(services) == 0
    assert queue.published == []


def test_several_pumps_at_once_hand_nothing_out_twice_and_lose_nothing(
    services: Services, redis: Redis, account_id: str, queue: RecordingQueue
) -> None:
    owed = [
        each
        for number in range(12)
        for each in singles(services, account_id, f"host-{number}.example:443", 5)
    ]
    let_all_be_due(redis, account_id)
    gate = threading.Barrier(4)

    def pump() -> None:
        gate.wait()
        for _ in range(3):
            pump_deliveries(services)

    pumps = [threading.Thread(target=pump) for _ in range(4)]
    for each in pumps:
        each.start()
    for each in pumps:
        each.join(60)
    assert sorted(handed_out(queue)) == sorted(owed)


def test_a_hint_that_got_lost_is_given_again_after_its_grace(
    services: Services, redis: Redis, account_id: str, queue: RecordingQueue
) -> None:
    [delivery_id] = singles(services, account_id, HOST, 1)
    let_all_be_due(redis, account_id)
    before, grace = time.time(), services.policy.pickup_grace
    assert (pump_deliveries(services), pump_deliveries(services)) == (1, 0)
    assert grace - 1 < waiting(redis, delivery_id, before)
    assert waiting(redis, delivery_id) <= grace
    let_all_be_due(redis, account_id)
    assert pump_deliveries(services) == 1
    assert handed_out(queue) == [delivery_id] * 2


def test_a_broker_that_is_down_loses_nothing(
    services: Services, redis: Redis, account_id: str, queue: RecordingQueue
) -> None:
    [delivery_id] = singles(services, account_id, HOST, 1)
    let_all_be_due(redis, account_id)
    queue.broken = True
    pump_deliveries(services)
    queue.broken = False
    let_all_be_due(redis, account_id)
    pump_deliveries(services)
    assert handed_out(queue) == [delivery_id]


def test_a_host_with_a_thousand_due_keeps_out_no_host_with_one(
    services: Services, redis: Redis, account_id: str, queue: RecordingQueue
) -> None:
    singles(services, account_id, "busy.example:443", 1_000)
    modest = singles(services, account_id, "modest.example:443", 1)
    let_all_be_due(redis, account_id)
    assert pump_deliveries(services) == PLACES + 1
    assert modest[0] in handed_out(queue)


def test_a_host_that_takes_nothing_keeps_out_no_other(
    services: Services, redis: Redis, account_id: str, queue: RecordingQueue
) -> None:
    singles(services, account_id, "full.example:443", 50)
    fill(services, "full.example:443")
    open_circuit(services, "open.example:443")
    singles(services, account_id, "open.example:443", 50)
    modest = singles(services, account_id, "modest.example:443", 1)
    let_all_be_due(redis, account_id)
    before = time.time()
    assert pump_deliveries(services) == 1
    assert handed_out(queue) == modest
    looks = dict(redis.zrange(keys.due_hosts(ids.shard_in(account_id)), 0, -1, withscores=True))
    full, closed = (looks[f"{name}.example:443"] / 1000 for name in ("full", "open"))
    assert full - before > 0.5
    assert full - time.time() <= 1
    assert closed - before > 5, "its circuit is open for half a minute"
    assert closed - time.time() <= 30


def test_a_backlog_is_worked_off_to_the_last(
    services: Services, redis: Redis, account_id: str, queue: RecordingQueue
) -> None:
    owed = singles(services, account_id, "a.example:443", 35) + singles(
        services, account_id, "b.example:443", 1
    )
    done: list[str] = []
    for _ in range(10):
        let_all_be_due(redis, account_id)
        queue.published.clear()
        pump_deliveries(services)
        for _, _, delivery_id, host in queue.published:
            claim = services.deliveries.claim(delivery_id, host)
            if claim:
                services.deliveries.record(claim, FINE, Plan("delivered"))
                done.append(delivery_id)
    assert sorted(done) == sorted(owed)
    assert redis.zcard(keys.due_hosts(ids.shard_in(account_id))) == 0
    assert services.deliveries.backlog()[0] == 0


def test_more_hosts_than_are_looked_at_at_once_all_get_their_turn(
    services: Services, redis: Redis, account_id: str, queue: RecordingQueue
) -> None:
    owed = [
        each for number in range(130) for each in singles(services, account_id, f"h{number}.example:443", 1)
    ]
    let_all_be_due(redis, account_id)
    pump_deliveries(services)
    pump_deliveries(services)
    assert sorted(handed_out(queue)) == sorted(owed)


def test_the_backlog_counts_what_is_due_and_how_long(
    services: Services, redis: Redis, account_id: str
) -> None:
    assert services.deliveries.backlog()[0] == 0
    singles(services, account_id, HOST, 3)
    assert services.deliveries.backlog()[0] == 0
    let_all_be_due(redis, account_id)
    due, oldest = services.deliveries.backlog()
    assert due == 3
    assert 900 < oldest < 60_000


# --- replay --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "state"), [(204, "delivered"), (410, "gone"), (500, "exhausted")])
def test_what_has_ended_can_be_sent_again_under_its_id_with_a_fresh_schedule(
    make: Make, redis: Redis, queue: RecordingQueue, answer: int, state: str
) -> None:
    services = make(webhook_schedule=())
    account_id = new_account(services).account_id
    with Receiver(answer, 204) as receiver:
        delivery_id = owe(services, account_id, receiver.url)
        run(services, delivery_id)
        assert status(services, delivery_id) == state
        assert redis.ttl(keys.delivery(delivery_id)) > 0
        queue.published.clear()
        assert actions.replay(services, account_id, delivery_id) == state
        assert queue.published == [(DELIVER, DELIVERIES, delivery_id, receiver.host)]
        assert status(services, delivery_id) == "pending"
        assert redis.ttl(keys.delivery(delivery_id)) == -1
        run(services, delivery_id)
        assert {arrival.delivery_id for arrival in receiver.arrivals} == {delivery_id}
        assert len({arrival.body for arrival in receiver.arrivals}) == 1
    delivery = services.deliveries.get(delivery_id)
    assert delivery
    assert (delivery.status, delivery.attempts, delivery.tries) == ("delivered", 2, 1)
    assert [attempt.status for attempt in services.deliveries.attempts(delivery_id)] == [answer, 204]


def test_one_that_waits_is_sent_at_once_when_replayed(services: Services, account_id: str) -> None:
    with Receiver(500) as receiver:
        delivery_id = owe(services, account_id, receiver.url)
        run(services, delivery_id)
        assert actions.replay(services, account_id, delivery_id) == "pending"
        run(services, delivery_id)
    assert status(services, delivery_id) == "delivered"


def test_a_replay_whose_hint_got_lost_is_pumped(
    services: Services, redis: Redis, account_id: str, queue: RecordingQueue, receiver: Receiver
) -> None:
    delivery_id = owe(services, account_id, receiver.url)
    run(services, delivery_id)
    queue.broken = True
    before, grace = time.time(), services.policy.pickup_grace
    actions.replay(services, account_id, delivery_id)
    queue.broken = False
    assert grace - 1 < waiting(redis, delivery_id, before)
    assert waiting(redis, delivery_id) <= grace
    let_all_be_due(redis, account_id)
    pump_deliveries(services)
    assert handed_out(queue) == [delivery_id]


def test_while_an_attempt_runs_there_is_no_replay(
    services: Services, account_id: str, receiver: Receiver
) -> None:
    delivery_id = owe(services, account_id, receiver.url)
    claim = services.deliveries.claim(delivery_id, receiver.host)
    assert claim
    with pytest.raises(Conflict, match="under way"):
        actions.replay(services, account_id, delivery_id)
    services.deliveries.record(claim, FINE, Plan("delivered"))
    assert actions.replay(services, account_id, delivery_id) == "delivered"


def test_one_whose_body_is_gone_is_not_sent_again(
    services: Services, redis: Redis, account_id: str, receiver: Receiver
) -> None:
    delivery_id = owe(services, account_id, receiver.url)
    run(services, delivery_id)
    redis.delete(keys.result(ids.request_of(delivery_id)))
    with pytest.raises(Conflict, match="lifetime"):
        actions.replay(services, account_id, delivery_id)
    assert status(services, delivery_id) == "delivered"


def test_what_is_not_yours_is_not_there(services: Services, account_id: str, receiver: Receiver) -> None:
    delivery_id = owe(services, account_id, receiver.url)
    other = new_account(services, "other@example.com").account_id
    for call in (actions.replay, actions.find_delivery):
        with pytest.raises(NotFound):
            call(services, other, delivery_id)
        with pytest.raises(NotFound):
            call(services, account_id, "msg_nonsense")


def test_what_failed_since_a_time_is_sent_again_and_nothing_else(make: Make) -> None:
    services = make(webhook_schedule=())
    account_id = new_account(services).account_id
    with Receiver(500, 410, 204, 500) as receiver:
        owed = [owe(services, account_id, receiver.url) for _ in range(4)]
        for delivery_id in owed:
            run(services, delivery_id)
    before = now_ms() - 60_000
    assert actions.replay_failed(services, account_id, now_ms() + 60_000) == (0, False)
    assert actions.replay_failed(services, account_id, before) == (3, False)
    assert [status(services, each) for each in owed] == ["pending", "pending", "delivered", "pending"]
    assert actions.replay_failed(services, account_id, before) == (0, False)


def test_a_thousand_are_sent_again_at_a_time(
    services: Services, redis: Redis, account_id: str, queue: RecordingQueue
) -> None:
    owed = singles(services, account_id, HOST, 1_003)
    for delivery_id in owed:
        redis.hset(keys.delivery(delivery_id), "status", "exhausted")
        redis.hdel(keys.delivery(delivery_id), "single")  # as if it told of a request
    assert actions.replay_failed(services, account_id, 0) == (1_000, True)
    assert actions.replay_failed(services, account_id, 0) == (3, False)
    assert sorted(handed_out(queue)) == sorted(owed)


# --- secrets -------------------------------------------------------------------------------------


def test_while_a_secret_is_rotated_both_verify_and_afterwards_the_new_one_only(
    services: Services, redis: Redis, account_id: str
) -> None:
    old = services.accounts.webhook_secrets(account_id).current
    new = services.accounts.rotate_webhook_secret(account_id).current
    assert old != new
    with Receiver() as receiver:
        run(services, owe(services, account_id, receiver.url))
        assert len(receiver.arrivals[0].headers["webhook-signature"].split(" ")) == 2
        verify(receiver, old)
        verify(receiver, new)
    redis.hset(keys.account(account_id), "previous_expires_at", now_ms() - 1)
    with Receiver() as receiver:
        run(services, owe(services, account_id, receiver.url))
        assert len(receiver.arrivals[0].headers["webhook-signature"].split(" ")) == 1
        verify(receiver, new)
        with pytest.raises(WebhookVerificationError):
            verify(receiver, old)


# --- the API -------------------------------------------------------------------------------------


class Api:
    """Calls the routes as an account."""

    def __init__(self, client: FlaskClient, services: Services, email: str) -> None:
        account = new_account(services, email)
        self.account_id = account.account_id
        self._client = client
        self._key, _ = create_key(services, account.account_id, name="test")

    def __call__(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self._key}"}
        return self._client.open(f"/api/webhooks{path}", method=method, headers=headers, **options)


@pytest.fixture
def api(settings: Settings, services: Services) -> Api:
    return Api(create_app(settings, services).test_client(), services, "caller@example.com")


@contextmanager
def deliverer(services: Services, queue: RecordingQueue) -> Iterator[None]:
    """Play the deliverer: work off whatever is published until the block is left."""
    over = threading.Event()

    def work() -> None:
        done = 0
        while not over.wait(0.002):
            hints = queue.published[done:]
            done += len(hints)
            for _, _, delivery_id, _ in hints:
                run(services, delivery_id)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)


def test_a_test_of_a_receiver_goes_the_way_of_all_webhooks(
    services: Services, queue: RecordingQueue, api: Api
) -> None:
    with Receiver((418, {}, b"tea\x00")) as receiver, deliverer(services, queue):
        answer = api("POST", "/test", json={"url": receiver.url})
    assert answer.status_code == 200, answer.text
    assert answer.json["status"] == "exhausted"  # it is tried once
    shown = answer.json["attempt"]
    assert (shown["status"], shown["error"], shown["snippet"]) == (418, None, "tea\\x00")
    [arrival] = receiver.arrivals
    assert arrival.delivery_id == answer.json["id"]
    assert int(arrival.headers["webhook-timestamp"]) == shown["timestamp"]
    secret = services.accounts.webhook_secrets(api.account_id).current
    assert Webhook(secret).verify(arrival.body, dict(arrival.headers))["status"] == "test"
    log = api("GET", f"/deliveries/{answer.json['id']}").json["log"]
    assert log == [shown]


def test_a_test_of_a_forbidden_address_is_refused_with_its_reason_and_nothing_stored(
    redis: Redis, api: Api
) -> None:
    for url, word in {
        "http://10.0.0.5:8080/": "private",
        "http://169.254.169.254/latest/": "link-local",
        "http://0xa9fea9fe/": "link-local",
        "http://[fd00::1]:8080/": "private",
        "http://database.internal/": "inner name",
        "http://receiver.example:6379/": "6379",
    }.items():
        answer = api("POST", "/test", json={"url": url})
        assert answer.status_code == 422
        assert answer.json["code"] == WebhookForbidden.code
        assert word in answer.json["error"]
    for body in ({}, {"url": 5}, {"url": ""}, {"url": "ftp://x/"}, {"url": "http://a b/"}):
        assert api("POST", "/test", json=body).status_code == 422
    assert list(redis.scan_iter("*msg_*")) == []


def test_a_test_of_a_name_that_leads_inward_tells_no_more_than_that(
    settings: Settings, redis: Redis, queue: RecordingQueue, receiver: Receiver
) -> None:
    """The caller wrote a name; which address it has in here is nothing of theirs."""
    services = make_services(
        settings, redis, queue, webhook_addresses=AddressPolicy(frozenset({"localhost"}))
    )
    api = Api(create_app(settings, services).test_client(), services, "curious@example.com")
    barred = make_services(settings, redis, queue, webhook_addresses=AddressPolicy())
    with deliverer(barred, queue):
        answer = api("POST", "/test", json={"url": receiver.url.replace("127.0.0.1", "localhost")})
    assert (answer.status_code, answer.json["status"]) == (200, "blocked")
    assert answer.json["attempt"]["error"] == "blocked"
    assert "loopback" not in answer.text
    assert "127.0.0.1" not in answer.text
    assert receiver.arrivals == []


def test_deliveries_are_listed_newest_first_filtered_and_in_pages(services: Services, api: Api) -> None:
    with Receiver(*[410, 204] * 4) as receiver:
        owed = []
        for _ in range(7):
            owed.append(owe(services, api.account_id, receiver.url))
            run(services, owed[-1])
            tick = now_ms()
            await_true(lambda tick=tick: now_ms() > tick)  # ids of one millisecond have no order
    newest = owed[::-1]
    assert [each["id"] for each in api("GET", "/deliveries").json["deliveries"]] == newest
    gone = api("GET", "/deliveries?status=gone").json
    assert [each["id"] for each in gone["deliveries"]] == newest[::2]
    seen, cursor = [], ""
    for _ in range(10):
        page = api("GET", f"/deliveries?limit=2&cursor={cursor}" if cursor else "/deliveries?limit=2").json
        seen += [each["id"] for each in page["deliveries"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert seen == newest
    about = ids.request_of(owed[3])
    [only] = api("GET", f"/deliveries?requestId={about}").json["deliveries"]
    assert (only["id"], only["requestId"], only["url"]) == (owed[3], about, receiver.url)
    assert api("GET", f"/deliveries?requestId={about}&status=pending").json["deliveries"] == []
    assert api("GET", "/deliveries?requestId=req_nonsense").json["deliveries"] == []


def test_a_list_of_nonsense_is_refused(api: Api) -> None:
    for query in ("status=nonsense", "cursor=nonsense", "limit=0", "limit=x"):
        assert api("GET", f"/deliveries?{query}").status_code == 422


def test_a_delivery_is_shown_with_every_attempt(services: Services, redis: Redis, api: Api) -> None:
    with Receiver((503, {}, b"<b>busy</b>"), 200) as receiver:
        delivery_id = owe(services, api.account_id, receiver.url)
        before = datetime.now(UTC)
        run(services, delivery_id)
        shown = api("GET", f"/deliveries/{delivery_id}").json
        assert (shown["status"], shown["attempts"]) == ("pending", 1)
        assert datetime.fromisoformat(shown["nextAttemptAt"]) > before
        make_due(redis, delivery_id)
        run(services, delivery_id)
    shown = api("GET", f"/deliveries/{delivery_id}").json
    assert (shown["status"], shown["attempts"], shown["nextAttemptAt"]) == ("delivered", 2, None)
    assert [attempt["status"] for attempt in shown["log"]] == [503, 200]
    assert shown["log"][0]["snippet"] == "<b>busy</b>"
    for attempt, arrival in zip(shown["log"], receiver.arrivals, strict=True):
        assert str(attempt["timestamp"]) == arrival.headers["webhook-timestamp"]
        assert datetime.fromisoformat(attempt["at"]).timestamp() == attempt["timestamp"]
        assert 0 < attempt["duration"] < 30


def test_what_is_unknown_or_anothers_is_404(
    services: Services, settings: Settings, api: Api, receiver: Receiver
) -> None:
    other = Api(create_app(settings, services).test_client(), services, "other@example.com")
    delivery_id = owe(services, api.account_id, receiver.url)
    for caller, path in [
        (other, f"/deliveries/{delivery_id}"),
        (api, "/deliveries/msg_nonsense"),
        (api, f"/deliveries/{ids.new_id(ids.DELIVERY, ids.shard_in(api.account_id), 0)}"),
    ]:
        assert caller("GET", path).status_code == 404
        assert caller("POST", f"{path}/replay").status_code == 404
    assert other("GET", "/deliveries").json["deliveries"] == []
    assert other("GET", f"/deliveries?requestId={ids.request_of(delivery_id)}").json["deliveries"] == []


def test_a_replay_is_accepted_and_says_what_was_before(
    services: Services, redis: Redis, api: Api, receiver: Receiver
) -> None:
    delivery_id = owe(services, api.account_id, receiver.url)
    run(services, delivery_id)
    answer = api("POST", f"/deliveries/{delivery_id}/replay")
    assert (answer.status_code, answer.json) == (
        202,
        {"id": delivery_id, "status": "pending", "previousStatus": "delivered"},
    )
    services.deliveries.claim(delivery_id, receiver.host)
    answer = api("POST", f"/deliveries/{delivery_id}/replay")
    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    redis.delete(keys.result(ids.request_of(delivery_id)))
    assert api("POST", f"/deliveries/{delivery_id}/replay").status_code == 409


def test_all_that_failed_since_a_time_is_replayed(services: Services, api: Api) -> None:
    with Receiver(410) as receiver:
        run(services, owe(services, api.account_id, receiver.url))
    since = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    answer = api("POST", "/replay", json={"since": since})
    assert (answer.status_code, answer.json) == (202, {"replayed": 1, "more": False})
    for nonsense in ({}, {"since": "yesterday"}, {"since": None}):
        assert api("POST", "/replay", json=nonsense).status_code == 422


def test_a_secret_is_shown_and_rotated(api: Api) -> None:
    before = api("GET", "/secret").json
    assert before["secret"].startswith("whsec_")
    assert before["previousSecret"] is None
    after = api("POST", "/secret/rotate").json
    assert after["secret"] != before["secret"] == after["previousSecret"]
    expires = datetime.fromisoformat(after["previousExpiresAt"]) - datetime.now(UTC)
    assert timedelta(hours=23, minutes=59) < expires <= timedelta(hours=24)
    assert api("GET", "/secret").json == after


def test_what_was_sent_to_try_a_receiver_out_is_not_sent_again_with_the_rest(
    services: Services, redis: Redis, account_id: str
) -> None:
    [tried] = singles(services, account_id, HOST, 1)
    redis.hset(keys.delivery(tried), "status", "exhausted")
    assert actions.replay_failed(services, account_id, 0) == (0, False)


# --- hosts that an earlier version took -----------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["http://a%0ab/hook", "http://x{y}z:8080/", "https://" + "a" * 70 + ".example/"]
)
def test_a_request_with_a_host_nobody_may_name_any_more_ends_and_its_webhook_is_blocked(
    services: Services, account_id: str, url: str
) -> None:
    delivery_id = owe(services, account_id, url)
    run(services, delivery_id)
    assert status(services, delivery_id) == "blocked"


def test_a_delivery_that_is_kept_under_such_a_host_is_found_and_ends(
    services: Services, redis: Redis, account_id: str, queue: RecordingQueue
) -> None:
    delivery_id, shard = owe(services, account_id, "http://a%0ab/hook"), ids.shard_in(account_id)
    odd = "a\nb:80"
    redis.hset(keys.delivery(delivery_id), "host", odd)
    redis.delete(keys.due_hosts(shard), keys.due(shard, UNREADABLE))
    make_due(redis, delivery_id)
    queue.published.clear()
    assert pump_deliveries(services) == 1
    assert [published[2] for published in queue.published] == [delivery_id]
    run(services, delivery_id)
    assert status(services, delivery_id) == "blocked"
    assert services.deliveries.due_of_host(shard, odd, 10, 1.0) == []
