"""Names whose servers hang: they hold few threads and nobody else's webhooks, and are not asked for often."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

from service.domain.addresses import parse_policy
from service.domain.deliveries import (
    LOOKUPS_BUSY,
    OWN_TROUBLE_WAIT,
    SPARED_MOST,
)
from service.domain.policy import Policy
from service.domain.ports import Services
from service.domain.requests import Owed
from service.egress import EgressError, Resolved
from service.egress import lookups as module
from service.egress.lookups import (
    DOMAIN_MOST,
    HANGS_AFTER,
    HUNG_NAMES,
    LEFT_ALONE,
    LEFT_ALONE_MOST,
    LOOKUPS_MOST,
    OWNER_MOST,
    RESERVED,
    Lookups,
)
from tests.conftest import RecordingQueue, await_true
from tests.webhooks.support import Receiver, make_due, new_account, owe, resolved, waiting
from workers import deliver
from workers.webhooks.sender import Sender

PATIENCE = 60.0
DELIVERERS = 32
ADDRESS = "127.0.0.1"
ANSWER = resolved(ADDRESS, 80)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Hanging:
    """A resolver that answers nothing below ``.hang`` until it is let go; it notes whom it was asked for."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, *_: Any, **__: Any) -> list[Resolved]:
        self.asked.append(host)
        if host.endswith("hang"):
            self.over.wait(PATIENCE)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(*ANSWER[:4], (ADDRESS, port))]


@pytest.fixture
def names() -> Iterator[Hanging]:
    names = Hanging()
    yield names
    names.over.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lookups(names: Hanging, clock: Clock) -> Lookups:
    return Lookups(names, clock=clock)


@pytest.fixture
def callers(names: Hanging) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(300) as pool:
        yield pool
        names.over.set()


Ask = Callable[..., "Future[str]"]


@pytest.fixture
def ask(lookups: Lookups, callers: ThreadPoolExecutor, names: Hanging) -> Ask:
    """Look a name up in a thread; what comes is "found", or the word for why not."""

    def ask(host: str, owner: str | None = "mallory", port: int = 80) -> Future[str]:
        return callers.submit(outcome, lookups, host, owner, port)

    return ask


def outcome(
    lookups: Lookups, host: str, owner: str | None = "mallory", port: int = 80, seconds: float = PATIENCE
) -> str:
    try:
        lookups.resolve(host, port, seconds, owner)
    except EgressError as error:
        return error.code
    return "found"


Hang = Callable[[str], str]


@pytest.fixture
def hang(lookups: Lookups, clock: Clock, callers: ThreadPoolExecutor) -> Hang:
    """Let a look-up outlast a caller's patience; who begins it has more of it."""

    def hang(host: str) -> str:
        callers.submit(outcome, lookups, host, "first")
        await_true(lambda: lookups._under_way)
        clock.now += HANGS_AFTER
        return outcome(lookups, host, "second", seconds=0.01)

    return hang


