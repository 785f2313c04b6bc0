"""watch_add, watch_state, and what submit and finish do to a watch, each alone on a real server."""

from __future__ import annotations

import pytest
from redis import Redis

from tests.redis import test_lua_requests as requests
from tests.redis.kit import Lua, snapshot
from tests.redis.test_lua_requests import CREDITS, ID, SEEN, WATCH, WATCH_OWED, WATCHING, claim, server_ms

WATCH_ID, INDEX = "wat_1", "index-of-watches"


@pytest.fixture
def lua(valkey: Redis) -> Lua:
    valkey.hset(CREDITS, mapping={"balance": 10, "held": 0})
    return Lua(valkey)


def add(
    lua: Lua,
    *,
    watch_id: str = WATCH_ID,
    most: int = 2,
    key: str = WATCH,
    fingerprint: str = "",
    options: str = "",
) -> list[object]:
    asked = ("acc", "anna", "15m", "https://example.com/", 1, 0, 60)
    names = [key, INDEX, WATCHING, requests.IDEMPOTENCY]
    known = (fingerprint, 86_400)
    answer: list[object] = lua("watch_add", names, watch_id, *asked, most, 60_000, *known, options)
    return answer


def test_a_known_idempotency_key_names_the_first_watch(lua: Lua) -> None:
    assert add(lua, fingerprint="f")[0] == "ok"
    assert add(lua, fingerprint="f", watch_id="wat_2", key="w2") == ["replay", WATCH_ID]
    assert add(lua, fingerprint="g", watch_id="wat_2", key="w2") == ["reuse", ""]
    assert lua.redis.zrange(INDEX, 0, -1) == [WATCH_ID]
    assert 0 < lua.redis.ttl(requests.IDEMPOTENCY) <= 86_400


def test_a_key_of_a_watch_too_many_is_free_again(lua: Lua) -> None:
    assert add(lua, most=0, fingerprint="f") == ["full", 0]
    assert add(lua, fingerprint="g")[0] == "ok"


def become(lua: Lua, status: str, reason: str = "") -> dict[str, str]:
    flat = lua("watch_state", [WATCH, WATCHING], WATCH_ID, status, reason, 60_000)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def submit(lua: Lua, **changes: object) -> list[object]:
    return requests.submit(lua, webhook="https://example.com/", watch=WATCH_ID, **changes)  # type: ignore[arg-type]


def look(lua: Lua) -> float | None:
    return lua.redis.zscore(WATCHING, WATCH_ID)


# --- adding, pausing, resuming -------------------------------------------------------------------


def test_a_new_watch_is_active_and_due(lua: Lua) -> None:
    before = server_ms(lua)
    answer, created = add(lua)
    assert answer == "ok"
    assert before <= int(str(created)) <= server_ms(lua)
    assert lua.redis.hgetall(WATCH) == {
        "account": "acc", "username": "anna", "every": "15m", "webhook_url": "https://example.com/",
        "only_new": "1", "heartbeat": "0", "max_age": "60", "status": "active", "runs": "0",
        "items_delivered": "0", "created_at": str(created), "next_run_at": str(created),
    }  # fmt: skip
    assert look(lua) == int(str(created)) + 60_000
    assert lua.redis.zrange(INDEX, 0, -1, withscores=True) == [(WATCH_ID, 0)]
    stored = snapshot(lua.redis)
    assert add(lua, most=1) == ["ok", created], "the reply was lost"
    assert snapshot(lua.redis) == stored


def test_a_new_watch_has_options_where_some_were_chosen(lua: Lua) -> None:
    add(lua)
    assert not lua.redis.hexists(WATCH, "options")
    add(lua, watch_id="wat_2", key="w2", options='{"shape":"story"}')
    assert lua.redis.hget("w2", "options") == '{"shape":"story"}'


def test_one_too_many_changes_nothing(lua: Lua) -> None:
    add(lua, most=1)
    before = snapshot(lua.redis)
    assert add(lua, watch_id="wat_2", key="watch-2", most=1) == ["full", 1]
    assert snapshot(lua.redis) == before


def skip(lua: Lua, next_in: int = 900_000) -> object:
    return lua("watch_skip", ["account", WATCH, WATCHING], WATCH_ID, next_in, 60_000)


@pytest.mark.parametrize("disabled", [None, "0"])
def test_no_run_of_an_account_that_is_not_disabled_is_skipped(lua: Lua, disabled: str | None) -> None:
    add(lua)
    if disabled:
        lua.redis.hset("account", "disabled", disabled)
    before = snapshot(lua.redis)
    assert skip(lua) == 0
    assert snapshot(lua.redis) == before


