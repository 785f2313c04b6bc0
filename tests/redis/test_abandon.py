"""Who got no answer pays nothing: abandon.lua, and what finish.lua makes of it."""

from __future__ import annotations

import json

import pytest
from redis import Redis

from service.actions.audit import audit
from service.actions.cancel import cancel_request
from service.config import Settings
from service.domain.accounts import Account
from service.domain.credits import Balance
from service.domain.errors import Conflict, LeaseLost
from service.domain.ports import Services
from service.domain.requests import Claim, Ending, RequestRecord
from service.stores import keys
from tests.conftest import RecordingQueue, finish_one, make_services
from tests.redis.kit import Lua, at_once, ending, snapshot, submission

HOOK = "https://example.com/hook"
PAID = {"success": True, "data": {"id": "7"}, "creditsCharged": 1}
ROUNDS = 40


@pytest.fixture
def account(services: Services) -> Account:
    return funded(services)


def funded(services: Services) -> Account:
    made = services.accounts.create("anna@example.com", "hash")
    services.credits.add(made.account_id, 100, entry_type="topup", note="")
    return made


def submitted(services: Services, account: Account, webhook_url: str | None = None) -> RequestRecord:
    return services.requests.submit(submission(account.account_id, webhook_url=webhook_url))


def claimed(services: Services, request_id: str) -> Claim:
    claim = services.requests.claim(request_id)
    assert claim is not None
    return claim


def paid(**changes: object) -> Ending:
    return ending(envelope=json.dumps(PAID).encode(), **changes)


def ledger(services: Services, account: Account) -> list[tuple[str, int]]:
    page = services.credits.ledger(account.account_id, request_id=None, cursor=None, limit=50)
    return [(entry.type, entry.amount) for entry in reversed(page.items)][1:]


def balance(services: Services, account: Account) -> Balance:
    return services.credits.balance(account.account_id)


@pytest.mark.parametrize("when", ["queued", "processing"])
def test_what_was_abandoned_ends_as_it_would_and_is_free(
    services: Services, account: Account, when: str
) -> None:
    record = submitted(services, account)
    if when == "queued":
        assert services.requests.abandon(record.request_id) is True
    claim = claimed(services, record.request_id)
    if when == "processing":
        assert services.requests.abandon(record.request_id) is True
    finish_one(services.requests, claim, paid())

    ended = services.requests.get(record.request_id)
    assert (ended.status, ended.outcome, ended.item_count, ended.charged) == ("succeeded", "found", 3, 0)
    envelope = json.loads(services.requests.envelope(record.request_id))
    assert envelope == {**PAID, "creditsCharged": 0}
    assert ledger(services, account) == [("hold", -1), ("release", 1)]
    assert balance(services, account) == Balance(100, 0)
    assert audit(services).differences == []


def test_its_webhook_is_owed_all_the_same(services: Services, account: Account) -> None:
    record = submitted(services, account, HOOK)
    claim = claimed(services, record.request_id)
    services.requests.abandon(record.request_id)
    owed = finish_one(services.requests, claim, paid())
    assert owed is not None
    assert audit(services).differences == []


def test_a_failure_of_what_was_abandoned_is_the_same_failure(services: Services, account: Account) -> None:
    record = submitted(services, account)
    services.requests.abandon(record.request_id)
    failed = Ending("failed", b'{"creditsCharged":0}', charge=0, code="user_not_found")
    finish_one(services.requests, claimed(services, record.request_id), failed)
    ended = services.requests.get(record.request_id)
    assert (ended.status, ended.code, ended.charged) == ("failed", "user_not_found", 0)
    assert balance(services, account) == Balance(100, 0)


def test_abandoning_twice_is_abandoning_once(services: Services, account: Account, redis: Redis) -> None:
    record = submitted(services, account)
    assert services.requests.abandon(record.request_id) is True
    before = redis.hgetall(keys.request(record.request_id))
    assert before["abandoned"] == "1"
    assert services.requests.abandon(record.request_id) is True
    assert redis.hgetall(keys.request(record.request_id)) == before
    finish_one(services.requests, claimed(services, record.request_id), paid())
    assert ledger(services, account) == [("hold", -1), ("release", 1)]


def test_after_the_end_it_changes_nothing(services: Services, account: Account) -> None:
    record = submitted(services, account)
    finish_one(services.requests, claimed(services, record.request_id), paid())
    ended = services.requests.get(record.request_id)
    assert services.requests.abandon(record.request_id) is False
    assert services.requests.get(record.request_id) == ended
    assert json.loads(services.requests.envelope(record.request_id)) == PAID
    assert ledger(services, account) == [("hold", -1), ("charge", -1)]
    assert audit(services).differences == []


