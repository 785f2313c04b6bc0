"""Many reels in one call: what is certain, what it costs, and what one name may do to the others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import pytest
import requests
from pytest_httpserver import HTTPServer
from redis import Redis
from werkzeug import Request, Response

from service.domain.errors import AccountPrivate, FetchError, NoSessionFree, StoreUnavailable, UserNotFound
from service.domain.instagram import NOT_FOUND, SessionState
from tests.sources.conftest import until
from workers.sources.contract import Found

THIRTY = [f"user{number}" for number in range(30)]
OK = {"status": "ok"}

Asked = Callable[[], dict[str, int]]
Make = Callable[..., Any]


def knobs(simulator: str, **changes: Any) -> None:
    requests.post(f"{simulator}/_sim/knobs", json=changes, timeout=60).raise_for_status()


def became(simulator: str, scenes: dict[str, str]) -> None:
    """Change what happens to names whose ids are known."""
    knobs(simulator, scene_overrides=scenes)


def since(asked: Asked, before: dict[str, int]) -> dict[str, int]:
    return {name: more for name, count in asked().items() if (more := count - before.get(name, 0))}


def outcome(brought: Found | FetchError | None) -> str:
    if isinstance(brought, Found):
        return "found" if brought.data["items"] else "empty"
    return brought.code if brought else "alone"


def outcomes(found: dict[str, Found | FetchError], names: Sequence[str]) -> list[str]:
    return [outcome(found.get(name)) for name in names]


def forget_how_seen(store: Redis) -> None:
    """Let PRIVACY_TTL pass."""
    store.delete(*store.keys("{ig}:seen:*"))


# --- what it costs -------------------------------------------------------------------------------


def test_thirty_unknown_names_are_thirty_one_calls_and_then_one(
    make_world: Make, simulator: str, asked: Asked
) -> None:
    world = make_world(simulator)
    cold = world.source.reels(THIRTY)
    assert asked() == {"usernameinfo": 30, "reels_media": 1}
    assert world.source.reels(THIRTY).keys() == cold.keys() == set(THIRTY)
    assert asked() == {"usernameinfo": 30, "reels_media": 2}
    assert world.session().uses == 2, "one session, leased once a group"


def test_each_gets_the_same_as_alone(make_world: Make, simulator: str) -> None:
    names = [*THIRTY[:5], "stickers_anna", "drift_anna", "huge_anna", "slow_1_anna"]
    for _ in range(2):  # cold, warm
        world = make_world(simulator)
        found = world.source.reels(names)
        assert list(found) == names
        for name in names:
            alone = world.stories(name)
            assert (alone.data["id"], alone.data["user"]["username"]) == (found[name].data["id"], name)
            assert [item["id"] for item in alone.data["items"]] == [
                item["id"] for item in found[name].data["items"]
            ]


def test_one_name_is_left_to_the_single_call(make_world: Make, simulator: str, asked: Asked) -> None:
    world = make_world(simulator)
    assert world.source.reels(["anna"]) == {}
    assert world.source.reels(["anna", "ANNA"]) == {}
    assert world.source.reels([]) == {}
    assert asked() == {}


def test_missing_names_are_remembered(make_world: Make, simulator: str, asked: Asked) -> None:
    world, names = make_world(simulator), ["missing_anna", "anna", "missing_ben", "ben"]
    for _ in range(2):
        found = world.source.reels(names)
        assert outcomes(found, names) == ["user_not_found", "found", "user_not_found", "found"]
    assert asked() == {"usernameinfo": 4, "reels_media": 2}
    assert world.ids.get("missing_anna") is NOT_FOUND


def test_upper_case_and_names_that_come_twice(make_world: Make, simulator: str, asked: Asked) -> None:
    world = make_world(simulator)
    found = world.source.reels(["Anna", "ben", "anna", "BEN", "ben"])
    assert list(found) == ["Anna", "ben", "anna", "BEN"]
    assert found["Anna"] == found["anna"]
    assert found["ben"].data["user"]["username"] == "ben"
    assert asked() == {"usernameinfo": 2, "reels_media": 1}


def test_who_has_no_story_today_costs_nothing_more(make_world: Make, simulator: str, asked: Asked) -> None:
    """The frequent case. Goal: 0.05 calls a name."""
    world = make_world(simulator)
    world.source.reels(THIRTY)
    became(simulator, dict.fromkeys(THIRTY[:20], "empty"))
    before = asked()
    found = world.source.reels(THIRTY)
    assert outcomes(found, THIRTY) == ["empty"] * 20 + ["found"] * 10
    assert since(asked, before) == {"reels_media": 1}
    assert found["user3"].data["user"]["username"] == "user3"
    assert found["user3"].data["user"]["is_private"] is False


def test_reels_found_tell_who_is_public_as_well(
    make_world: Make, simulator: str, asked: Asked, store: Redis
) -> None:
    world = make_world(simulator)
    world.source.reels(THIRTY)
    forget_how_seen(store)
    world.source.reels(THIRTY)
    became(simulator, dict.fromkeys(THIRTY, "empty"))
    before = asked()
    assert set(outcomes(world.source.reels(THIRTY), THIRTY)) == {"empty"}
    assert since(asked, before) == {"reels_media": 1}


def test_a_reel_found_alone_tells_it_too(
    make_world: Make, simulator: str, asked: Asked, store: Redis
) -> None:
    world = make_world(simulator)
    world.stories("anna")
    forget_how_seen(store)
    world.stories("anna")
    became(simulator, {"anna": "empty"})
    assert world.stories("anna").data["items"] == []
    assert asked() == {"usernameinfo": 1, "story_feed": 3}


def test_after_a_while_who_shows_nothing_is_looked_up_once(
    make_world: Make, simulator: str, asked: Asked, store: Redis
) -> None:
    world, names = make_world(simulator), ["empty_anna", "private_ben", "carl", "dora"]
    expected = ["empty", "account_private", "found", "found"]
    assert outcomes(world.source.reels(names), names) == expected
    assert outcomes(world.source.reels(names), names) == expected
    assert asked() == {"usernameinfo": 4, "reels_media": 2}
    forget_how_seen(store)
    for _ in range(2):
        assert outcomes(world.source.reels(names), names) == expected
    assert asked() == {"usernameinfo": 6, "reels_media": 4}


def test_an_account_that_turned_private_or_went_is_called_empty_for_as_long(
    make_world: Make, simulator: str, store: Redis
) -> None:
    """The price of it, as ARCHITECTURE.md says; nothing is shown that should not be."""
    world, names = make_world(simulator), ["anna", "ben", "carl"]
    world.source.reels(names)
    became(simulator, {"anna": "private", "ben": "missing"})
    assert outcomes(world.source.reels(names), names) == ["empty", "empty", "found"]
    forget_how_seen(store)
    assert outcomes(world.source.reels(names), names) == ["account_private", "user_not_found", "found"]


def test_an_account_that_turned_public_is_shown_at_once(make_world: Make, simulator: str) -> None:
    world, names = make_world(simulator), ["anna", "ben"]
    became(simulator, {"anna": "private"})
    assert outcomes(world.source.reels(names), names) == ["account_private", "found"]
    became(simulator, {})
    assert outcomes(world.source.reels(names), names) == ["found", "found"]


# --- what one name does to the others ------------------------------------------------------------


class Poison(NamedTuple):
    """A name, what becomes of it and of the others, and the states sessions may be in after it."""

    name: str
    its: str
    others: str
    states: set[str]


POISON = [
    Poison("private_x", "account_private", "found", {"active"}),
    Poison("missing_x", "user_not_found", "found", {"active"}),
    Poison("empty_x", "empty", "found", {"active"}),
    Poison("slow_1_x", "found", "found", {"active"}),
    Poison("drift_x", "found", "found", {"active"}),
    Poison("huge_x", "found", "found", {"active"}),
    Poison("stickers_x", "found", "found", {"active"}),
    Poison("flaky_x", "found", "found", {"active"}),  # fails once, and is asked for once more
    Poison("notauthorized_x", "alone", "alone", {"active"}),
    Poison("error_x", "alone", "alone", {"active"}),
    Poison("html_x", "alone", "alone", {"active"}),
    Poison("truncated_x", "alone", "alone", {"active"}),
    Poison("upgrade_x", "alone", "alone", {"active"}),
    Poison("ratelimited_x", "alone", "alone", {"active", "resting"}),
    Poison("wait_x", "alone", "alone", {"active", "resting"}),
    Poison("feedback_x", "alone", "alone", {"active", "resting"}),
    Poison("forbidden_x", "alone", "alone", {"active", "resting"}),
    Poison("challenge_x", "alone", "alone", {"active", "quarantined"}),
    Poison("loginrequired_x", "alone", "alone", {"active", "quarantined"}),
]


@pytest.mark.parametrize("poison", POISON, ids=lambda each: each.name)
def test_poison(make_world: Make, simulator: str, asked: Asked, poison: Poison) -> None:
    """It raises nothing, and nobody gets somebody else's answer: what is not certain is left out."""
    world = make_world(simulator, accounts=4)
    names = ["anna", poison.name, "ben", "missing_carl", "empty_dora"]
    for _ in range(2):
        found = world.source.reels(names)
        assert outcome(found.get(poison.name)) == poison.its
        assert outcomes(found, ["anna", "ben"]) == [poison.others] * 2
        assert outcome(found.get("missing_carl")) == "user_not_found"
        assert outcome(found.get("empty_dora")) == ("alone" if poison.others == "alone" else "empty")
        assert {str(record.state) for record in world.sessions.list()} <= poison.states
        assert not any(record.leased for record in world.sessions.list())
        for each, brought in found.items():
            assert isinstance(brought, FetchError) or brought.data["user"]["username"] == each
    assert asked()["usernameinfo"] == 5, "who was looked up stays known, whatever came then"


