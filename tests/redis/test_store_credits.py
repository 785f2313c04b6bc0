"""Balances and ledgers over the fake store and over a real one."""

from __future__ import annotations

import pytest
from redis import Redis

from service.domain.credits import AMOUNT_MOST, Balance, LedgerEntry
from service.domain.errors import BrokenRow, InsufficientCredits, ValidationFailed
from service.domain.policy import Policy
from service.stores import credits as module
from service.stores import keys
from service.stores.credits import Credits
from service.stores.requests import Requests
from tests.conftest import SHARDS, finish_one
from tests.redis.kit import ACCOUNT, CANCEL, ending, queued, submission


@pytest.fixture
def credits(redis: Redis) -> Credits:
    return Credits(redis)


@pytest.fixture
def requests(redis: Redis) -> Requests:
    return Requests(redis, Policy(), SHARDS)


def all_entries(credits: Credits, limit: int = 100, request_id: str | None = None) -> list[LedgerEntry]:
    """Every page of the ledger, newest first."""
    found: list[LedgerEntry] = []
    cursor: str | None = None
    while True:
        page = credits.ledger(ACCOUNT, request_id=request_id, cursor=cursor, limit=limit)
        assert len(page.items) <= limit
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_an_account_begins_with_nothing(credits: Credits) -> None:
    assert credits.balance(ACCOUNT) == Balance(0, 0)
    assert all_entries(credits) == []


def test_a_topup_is_in_the_balance_and_in_the_ledger(credits: Credits) -> None:
    assert credits.add(ACCOUNT, 100, entry_type="topup", note="invoice 7") == Balance(100, 0)
    assert credits.balance(ACCOUNT) == Balance(100, 0)
    [entry] = all_entries(credits)
    assert (entry.type, entry.amount, entry.balance_after, entry.held_after) == ("topup", 100, 100, 0)
    assert (entry.note, entry.request_id) == ("invoice 7", None)
    assert entry.at > 1_700_000_000_000


def test_the_same_topup_twice_counts_twice(credits: Credits) -> None:
    credits.add(ACCOUNT, 100, entry_type="topup", note="")
    assert credits.add(ACCOUNT, 100, entry_type="topup", note="").balance == 200


@pytest.mark.parametrize("amount", [AMOUNT_MOST + 1, 10**30])
def test_an_amount_that_cannot_be_counted_is_refused(credits: Credits, redis: Redis, amount: int) -> None:
    with pytest.raises(ValidationFailed) as caught:
        credits.add(ACCOUNT, amount, entry_type="topup", note="")
    assert list(caught.value.details or {}) == ["amount"]
    assert list(redis.scan_iter()) == []


def test_the_most_an_account_can_have_is_counted_exactly(credits: Credits) -> None:
    assert credits.add(ACCOUNT, AMOUNT_MOST - 1, entry_type="topup", note="").balance == AMOUNT_MOST - 1
    assert credits.add(ACCOUNT, 1, entry_type="topup", note="") == Balance(AMOUNT_MOST, 0)
    assert credits.balance(ACCOUNT) == Balance(AMOUNT_MOST, 0)
    assert [entry.balance_after for entry in all_entries(credits)] == [AMOUNT_MOST, AMOUNT_MOST - 1]
    with pytest.raises(ValidationFailed, match="invalid fields"):
        credits.add(ACCOUNT, 1, entry_type="topup", note="")


@pytest.mark.parametrize("value", ["1e+30", "-9223372036854775808", "nan", "ten"])
def test_credits_that_are_no_numbers_are_told_and_not_added_to(
    credits: Credits, redis: Redis, value: str
) -> None:
    redis.hset(keys.credits(ACCOUNT), "balance", value)
    with pytest.raises(BrokenRow):
        credits.balance(ACCOUNT)
    with pytest.raises(BrokenRow):
        credits.add(ACCOUNT, 1, entry_type="topup", note="")
    assert redis.hgetall(keys.credits(ACCOUNT)) == {"balance": value}


