"""A request is deleted: all of it goes but its ledger, and nothing brings it back."""

from __future__ import annotations

import pytest
from redis import Redis

from service.actions.audit import audit
from service.actions.batch import GONE, all_results
from service.actions.erase import delete_request
from service.actions.watches import run_by_hand
from service.domain import ids
from service.domain.deliveries import Attempt, Plan
from service.domain.errors import Conflict, LeaseLost, NotFound
from service.domain.ports import Services
from service.domain.requests import RequestRecord, Run
from service.domain.watches import Watch
from service.stores import keys
from tests.conftest import finish_one
from tests.redis.kit import CANCEL, Lua, batch_of, ending, items_of, queued, submission

HOOK = "https://example.com/hook"
HOST = "example.com:443"


@pytest.fixture
def account_id(services: Services) -> str:
    made = services.accounts.create("anna@example.com", "hash")
    services.credits.add(made.account_id, 100, entry_type="topup", note="")
    return made.account_id


def ended(services: Services, account_id: str, **changes: object) -> RequestRecord:
    made = services.requests.submit(submission(account_id, **changes))
    claim = services.requests.claim(made.request_id)
    assert claim is not None
    finish_one(services.requests, claim, ending())
    return claim.request


def traces(redis: Redis, request_id: str) -> list[str]:
    """Keys named after a request, and those that list it; in the bulk queue it is passed over in turn."""
    rest = request_id.partition("_")[2]
    zsets = [name for name in redis.scan_iter() if redis.type(name) == "zset"]
    listed = [name for name in zsets if name != keys.BULK_QUEUE]
    held = [name for name in listed if any(rest in member for member in redis.zrange(name, 0, -1))]
    return sorted([name for name in redis.scan_iter() if rest in name] + held)


def test_all_goes_but_the_ledger(services: Services, account_id: str, redis: Redis) -> None:
    record = ended(services, account_id, webhook_url=HOOK)
    other = ended(services, account_id, webhook_url=HOOK)
    delivery_id = ids.delivery_of(record.request_id)
    claim = services.deliveries.claim(delivery_id, HOST)
    assert claim is not None
    services.deliveries.record(claim, Attempt(1, 0.1, status=500), Plan("pending", wait=60))
    ledger, kept = redis.xrange(keys.ledger(account_id)), traces(redis, other.request_id)
    assert len(traces(redis, record.request_id)) == 7

    delete_request(services, account_id, record.request_id)

    assert traces(redis, record.request_id) == []
    assert traces(redis, other.request_id) == kept
    assert redis.xrange(keys.ledger(account_id)) == ledger
    assert services.credits.balance(account_id).balance == 98
    assert audit(services).differences == []
    with pytest.raises(NotFound):
        delete_request(services, account_id, record.request_id)


@pytest.mark.parametrize("state", ["queued", "processing"])
def test_an_open_one_stays(services: Services, account_id: str, redis: Redis, state: str) -> None:
    made = services.requests.submit(submission(account_id, webhook_url=HOOK))
    if state == "processing":
        assert services.requests.claim(made.request_id)
    before = traces(redis, made.request_id)
    with pytest.raises(Conflict, match="Cancel it"):
        delete_request(services, account_id, made.request_id)
    assert traces(redis, made.request_id) == before


def test_a_cancelled_one_goes(services: Services, account_id: str, redis: Redis) -> None:
    asked = submission(account_id)
    services.requests.submit(asked)
    services.requests.cancel(queued(asked), CANCEL)
    delete_request(services, account_id, asked.request_id)
    assert traces(redis, asked.request_id) == []
    assert audit(services).differences == []


def test_only_its_owner_may(services: Services, account_id: str) -> None:
    record = ended(services, account_id)
    stranger = services.accounts.create("ben@example.com", "hash").account_id
    with pytest.raises(NotFound):
        delete_request(services, stranger, record.request_id)
    assert services.requests.get(record.request_id)


def test_the_script_may_be_run_again(services: Services, account_id: str, redis: Redis) -> None:
    record = ended(services, account_id)
    assert services.erasures.erase(record)
    assert services.erasures.erase(record)
    assert services.erasures.erase_many([record, record]) == 2
    assert traces(redis, record.request_id) == []