def test_a_name_that_hangs(make_world: Make, simulator: str) -> None:
    world = make_world(simulator, read_timeout=3.0)
    assert world.source.reels(["anna", "hang_x"]) == {}
    assert world.session().failure == "timeout"
    assert world.stories("anna").data["items"]


def test_a_pool_that_is_exhausted_leaves_all_to_the_single_call(
    make_world: Make, simulator: str, asked: Asked
) -> None:
    world = make_world(simulator)
    world.sessions.rest("s1", 60)
    world.ids.put_missing("carl")
    found = world.source.reels(["anna", "ben", "carl"])
    assert outcomes(found, ["anna", "ben", "carl"]) == ["alone", "alone", "user_not_found"]
    assert asked() == {}


def test_a_rate_limit_amid_the_look_ups_is_gone_on_from_with_another_session(
    make_world: Make, simulator: str, asked: Asked
) -> None:
    world = make_world(simulator, accounts=2)
    knobs(simulator, session_limit_per_minute=20)
    found = world.source.reels(THIRTY)
    assert set(outcomes(found, THIRTY)) == {"found"}
    assert asked()["reels_media"] == 1
    assert asked()["usernameinfo"] == 31, "one was refused, none was looked up twice"
    assert sorted(str(record.state) for record in world.sessions.list()) == ["active", "resting"]