def test_what_is_not_there_cannot_be_abandoned(services: Services, account: Account) -> None:
    assert services.requests.abandon(submission(account.account_id).request_id) is False


def test_finishing_again_after_a_lost_reply_is_no_second_release(
    services: Services, account: Account
) -> None:
    record = submitted(services, account)
    claim = claimed(services, record.request_id)
    services.requests.abandon(record.request_id)
    for _ in range(3):
        finish_one(services.requests, claim, paid())
    assert ledger(services, account) == [("hold", -1), ("release", 1)]
    assert services.requests.get(record.request_id).charged == 0


def test_a_fence_that_is_old_ends_nothing(services: Services, account: Account) -> None:
    record = submitted(services, account)
    claim = claimed(services, record.request_id)
    services.requests.abandon(record.request_id)
    services.requests.release(claim, 0)
    newer = claimed(services, record.request_id)
    with pytest.raises(LeaseLost):
        finish_one(services.requests, claim, paid())
    finish_one(services.requests, newer, paid())
    assert ledger(services, account) == [("hold", -1), ("release", 1)]


def test_what_was_abandoned_may_be_cancelled(services: Services, account: Account) -> None:
    record = submitted(services, account)
    services.requests.abandon(record.request_id)
    ended = cancel_request(services, account.account_id, record.request_id)
    assert (ended.status, ended.charged) == ("cancelled", 0)
    assert ledger(services, account) == [("hold", -1), ("release", 1)]
    assert services.requests.abandon(record.request_id) is False
    with pytest.raises(Conflict):
        services.requests.cancel(ended, paid(status="failed"))
    assert audit(services).differences == []


def test_abandoned_is_forgotten_with_the_request(services: Services, account: Account) -> None:
    """It stands in the request's own hash: nothing of it is left when that goes."""
    record = submitted(services, account)
    services.requests.abandon(record.request_id)
    finish_one(services.requests, claimed(services, record.request_id), paid())
    assert services.erasures.erase(services.requests.get(record.request_id))
    assert services.requests.abandon(record.request_id) is False
    assert services.requests.get(record.request_id) is None
    assert balance(services, account) == Balance(100, 0)


def test_never_both_no_answer_and_a_charge(settings: Settings, valkey: Redis) -> None:
    """Of the two that race, one comes first: either it is free, or the result is there to be handed out."""
    services = make_services(settings, valkey, RecordingQueue())
    account = funded(services)
    charged = 0
    for _ in range(ROUNDS):
        record = submitted(services, account)
        claim = claimed(services, record.request_id)
        moves = [
            lambda request_id=record.request_id: services.requests.abandon(request_id),
            lambda claim=claim: finish_one(services.requests, claim, paid()),
        ]
        abandoned, _ = at_once(2, lambda number, moves=moves: moves[number]())
        ended = services.requests.get(record.request_id)
        envelope = json.loads(services.requests.envelope(record.request_id))
        assert ended.status == "succeeded"
        assert ended.charged == (0 if abandoned else 1)
        assert envelope["creditsCharged"] == ended.charged
        charged += ended.charged
    assert balance(services, account) == Balance(100 - charged, 0)
    assert audit(services).differences == []


def test_a_race_with_a_cancellation_leaves_nothing_held(settings: Settings, valkey: Redis) -> None:
    services = make_services(settings, valkey, RecordingQueue())
    account = funded(services)
    for _ in range(ROUNDS):
        record = submitted(services, account)
        moves = [
            lambda request_id=record.request_id: services.requests.abandon(request_id),
            lambda request_id=record.request_id: cancel_request(services, account.account_id, request_id),
        ]
        at_once(2, lambda number, moves=moves: moves[number]())
        assert services.requests.get(record.request_id).status == "cancelled"
    assert balance(services, account) == Balance(100, 0)
    assert audit(services).differences == []


@pytest.mark.parametrize(
    ("status", "answer"),
    [("queued", 1), ("processing", 1), ("succeeded", 0), ("failed", 0), ("cancelled", 0), (None, 0)],
)
def test_the_script_alone(valkey: Redis, status: str | None, answer: int) -> None:
    lua = Lua(valkey)
    if status:
        valkey.hset("req", "status", status)
    before = snapshot(valkey)
    assert lua("abandon", ["req"]) == answer
    assert lua("abandon", ["req"]) == answer
    if answer:
        assert valkey.hgetall("req") == {"status": status, "abandoned": "1"}
    else:
        assert snapshot(valkey) == before