def test_a_skipped_run_is_followed_by_the_next_one(lua: Lua) -> None:
    add(lua)
    lua.redis.hset("account", "disabled", "1")
    for _ in range(2):
        before = server_ms(lua)
        assert skip(lua) == 1
        planned = int(lua.redis.hget(WATCH, "next_run_at") or 0)
        assert before <= planned - 900_000 <= server_ms(lua)
        assert look(lua) == planned + 60_000


@pytest.mark.parametrize("gone", [True, False], ids=["deleted", "paused"])
def test_a_skipped_run_brings_back_no_watch(lua: Lua, gone: bool) -> None:
    add(lua)
    lua.redis.hset("account", "disabled", "1")
    become(lua, "paused", "by_hand")
    if gone:
        lua.redis.delete(WATCH)
    before = snapshot(lua.redis)
    assert skip(lua) == 1
    assert snapshot(lua.redis) == before


def test_pausing_and_resuming_twice_is_doing_it_once(lua: Lua) -> None:
    add(lua)
    paused = become(lua, "paused", "receiver_gone")
    assert (paused["status"], paused["pause_reason"]) == ("paused", "receiver_gone")
    assert "next_run_at" not in paused
    assert look(lua) is None
    assert become(lua, "paused", "by_hand") == paused
    before = server_ms(lua)
    resumed = become(lua, "active")
    assert "pause_reason" not in resumed
    assert before <= int(resumed["next_run_at"]) == int(resumed["resumed_at"]) <= server_ms(lua)
    assert look(lua) == int(resumed["next_run_at"]) + 60_000
    assert become(lua, "active") == resumed


def test_a_watch_that_is_gone_is_neither_paused_nor_resumed(lua: Lua) -> None:
    for status in ("paused", "active"):
        lua.redis.zadd(WATCHING, {WATCH_ID: 1})
        assert become(lua, status) == {}
        assert not lua.redis.exists(WATCH, WATCHING)


# --- a run begins --------------------------------------------------------------------------------


def test_a_run_is_noted_with_its_request(lua: Lua) -> None:
    add(lua)
    answer, created, *rest = submit(lua, next_in=900_000)
    assert answer == "ok"
    noted = lua.redis.hgetall(WATCH)
    assert (noted["running"], noted["last_request"], noted["last_run_at"]) == (ID, ID, str(created))
    assert int(noted["next_run_at"]) == int(str(created)) + 900_000
    assert look(lua) == int(str(created)) + 960_000
    assert lua.redis.hget(requests.REQUEST, "watch") == WATCH_ID
    before = snapshot(lua.redis)
    assert submit(lua, next_in=900_000) == ["ok", created, *rest], "the reply was lost"
    assert snapshot(lua.redis) == before


def test_a_run_by_hand_leaves_the_plan_alone(lua: Lua) -> None:
    add(lua)
    before = (lua.redis.hget(WATCH, "next_run_at"), look(lua))
    submit(lua)
    assert (lua.redis.hget(WATCH, "next_run_at"), look(lua)) == before


@pytest.mark.parametrize("status", ["queued", "processing"])
def test_while_a_run_is_open_it_is_the_run(lua: Lua, status: str) -> None:
    add(lua)
    submit(lua)
    if status == "processing":
        claim(lua)
    again = submit(lua, request_id="req_2", request_key="req2", running=ID, next_in=5_000)
    assert again == ["replay", ID]
    assert not lua.redis.exists("req2")
    assert requests.credits(lua) == (10, 1)
    assert look(lua) == int(str(lua.redis.hget(WATCH, "next_run_at"))) + 60_000


def test_whoever_looked_at_another_run_is_told(lua: Lua) -> None:
    add(lua)
    submit(lua)
    before = snapshot(lua.redis)
    assert submit(lua, request_id="req_2", request_key="req2") == ["moved", ID]
    assert snapshot(lua.redis) == before
    lua.redis.hdel(WATCH, "running")
    assert submit(lua, request_id="req_2", request_key="req2", running=ID) == ["moved", ""]


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", None])
def test_a_run_that_ended_or_is_gone_is_no_obstacle(lua: Lua, status: str | None) -> None:
    add(lua)
    submit(lua)
    lua.redis.hset(requests.REQUEST, "status", status) if status else lua.redis.delete(requests.REQUEST)
    assert submit(lua, request_id="req_2", request_key="req2", running=ID)[0] == "ok"
    assert lua.redis.hget(WATCH, "running") == "req_2"


@pytest.mark.parametrize("there", [True, False])
def test_a_watch_that_is_paused_or_gone_does_not_run(lua: Lua, there: bool) -> None:
    if there:
        add(lua)
        become(lua, "paused", "by_hand")
    before = snapshot(lua.redis)
    assert submit(lua, next_in=1) == ["idle"]
    assert snapshot(lua.redis) == before