def test_a_rate_limit_amid_the_look_ups_with_no_other_session(
    make_world: Make, simulator: str, asked: Asked
) -> None:
    """What is certain counts, and what was looked up stays known."""
    world, names = make_world(simulator), ["missing_x", *THIRTY]
    knobs(simulator, session_limit_per_minute=20)
    found = world.source.reels(names)
    assert outcomes(found, names) == ["user_not_found"] + ["alone"] * 30
    assert world.session().state is SessionState.RESTING
    assert sum(world.ids.get(name) is not None for name in THIRTY) == 19
    knobs(simulator, session_limit_per_minute=0)
    world.sessions.resume("s1")
    before = asked()
    assert set(outcomes(world.source.reels(THIRTY), THIRTY)) == {"found"}
    assert since(asked, before) == {"usernameinfo": 11, "reels_media": 1}


# --- when to stop --------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [0, 1, 5])
def test_once_it_is_not_to_go_on_no_call_is_made(
    make_world: Make, simulator: str, asked: Asked, calls: int
) -> None:
    world, answers = make_world(simulator), iter([True] * (calls + 1) + [False] * 100)
    assert world.source.reels(THIRTY, lambda: next(answers)) == {}
    assert sum(asked().values()) == calls
    assert not world.session().leased


def test_look_ups_end_with_the_patience_and_the_others_are_asked_for_together(
    make_world: Make, simulator: str, asked: Asked
) -> None:
    world = make_world(simulator, lease_seconds=12)
    for name in ("anna", "ben"):
        world.stories(name)
    knobs(simulator, latency_ms=2_000)
    found = world.source.reels(["anna", *THIRTY, "ben"])
    assert outcomes(found, ["anna", "ben"]) == ["found", "found"]
    # Two before; two more at most, less on a busy machine: after a quarter of the lease there is no other.
    assert 2 <= asked()["usernameinfo"] <= 4
    assert asked()["reels_media"] == 1