def test_what_is_held_cannot_be_taken_away(credits: Credits, requests: Requests) -> None:
    credits.add(ACCOUNT, 10, entry_type="topup", note="")
    requests.submit(submission(hold=4))
    with pytest.raises(InsufficientCredits, match="6 credit"):
        credits.add(ACCOUNT, -7, entry_type="adjustment", note="")
    assert credits.add(ACCOUNT, -6, entry_type="adjustment", note="") == Balance(4, 4)


def test_the_ledger_tells_the_story_of_a_request(credits: Credits, requests: Requests) -> None:
    credits.add(ACCOUNT, 10, entry_type="topup", note="")
    made = submission(hold=3)
    requests.submit(made)
    claim = requests.claim(made.request_id)
    assert claim is not None
    finish_one(requests, claim, ending(charge=1))
    told = [
        (entry.type, entry.amount, entry.balance_after, entry.held_after) for entry in all_entries(credits)
    ]
    assert told == [("release", 2, 9, 0), ("charge", -1, 9, 2), ("hold", -3, 10, 3), ("topup", 10, 10, 0)]


def test_entries_add_up_to_the_balance(credits: Credits, requests: Requests) -> None:
    credits.add(ACCOUNT, 50, entry_type="topup", note="")
    for number in range(12):
        made = submission(hold=3)
        requests.submit(made)
        if number % 3 == 0:
            requests.cancel(queued(made), CANCEL)
        elif number % 3 == 1:
            claim = requests.claim(made.request_id)
            assert claim is not None
            finish_one(requests, claim, ending(charge=number % 4))
    balance = credits.balance(ACCOUNT)
    entries = all_entries(credits, limit=5)
    assert sum(entry.amount for entry in entries if entry.type in {"topup", "charge"}) == balance.balance
    moved = sum(entry.amount for entry in entries if entry.type in {"hold", "release"})
    charged = sum(entry.amount for entry in entries if entry.type == "charge")
    assert -moved + charged == balance.held == 12
    newest = entries[0]
    assert (newest.balance_after, newest.held_after) == (balance.balance, balance.held)


@pytest.mark.parametrize("limit", [1, 3, 10, 11])
def test_pages_of_the_ledger_show_every_entry_once_newest_first(credits: Credits, limit: int) -> None:
    for amount in range(1, 11):
        credits.add(ACCOUNT, amount, entry_type="topup", note="")
    assert [entry.amount for entry in all_entries(credits, limit)] == list(range(10, 0, -1))


def test_an_entry_written_between_two_pages_shifts_nothing(credits: Credits) -> None:
    for amount in range(1, 7):
        credits.add(ACCOUNT, amount, entry_type="topup", note="")
    first = credits.ledger(ACCOUNT, request_id=None, cursor=None, limit=3)
    credits.add(ACCOUNT, 99, entry_type="topup", note="")
    second = credits.ledger(ACCOUNT, request_id=None, cursor=first.next_cursor, limit=3)
    assert [entry.amount for entry in first.items + second.items] == [6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_the_entries_of_one_request_are_found_among_those_of_others(
    credits: Credits, requests: Requests, limit: int
) -> None:
    credits.add(ACCOUNT, 100, entry_type="topup", note="")
    made = [submission(hold=3) for _ in range(5)]
    for one in made:
        requests.submit(one)
    for one in made[::-1]:
        claim = requests.claim(one.request_id)
        assert claim is not None
        finish_one(requests, claim, ending(charge=1))
    found = all_entries(credits, limit, made[2].request_id)
    assert [entry.type for entry in found] == ["release", "charge", "hold"]
    assert {entry.request_id for entry in found} == {made[2].request_id}


def test_a_request_that_never_was_has_no_entries(credits: Credits) -> None:
    credits.add(ACCOUNT, 100, entry_type="topup", note="")
    assert all_entries(credits, request_id=submission().request_id) == []


def test_the_entries_of_one_request_are_found_far_back(
    credits: Credits, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCAN_CHUNK", 2)
    credits.add(ACCOUNT, 100, entry_type="topup", note="")
    made = [submission() for _ in range(7)]
    for one in made:
        requests.submit(one)
    requests.cancel(queued(made[1]), CANCEL)
    for one in made[2:]:
        requests.cancel(queued(one), CANCEL)
    assert [entry.type for entry in all_entries(credits, 10, made[1].request_id)] == ["release", "hold"]
