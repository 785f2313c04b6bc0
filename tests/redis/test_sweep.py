"""The sweep: what was never picked up is published again, what only waits its turn is not."""

from __future__ import annotations

import pytest
from redis import Redis

from service.domain.ports import Services
from service.stores import keys
from tests.conftest import SHARDS, RecordingQueue
from tests.redis.kit import ending, submission
from workers import sweep


@pytest.fixture
def account_id(services: Services) -> str:
    made = services.accounts.create("anna@example.com", "hash")
    services.credits.add(made.account_id, 10, entry_type="topup", note="")
    return made.account_id


def let_time_pass(redis: Redis) -> None:
    """Make every open request due for a look."""
    for shard in range(SHARDS):
        for name in redis.zrange(keys.open_requests(shard), 0, -1):
            redis.zadd(keys.open_requests(shard), {name: 1})


def test_what_was_never_picked_up_is_published(
    services: Services, account_id: str, redis: Redis, queue: RecordingQueue
) -> None:
    record = services.requests.submit(submission(account_id))
    assert sweep.sweep_requests(services) == 0
    let_time_pass(redis)
    assert sweep.sweep_requests(services) == 1
    assert queue.published == [("scrape", record.queue, record.request_id)]
    assert sweep.sweep_requests(services) == 0, "the next look is later"


def test_behind_a_backlog_what_waits_is_left_alone(
    services: Services, account_id: str, redis: Redis, queue: RecordingQueue
) -> None:
    services.requests.submit(submission(account_id))
    queue.published = [("scrape", "bulk", "another")] * sweep.BACKLOG
    let_time_pass(redis)
    assert sweep.sweep_requests(services) == 0


def test_a_dead_workers_request_is_published_whatever_waits(
    services: Services, account_id: str, redis: Redis, queue: RecordingQueue
) -> None:
    record = services.requests.submit(submission(account_id))
    services.requests.claim(record.request_id)
    queue.published = [("scrape", "bulk", "another")] * sweep.BACKLOG
    let_time_pass(redis)
    assert sweep.sweep_requests(services) == 1


def test_what_has_ended_is_not_swept(
    services: Services, account_id: str, redis: Redis, queue: RecordingQueue
) -> None:
    record = services.requests.submit(submission(account_id))
    claim = services.requests.claim(record.request_id)
    assert claim is not None
    services.requests.finish(claim, ending())
    redis.zadd(keys.open_requests(0), {record.request_id: 1})
    assert sweep.sweep_requests(services) == 0