# --- answers that the simulated Instagram does not give ------------------------------------------


class Scripted:
    """An Instagram whose every answer is written down here; ``paths`` is what it was asked."""

    def __init__(self, server: HTTPServer) -> None:
        self.users: dict[str, Any] = {}
        self.reels: Any = {}
        self.refused = 0  # calls for reels that are answered 429 first
        self.paths: list[str] = []
        self.together: list[list[str]] = []
        server.expect_request("/api/v1/feed/user/1/story/").respond_with_json({"reel": reel(1, "a"), **OK})
        server.expect_request("/api/v1/feed/reels_media/").respond_with_handler(self._reels)
        server.expect_request(re.compile("/api/v1/users/[^/]+/usernameinfo/")).respond_with_handler(
            self._user
        )

    def _user(self, request: Request) -> Response:
        self.paths.append(request.path.removeprefix("/api/v1/"))
        user = self.users.get(request.path.split("/")[4])
        if isinstance(user, list):
            user = user.pop(0)
        if isinstance(user, int):
            return Response('{"status": "fail"}', user)
        if user is None:
            return Response('{"message": "User not found", "status": "fail"}', 404)
        return Response(json.dumps({"user": user, **OK}))

    def _reels(self, request: Request) -> Response:
        self.paths.append(request.path.removeprefix("/api/v1/"))
        body = json.loads(unquote_plus(request.form["signed_body"].removeprefix("SIGNATURE.")))
        self.together.append(body["user_ids"])
        if len(self.together) <= self.refused:
            return Response('{"status": "fail"}', 429)
        if isinstance(self.reels, dict):
            asked = {each: self.reels[each] for each in body["user_ids"] if each in self.reels}
            return Response(json.dumps({"reels": asked, **OK}))
        return Response(json.dumps({"reels": self.reels, **OK}))


def user(user_id: int, name: str, **more: Any) -> dict[str, Any]:
    return {"pk": user_id, "username": name, "is_private": False, **more}


def reel(user_id: int, name: str, **more: Any) -> dict[str, Any]:
    return {"id": user_id, "user": user(user_id, name), "items": [{"pk": user_id * 10}], **more}


@pytest.fixture
def instagram(httpserver: HTTPServer) -> Scripted:
    return Scripted(httpserver)


@pytest.fixture
def world(make_world: Make, httpserver: HTTPServer, instagram: Scripted) -> Any:
    return make_world(httpserver.url_for("").rstrip("/"), accounts=2)


def test_each_reel_goes_to_its_own_name_whatever_is_left_out(world: Any, instagram: Scripted) -> None:
    names = ["a", "b", "c", "d", "e"]
    instagram.users = {name: user(number, name) for number, name in enumerate(names, 1)}
    instagram.reels = {"5": reel(5, "e"), "2": reel(2, "b")}
    for _ in range(2):
        found = world.source.reels(names)
        assert outcomes(found, names) == ["empty", "found", "empty", "empty", "found"]
        assert [str(found[name].data["id"]) for name in names] == ["1", "2", "3", "4", "5"]
        assert [found[name].data["user"]["username"] for name in names] == names
    assert instagram.together == [["1", "2", "3", "4", "5"]] * 2


