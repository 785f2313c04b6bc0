"""One fetch for all who ask for the same reel at the same time, over all workers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest
from redis import Redis

from service.actions.audit import audit
from service.config import Settings
from service.domain.errors import AccountPrivate, FetchError, UpstreamFailed
from service.domain.ports import Services
from service.domain.requests import SCRAPE
from service.domain.sharing import Landing
from service.stores import keys
from tests.conftest import RecordingQueue, make_services
from tests.redis.kit import Lua, at_once, submission
from tests.upstreams import StoriesByName
from workers import scrape
from workers.shared import brought_by, landing_of
from workers.sources.contract import Found, reel_found

STORY = {"pk": "1", "expiring_at": int(time.time()) + 86_400}  # longer than any run of the tests
REEL = reel_found("5", {"pk": "5", "username": "anna"}, {"id": "5", "items": [STORY]})


class Upstream(StoriesByName):
    """Counts its calls; each takes as long as ``hold`` is not set."""

    name = "fake"

    def __init__(self, answer: Found | FetchError = REEL) -> None:
        self.answer = answer
        self.calls: list[str] = []
        self.hold = threading.Event()
        self.hold.set()
        self.during: Callable[[], None] = lambda: None

    def stories(self, username: str) -> Found:
        self.calls.append(username)
        self.during()
        assert self.hold.wait(60)
        if isinstance(self.answer, FetchError):
            raise self.answer
        return self.answer


@pytest.fixture
def account_id(services: Services) -> str:
    made = services.accounts.create("anna@example.com", "hash")
    services.credits.add(made.account_id, 1_000, entry_type="topup", note="")
    return made.account_id


def ask(services: Services, account_id: str, *, max_age: int = 60, username: str = "anna") -> str:
    return services.requests.submit(submission(account_id, username=username, max_age=max_age)).request_id


def envelope(services: Services, request_id: str) -> dict:
    return json.loads(services.requests.envelope(request_id) or b"null")


def work_off(services: Services, queue: RecordingQueue, upstream: Upstream) -> None:
    """Do what was published, and what that publishes."""
    while queue.published:
        task, _, request_id, *_ = queue.published.pop(0)
        if task == SCRAPE:
            scrape.run(services, upstream, request_id)


def test_a_second_call_gets_what_was_fetched_for_the_first(services: Services, account_id: str) -> None:
    upstream = Upstream()
    first, second = ask(services, account_id), ask(services, account_id)
    scrape.run(services, upstream, first)
    scrape.run(services, upstream, second)
    assert upstream.calls == ["anna"]
    told = [envelope(services, each) for each in (first, second)]
    assert [each["cached"] for each in told] == [False, True]
    assert told[0]["age"] == 0
    assert 0 <= told[1]["age"] < 60, "a second may have begun since"
    assert told[0]["data"] == told[1]["data"]
    record = services.requests.get(second)
    assert record is not None
    assert (record.cached, record.charged, record.item_count) == (True, 1, 1)
    assert audit(services).differences == []


def test_who_wants_it_anew_gets_it_anew(services: Services, account_id: str) -> None:
    upstream = Upstream()
    scrape.run(services, upstream, ask(services, account_id))
    time.sleep(0.002)  # in another millisecond than the fetch
    scrape.run(services, upstream, anew := ask(services, account_id, max_age=0))
    assert len(upstream.calls) == 2
    assert envelope(services, anew)["cached"] is False


def test_a_shared_result_has_its_own_price(settings: Settings, redis: Redis, queue: RecordingQueue) -> None:
    prices = settings.policy.prices
    cheap = {**prices.prices, "stories": {**prices.prices["stories"], "found": 2, "cached": 1}}
    services = make_services(settings, redis, queue, prices=type(prices)(cheap))
    account_id = services.accounts.create("anna@example.com", "hash").account_id
    services.credits.add(account_id, 10, entry_type="topup", note="")
    made = [services.requests.submit(submission(account_id, hold=2, max_age=60)) for _ in range(2)]
    for each in made:
        scrape.run(services, Upstream(), each.request_id)
    charged = [services.requests.get(each.request_id).charged for each in made]  # type: ignore[union-attr]
    assert charged == [2, 1]
    assert services.credits.balance(account_id).balance == 7


def test_who_asks_meanwhile_waits_for_the_fetch_and_is_served_by_it(
    services: Services, account_id: str, queue: RecordingQueue
) -> None:
    upstream, late = Upstream(), []

    def others() -> None:
        for _ in range(3):
            late.append(ask(services, account_id))
            scrape.run(services, upstream, late[-1])
            assert services.requests.get(late[-1]).status == "queued"  # type: ignore[union-attr]

    upstream.during = others
    scrape.run(services, upstream, first := ask(services, account_id))
    assert upstream.calls == ["anna"]
    assert [envelope(services, each)["outcome"] for each in (first, *late)] == ["found"] * 4


def test_a_failure_is_shared_with_those_who_were_there_before_it(
    services: Services, account_id: str, queue: RecordingQueue
) -> None:
    upstream = Upstream(AccountPrivate("This one is private."))
    before = [ask(services, account_id) for _ in range(3)]
    upstream.during = lambda: [scrape.run(services, upstream, each) for each in before[1:]] and None
    scrape.run(services, upstream, before[0])
    assert len(upstream.calls) == 1
    assert {envelope(services, each)["error"] for each in before} == {"This one is private."}
    assert services.credits.balance(account_id).balance == 1_000
    upstream.during = lambda: None
    time.sleep(0.002)  # until the store's clock, in ms, has gone on
    scrape.run(services, upstream, ask(services, account_id))
    assert len(upstream.calls) == 2, "later ones ask for themselves"


def test_a_fetch_that_never_lands_keeps_nobody_for_longer_than_its_lease(
    settings: Settings, redis: Redis, queue: RecordingQueue
) -> None:
    services = make_services(settings, redis, queue)
    account_id = services.accounts.create("anna@example.com", "hash").account_id
    services.credits.add(account_id, 10, entry_type="topup", note="")
    assert services.reels.board("anna", "req_of_a_dead_worker") is not None
    request_id, upstream = ask(services, account_id), Upstream()
    scrape.run(services, upstream, request_id)
    assert upstream.calls == []
    redis.delete(keys.flight("anna"))  # its lease is over
    scrape.run(services, upstream, request_id)
    assert envelope(services, request_id)["outcome"] == "found"


def test_what_is_cancelled_while_it_waits_stays_so(
    services: Services, account_id: str, queue: RecordingQueue
) -> None:
    upstream = Upstream()
    first, second = ask(services, account_id), ask(services, account_id)

    def cancel() -> None:
        scrape.run(services, upstream, second)
        record = services.requests.get(second)
        assert record is not None
        from tests.redis.kit import CANCEL

        services.requests.cancel(record, CANCEL)

    upstream.during = cancel
    scrape.run(services, upstream, first)
    assert services.requests.get(second).status == "cancelled"  # type: ignore[union-attr]
    assert audit(services).differences == []


def test_a_hundred_who_ask_three_workers_cost_one_call(
    settings: Settings, valkey: Redis, queue: RecordingQueue
) -> None:
    services = make_services(settings, valkey, queue)
    account_id = services.accounts.create("anna@example.com", "hash").account_id
    services.credits.add(account_id, 1_000, entry_type="topup", note="")
    asked = [ask(services, account_id) for _ in range(100)]
    upstream = Upstream()
    upstream.during = lambda: time.sleep(0.2)  # as a real one does, so that the others come meanwhile

    def worker(number: int) -> None:
        for request_id in asked[number::3]:
            scrape.run(services, upstream, request_id)

    at_once(3, worker)
    work_off(services, queue, upstream)
    assert len(upstream.calls) == 1
    ended = [services.requests.get(each) for each in asked]
    assert {(each.status, each.charged) for each in ended if each} == {("succeeded", 1)}
    assert sum(each.cached for each in ended if each) == 99
    assert services.credits.balance(account_id).balance == 900
    assert audit(services).differences == []


def shared_again(services: Services, brought: Found | FetchError) -> Found | FetchError:
    """What others get of what a fetch brought."""
    flight = services.reels.board("anna", "req_1")
    assert flight is not None
    services.reels.land(flight, landing_of(brought, services.clock()))
    shared, _ = services.reels.get("anna")
    assert shared is not None
    return brought_by(shared)


@pytest.mark.parametrize(
    "brought", [REEL, reel_found("5", {"pk": "5"}, None), UpstreamFailed("Odd.", retry_after=7)]
)
def test_what_is_shared_is_what_was_fetched(brought: Found | FetchError, services: Services) -> None:
    again = shared_again(services, brought)
    if isinstance(brought, FetchError):
        assert isinstance(again, type(brought))
        assert (again.message, again.retry_after) == (brought.message, brought.retry_after)
    else:
        assert again == brought


def test_what_json_has_no_word_for_is_shared_as_it_was(services: Services, account_id: str) -> None:
    """Half an emoji and a number beyond 64 bits, in one reel."""
    media = {"pk": 123456789012345678901234, "caption": {"text": "\ud83d"}}
    found = reel_found("5", {"pk": "5"}, {"id": "5", "user": {"pk": "5"}, "items": [media]})
    again = shared_again(services, found)
    assert isinstance(again, Found)
    assert again.data["items"] == [{"pk": "123456789012345678901234", "caption": {"text": "?"}}]


def test_a_shared_result_that_cannot_be_used_ends_who_asks_for_it(
    services: Services, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistake(*_: object) -> Found:
        raise KeyError("items")

    upstream = Upstream()
    scrape.run(services, upstream, ask(services, account_id))
    monkeypatch.setattr(scrape, "brought_by", mistake)
    second = ask(services, account_id)
    scrape.run(services, upstream, second)
    told = envelope(services, second)
    assert (told["code"], told["creditsCharged"]) == ("internal_error", 0)
    assert audit(services).differences == []


# --- the scripts ---------------------------------------------------------------------------------

FLIGHT, WAITING, SHARED = "flight", "waiting", "reel"


@pytest.fixture
def lua(valkey: Redis) -> Lua:
    return Lua(valkey)


def board(lua: Lua, token: str = "mine", request_id: str = "req_1") -> int:
    return lua("flight_board", [FLIGHT, WAITING], token, 60_000, request_id)


def land(lua: Lua, token: str = "mine", *, lifetime: int = 60_000, until: int = 0) -> list[str]:
    return lua(
        "flight_land", [FLIGHT, WAITING, SHARED], token, lifetime, 1_000, until, "", b"body", "42", "anna"
    )


def server_ms(lua: Lua) -> int:
    seconds, micros = lua.redis.time()
    return seconds * 1000 + micros // 1000


def test_one_boards_and_the_others_wait(lua: Lua) -> None:
    before = server_ms(lua)
    assert before <= board(lua) <= server_ms(lua)
    assert 0 < lua.redis.pttl(FLIGHT) <= 60_000
    assert board(lua, "another", "req_2") == 0
    assert lua.redis.smembers(WAITING) == {"req_2"}
    assert board(lua) > 0, "a lost reply is asked for again"


def test_landing_keeps_the_reel_and_names_who_waited(lua: Lua) -> None:
    board(lua)
    board(lua, "another", "req_2")
    assert land(lua) == ["req_2"]
    assert not lua.redis.exists(FLIGHT, WAITING)
    reel = lua.redis.hgetall(SHARED)
    assert (reel["started"], reel["code"], reel["body"]) == ("1000", "", "body")
    assert int(reel["until"]) - int(reel["fetched"]) == 60_000
    assert 0 < lua.redis.pttl(SHARED) <= 60_000


def test_a_story_that_expires_soon_ends_it_sooner(lua: Lua) -> None:
    board(lua)
    land(lua, until=server_ms(lua) + 30_000)
    assert 0 < lua.redis.pttl(SHARED) <= 30_000


@pytest.mark.parametrize("changes", [{"lifetime": 0}, {"until": 1}])
def test_nothing_to_share_is_kept_not_at_all(lua: Lua, changes: dict[str, int]) -> None:
    board(lua)
    board(lua, "another", "req_2")
    assert land(lua, **changes) == ["req_2"]
    assert not lua.redis.exists(SHARED)


def test_who_lost_the_flight_leaves_everything_to_its_successor(lua: Lua) -> None:
    board(lua)
    board(lua, "another", "req_2")
    assert land(lua, "lost") == []
    assert lua.redis.exists(FLIGHT, WAITING) == 2


def test_a_landing_of_nothing_frees_the_way(services: Services) -> None:
    flight = services.reels.board("anna", "req_1")
    assert flight is not None
    assert services.reels.board("anna", "req_2") is None
    assert services.reels.land(flight, None) == ["req_2"]
    assert services.reels.get("anna")[0] is None
    again = services.reels.board("anna", "req_3")
    assert again is not None
    assert services.reels.land(again, Landing(b"{}")) == []
