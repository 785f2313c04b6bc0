"""Many at once, on a real server."""

from __future__ import annotations

import itertools

import pytest
from redis import Redis

from service.domain.credits import Balance, LedgerEntry
from service.domain.errors import Conflict, InsufficientCredits, LeaseLost
from service.domain.policy import Policy
from service.domain.requests import Claim
from service.stores import keys
from service.stores.credits import Credits
from service.stores.requests import Requests
from tests.conftest import SHARDS, finish_one
from tests.redis.kit import ACCOUNT, CANCEL, at_once, ending, queued, submission


@pytest.fixture
def requests(valkey: Redis) -> Requests:
    Credits(valkey).add(ACCOUNT, 10, entry_type="topup", note="")
    return Requests(valkey, Policy(), SHARDS)


@pytest.fixture
def credits(valkey: Redis) -> Credits:
    return Credits(valkey)


def entries(credits: Credits) -> list[LedgerEntry]:
    return credits.ledger(ACCOUNT, request_id=None, cursor=None, limit=1000).items


def test_of_fifty_requests_against_ten_credits_exactly_ten_are_accepted(
    valkey: Redis, requests: Requests, credits: Credits
) -> None:
    def submit(_: int) -> bool:
        try:
            requests.submit(submission())
        except InsufficientCredits:
            return False
        return True

    assert sum(at_once(50, submit)) == 10
    assert credits.balance(ACCOUNT) == Balance(10, 10)
    holds = [entry for entry in entries(credits) if entry.type == "hold"]
    assert sorted(entry.held_after for entry in holds) == list(range(1, 11))
    assert valkey.zcard(keys.account_requests(ACCOUNT)) == 10


def test_one_submission_sent_from_many_threads_is_held_once(requests: Requests, credits: Credits) -> None:
    made = submission(hold=3)
    records = at_once(20, lambda _: requests.submit(made))
    assert len(set(records)) == 1
    assert credits.balance(ACCOUNT) == Balance(10, 3)


def test_of_twenty_workers_one_gets_the_claim(requests: Requests) -> None:
    request_id = requests.submit(submission()).request_id
    claims = [claim for claim in at_once(20, lambda _: requests.claim(request_id)) if claim]
    assert [claim.fence for claim in claims] == [1]


def end(requests: Requests, claim: Claim, charge: int) -> bool:
    try:
        finish_one(requests, claim, ending(charge=charge))
    except LeaseLost:
        return False
    return True


def test_a_finish_raced_by_two_fences_charges_once(
    valkey: Redis, requests: Requests, credits: Credits
) -> None:
    for _ in range(10):
        before = credits.balance(ACCOUNT).balance
        request_id = requests.submit(submission()).request_id
        first = requests.claim(request_id)
        valkey.hset(keys.request(request_id), "lease_until", 1)
        second = requests.claim(request_id)
        assert first is not None
        assert second is not None
        ended = at_once(8, lambda number, claims=(first, second): end(requests, claims[number % 2], 1))
        assert ended == [False, True] * 4  # the same worker's finish may be repeated
        assert credits.balance(ACCOUNT) == Balance(before - 1, 0)


def test_a_takeover_raced_with_a_finish_charges_once(
    valkey: Redis, requests: Requests, credits: Credits
) -> None:
    for _ in range(10):
        before = credits.balance(ACCOUNT).balance
        request_id = requests.submit(submission()).request_id
        first = requests.claim(request_id)
        assert first is not None
        valkey.hset(keys.request(request_id), "lease_until", 1)

        def race(number: int, first: Claim = first, request_id: str = request_id) -> bool:
            if number == 0:
                return end(requests, first, 1)
            second = requests.claim(request_id)
            return second is not None and end(requests, second, 1)

        assert sum(at_once(2, race)) == 1
        assert credits.balance(ACCOUNT) == Balance(before - 1, 0)


def test_a_cancel_raced_with_a_claim_has_one_winner(
    valkey: Redis, requests: Requests, credits: Credits
) -> None:
    for _ in range(20):
        made = submission()
        requests.submit(made)

        def race(number: int, made=made) -> bool:  # type: ignore[no-untyped-def]
            if number % 2:
                return requests.claim(made.request_id) is not None
            try:
                requests.cancel(queued(made), CANCEL)
            except Conflict:
                return False
            return True

        outcome = at_once(2, race)
        record = requests.get(made.request_id)
        assert record is not None
        assert outcome == [record.status == "cancelled", record.status == "processing"]
        assert sum(outcome) == 1
        if record.status == "processing":
            valkey.hset(keys.request(made.request_id), "lease_until", 1)
            claim = requests.claim(made.request_id)
            assert claim is not None
            finish_one(requests, claim, ending(charge=0))
    assert credits.balance(ACCOUNT) == Balance(10, 0)


def test_the_ledger_adds_up_after_everything_at_once(requests: Requests, credits: Credits) -> None:
    def live(number: int) -> None:
        made = submission()
        try:
            requests.submit(made)
        except InsufficientCredits:
            return
        if number % 3 == 0:
            requests.cancel(queued(made), CANCEL)
            return
        claim = requests.claim(made.request_id)
        assert claim is not None
        finish_one(requests, claim, ending(charge=number % 2))

    at_once(40, live)
    oldest_first = entries(credits)[::-1]
    balance, held = 0, 0
    for entry in oldest_first:
        if entry.type in {"topup", "charge"}:
            balance += entry.amount
        held += -entry.amount if entry.type in {"hold", "release"} else min(entry.amount, 0)
        assert entry.held_after >= 0
        if entry.type == "topup":
            held = 0
        assert (entry.balance_after, entry.held_after) == (balance, held)
    assert credits.balance(ACCOUNT) == Balance(balance, held) == Balance(balance, 0)
    ids = [entry.entry_id for entry in oldest_first]
    assert all(older != newer for older, newer in itertools.pairwise(ids))


def test_workers_that_sweep_at_once_get_each_request_once(valkey: Redis, requests: Requests) -> None:
    made = [requests.submit(submission(hold=0)) for _ in range(30)]
    for record in made:
        valkey.zadd(keys.open_requests(2), {record.request_id: 1})
    found = [
        record.request_id for records in at_once(8, lambda _: requests.stranded(10)) for record in records
    ]
    assert sorted(found) == sorted(record.request_id for record in made)