def test_the_script_touches_what_it_was_given_only(redis: Redis) -> None:
    lua, names = Lua(redis), [f"{{s00}}:{number}" for number in range(7)]
    redis.hset(names[0], "status", "queued")
    assert lua("erase", names, "req", "msg") == 0
    redis.hset(names[0], "status", "failed")
    for name in (names[2], names[5], names[6]):
        redis.zadd(name, {"req": 0, "msg": 0, "other": 0})
    assert lua("erase", names, "req", "msg") == 1
    assert {name: redis.zrange(name, 0, -1) for name in redis.scan_iter()} == {
        names[2]: ["msg", "other"],
        names[5]: ["other", "req"],
        names[6]: ["other", "req"],
    }


def test_an_attempt_that_is_under_way_brings_nothing_back(
    services: Services, account_id: str, redis: Redis
) -> None:
    record = ended(services, account_id, webhook_url=HOOK)
    claim = services.deliveries.claim(ids.delivery_of(record.request_id), HOST)
    assert claim is not None
    delete_request(services, account_id, record.request_id)
    for status in ("delivered", "pending"):
        with pytest.raises(LeaseLost):
            services.deliveries.record(claim, Attempt(1, 0.1, status=200), Plan(status, wait=60))
    services.deliveries.defer(claim, 5)
    assert services.deliveries.replay(claim.delivery) == "expired"
    assert services.deliveries.claim(claim.delivery.delivery_id, HOST) is None
    assert traces(redis, record.request_id) == []


def test_a_worker_that_comes_late_brings_nothing_back(
    services: Services, account_id: str, redis: Redis
) -> None:
    made = services.requests.submit(submission(account_id, webhook_url=HOOK))
    late = services.requests.claim(made.request_id)
    redis.hset(keys.request(made.request_id), "lease_until", 1)
    newer = services.requests.claim(made.request_id)
    assert late is not None
    assert newer is not None
    finish_one(services.requests, newer, ending())
    delete_request(services, account_id, made.request_id)
    for claim in (late, newer):
        for act in (services.requests.renew, services.requests.release):
            with pytest.raises(LeaseLost):
                act(claim)
        with pytest.raises(LeaseLost):
            finish_one(services.requests, claim, ending())
    assert services.requests.claim(made.request_id) is None
    assert services.requests.postpone(made.request_id) == 0
    assert traces(redis, made.request_id) == []
    assert audit(services).differences == []


def test_its_idempotency_key_stands_for_it_all_the_same(services: Services, account_id: str) -> None:
    record = ended(services, account_id, idempotency_key="once")
    delete_request(services, account_id, record.request_id)
    with pytest.raises(Conflict, match="Use a new key"):
        services.requests.submit(submission(account_id, idempotency_key="once"))


def test_a_batch_keeps_its_counts_and_says_that_an_item_is_gone(services: Services, account_id: str) -> None:
    batch = services.batches.submit(batch_of(account_id, 3, webhook_url=HOOK, webhook_mode="both"))
    for request_id in items_of(batch):
        claim = services.requests.claim(request_id, batch.batch_id)
        assert claim is not None
        finish_one(services.requests, claim, ending())
    before = services.batches.get(batch.batch_id)
    delete_request(services, account_id, items_of(batch)[1])
    assert before is not None
    assert services.batches.get(batch.batch_id) == before
    lines = list(all_results(services, before, 0))
    assert len(lines) == 3
    assert [GONE.encode() in line for line in lines] == [False, True, False]
    assert services.deliveries.get(ids.delivery_of(batch.batch_id)), "the summary is still sent"
    assert audit(services).differences == []


def test_a_watch_goes_on_and_is_owed_no_longer(services: Services, account_id: str) -> None:
    watch_id = ids.new_id(ids.WATCH, ids.shard_in(account_id), services.clock())
    services.watches.add(Watch(watch_id, account_id, "anna", "15m", HOOK, True, False, 60))
    asked = submission(account_id, webhook_url=HOOK, watch=Run(watch_id, next_in=1))
    claim = services.requests.claim(services.requests.submit(asked).request_id)
    assert claim is not None
    finish_one(services.requests, claim, ending(remember={"1": 4_000_000_000}))
    assert [name for name, _ in services.watches.owed(watch_id)] == [asked.request_id]
    delete_request(services, account_id, asked.request_id)
    assert services.watches.seen(watch_id, ["1", "2"]) == {"1"}
    again = run_by_hand(services, account_id, watch_id)
    assert services.watches.owed(watch_id) == []
    assert again.request_id != asked.request_id
