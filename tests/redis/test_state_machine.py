"""Any sequence of calls against a model in plain Python, on a real server.

Hypothesis makes the sequences up: workers that come late, replies that get lost, callers that cancel what
is under way. After every call the store has to hold what the model says. To look longer than the tests
do: ``STATE_MACHINE_EXAMPLES=2000 python -m pytest tests/redis/test_state_machine.py``.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeVar

import hypothesis
import pytest
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis
from structlog.testing import capture_logs

from service.actions.audit import audit
from service.actions.cancel import cancel_request
from service.actions.deliveries import replay
from service.config import Settings
from service.domain import ids
from service.domain.credits import Balance, price_list
from service.domain.deliveries import Attempt, DeliveryClaim, plan
from service.domain.errors import Conflict, StoryhookError
from service.domain.operations import EMPTY, FOUND, STORIES
from service.domain.ports import Services
from service.domain.requests import (
    CANCELLED,
    DELIVER,
    DELIVERIES,
    FAILED,
    FINAL,
    INTERACTIVE,
    SUCCEEDED,
    Claim,
    Ending,
    Owed,
    Submission,
    may_become,
)
from service.domain.targets import named
from service.domain.webhooks import target_of
from service.stores import keys
from service.stores.connection import open_store
from tests.conftest import RecordingQueue, finish_one, make_services
from tests.redis.kit import CANCEL, NOW, queued
from tests.redis.model import AT_ONCE, LATER, NEVER, DeliveryState, Model, RequestState
from workers import sweep

T = TypeVar("T")

HOOKS = ("https://one.example/hook", "https://two.example/hook")
HOSTS = ("one.example:443", "two.example:443")
GIVEN_UP = "upstream_error"
PRICES = price_list({STORIES: {FOUND: 3, EMPTY: 1, GIVEN_UP: 1}})
OUTCOMES = (FOUND, EMPTY, "user_not_found", GIVEN_UP)
ATTEMPTS = (
    Attempt(at=1, duration=0.1, status=200),
    Attempt(at=1, duration=0.2, status=500),
    Attempt(at=1, duration=0.3, status=410),
    Attempt(at=1, duration=0.4, error="dns_unavailable"),
)
OPEN_MOST = 3  # few requests, so that several calls meet at one
PAST = 1  # Unix milliseconds

# An example takes a fraction of a second: nothing runs out or falls due in it unless a rule says so.
HOUR = 3_600
POLICY: dict[str, Any] = {
    "prices": PRICES,
    "lease": HOUR,
    "pickup_grace": HOUR,
    "sweep_interval": HOUR,
    "sweep_limit": 1,
    "webhook_timeout": HOUR,
    "webhook_schedule": (2 * HOUR, 2 * HOUR),
    "webhook_host_concurrency": 1_000,
}

LONGER = os.environ.get("STATE_MACHINE_EXAMPLES")
BOUNDS = hypothesis.settings(
    max_examples=int(LONGER or 120),
    stateful_step_count=50,
    deadline=None,
    derandomize=not LONGER,
    database=None,
    print_blob=True,
    report_multiple_bugs=False,
    phases=(Phase.generate, Phase.shrink),
)


@pytest.mark.timeout(600)  # what fails is made small first, which takes many runs
def test_the_store_holds_what_the_model_holds(
    settings: Settings, valkey_url: str, queue: RecordingQueue
) -> None:
    # A store that is slow to answer is no difference to the model: the time allowed is long.
    with closing(open_store(valkey_url, answer_timeout=60)) as redis, capture_logs():
        services = make_services(settings, redis, queue, **POLICY)
        run_state_machine_as_test(lambda: Store(services, redis, queue), settings=BOUNDS)


def outcome(call: Callable[[], T]) -> T | type[StoryhookError]:
    try:
        return call()
    except StoryhookError as error:
        return type(error)


def some(*kinds: Callable[[Model], Sequence[str]]) -> st.SearchStrategy[str]:
    """An id of one of these kinds, each kind that there is as likely as the others."""

    def draw(machine: Store) -> st.SearchStrategy[str]:
        found = [each for each in (kind(machine.model) for kind in kinds) if each]
        return st.sampled_from(found).flatmap(st.sampled_from)

    return st.runner().flatmap(draw)


def when(kind: Callable[[Model], Sequence[str]]) -> Any:
    """Precondition: there is one of this kind. It keeps calls that cannot do anything rare."""
    return precondition(lambda machine: bool(kind(machine.model)))


class Look:
    """What the store holds at one moment of what a model knows."""

    def __init__(self, redis: Redis, model: Model) -> None:
        shards = sorted({ids.shard_in(account_id) for account_id in model.accounts})
        hosts = [(shard, host) for shard in shards for host in HOSTS]
        self.at = int(time.time() * 1000)
        with redis.pipeline(transaction=False) as pipe:
            for account_id in model.accounts:
                pipe.hmget(keys.credits(account_id), "balance", "held")
            for request_id in model.requests:
                pipe.hmget(keys.request(request_id), "status", "fence", "lease_until", "charged", "looks")
            for delivery_id in model.deliveries:
                pipe.hmget(
                    keys.delivery(delivery_id),
                    "status",
                    "attempts",
                    "tries",
                    "fence",
                    "lease_until",
                    "next_at",
                )
            for delivery_id in model.deliveries:
                pipe.llen(keys.delivery_log(delivery_id))
            for shard in shards:
                pipe.zrange(keys.open_requests(shard), 0, -1, withscores=True)
            for shard, host in hosts:
                pipe.zrange(keys.due(shard, host), 0, -1, withscores=True)
            for shard, host in hosts:
                pipe.zscore(keys.due_hosts(shard), host)
            answers = iter(pipe.execute())
        self._credits = dict(zip(model.accounts, answers, strict=False))
        self._requests = dict(zip(model.requests, answers, strict=False))
        self._deliveries = dict(zip(model.deliveries, answers, strict=False))
        self._logs = dict(zip(model.deliveries, answers, strict=False))
        self._open = dict(itertools.chain(*(next(answers) for _ in shards)))
        waiting = [next(answers) for _ in hosts]
        self._due = {
            (host, delivery_id): look
            for (_, host), due in zip(hosts, waiting, strict=True)
            for delivery_id, look in due
        }
        self.watched, self.due = set(self._open), set(self._due)
        # Of each host that is owed something: the time of its first delivery, and of the look at it.
        self.hosts = [(due[0][1], look) for due, look in zip(waiting, answers, strict=True) if due]

    def balance(self, account_id: str) -> Balance:
        balance, held = self._credits[account_id]
        return Balance(int(balance), int(held))

    def request(self, request_id: str) -> RequestState:
        status, fence, lease_until, charged, looks = self._requests[request_id]
        return RequestState(
            status=status,
            fence=int(fence or 0),
            leased=int(lease_until or 0) > self.at,
            charged=int(charged or 0),
            looks=int(looks or 0),
            look=self._time(self._open.get(request_id)),
        )

    def delivery(self, delivery_id: str, host: str) -> DeliveryState:
        status, attempts, tries, fence, lease_until, next_at = self._deliveries[delivery_id]
        return DeliveryState(
            status=status,
            attempts=int(attempts),
            logged=self._logs[delivery_id],
            tries=int(tries),
            fence=int(fence or 0),
            leased=int(lease_until or 0) > self.at,
            waits=int(next_at) > self.at,
            look=self._time(self._due.get((host, delivery_id))),
        )

    def _time(self, look: float | None) -> str:
        if look is None:
            return NEVER
        return LATER if look > self.at else AT_ONCE


class Store(RuleBasedStateMachine):
    """The store and its model, side by side."""

    claims: Bundle[Claim] = Bundle("claims")
    finishes: Bundle[tuple[Claim, Ending]] = Bundle("finishes")
    delivery_claims: Bundle[DeliveryClaim] = Bundle("delivery_claims")

    def __init__(self, services: Services, redis: Redis, queue: RecordingQueue) -> None:
        super().__init__()
        redis.flushall()
        self.services, self.redis, self.queue = services, redis, queue
        self.accounts = self._open_accounts()
        self.model = Model(self.accounts)
        self.made = 0  # names requests and envelopes, so that an example is the same every time
        self.states: dict[str, RequestState] = {}
        for account in range(len(self.accounts)):
            self.top_up(account, 5)

    def _open_accounts(self) -> list[str]:
        """Two accounts that share a shard, and one that shares with nobody."""
        by_shard: dict[int, list[str]] = {}
        number = 0
        while len(by_shard) < 2 or max(map(len, by_shard.values())) < 2:
            number += 1
            account = self.services.accounts.create(f"{number}@example.com", "hash")
            by_shard.setdefault(ids.shard_in(account.account_id), []).append(account.account_id)
        together, *others = sorted(by_shard.values(), key=len, reverse=True)
        return [*together[:2], others[0][0]]

    def same(
        self, name: str, told: Callable[[], T], wanted: Callable[[], object]
    ) -> T | type[StoryhookError]:
        """Make the call, and have the model say what it has to answer."""
        answer, expected = outcome(told), outcome(wanted)
        assert answer == expected, f"{name}: the store says {answer}, the model {expected}"
        return answer

    # --- requests --------------------------------------------------------------------------------

    # Something of each kind to begin with: Hypothesis leaves some rules out of every sequence, and
    # what is not submitted, claimed and finished at first is never delivered.

    @initialize()
    def one_is_queued(self) -> None:
        self._submit(self._asked(2))

    @initialize(target=claims)
    def one_is_worked_on(self) -> Any:
        asked = self._asked(1)
        self._submit(asked)
        return self.claim(asked.request_id)

    @initialize(target=delivery_claims)
    def one_is_delivered(self) -> Any:
        asked = self._asked(0)
        self._submit(asked)
        self.cancel_what_was_seen_queued(asked.request_id)
        return self.claim_delivery(ids.delivery_of(asked.request_id))

    @rule(account=st.integers(0, 2), amount=st.integers(1, 5))
    def top_up(self, account: int, amount: int) -> None:
        account_id = self.accounts[account]
        self.services.credits.add(account_id, amount, entry_type="topup", note="")
        self.model.accounts[account_id].balance += amount

    @precondition(lambda self: len(self.model.open()) < OPEN_MOST)
    @rule(
        account=st.integers(0, 2),
        username=st.sampled_from(["anna", "ben"]),
        webhook_url=st.sampled_from([HOOKS[0], *HOOKS, None]),
        idempotency_key=st.sampled_from(["key", "other", None]),
        replies_lost=st.integers(0, 1),
    )
    def submit(
        self,
        account: int,
        username: str,
        webhook_url: str | None,
        idempotency_key: str | None,
        replies_lost: int,
    ) -> None:
        asked = self._asked(account, username, webhook_url, idempotency_key)
        for _ in range(1 + replies_lost):
            self._submit(asked)

    def _asked(
        self,
        account: int,
        username: str = "anna",
        webhook_url: str | None = HOOKS[0],
        idempotency_key: str | None = "key",
    ) -> Submission:
        account_id = self.accounts[account]
        self.made += 1
        return Submission(
            request_id=ids.floor_id(ids.REQUEST, ids.shard_in(account_id), NOW + self.made) + "0" * 16,
            account_id=account_id,
            operation=STORIES,
            target=named(username),
            queue=INTERACTIVE,
            hold=PRICES.hold_for(STORIES),
            webhook_url=webhook_url,
            idempotency_key=idempotency_key,
        )

    def _submit(self, asked: Submission) -> None:
        self.same(
            "submit",
            lambda: self.services.requests.submit(asked).request_id,
            lambda: self.model.submit(asked),
        )

    @when(Model.open)
    @rule(request_id=some(Model.open, Model.all))
    def submit_again(self, request_id: str) -> None:
        self._submit(self.model.requests[request_id].asked)

    @when(Model.open)
    @rule(target=claims, request_id=some(Model.free, Model.leased, Model.all))
    def claim(self, request_id: str) -> Any:
        claim = self.services.requests.claim(request_id)
        fence = self.model.claim(request_id)
        assert (claim.fence if claim else None) == fence
        return claim if claim else multiple()

    @when(Model.claimed)
    @rule(claim=claims)
    def renew(self, claim: Claim) -> None:
        request_id = claim.request.request_id
        self.same(
            "renew",
            lambda: self.services.requests.renew(claim),
            lambda: self.model.renew(request_id, claim.fence),
        )

    @when(Model.claimed)
    @rule(target=finishes, claim=claims, what=st.sampled_from(OUTCOMES))
    def finish(self, claim: Claim, what: str) -> tuple[Claim, Ending]:
        self.made += 1
        body = json.dumps({"ending": self.made}).encode()
        charge = PRICES.charge_for(STORIES, what, claim.request.hold)
        ending = Ending(FAILED, body, charge, code=what)
        if what in {FOUND, EMPTY}:
            ending = Ending(SUCCEEDED, body, charge, outcome=what)
        self.finish_again((claim, ending))
        return claim, ending

    @when(Model.open)
    @rule(finished=finishes)
    def finish_again(self, finished: tuple[Claim, Ending]) -> None:
        claim, ending = finished
        request_id = claim.request.request_id
        self.same(
            "finish",
            lambda: finish_one(self.services.requests, claim, ending),
            lambda: self.model.finish(request_id, claim.fence, ending),
        )

    @when(Model.free)
    @rule(target=finishes, request_id=some(Model.free), what=st.sampled_from(OUTCOMES))
    def work(self, request_id: str, what: str) -> tuple[Claim, Ending]:
        claim = self.claim(request_id)
        self.agrees()
        return self.finish(claim, what)

    @when(Model.open)
    @rule(request_id=some(Model.queued, Model.all))
    def cancel(self, request_id: str) -> None:
        self.queue.published.clear()
        account_id = self.model.requests[request_id].asked.account_id
        answer = outcome(lambda: cancel_request(self.services, account_id, request_id).status)
        owed = outcome(lambda: self.model.cancel(request_id, self._ended(request_id, CANCEL)))
        assert answer == (Conflict if owed is Conflict else CANCELLED)
        assert self.queue.published == _hints(owed)

    @when(Model.open)
    @rule(request_id=some(Model.queued, Model.claimed, Model.all))
    def cancel_what_was_seen_queued(self, request_id: str) -> None:
        record = queued(self.model.requests[request_id].asked)
        self.same(
            "cancel",
            lambda: self.services.requests.cancel(record, CANCEL),
            lambda: self.model.cancel(request_id, CANCEL),
        )

    def _ended(self, request_id: str, ending: Ending) -> Ending:
        """An ending whose envelope was made with the time of day: it may not change from now on."""
        return replace(ending, envelope=self.services.requests.envelope(request_id) or b"")

    @when(Model.watched_later)
    @rule(request_id=some(Model.leased, Model.watched_later))
    def time_passes(self, request_id: str) -> None:
        """Nobody sleeps until a lease is over: what the store remembers of time is put into the past.

        The scripts compare with the server's clock, which no test can set.
        """
        if self.model.requests[request_id].leased:
            self.redis.hset(keys.request(request_id), "lease_until", PAST)
        self.redis.zadd(keys.open_requests(ids.shard_in(request_id)), {request_id: PAST})
        self.model.time_passes(request_id)

    @when(Model.claimed)
    @rule(target=claims, request_id=some(Model.leased, Model.abandoned))
    def take_over(self, request_id: str) -> Any:
        self.time_passes(request_id)
        claim = self.claim(request_id)
        return multiple(claim, replace(claim, fence=claim.fence - 1))  # who had it may come late

    @when(Model.open)
    @rule(late=st.booleans())
    def sweep(self, late: bool) -> None:
        for request_id in self.model.open() if late else []:
            self.time_passes(request_id)
        self.queue.published.clear()
        count = sweep.sweep_requests(self.services)
        published, given_up = self.model.sweep(self.services.policy.sweep_limit)
        hints = [("scrape", INTERACTIVE, request_id) for request_id in published]
        for request_id in given_up:
            charge = PRICES.charge_for(STORIES, GIVEN_UP, PRICES.hold_for(STORIES))
            ending = self._ended(request_id, Ending(FAILED, b"", charge, code=GIVEN_UP))
            hints += _hints(self.model.finish(request_id, self.model.requests[request_id].fence, ending))
        assert sorted(self.queue.published) == sorted(hints)
        assert count == len(published) + len(given_up)

    # --- deliveries ------------------------------------------------------------------------------

    @when(Model.pending)
    @rule(
        target=delivery_claims,
        delivery_id=some(Model.ready, Model.taken, Model.waiting, Model.all_deliveries),
    )
    def claim_delivery(self, delivery_id: str) -> Any:
        url = self.model.requests[ids.request_of(delivery_id)].asked.webhook_url
        claim = self.services.deliveries.claim(delivery_id, str(target_of(url or HOOKS[0])))
        assert (claim.fence if claim else None) == self.model.claim_delivery(delivery_id)
        if claim is None:
            return multiple()
        delivery = self.model.deliveries[delivery_id]
        assert (claim.body, claim.delivery.tries) == (delivery.body, delivery.tries)
        return claim

    @when(Model.under_way)
    @rule(claim=delivery_claims, attempt=st.sampled_from(ATTEMPTS))
    def record(self, claim: DeliveryClaim, attempt: Attempt) -> None:
        then = plan(attempt, claim.delivery.tries + 1, self.services.policy.webhook_schedule, 0.5)
        self.same(
            "record",
            lambda: self.services.deliveries.record(claim, attempt, then),
            lambda: self.model.record(claim.delivery.delivery_id, claim.fence, attempt, then),
        )

    @when(Model.ready)
    @rule(target=delivery_claims, delivery_id=some(Model.ready), attempt=st.sampled_from(ATTEMPTS))
    def deliver(self, delivery_id: str, attempt: Attempt) -> DeliveryClaim:
        claim = self.claim_delivery(delivery_id)
        self.record(claim, attempt)
        return claim

    @when(Model.under_way)
    @rule(claim=delivery_claims)
    def defer(self, claim: DeliveryClaim) -> None:
        self.services.deliveries.defer(claim, HOUR)
        self.model.defer(claim.delivery.delivery_id, claim.fence)

    @when(Model.owed)
    @rule(delivery_id=some(Model.ended, Model.taken, Model.all_deliveries))
    def replay(self, delivery_id: str) -> None:
        self.queue.published.clear()
        account_id = self.model.requests[ids.request_of(delivery_id)].asked.account_id
        before = self.same(
            "replay",
            lambda: replay(self.services, account_id, delivery_id),
            lambda: self.model.replay(delivery_id),
        )
        if isinstance(before, str):
            assert self.queue.published == [_hint(delivery_id, self.model.deliveries[delivery_id].host)]
        else:
            assert self.queue.published == []

    @when(Model.due_later)
    @rule(delivery_id=some(Model.taken, Model.due_later))
    def time_passes_for_delivery(self, delivery_id: str) -> None:
        """As above."""
        delivery, shard = self.model.deliveries[delivery_id], ids.shard_in(delivery_id)
        self.redis.hset(keys.delivery(delivery_id), "next_at", PAST)
        if delivery.leased:
            self.redis.hset(keys.delivery(delivery_id), "lease_until", PAST)
        self.redis.zadd(keys.due(shard, delivery.host), {delivery_id: PAST})
        self.redis.zadd(keys.due_hosts(shard), {delivery.host: PAST})
        self.model.time_passes_for_delivery(delivery_id)

    @when(Model.under_way)
    @rule(target=delivery_claims, delivery_id=some(Model.under_way))
    def take_over_delivery(self, delivery_id: str) -> Any:
        self.time_passes_for_delivery(delivery_id)
        claim = self.claim_delivery(delivery_id)
        return multiple(claim, replace(claim, fence=claim.fence - 1))  # who had it may come late

    @when(Model.pending)
    @rule(late=st.booleans())
    def pump(self, late: bool) -> None:
        for delivery_id in self.model.pending() if late else []:
            self.time_passes_for_delivery(delivery_id)
        self.queue.published.clear()
        count = sweep.pump_deliveries(self.services)
        hints = [_hint(name, self.model.deliveries[name].host) for name in self.model.pump()]
        assert sorted(self.queue.published) == sorted(hints)
        assert count == len(hints)

    # --- what holds after every call -------------------------------------------------------------

    @invariant()
    def agrees(self) -> None:
        look = Look(self.redis, self.model)
        for account_id, account in self.model.accounts.items():
            assert look.balance(account_id) == Balance(account.balance, account.held)
        self._requests_agree(look)
        self._deliveries_agree(look)

    def _requests_agree(self, look: Look) -> None:
        states = {request_id: look.request(request_id) for request_id in self.model.requests}
        assert states == {request_id: request.state for request_id, request in self.model.requests.items()}
        assert look.watched == set(self.model.open())
        for request_id, before in self.states.items():
            after = states[request_id]
            moved = (before.status, before.fence) != (after.status, after.fence)
            assert not moved or may_become(before.status, after.status)
            assert before.fence <= after.fence
        self.states = states

    def _deliveries_agree(self, look: Look) -> None:
        deliveries = self.model.deliveries
        states = {name: look.delivery(name, delivery.host) for name, delivery in deliveries.items()}
        assert states == {name: delivery.state for name, delivery in deliveries.items()}
        assert look.due == {(deliveries[name].host, name) for name in self.model.pending()}
        for first, host in look.hosts:
            # Else they would wait until something else happens at this host.
            assert host is not None
            assert host <= max(first, look.at)
        for request in self.model.requests.values():
            owes = request.status in FINAL and request.asked.webhook_url is not None
            assert owes == (ids.delivery_of(request.asked.request_id) in deliveries)

    # --- what holds at the end -------------------------------------------------------------------

    def teardown(self) -> None:
        assert audit(self.services).differences == []
        self._each_request_was_charged_once_by_its_outcome()
        self._what_was_told_is_what_is_told()
        counters = self.services.stats.counters()
        assert {name: counters.get(name, 0) for name in self.model.counters} == self.model.counters
        assert counters.get("held", 0) == sum(account.held for account in self.model.accounts.values())
        assert counters.get("open", 0) == len(self.model.open())

    def _each_request_was_charged_once_by_its_outcome(self) -> None:
        entries: dict[str, list[tuple[str, int]]] = {request_id: [] for request_id in self.model.requests}
        for account_id in self.accounts:
            page = self.services.credits.ledger(account_id, request_id=None, cursor=None, limit=10_000)
            for entry in reversed(page.items):
                if entry.request_id is not None:
                    entries[entry.request_id].append((entry.type, entry.amount))
        assert entries == {name: request.ledger for name, request in self.model.requests.items()}

    def _what_was_told_is_what_is_told(self) -> None:
        for request_id, request in self.model.requests.items():
            record, ending = self.services.requests.get(request_id), request.ending
            assert self.services.requests.envelope(request_id) == (ending.envelope if ending else None)
            assert record is not None
            assert (record.outcome, record.code) == (
                (ending.outcome or None, ending.code or None) if ending else (None, None)
            )
        for delivery_id, delivery in self.model.deliveries.items():
            assert self.services.deliveries.attempts(delivery_id) == delivery.log


def _hint(delivery_id: str, host: str) -> tuple[str, ...]:
    return (DELIVER, DELIVERIES, delivery_id, host)


def _hints(owed: object) -> list[tuple[str, ...]]:
    return [_hint(owed.delivery_id, owed.host)] if isinstance(owed, Owed) else []
