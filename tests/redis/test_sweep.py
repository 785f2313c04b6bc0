"""The sweep: what was never picked up is published again, what only waits its turn is not."""

from __future__ import annotations

import time

import pytest
from redis import Redis

from service.actions.audit import audit
from service.config import Settings
from service.domain import ids
from service.domain.credits import Balance
from service.domain.ports import Services
from service.domain.requests import INTERACTIVE
from service.stores import keys
from tests.conftest import SHARDS, RecordingQueue, finish_one, make_services
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
    record = services.requests.submit(submission(account_id, queue=INTERACTIVE))
    assert sweep.sweep_requests(services) == 0
    let_time_pass(redis)
    assert sweep.sweep_requests(services) == 1
    assert queue.published == [("scrape", record.queue, record.request_id)]
    assert sweep.sweep_requests(services) == 0, "the next look is later"


def test_behind_a_backlog_what_waits_is_left_alone(
    services: Services, account_id: str, redis: Redis, queue: RecordingQueue
) -> None:
    services.requests.submit(submission(account_id, queue=INTERACTIVE))
    queue.published = [("scrape", "interactive", "another")] * sweep.BACKLOG
    let_time_pass(redis)
    assert sweep.sweep_requests(services) == 0


def test_a_dead_workers_request_is_published_whatever_waits(
    services: Services, account_id: str, redis: Redis, queue: RecordingQueue
) -> None:
    record = services.requests.submit(submission(account_id, queue=INTERACTIVE))
    services.requests.claim(record.request_id)
    queue.published = [("scrape", "interactive", "another")] * sweep.BACKLOG
    let_time_pass(redis)
    assert sweep.sweep_requests(services) == 1


def test_what_has_ended_is_not_swept(
    services: Services, account_id: str, redis: Redis, queue: RecordingQueue
) -> None:
    record = services.requests.submit(submission(account_id, queue=INTERACTIVE))
    claim = services.requests.claim(record.request_id)
    assert claim is not None
    finish_one(services.requests, claim, ending())
    redis.zadd(keys.open_requests(0), {record.request_id: 1})
    assert sweep.sweep_requests(services) == 0


def test_what_is_published_in_vain_is_looked_at_ever_later_and_then_given_up(
    settings: Settings, redis: Redis, queue: RecordingQueue
) -> None:
    services = make_services(settings, redis, queue, sweep_limit=3, sweep_interval=30)
    account_id = services.accounts.create("anna@example.com", "hash").account_id
    services.credits.add(account_id, 10, entry_type="topup", note="")
    record = services.requests.submit(
        submission(account_id, queue=INTERACTIVE, webhook_url="https://example.com/hook")
    )
    shard = ids.shard_in(record.request_id)
    for wait in (30, 60, 120):
        let_time_pass(redis)
        assert sweep.sweep_requests(services) == 1
        look = redis.zscore(keys.open_requests(shard), record.request_id)
        assert look / 1000 - time.time() == pytest.approx(wait, abs=14)
    assert queue.published == [("scrape", record.queue, record.request_id)] * 3

    let_time_pass(redis)
    sweep.sweep_requests(services)
    ended = services.requests.get(record.request_id)
    assert ended is not None
    assert (ended.status, ended.code, ended.charged) == ("failed", "upstream_error", 0)
    assert services.credits.balance(account_id) == Balance(10, 0)
    owed = ids.delivery_of(record.request_id)
    assert queue.published[-1] == ("deliver", "deliver", owed, "example.com:443")
    let_time_pass(redis)
    assert sweep.sweep_requests(services) == 0
    assert audit(services).differences == []


def test_whoever_takes_a_request_up_starts_the_count_anew(
    settings: Settings, redis: Redis, queue: RecordingQueue
) -> None:
    services = make_services(settings, redis, queue, sweep_limit=2)
    account_id = services.accounts.create("anna@example.com", "hash").account_id
    services.credits.add(account_id, 10, entry_type="topup", note="")
    request_id = services.requests.submit(submission(account_id, queue=INTERACTIVE)).request_id
    assert [services.requests.postpone(request_id) for _ in range(2)] == [1, 2]
    claim = services.requests.claim(request_id)
    assert claim is not None
    assert services.requests.postpone(request_id) == 1
    finish_one(services.requests, claim, ending())
    assert services.requests.postpone(request_id) == 0


def test_a_request_that_is_worked_on_is_not_given_up(
    settings: Settings, redis: Redis, queue: RecordingQueue
) -> None:
    services = make_services(settings, redis, queue, sweep_limit=1)
    account_id = services.accounts.create("anna@example.com", "hash").account_id
    services.credits.add(account_id, 10, entry_type="topup", note="")
    request_id = services.requests.submit(submission(account_id, queue=INTERACTIVE)).request_id
    claim = services.requests.claim(request_id)
    assert claim is not None
    for _ in range(3):
        let_time_pass(redis)
        sweep.sweep_requests(services)
    finish_one(services.requests, claim, ending())  # the lease held