def test_a_reel_under_somebody_elses_id_is_not_used(world: Any, instagram: Scripted) -> None:
    instagram.users = {"a": user(1, "a"), "b": user(2, "b")}
    instagram.reels = {"1": reel(2, "b"), "2": reel(2, "b")}
    for _ in range(2):  # looked up, known
        assert outcomes(world.source.reels(["a", "b"]), ["a", "b"]) == ["alone", "found"]


def test_names_that_were_given_away_are_looked_up_anew_and_asked_for_together(
    world: Any, instagram: Scripted
) -> None:
    for number, name in enumerate("abc", 1):
        world.ids.put(name, str(number), user(number, name))
    instagram.users = {"a": user(11, "a"), "b": user(12, "b")}
    instagram.reels = {"1": reel(1, "a_old"), "2": reel(2, "b_old"), "3": reel(3, "c"), "11": reel(11, "a")}
    found = world.source.reels(["a", "b", "c"])
    assert outcomes(found, ["a", "b", "c"]) == ["found", "empty", "found"]
    assert [str(found[name].data["id"]) for name in "abc"] == ["11", "12", "3"]
    assert instagram.together == [["1", "2", "3"], ["11", "12"]]
    assert world.ids.get("a").user_id == "11"


def test_a_known_name_that_is_nobodys_any_more(world: Any, instagram: Scripted) -> None:
    world.ids.put("a", "1")
    world.ids.put("b", "2")
    instagram.reels = {"1": reel(1, "a_old"), "2": reel(2, "b")}
    assert outcomes(world.source.reels(["a", "b"]), ["a", "b"]) == ["user_not_found", "found"]


def test_a_reel_past_its_time_is_handed_on_as_it_came(world: Any, instagram: Scripted) -> None:
    """As the single call does; nobody else is shown it, see `first_expiry`."""
    instagram.users = {"a": user(1, "a"), "b": user(2, "b")}
    old = reel(1, "a", expiring_at=1, items=[{"pk": 10, "expiring_at": 1}])
    instagram.reels = {"1": old, "2": reel(2, "b")}
    assert world.source.reels(["a", "b"])["a"].data == old


def test_a_reel_without_items_is_empty(world: Any, instagram: Scripted) -> None:
    instagram.users = {"a": user(1, "a"), "b": user(2, "b")}
    instagram.reels = {"1": reel(1, "a", items=[]), "2": None}
    for _ in range(2):
        assert outcomes(world.source.reels(["a", "b"]), ["a", "b"]) == ["empty", "empty"]
    assert len(instagram.paths) == 4


def test_a_followed_private_account_is_looked_up_whenever_it_is_silent(
    world: Any, instagram: Scripted
) -> None:
    """Another session may not follow it: what this one sees is not remembered."""
    followed = user(1, "a", is_private=True, friendship_status={"following": True})
    instagram.users = {"a": followed, "b": user(2, "b")}
    instagram.reels = {"2": reel(2, "b")}
    for _ in range(2):
        assert outcomes(world.source.reels(["a", "b"]), ["a", "b"]) == ["empty", "found"]
    assert world.ids.get("a").user is None
    assert instagram.paths.count("users/a/usernameinfo/") == 2


def test_what_one_session_follows_is_not_said_of_another(world: Any, instagram: Scripted) -> None:
    private = user(1, "a", is_private=True)
    instagram.users = {
        "a": [private | {"friendship_status": {"following": True}}, private],
        "b": user(2, "b"),
    }
    instagram.reels, instagram.refused = {"2": reel(2, "b")}, 1
    assert outcomes(world.source.reels(["a", "b"]), ["a", "b"]) == ["account_private", "found"]
    assert instagram.together == [["1", "2"]] * 2
    assert world.ids.get("a").user["is_private"] is True


def test_an_account_of_unknown_privacy_is_left_to_the_single_call(world: Any, instagram: Scripted) -> None:
    instagram.users = {"a": {"pk": 1, "username": "a"}, "b": user(2, "b")}
    instagram.reels = {"2": reel(2, "b")}
    assert outcomes(world.source.reels(["a", "b"]), ["a", "b"]) == ["alone", "found"]