def test_a_run_that_is_not_paid_is_noted_and_planned_anew(lua: Lua) -> None:
    add(lua)
    assert submit(lua, hold=11, next_in=900_000) == ["poor", 10, 0]
    assert lua.redis.hget(WATCH, "last_outcome") == "insufficient_credits"
    assert not lua.redis.hexists(WATCH, "running")
    assert (look(lua) or 0) > server_ms(lua) + 900_000


# --- a run ends ----------------------------------------------------------------------------------


def running(lua: Lua) -> None:
    add(lua)
    submit(lua)
    claim(lua)


def test_what_was_delivered_is_seen_owed_and_counted(lua: Lua) -> None:
    running(lua)
    before = server_ms(lua)
    assert requests.finish(lua, remember="11 4000000000 12 4000000001") == ["ok", "msg_1"]
    ended = lua.redis.hgetall(WATCH)
    assert "running" not in ended
    assert (ended["runs"], ended["items_delivered"], ended["last_outcome"]) == ("1", "3", "found")
    assert lua.redis.zrange(SEEN, 0, -1, withscores=True) == [("11", 4e9), ("12", 4e9 + 1)]
    [(owed, at)] = lua.redis.zrange(WATCH_OWED, 0, -1, withscores=True)
    assert owed == ID
    assert before <= at <= server_ms(lua)
    stored = snapshot(lua.redis)
    assert requests.finish(lua, remember="11 4000000000 12 4000000001") == ["ok", "msg_1"]
    assert snapshot(lua.redis) == stored


def test_a_silent_end_owes_nothing(lua: Lua) -> None:
    running(lua)
    ending = {"outcome": "nothing_new", "charge": 0, "items": 0, "silent": 1, "remember": "11 4000000000"}
    for _ in range(2):
        assert requests.finish(lua, **ending) == ["ok", ""]  # type: ignore[arg-type]
    assert not lua.redis.exists(requests.DELIVERY, requests.OWED, WATCH_OWED)
    assert lua.redis.hget(requests.REQUEST, "silent") == "1"
    assert lua.redis.hmget(WATCH, "runs", "items_delivered") == ["1", "0"]
    assert lua.redis.zcard(SEEN) == 1


def test_a_webhook_without_items_is_not_owed_for_its_items(lua: Lua) -> None:
    running(lua)
    requests.finish(lua, outcome="nothing_new", charge=0, items=0, remember="11 4000000000")
    assert lua.redis.exists(requests.DELIVERY)
    assert not lua.redis.exists(WATCH_OWED)


def test_what_has_expired_is_forgotten_unless_it_is_shown(lua: Lua) -> None:
    running(lua)
    lua.redis.zadd(SEEN, {"1": 5, "2": 5, "3": 4_000_000_000})
    requests.finish(lua, remember="2 5 4 4000000000")
    assert lua.redis.zrange(SEEN, 0, -1) == ["2", "3", "4"]


def test_a_failure_that_was_told_is_remembered_until_a_success(lua: Lua) -> None:
    running(lua)
    requests.finish(lua, status="failed", outcome="", code="account_private", charge=0, items=0)
    assert lua.redis.hmget(WATCH, "told", "last_outcome") == ["account_private"] * 2
    assert not lua.redis.exists(WATCH_OWED)
    lua.redis.hset(requests.REQUEST, mapping={"status": "processing", "hold": 0})
    requests.finish(lua, status="failed", outcome="", code="upstream_error", charge=0, items=0, silent=1)
    assert lua.redis.hmget(WATCH, "told", "last_outcome") == ["account_private", "upstream_error"]
    lua.redis.hset(requests.REQUEST, mapping={"status": "processing", "hold": 0})
    requests.finish(lua, charge=0, items=0, silent=1)
    assert not lua.redis.hexists(WATCH, "told")


def test_only_its_own_run_is_ended(lua: Lua) -> None:
    running(lua)
    lua.redis.hset(WATCH, "running", "req_2")
    requests.finish(lua)
    assert lua.redis.hget(WATCH, "running") == "req_2"


def test_a_watch_that_was_deleted_stays_deleted(lua: Lua) -> None:
    running(lua)
    lua.redis.delete(WATCH)
    assert requests.finish(lua, remember="11 4000000000") == ["ok", "msg_1"]
    assert not lua.redis.exists(WATCH, SEEN, WATCH_OWED)


def test_a_request_of_no_watch_touches_none(lua: Lua) -> None:
    add(lua)
    before = lua.redis.hgetall(WATCH)
    requests.submit(lua)
    claim(lua)
    requests.finish(lua)
    assert lua.redis.hgetall(WATCH) == before
    assert not lua.redis.exists(SEEN, WATCH_OWED)
