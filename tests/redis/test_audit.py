"""`storyhook audit`: finds what does not add up, and nothing else."""

from __future__ import annotations

import pytest
from redis import Redis

from service.actions.audit import Report, audit
from service.domain import ids
from service.domain.accounts import Account
from service.domain.batches import BatchRecord
from service.domain.ports import Services
from service.domain.requests import RequestRecord
from service.stores import keys
from tests.conftest import finish_one
from tests.redis.kit import CANCEL, batch_of, ending, items_of, submission

HOOK = "https://example.com/hook"


@pytest.fixture
def account(services: Services) -> Account:
    made = services.accounts.create("anna@example.com", "hash")
    services.credits.add(made.account_id, 10, entry_type="topup", note="")
    return made


def submit(services: Services, account: Account, webhook_url: str | None = None) -> RequestRecord:
    return services.requests.submit(submission(account.account_id, webhook_url=webhook_url))


def finish(services: Services, record: RequestRecord, charge: int = 1) -> RequestRecord:
    claim = services.requests.claim(record.request_id)
    assert claim is not None
    finish_one(services.requests, claim, ending(charge=charge))
    return claim.request


def kinds(report: Report) -> list[str]:
    return sorted(each.kind for each in report.differences)


def test_an_empty_store_adds_up(services: Services) -> None:
    report = audit(services)
    assert (report.accounts, kinds(report)) == (0, [])


def test_a_busy_account_adds_up(services: Services, account: Account) -> None:
    finish(services, submit(services, account))
    finish(services, submit(services, account, HOOK), charge=0)
    services.requests.cancel(submit(services, account), CANCEL)
    submit(services, account, HOOK)
    services.credits.add(account.account_id, -2, entry_type="adjustment", note="")
    report = audit(services)
    assert kinds(report) == []
    assert (report.accounts, report.requests, report.entries) == (1, 3, 9), "what was cancelled is in no list"


def test_a_balance_that_is_not_its_ledgers_is_told(
    services: Services, account: Account, redis: Redis
) -> None:
    redis.hincrby(keys.credits(account.account_id), "balance", 5)
    assert kinds(audit(services)) == ["balance"]


def test_an_entry_that_was_taken_out_is_told(services: Services, account: Account, redis: Redis) -> None:
    finish(services, submit(services, account))
    name = keys.ledger(account.account_id)
    redis.xdel(name, redis.xrange(name)[1][0])
    assert "running_total" in kinds(audit(services))


def test_a_hold_of_a_request_that_is_gone_is_told_and_repaired_once(
    services: Services, account: Account, redis: Redis
) -> None:
    lost = submit(services, account)
    submit(services, account)
    redis.delete(keys.request(lost.request_id))
    assert kinds(audit(services)) == ["stray_hold"]
    report = audit(services, repair=True)
    assert [each.where for each in report.repaired] == [lost.request_id]
    assert services.credits.balance(account.account_id).held == 1
    again = audit(services, repair=True)
    assert (again.repaired, kinds(again)) == ([], [])


def test_a_charge_that_is_not_the_ledgers_is_told(services: Services, account: Account, redis: Redis) -> None:
    record = finish(services, submit(services, account))
    redis.hset(keys.request(record.request_id), "charged", 0)
    assert kinds(audit(services)) == ["charge"]


def test_a_webhook_that_nobody_will_send_is_told(services: Services, account: Account, redis: Redis) -> None:
    record = finish(services, submit(services, account, HOOK))
    assert kinds(audit(services)) == []
    for name in redis.scan_iter("*:due:example.com:443"):
        redis.delete(name)
    report = audit(services)
    assert [(each.kind, each.where) for each in report.differences] == [("delivery", record.request_id)]


def test_an_open_request_that_no_sweep_finds_is_told(
    services: Services, account: Account, redis: Redis
) -> None:
    submit(services, account)
    for name in redis.scan_iter("*:open"):
        redis.delete(name)
    assert kinds(audit(services)) == ["unwatched"]


def test_a_batch_adds_up_and_one_whose_counts_are_not_its_items_is_told(
    services: Services, account: Account, redis: Redis
) -> None:
    batch = services.batches.submit(batch_of(account.account_id))
    first, second, _ = items_of(batch)
    claim = services.requests.claim(first, batch.batch_id)
    assert claim is not None
    finish_one(services.requests, claim, ending())
    assert services.requests.claim(second, batch.batch_id)
    assert kinds(audit(services)) == []
    redis.hincrby(keys.batch(batch.batch_id), "left", -1)
    assert kinds(audit(services)) == ["batch"]


# --- batches, whose price is held as a whole -----------------------------------------------------


def begun(services: Services, account: Account) -> BatchRecord:
    """A batch of five: one is paid for, one ended free, the others are open."""
    made = services.batches.submit(batch_of(account.account_id, 5))
    for number, charge in ((1, 1), (2, 0)):
        claim = services.requests.claim(ids.item_of(made.batch_id, number), made.batch_id)
        assert claim is not None
        finish_one(services.requests, claim, ending(charge=charge))
    return made


def test_what_is_held_for_a_batch_adds_up_with_its_items(services: Services, account: Account) -> None:
    made = begun(services, account)
    assert kinds(audit(services)) == []
    services.batches.cancel(made, {ids.item_of(made.batch_id, number): b"{}" for number in (1, 3, 4)})
    assert kinds(audit(services)) == []
    assert services.credits.balance(account.account_id).held == 1


@pytest.mark.parametrize("gone", ["item", "batch"])
def test_what_is_held_for_items_of_a_batch_that_are_gone_is_stray_and_can_be_released(
    services: Services, account: Account, redis: Redis, gone: str
) -> None:
    made = begun(services, account)
    items = [ids.item_of(made.batch_id, number) for number in (3, 4, 5)]
    lost = items[:1] if gone == "item" else items
    for request_id in lost:
        redis.delete(keys.request(request_id))
        redis.zrem(keys.account_requests(account.account_id), request_id)
    if gone == "batch":
        redis.delete(keys.batch(made.batch_id))
    assert kinds(audit(services)) == ["stray_hold"]
    assert [each.where for each in audit(services, repair=True).repaired] == [made.batch_id]
    assert kinds(audit(services)) == []
    assert services.credits.balance(account.account_id).held == 3 - len(lost)


def test_an_item_charged_otherwise_than_the_ledger_says_is_told(
    services: Services, account: Account, redis: Redis
) -> None:
    made = begun(services, account)
    redis.hset(keys.request(ids.item_of(made.batch_id, 2)), "charged", 1)
    assert "charge" in kinds(audit(services))