@pytest.mark.parametrize("shape", [[], "x", None, 7], ids=str)
def test_an_answer_of_another_shape_leaves_all_to_the_single_call(
    world: Any, instagram: Scripted, shape: Any
) -> None:
    instagram.users, instagram.reels = {"a": user(1, "a"), "b": user(2, "b")}, shape
    assert world.source.reels(["a", "b"]) == {}
    assert len(instagram.together) == 1


@pytest.mark.parametrize("shape", [[], "x", 7, {"items": None}, {"items": [1]}], ids=str)
def test_a_reel_of_another_shape_spoils_no_other(world: Any, instagram: Scripted, shape: Any) -> None:
    instagram.users = {"a": user(1, "a"), "b": user(2, "b")}
    instagram.reels = {"1": shape, "2": reel(2, "b")}
    assert outcomes(world.source.reels(["a", "b"]), ["a", "b"]) == ["alone", "found"]


def test_look_ups_that_fail_spoil_no_other_until_there_are_several(world: Any, instagram: Scripted) -> None:
    names = ["a", "b", "c", "d"]
    instagram.users = {"a": 500, "b": 500, "c": user(3, "c"), "d": user(4, "d")}
    instagram.reels = {"3": reel(3, "c"), "4": reel(4, "d")}
    assert outcomes(world.source.reels(names), names) == ["alone", "alone", "found", "found"]
    assert instagram.paths.count("users/a/usernameinfo/") == 1
    instagram.paths.clear()
    instagram.users = dict.fromkeys([f"down{number}" for number in range(30)], 500)
    assert world.source.reels(list(instagram.users)) == {}
    assert len(instagram.paths) <= 2 * 3, "an Instagram that is down is not asked thirty times"


def test_a_store_that_goes_away_meanwhile_loses_nothing_of_what_was_found(
    world: Any, instagram: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    instagram.users = {"a": user(1, "a"), "b": user(2, "b")}
    instagram.reels = {"1": reel(1, "a"), "2": reel(2, "b")}

    def out(*_: Any) -> None:
        raise StoreUnavailable

    for name in ("put", "put_many", "put_missing", "forget"):
        monkeypatch.setattr(world.ids, name, out)
    names = ["a", "b", "nobody"]
    assert outcomes(world.source.reels(names), names) == ["found", "found", "user_not_found"]
    assert world.stories("a").data["items"]
    with pytest.raises(UserNotFound):
        world.stories("nobody")


def test_what_alone_is_final_is_final_in_a_group(world: Any, instagram: Scripted) -> None:
    instagram.users = {"a": user(1, "a", is_private=True), "b": user(2, "b")}
    for _ in range(2):
        found = world.source.reels(["a", "b", "c"])
        assert [type(found[name]) for name in "abc"] == [AccountPrivate, Found, UserNotFound]


# --- callers who wait ----------------------------------------------------------------------------


def test_a_caller_has_the_only_session_before_the_group_is_through(
    make_world: Make, simulator: str, asked: Asked
) -> None:
    world = make_world(simulator, wait_seconds=30.0)
    knobs(simulator, latency_ms=200)
    with ThreadPoolExecutor(1) as threads:
        group = threads.submit(world.source.reels, THIRTY)
        until(lambda: asked().get("usernameinfo", 0) >= 3)
        before = asked()["usernameinfo"]
        assert world.stories("somebody").data["user"]["username"] == "somebody"
        found = group.result(60)
    looked_up = asked()["usernameinfo"] - 1
    assert looked_up <= before + 10, "it made no further look-ups once a caller waited"
    assert 3 <= len(found) == looked_up < 30, "what it knew by then was asked for, the rest is left"
    assert asked()["reels_media"] == 1


def test_a_group_takes_no_session_while_a_caller_waits(
    make_world: Make, simulator: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That somebody waits is not to be forgotten while a slow machine gets round to looking.
    monkeypatch.setattr("service.stores.instagram_sessions.WANTED_MS", 60_000)
    world = make_world(simulator)
    with world.pool.client(), pytest.raises(NoSessionFree):
        world.stories("somebody")
    assert world.pool.wanted()
    with pytest.raises(NoSessionFree):
        world.source.reels(["anna", "ben"])
    assert asked() == {}