# --- the whole way --------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["h{}.evil.hang", "h.d{}-hang"], ids=["one domain", "many domains"])
@pytest.mark.parametrize("count", [32, 64, 200])
def test_one_customers_names_that_hang_keep_no_other_customers_webhook(
    services: Services,
    *,
    queue: RecordingQueue,
    names: Hanging,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    count: int,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", names)
    addresses = parse_policy(["127.0.0.0/8"], [])
    sender = Sender(
        Policy(webhook_addresses=addresses, webhook_connect_timeout=PATIENCE, webhook_timeout=PATIENCE)
    )
    mallory = new_account(services, "mallory@example.com").account_id
    anna = new_account(services, "anna@example.com").account_id
    port = receiver.url.rpartition(":")[2]
    bad = [owe(services, mallory, f"http://{host.format(number)}/") for number in range(count)]
    good = [owe(services, anna, f"http://r{number}.example:{port}") for number in range(3)]

    def run(delivery_id: str) -> None:
        delivery = services.deliveries.get(delivery_id)
        assert delivery
        deliver.run(services, sender, [Owed(delivery_id, delivery.host)])

    with ThreadPoolExecutor(DELIVERERS) as deliverers:
        runs = [deliverers.submit(run, delivery_id) for delivery_id in [*bad, *good]]
        try:
            await_true(lambda: len(receiver.arrivals) == len(good), PATIENCE / 2)
            await_true(lambda: sum(each.done() for each in runs) >= len(runs) - OWNER_MOST, PATIENCE / 2)
        finally:
            names.over.set()
    rows = [services.deliveries.get(delivery_id) for delivery_id in bad]
    put_off = [row for row in rows if row and row.attempts == 0]
    assert len(put_off) >= count - OWNER_MOST
    assert {row.status for row in put_off} == {"pending"}


def test_what_is_put_off_comes_back_and_is_delivered(
    services: Services, redis: Redis, queue: RecordingQueue, receiver: Receiver
) -> None:
    class Busy(Sender):
        def post(self, *args: Any, **kwargs: Any) -> Any:
            return self.nothing(LOOKUPS_BUSY)

    account_id = new_account(services).account_id
    delivery_id = owe(services, account_id, receiver.url)
    delivery = services.deliveries.get(delivery_id)
    assert delivery
    owed = [Owed(delivery_id, delivery.host)]
    deliver.run(services, Busy(Policy()), owed)
    assert 0 < (waiting(redis, delivery_id) or 0) < 5
    assert services.deliveries.attempts(delivery_id) == []
    assert services.hosts.room(delivery.host)[0] == 10, "the place is given back"
    make_due(redis, delivery_id)
    deliver.run(services, Sender(Policy(webhook_addresses=parse_policy(["127.0.0.0/8"], []))), owed)
    assert len(receiver.arrivals) == 1


def test_a_name_that_hangs_for_good_uses_up_its_attempts(
    services: Services, redis: Redis, queue: RecordingQueue
) -> None:
    class Hangs(Sender):
        def post(self, *args: Any, **kwargs: Any) -> Any:
            return self.nothing("dns_unavailable")

    account_id = new_account(services).account_id
    delivery_id = owe(services, account_id, "http://h.hang/")
    sender, tries = Hangs(Policy()), len(services.policy.webhook_schedule) + 1
    for number in range(SPARED_MOST + tries):
        delivery = services.deliveries.get(delivery_id)
        assert delivery
        assert (delivery.status, delivery.attempts) == ("pending", number)
        assert (delivery.spared, delivery.tries) == (min(number, SPARED_MOST), max(0, number - SPARED_MOST))
        deliver.run(services, sender, [Owed(delivery_id, delivery.host)])
        if number < SPARED_MOST:
            assert (waiting(redis, delivery_id) or 0) <= OWN_TROUBLE_WAIT * 1.2
        make_due(redis, delivery_id)
    delivery = services.deliveries.get(delivery_id)
    assert delivery
    assert delivery.status == "exhausted"
    assert len(services.deliveries.attempts(delivery_id)) == SPARED_MOST + tries
    assert services.deliveries.replay(delivery) == "exhausted"
    fresh = services.deliveries.get(delivery_id)
    assert fresh
    assert (fresh.tries, fresh.spared) == (0, 0)


# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["h{}.evil.hang", "h.d{}-hang"], ids=["one domain", "many domains"])
@pytest.mark.parametrize("count", [32, 64, 200])
def test_an_owner_has_few_look_ups_under_way_and_others_have_theirs(
    lookups: Lookups, names: Hanging, ask: Ask, host: str, count: int
) -> None:
    asked = [ask(host.format(number)) for number in range(count)]
    await_true(lambda: sum(each.done() for each in asked) >= count - OWNER_MOST)
    assert {each.result() for each in asked if each.done()} == {LOOKUPS_BUSY}
    assert len(names.asked) <= OWNER_MOST
    assert ask("receiver.example", "anna").result(PATIENCE) == "found"


def test_a_domain_has_few_of_one_owner_but_the_first_of_every_other(
    lookups: Lookups, names: Hanging, ask: Ask
) -> None:
    asked = [ask(f"h{number}.evil.hang") for number in range(10)]
    await_true(lambda: sum(each.done() for each in asked) == 10 - DOMAIN_MOST)
    others = [ask(f"o{number}.evil.hang", f"owner{number}") for number in range(5)]
    await_true(lambda: len(names.asked) == DOMAIN_MOST + 5)
    assert not any(each.done() for each in others)
    assert outcome(lookups, "again.evil.hang", "owner0") == LOOKUPS_BUSY
    assert outcome(lookups, "elsewhere.example", "mallory") == "found"


def test_waiting_for_one_and_the_same_name_holds_few_threads_too(
    lookups: Lookups, names: Hanging, ask: Ask
) -> None:
    asked = [ask("one.hang") for _ in range(100)]
    await_true(lambda: sum(each.done() for each in asked) == 100 - OWNER_MOST)
    assert names.asked == ["one.hang"]
    names.over.set()
    words = [each.result(PATIENCE) for each in asked]
    assert sorted({*words}) == ["dns_unavailable", LOOKUPS_BUSY]
    assert not lookups._waiting
    assert not lookups._under_way


def test_however_many_owners_there_are_so_many_threads_are_held_and_the_last_ones_are_shared_out(
    lookups: Lookups, names: Hanging, ask: Ask
) -> None:
    greedy = LOOKUPS_MOST - RESERVED
    for number in range(greedy):
        ask(f"a.d{number}-hang", f"owner{number // OWNER_MOST}")
    await_true(lambda: len(names.asked) == greedy)
    assert outcome(lookups, "b.e-hang", "owner0") == LOOKUPS_BUSY
    late = [ask(f"a.l{number}-hang", f"late{number}") for number in range(RESERVED)]
    await_true(lambda: len(names.asked) == LOOKUPS_MOST)
    assert not any(each.done() for each in late)
    assert outcome(lookups, "b.l-hang", "late0") == LOOKUPS_BUSY
    assert outcome(lookups, "b.l-hang", "too late") == LOOKUPS_BUSY
    assert outcome(lookups, ADDRESS, "too late") == "found", "there is nothing to look up"


# --- what hung ------------------------------------------------------------------------------------


def test_a_name_that_hung_is_not_begun_anew_for_minutes_and_then_for_longer(
    lookups: Lookups, names: Hanging, clock: Clock, hang: Hang
) -> None:
    assert hang("h.hang") == "dns_unavailable"
    alone = LEFT_ALONE
    for _ in range(6):
        names.over.set()
        await_true(lambda: not lookups._under_way)
        names.over.clear()
        names.asked.clear()
        clock.now += alone - 1.0
        for owner in ("mallory", "anna", None):
            assert outcome(lookups, "H.hang.", owner, 8080) == "dns_unavailable"
        assert names.asked == []
        clock.now += 1.0
        assert hang("h.hang") == "dns_unavailable"
        assert names.asked == ["h.hang"]
        alone = min(2 * alone, LEFT_ALONE_MOST)
    names.over.set()


def test_one_that_answers_again_is_like_any_other(lookups: Lookups, hang: Hang) -> None:
    answer = threading.Event()

    def late(host: str, port: int) -> list[Resolved]:
        answer.wait(PATIENCE)
        return [resolved(ADDRESS, port)]

    lookups._resolver = late
    assert hang("late.example") == "dns_unavailable"
    assert outcome(lookups, "late.example") == "dns_unavailable"
    answer.set()
    await_true(lambda: not lookups._under_way)
    assert outcome(lookups, "late.example") == "found"
    assert not lookups._left_alone


@pytest.mark.parametrize("error", [socket.EAI_AGAIN, socket.EAI_NONAME])
def test_one_that_fails_at_once_is_asked_for_anew(lookups: Lookups, error: int) -> None:
    asked = []

    def failing(host: str, port: int) -> list[Resolved]:
        asked.append(host)
        raise socket.gaierror(error, "failed")

    lookups._resolver = failing
    words = {outcome(lookups, "a.example") for _ in range(3)}
    assert words == {"dns_unavailable" if error == socket.EAI_AGAIN else "dns_not_found"}
    assert len(asked) == 3


def test_what_is_remembered_has_a_bound(
    lookups: Lookups, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HUNG_NAMES", 3)
    assert HUNG_NAMES >= 1_000

    def slow(host: str, port: int) -> list[Resolved]:
        clock.now += HANGS_AFTER
        raise socket.gaierror(socket.EAI_AGAIN, "nobody answered")

    lookups._resolver = slow
    for number in range(10):
        assert outcome(lookups, f"h{number}.example") == "dns_unavailable"
    assert list(lookups._left_alone) == ["h7.example", "h8.example", "h9.example"]
