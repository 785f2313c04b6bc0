"""Deliveries, hosts and what workers do with them, over the fake store and over a real one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest
from redis import Redis

from service.config import Settings
from service.domain import ids
from service.domain.deliveries import Attempt, DeliveryClaim, Plan
from service.domain.dispatch import hand_over
from service.domain.errors import LeaseLost
from service.domain.policy import Policy
from service.domain.ports import Services
from service.domain.requests import Owed
from service.stores import keys
from service.stores.hosts import Hosts
from tests.conftest import SHARDS, RecordingQueue, await_true, finish_one, make_services
from tests.redis.kit import ACCOUNT, NOW, ending, submission
from workers import deliver, sweep

HOST = "example.com:443"
URL = "https://example.com/hook"
OK = Attempt(at=1, duration=0.1, status=200, snippet="fine")
FAILURE = Attempt(at=1, duration=0.1, status=500)
DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
def credits(services: Services) -> None:
    services.credits.add(ACCOUNT, 1000, entry_type="topup", note="")


def owed(services: Services, *, at: int = NOW, url: str = URL) -> str:
    """The id of a delivery that is owed for a new request."""
    made = services.requests.submit(submission(at=at, webhook_url=url))
    claim = services.requests.claim(made.request_id)
    assert claim is not None
    delivery = finish_one(services.requests, claim, ending(envelope=b'{"itemCount":3}'))
    assert delivery is not None
    return delivery.delivery_id


def claimed(services: Services, delivery_id: str) -> DeliveryClaim:
    claim = services.deliveries.claim(delivery_id, HOST)
    assert claim is not None
    return claim


# --- the store -----------------------------------------------------------------------------------


def test_a_claim_carries_the_very_bytes_of_the_envelope(services: Services) -> None:
    claim = claimed(services, owed(services))
    assert claim.body == b'{"itemCount":3}'
    assert (claim.delivery.url, claim.delivery.host, claim.delivery.status) == (URL, HOST, "pending")
    assert (claim.delivery.attempts, claim.delivery.tries, claim.delivery.repeats) == (0, 0, True)


def test_a_delivery_is_claimed_by_one(services: Services) -> None:
    delivery_id = owed(services)
    claimed(services, delivery_id)
    assert services.deliveries.claim(delivery_id, HOST) is None


def test_a_claim_without_its_result_has_no_body(redis: Redis, services: Services) -> None:
    delivery_id = owed(services)
    redis.delete(keys.result(ids.request_of(delivery_id)))
    assert claimed(services, delivery_id).body is None


def test_every_attempt_is_in_the_log_oldest_first(services: Services) -> None:
    delivery_id = owed(services)
    services.deliveries.record(claimed(services, delivery_id), FAILURE, Plan("pending"))
    services.deliveries.record(claimed(services, delivery_id), OK, Plan("delivered"))
    assert services.deliveries.attempts(delivery_id) == [FAILURE, OK]
    delivery = services.deliveries.get(delivery_id)
    assert delivery is not None
    assert (delivery.status, delivery.attempts, delivery.leased) == ("delivered", 2, False)


def test_who_lost_the_lease_cannot_record(redis: Redis, services: Services) -> None:
    delivery_id = owed(services)
    first = claimed(services, delivery_id)
    redis.hset(keys.delivery(delivery_id), "lease_until", 1)
    second = claimed(services, delivery_id)
    with pytest.raises(LeaseLost):
        services.deliveries.record(first, OK, Plan("delivered"))
    services.deliveries.record(second, OK, Plan("delivered"))
    services.deliveries.record(second, OK, Plan("delivered"))
    assert services.deliveries.attempts(delivery_id) == [OK]


def test_a_delivery_that_waits_for_its_next_attempt_is_not_claimed_before(services: Services) -> None:
    delivery_id = owed(services)
    services.deliveries.record(claimed(services, delivery_id), FAILURE, Plan("pending", wait=60))
    assert services.deliveries.claim(delivery_id, HOST) is None


def test_a_deferred_delivery_is_given_back(services: Services) -> None:
    delivery_id = owed(services)
    services.deliveries.defer(claimed(services, delivery_id), 1)
    assert claimed(services, delivery_id).fence == 2


def test_a_replayed_delivery_can_be_claimed_again_with_its_log(services: Services) -> None:
    delivery_id = owed(services)
    services.deliveries.record(claimed(services, delivery_id), FAILURE, Plan("exhausted"))
    delivery = services.deliveries.get(delivery_id)
    assert delivery is not None
    assert services.deliveries.replay(delivery) == "exhausted"
    claim = claimed(services, delivery_id)
    assert (claim.body, claim.delivery.tries) == (b'{"itemCount":3}', 0)
    assert services.deliveries.replay(delivery) == "running"
    assert services.deliveries.attempts(delivery_id) == [FAILURE]


def test_a_delivery_that_never_was_is_nothing(services: Services) -> None:
    unknown = ids.new_id(ids.DELIVERY, 2, NOW)
    assert services.deliveries.get(unknown) is None
    assert services.deliveries.attempts(unknown) == []
    assert services.deliveries.claim(unknown, HOST) is None


def test_a_single_delivery_is_due_like_any_other_and_tried_once(services: Services) -> None:
    delivery_id = ids.new_id(ids.DELIVERY, ids.shard_in(ACCOUNT), NOW)
    services.deliveries.create_single(ACCOUNT, delivery_id, URL, HOST, b"test")
    claim = claimed(services, delivery_id)
    assert (claim.body, claim.delivery.repeats, claim.delivery.request_id) == (b"test", False, "")


def listed(
    services: Services, limit: int, statuses: frozenset[str] | None = None, since: int = 0
) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = services.deliveries.page(
            ACCOUNT, statuses=statuses, since_ms=since, cursor=cursor, limit=limit
        )
        found += [delivery.delivery_id for delivery in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 7, 30])
def test_pages_show_every_delivery_once_newest_first(services: Services, limit: int) -> None:
    made = [owed(services, at=NOW + number) for number in range(30)]
    assert listed(services, limit) == made[::-1]
    assert listed(services, limit, since=NOW + 25) == made[:24:-1]
    assert listed(services, limit, frozenset({"exhausted"})) == []
    services.deliveries.record(claimed(services, made[4]), FAILURE, Plan("exhausted"))
    assert listed(services, limit, frozenset({"exhausted"})) == [made[4]]


def test_a_delivery_is_listed_as_long_as_it_is_kept(services: Services) -> None:
    """It is kept for the lifetime of results after it ended, which is longer after its request came."""
    now = int(time.time() * 1000)
    lifetime = services.policy.result_ttl * 1000
    old = owed(services, at=now - lifetime - DAY_MS)
    services.deliveries.record(claimed(services, old), FAILURE, Plan("exhausted"))
    new = owed(services, at=now)
    assert services.deliveries.get(old) is not None
    assert listed(services, 10) == [new, old]


def test_trim_drops_deliveries_long_past_their_lifetime(redis: Redis, services: Services) -> None:
    now = int(time.time() * 1000)
    lifetime = services.policy.result_ttl * 1000
    births = [now - 2 * lifetime - DAY_MS, now - lifetime - DAY_MS, now]
    made = [ids.new_id(ids.DELIVERY, ids.shard_in(ACCOUNT), birth) for birth in births]
    redis.zadd(keys.account_deliveries(ACCOUNT), dict.fromkeys(made, 0))
    assert services.deliveries.trim(ACCOUNT) == 1
    assert redis.zrange(keys.account_deliveries(ACCOUNT), 0, -1) == made[1:]


def test_the_backlog_is_what_is_due_and_waits(redis: Redis, services: Services) -> None:
    assert services.deliveries.backlog() == (0, 0)
    delivery_id = owed(services)
    now = int(time.time() * 1000)
    redis.zadd(keys.due(ids.shard_in(delivery_id), HOST), {delivery_id: now - 5000})
    count, age = services.deliveries.backlog()
    assert count == 1
    assert 5000 <= age < 60_000


# --- hosts ---------------------------------------------------------------------------------------


def test_a_host_takes_so_many_attempts_at_a_time(redis: Redis) -> None:
    hosts = Hosts(redis, Policy(webhook_host_concurrency=2))
    assert [hosts.enter(HOST, f"msg_{number}") for number in range(3)] == [0, 0, 1]
    assert hosts.room(HOST) == (0, 1)
    assert hosts.enter("other.example:443", "msg_9") == 0
    hosts.leave(HOST, "msg_0", OK)
    assert hosts.room(HOST) == (1, 0)


def test_a_host_that_fails_and_fails_is_left_alone_and_shown(redis: Redis) -> None:
    hosts = Hosts(redis, Policy())
    for number in range(10):
        hosts.enter(HOST, f"msg_{number}")
        hosts.leave(HOST, f"msg_{number}", FAILURE)
    assert hosts.open_circuits() == [HOST]
    assert hosts.enter(HOST, "msg_10") > 1
    redis.hset(keys.host_health(HOST), "open_until", 1)
    assert hosts.enter(HOST, "msg_10") == 0
    hosts.leave(HOST, "msg_10", OK)
    assert hosts.open_circuits() == []


def test_what_is_no_fault_of_the_host_opens_no_circuit(redis: Redis) -> None:
    hosts = Hosts(redis, Policy())
    for attempt in [None, Attempt(1, 0.1, error="dns_unavailable"), Attempt(1, 0.1, status=404)] * 10:
        hosts.leave(HOST, "msg_0", attempt)
    assert hosts.open_circuits() == []


# --- the pump and the deliverer ------------------------------------------------------------------


class ReceiverAnswers:
    """A sender by whose word each delivery ends."""

    def __init__(self, answer: Callable[[str], Attempt]) -> None:
        self.sent: list[tuple[str, str, bytes, list[str]]] = []
        self._answer = answer

    def post(self, url: str, delivery_id: str, body: bytes, secrets: Sequence[str], owner: str) -> Attempt:
        self.sent.append((url, delivery_id, body, list(secrets)))
        return self._answer(delivery_id)

    def nothing(self, error: str) -> Attempt:
        return Attempt(at=1, duration=0, error=error)

    def sent_ids(self) -> list[str]:
        """The deliveries that were sent, in their order."""
        return [delivery_id for _, delivery_id, _, _ in self.sent]


def accept(_: str) -> Attempt:
    return OK


@pytest.fixture
def hook_account(services: Services) -> str:
    """An account that exists, so that it has secrets to sign with."""
    return services.accounts.create("anna@example.com", "hash").account_id


def owed_to(services: Services, account_id: str) -> str:
    services.credits.add(account_id, 1, entry_type="topup", note="")
    made = services.requests.submit(submission(account_id, webhook_url=URL))
    claim = services.requests.claim(made.request_id)
    assert claim is not None
    delivery = finish_one(services.requests, claim, ending())
    assert delivery is not None
    return delivery.delivery_id


def hand(services: Services, sender: ReceiverAnswers, *delivery_ids: str) -> None:
    """Hand a deliverer one message of what is owed to HOST."""
    deliver.run(services, sender, [Owed(each, HOST) for each in delivery_ids])  # type: ignore[arg-type]


def test_a_deliverer_sends_what_is_owed_signed_with_every_active_secret(
    services: Services, hook_account: str
) -> None:
    rotated = services.accounts.rotate_webhook_secret(hook_account)
    delivery_id = owed_to(services, hook_account)
    sender = ReceiverAnswers(accept)
    hand(services, sender, delivery_id)
    hand(services, sender, delivery_id)
    assert sender.sent == [(URL, delivery_id, ending().envelope, rotated.active)]
    delivery = services.deliveries.get(delivery_id)
    assert delivery is not None
    assert delivery.status == "delivered"


def test_a_deliverer_goes_on_with_what_is_due_at_the_same_host(
    redis: Redis, services: Services, hook_account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "IN_A_ROW_SECONDS", 60.0)  # no slow machine is to end the row early
    made = [owed_to(services, hook_account) for _ in range(3)]
    redis.zadd(keys.due(ids.shard_in(hook_account), HOST), dict.fromkeys(made, 1))
    sender = ReceiverAnswers(accept)
    hand(services, sender, made[1])
    assert sorted(sender.sent_ids()) == sorted(made)


def test_what_is_owed_together_is_published_in_messages_of_ten(
    services: Services, hook_account: str, queue: RecordingQueue
) -> None:
    made = [owed_to(services, hook_account) for _ in range(12)]
    hand_over(services, [None, *(Owed(name, HOST) for name in made)])
    assert [hint[:2] for hint in queue.published] == [("deliver", "deliver")] * 2
    assert [name for hint in queue.published for name in hint[2::2]] == made
    assert {host for hint in queue.published for host in hint[3::2]} == {HOST}
    assert [len(hint[2::2]) for hint in queue.published] == [10, 2]


def test_a_mistake_with_one_delivery_leaves_the_others_to_other_threads(
    services: Services, hook_account: str, queue: RecordingQueue
) -> None:
    made = [owed_to(services, hook_account) for _ in range(3)]

    def crash(_: str) -> Attempt:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        hand(services, ReceiverAnswers(crash), *made)
    assert [name for hint in queue.published for name in hint[2::2]] == made[1:]


def test_deliveries_of_one_message_are_made_one_after_the_other(
    services: Services, hook_account: str, queue: RecordingQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "IN_A_ROW_SECONDS", 60.0)
    monkeypatch.setattr(deliver, "PROMPT_SECONDS", 60.0)
    made = [owed_to(services, hook_account) for _ in range(6)]
    sender = ReceiverAnswers(accept)
    hand(services, sender, *made)
    assert sender.sent_ids() == made
    assert queue.published == []


def test_a_host_that_hangs_keeps_nobody_else(
    services: Services, hook_account: str, queue: RecordingQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "IN_A_ROW_SECONDS", 60.0)
    monkeypatch.setattr(deliver, "PROMPT_SECONDS", 0.01)
    made = [owed_to(services, hook_account) for _ in range(6)]

    def hang(url: str) -> Attempt:
        await_true(lambda: sum(len(hint[2::2]) for hint in queue.published) == 5)
        return accept(url)

    sender = ReceiverAnswers(hang)
    hand(services, sender, *made)
    assert sender.sent_ids() == made[:1]
    assert [list(hint[2::2]) for hint in queue.published] == [made[1:4], made[4:]]


def test_a_delivery_to_a_host_without_room_is_deferred_and_not_an_attempt(
    services: Services, hook_account: str
) -> None:
    for number in range(services.policy.webhook_host_concurrency):
        services.hosts.enter(HOST, f"msg_{number}")
    delivery_id = owed_to(services, hook_account)
    sender = ReceiverAnswers(accept)
    hand(services, sender, delivery_id)
    delivery = services.deliveries.get(delivery_id)
    assert delivery is not None
    assert (sender.sent, delivery.status, delivery.attempts) == ([], "pending", 0)


def test_a_delivery_whose_result_is_gone_is_not_sent_empty(
    redis: Redis, services: Services, hook_account: str
) -> None:
    delivery_id = owed_to(services, hook_account)
    redis.delete(keys.result(ids.request_of(delivery_id)))
    sender = ReceiverAnswers(accept)
    hand(services, sender, delivery_id)
    delivery = services.deliveries.get(delivery_id)
    assert delivery is not None
    assert (sender.sent, delivery.status) == ([], "exhausted")


def test_a_deliverer_gives_its_place_back_whatever_happens(services: Services, hook_account: str) -> None:
    def crash(_: str) -> Attempt:
        raise RuntimeError("a mistake of ours")

    delivery_id = owed_to(services, hook_account)
    with pytest.raises(RuntimeError):
        hand(services, ReceiverAnswers(crash), delivery_id)
    assert services.hosts.room(HOST) == (services.policy.webhook_host_concurrency, 0)


def test_the_pump_publishes_what_is_due_once(redis: Redis, services: Services, queue: RecordingQueue) -> None:
    delivery_id = owed(services)
    shard = ids.shard_in(delivery_id)
    assert sweep.pump_deliveries(services) == 0  # its message may be on the way
    redis.zadd(keys.due(shard, HOST), {delivery_id: 1})
    redis.zadd(keys.due_hosts(shard), {HOST: 1})
    assert sweep.pump_deliveries(services) == 1
    assert sweep.pump_deliveries(services) == 0
    assert queue.published == [("deliver", "deliver", delivery_id, HOST)]


def test_the_pump_gives_a_host_no_more_than_it_has_places(
    redis: Redis, settings: Settings, queue: RecordingQueue
) -> None:
    services = make_services(settings, redis, queue, webhook_host_concurrency=2)
    made = [owed(services, at=NOW + number) for number in range(5)]
    elsewhere = owed(services, url="https://other.example/")
    shard = ids.shard_in(ACCOUNT)
    redis.zadd(keys.due(shard, HOST), dict.fromkeys(made, 1))
    redis.zadd(keys.due(shard, "other.example:443"), {elsewhere: 1})
    redis.zadd(keys.due_hosts(shard), {HOST: 1, "other.example:443": 1})
    sweep.pump_deliveries(services)
    published = [host for _, _, _, host in queue.published]
    assert sorted(published) == [HOST, HOST, "other.example:443"]


def test_the_sweep_publishes_requests_that_were_not_picked_up(
    redis: Redis, services: Services, queue: RecordingQueue
) -> None:
    made = services.requests.submit(submission())
    services.bulk.take(1)  # by a worker who was killed
    assert sweep.sweep_requests(services) == 0
    redis.zadd(keys.open_requests(ids.shard_in(made.request_id)), {made.request_id: 1})
    assert sweep.sweep_requests(services) == 1
    assert queue.published == [("gather", "bulk")]
    assert services.bulk.take(2) == [made.request_id]


def test_shards_of_the_tests_hold_the_account() -> None:
    assert ids.shard_in(ACCOUNT) < SHARDS
