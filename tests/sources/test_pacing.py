"""The source under budgets: against the simulated Instagram, which counts what it is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pytest_httpserver import HTTPServer
from redis import Redis

from service.domain.errors import NoSessionFree, Retry, UpstreamBlocked, UserNotFound
from service.domain.instagram import Pace
from service.stores.instagram_sessions import BUDGET, InstagramSessions
from workers.sources.accounts import SessionPool
from workers.sources.contract import Found

BUDGET_A_MINUTE = 7
NOWHERE = "http://127.0.0.1:1"

Asked = Callable[[], dict[str, int]]


@pytest.fixture
def pace() -> Pace:
    return Pace(session_minute=BUDGET_A_MINUTE)


@pytest.fixture
def sessions(store: Redis, pace: Pace) -> InstagramSessions:
    return InstagramSessions(store, Fernet(Fernet.generate_key()), b"k" * 32, pace)


def fetch_all(world: Any, names: list[str]) -> dict[str, Any]:
    """Ask for one after the other; what came of each."""
    found: dict[str, Any] = {}
    for name in names:
        try:
            found[name] = world.stories(name)
        except Exception as error:  # noqa: BLE001 - judged by the test
            found[name] = error
    return found


def spend(world: Any, calls: int, *, granted: int, error: Exception | None = None) -> None:
    """Make calls with one client, and end with an error or well."""
    with world.pool.client(granted) as lent:
        assert lent.granted == granted
        for _ in range(calls):
            lent.spend()
        if error:
            raise error


def unserved(found: dict[str, Any]) -> int:
    return sum(isinstance(each, NoSessionFree) for each in found.values())


def test_no_more_is_asked_than_the_budget_allows(
    make_world: Callable[..., Any], simulator: str, asked: Asked
) -> None:
    found = fetch_all(make_world(simulator), [f"user{number}" for number in range(12)])
    assert sum(asked().values()) == 6, "three fetches of two calls; for a fourth one call is too few"
    assert (sum(isinstance(each, Found) for each in found.values()), unserved(found)) == (3, 9)


def test_a_remembered_id_saves_a_call(make_world: Callable[..., Any], simulator: str, asked: Asked) -> None:
    world = make_world(simulator)
    assert isinstance(world.stories("anna"), Found)
    found = [fetch_all(world, ["anna"])["anna"] for _ in range(12)]
    assert sum(asked().values()) == 6, "two calls, then four of one; one left is too few to begin with"
    assert sum(isinstance(each, Found) for each in found) == 4


def test_many_threads_and_sessions_keep_to_their_budgets(
    make_world: Callable[..., Any], simulator: str, asked: Asked
) -> None:
    world = make_world(simulator, accounts=3, wait_seconds=30)
    found: list[dict[str, Any]] = []

    def work(number: int) -> None:
        found.append(fetch_all(world, [f"user{number}x{turn}" for turn in range(4)]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sum(asked().values()) == 3 * 6
    assert sum(unserved(each) for each in found) == 8 * 4 - 9
    assert {record.calls_minute for record in world.sessions.list()} == {6}


@pytest.mark.parametrize("error", [UserNotFound, RuntimeError])
def test_calls_that_failed_were_made(
    make_world: Callable[..., Any], simulator: str, error: type[Exception]
) -> None:
    world = make_world(simulator)
    with pytest.raises(error):
        spend(world, 1, granted=5, error=error())
    assert world.session().calls_minute == 1


def test_a_client_makes_no_more_calls_than_it_was_lent_for(make_world: Callable[..., Any]) -> None:
    world = make_world(NOWHERE)
    with pytest.raises(UpstreamBlocked) as caught:
        spend(world, 3, granted=2)
    assert caught.value.retry is Retry.ELSEWHERE
    assert (world.session().calls_minute, world.session().failure, world.session().state) == (2, "", "active")


def test_settings_nobody_can_use_make_no_call(store: Redis, sessions: InstagramSessions) -> None:
    def broken(settings: dict[str, Any], proxy: str | None) -> Any:
        raise AssertionError("Proxy must been string")

    sessions.add("s1", {"authorization_data": {"sessionid": "x"}})
    with pytest.raises(UpstreamBlocked), SessionPool(sessions, broken).client(3):
        pass
    assert sessions.get("s1").calls_minute == 0


@pytest.mark.parametrize("pace", [Pace(session_minute=3)])
def test_an_outdated_id_at_the_budgets_end_is_tried_anew_and_not_over_it(
    make_world: Callable[..., Any], httpserver: HTTPServer, store: Redis
) -> None:
    world = make_world(httpserver.url_for("").rstrip("/"))
    world.ids.put("anna", "4")
    user, reel = {"pk": 5, "username": "anna", "is_private": False}, {"id": 5, "items": [{"pk": 1}]}
    answers = {
        "feed/user/4/story/": {"reel": None},
        "users/anna/usernameinfo/": {"user": user},
        "feed/user/5/story/": {"reel": {**reel, "user": user}},
    }
    for path, answer in answers.items():
        httpserver.expect_request(f"/api/v1/{path}").respond_with_json({**answer, "status": "ok"})
    spend(world, 1, granted=1)
    with pytest.raises(UpstreamBlocked) as caught:
        world.stories("anna")
    assert (caught.value.retry, len(httpserver.log)) == (Retry.ELSEWHERE, 2)
    store.delete(BUDGET)
    assert world.stories("anna").data["id"] == 5
    assert len(httpserver.log) == 3, "the id is known by now"


# --- many in one call ----------------------------------------------------------------------------


def test_a_group_looks_up_as_many_as_leave_a_call_for_the_reels(
    make_world: Callable[..., Any], simulator: str, asked: Asked
) -> None:
    names = [f"user{number}" for number in range(20)]
    found = make_world(simulator).source.reels(names)
    assert set(found) == set(names[: BUDGET_A_MINUTE - 1])
    assert sum(asked().values()) == BUDGET_A_MINUTE


def test_a_group_of_known_names_takes_one_call(
    make_world: Callable[..., Any], simulator: str, asked: Asked
) -> None:
    world, names = make_world(simulator), ["anna", "bert", "carl"]
    assert set(world.source.reels(names)) == set(names)
    assert world.session().calls_minute == 4
    for _ in range(3):
        assert set(world.source.reels(names)) == set(names)
    assert sum(asked().values()) == world.session().calls_minute == 7
    with pytest.raises(NoSessionFree):
        world.source.reels(names)


def test_what_is_known_of_a_group_is_told_without_a_session(
    make_world: Callable[..., Any], simulator: str
) -> None:
    world = make_world(simulator)
    world.ids.put_missing("nobody")
    world.sessions.rest("s1", 900)
    found = world.source.reels(["nobody", "anna", "bert"])
    assert [type(each) for each in found.values()] == [UserNotFound]


# --- nobody free ---------------------------------------------------------------------------------


def test_whoever_finds_no_session_is_told_when_to_come_back(make_world: Callable[..., Any]) -> None:
    world = make_world(NOWHERE)
    spend(world, BUDGET_A_MINUTE, granted=BUDGET_A_MINUTE)
    with pytest.raises(NoSessionFree) as caught, world.pool.client():
        pass
    assert 40 < caught.value.retry_in <= 67
    assert 40 < caught.value.retry_after <= 67


def test_a_session_others_hold_is_asked_for_again_soon(make_world: Callable[..., Any]) -> None:
    world = make_world(NOWHERE, wait_seconds=0.05)
    with world.pool.client(), pytest.raises(NoSessionFree) as caught, world.pool.client():
        pass
    assert caught.value.retry_in == 1


def test_nobody_comes_back_where_there_is_nobody(make_world: Callable[..., Any]) -> None:
    world = make_world(NOWHERE, accounts=0)
    with pytest.raises(NoSessionFree) as caught, world.pool.client():
        pass
    assert (caught.value.retry_in, caught.value.retry_after) == (None, 300)
