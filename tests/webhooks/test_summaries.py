"""What a batch sends: each result, the summary at the end, or both; over the deliverer's own way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from redis import Redis
from standardwebhooks import Webhook

from service.actions import deliveries as actions
from service.actions.batch import BatchOptions, cancel_batch, find_batch, item_ids, submit_batch
from service.domain import ids
from service.domain.addresses import AddressPolicy
from service.domain.batches import BatchRecord, view
from service.domain.errors import Conflict
from service.domain.namelists import from_json
from service.domain.policy import Policy
from service.domain.ports import Services
from service.domain.requests import Ending, Owed
from service.stores import keys
from tests.conftest import RecordingQueue, finish_one
from tests.webhooks.support import Receiver, make_due, new_account, now_ms
from workers import deliver
from workers.sweep import pump_deliveries
from workers.webhooks.sender import Sender


@pytest.fixture
def account_id(services: Services) -> str:
    made = new_account(services).account_id
    services.credits.add(made, 1_000, entry_type="topup", note="")
    return made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@cache
def sender(addresses: AddressPolicy) -> Sender:
    return Sender(Policy(webhook_addresses=addresses, webhook_connect_timeout=30, webhook_timeout=30))


def submit(services: Services, account_id: str, url: str, mode: str, names: int = 3) -> BatchRecord:
    given = from_json([f"name{number}" for number in range(1, names + 1)])
    options = BatchOptions(webhook_url=url, webhook_mode=mode, max_age=0)
    return submit_batch(services, account_id, given, options)[0]


def end(services: Services, batch: BatchRecord) -> None:
    """Have every item end, the last of them failed."""
    for number, item in enumerate(item_ids(batch), 1):
        claim = services.requests.claim(item, batch.batch_id)
        assert claim is not None
        body = json.dumps({"requestId": item}).encode()
        failed = Ending("failed", body, charge=0, code="user_not_found")
        found = Ending("succeeded", body, charge=1, outcome="found", item_count=2)
        finish_one(services.requests, claim, failed if number == batch.total else found)


def hints(queue: RecordingQueue) -> list[tuple[str, str]]:
    return [(hint[2], hint[3]) for hint in queue.published if hint[0] == "deliver"]


def deliver_due(services: Services, redis: Redis, queue: RecordingQueue, *due: str) -> None:
    """Let the pump find what is due, and play the deliverers it calls."""
    for delivery_id in due:
        make_due(redis, delivery_id)
    queue.published.clear()
    pump_deliveries(services)
    for delivery_id, host in hints(queue):
        deliver.run(services, sender(services.policy.webhook_addresses), [Owed(delivery_id, host)])


def summary_of(batch: BatchRecord) -> str:
    return ids.delivery_of(batch.batch_id)


def status(services: Services, delivery_id: str) -> str:
    delivery = services.deliveries.get(delivery_id)
    assert delivery is not None
    return delivery.status


def seen(services: Services, batch: BatchRecord) -> dict[str, Any]:
    """What GET says of a batch."""
    return view(find_batch(services, batch.account_id, batch.batch_id), now_ms())


def test_the_pump_finds_the_summary_and_it_is_what_a_look_shows(
    services: Services, redis: Redis, queue: RecordingQueue, account_id: str, receiver: Receiver
) -> None:
    batch = submit(services, account_id, receiver.url, "summary")
    end(services, batch)
    deliver_due(services, redis, queue)
    [arrival] = receiver.arrivals
    assert arrival.delivery_id == summary_of(batch)
    body = json.loads(arrival.body)
    assert body == seen(services, batch)
    assert (body["status"], body["total"], body["itemCount"]) == ("completed", 3, 4)
    assert body["outcomes"] == {"found": 2, "user_not_found": 1}
    secret = services.accounts.webhook_secrets(account_id).current
    Webhook(secret).verify(arrival.body, dict(arrival.headers))
    assert status(services, summary_of(batch)) == "delivered"
    deliver_due(services, redis, queue)
    assert len(receiver.arrivals) == 1


@pytest.mark.parametrize("mode", ["each", "summary", "both"])
def test_each_mode_sends_exactly_what_it_says_also_when_all_goes_to_one_host(
    services: Services, redis: Redis, queue: RecordingQueue, account_id: str, receiver: Receiver, *, mode: str
) -> None:
    batch = submit(services, account_id, receiver.url, mode, names=25)
    end(services, batch)
    items = [ids.delivery_of(item) for item in item_ids(batch)] if mode != "summary" else []
    whole = [summary_of(batch)] if mode != "each" else []
    for _ in range(3):
        deliver_due(services, redis, queue, *items)
    assert Counter(arrival.delivery_id for arrival in receiver.arrivals) == Counter([*items, *whole])
    for arrival in receiver.arrivals:
        about = json.loads(arrival.body)
        assert about.get("batchId", "") == (batch.batch_id if arrival.delivery_id in whole else "")
        if arrival.delivery_id in items:
            assert ids.delivery_of(about["requestId"]) == arrival.delivery_id
    assert {status(services, each) for each in (*items, *whole)} == {"delivered"}


def test_a_summary_that_is_tried_again_is_the_same_to_the_byte(
    services: Services, redis: Redis, queue: RecordingQueue, account_id: str
) -> None:
    with Receiver(503, 500, 200) as receiver:
        batch = submit(services, account_id, receiver.url, "both", names=2)
        end(services, batch)
        delivery_id = summary_of(batch)
        for item in item_ids(batch):  # not what this is about
            redis.zrem(keys.due(ids.shard_in(item), receiver.host), ids.delivery_of(item))
        deliver_due(services, redis, queue)
        assert status(services, delivery_id) == "pending"
        cancel_batch(services, account_id, batch.batch_id)
        deliver_due(services, redis, queue, delivery_id)
        deliver_due(services, redis, queue, delivery_id)
        assert status(services, delivery_id) == "delivered"
        assert actions.replay(services, account_id, delivery_id) == "delivered"
        deliver_due(services, redis, queue, delivery_id)
        assert [arrival.delivery_id for arrival in receiver.arrivals] == [delivery_id] * 4
        assert len({arrival.body for arrival in receiver.arrivals}) == 1
    assert [attempt.status for attempt in services.deliveries.attempts(delivery_id)] == [503, 500, 200, 204]


def test_a_replay_keeps_what_the_summary_is_made_of(
    services: Services, redis: Redis, queue: RecordingQueue, account_id: str, receiver: Receiver
) -> None:
    batch = submit(services, account_id, receiver.url, "summary")
    end(services, batch)
    deliver_due(services, redis, queue)
    redis.expire(keys.batch(batch.batch_id), 5)
    assert actions.replay(services, account_id, summary_of(batch)) == "delivered"
    assert redis.ttl(keys.batch(batch.batch_id)) > services.policy.result_ttl - 60


def test_a_summary_past_the_life_of_its_batch_is_given_up_and_told(
    services: Services, redis: Redis, queue: RecordingQueue, account_id: str, receiver: Receiver
) -> None:
    batch = submit(services, account_id, receiver.url, "summary")
    end(services, batch)
    redis.delete(keys.batch(batch.batch_id))
    delivery_id = summary_of(batch)
    deliver_due(services, redis, queue)
    assert receiver.arrivals == []
    assert status(services, delivery_id) == "exhausted"
    assert [each.error for each in services.deliveries.attempts(delivery_id)] == ["result_expired"]
    with pytest.raises(Conflict) as caught:
        actions.replay(services, account_id, delivery_id)
    assert caught.value.message == actions.EXPIRED


def test_a_cancelled_batch_tells_so(
    services: Services, redis: Redis, queue: RecordingQueue, account_id: str, receiver: Receiver
) -> None:
    batch = submit(services, account_id, receiver.url, "both")
    cancel_batch(services, account_id, batch.batch_id)
    items = [ids.delivery_of(item) for item in item_ids(batch)]
    deliver_due(services, redis, queue, *items)
    told = {arrival.delivery_id: json.loads(arrival.body) for arrival in receiver.arrivals}
    assert told.keys() == {*items, summary_of(batch)}
    assert told[summary_of(batch)]["status"] == "cancelled"
    assert told[summary_of(batch)]["states"]["cancelled"] == 3
    for item in items:
        assert (told[item]["code"], told[item]["batchId"]) == ("cancelled", batch.batch_id)


def test_a_summary_that_failed_for_good_is_among_what_is_sent_again(
    services: Services, redis: Redis, queue: RecordingQueue, account_id: str
) -> None:
    with Receiver(410, 200) as receiver:
        batch = submit(services, account_id, receiver.url, "summary")
        end(services, batch)
        deliver_due(services, redis, queue)
        assert status(services, summary_of(batch)) == "gone"
        assert actions.replay_failed(services, account_id, 0) == (1, False)
        deliver_due(services, redis, queue, summary_of(batch))
        assert status(services, summary_of(batch)) == "delivered"


def test_the_summary_is_found_by_the_id_of_its_batch(
    services: Services, redis: Redis, account_id: str, receiver: Receiver
) -> None:
    batch = submit(services, account_id, receiver.url, "both")

    def found(identifier: str) -> list[str]:
        page = actions.list_deliveries(
            services, account_id, request_id=identifier, status=None, cursor=None, limit=9
        )
        return [each.delivery_id for each in page.items]

    assert found(batch.batch_id) == []
    end(services, batch)
    assert found(batch.batch_id) == [summary_of(batch)]
    assert found(item_ids(batch)[0]) == [ids.delivery_of(item_ids(batch)[0])]
    other = services.accounts.create("other@example.com", "no password").account_id
    page = actions.list_deliveries(
        services, other, request_id=batch.batch_id, status=None, cursor=None, limit=9
    )
    assert page.items == []
