"""credit, void_hold, rate and take_due, each alone on a real server, every branch."""

from __future__ import annotations

import pytest
from redis import Redis

from service.domain.credits import AMOUNT_MOST
from tests.conftest import await_true
from tests.redis.kit import Lua, snapshot

CREDITS, LEDGER = "credits", "ledger"
MINUTE = 60_000


@pytest.fixture
def lua(valkey: Redis) -> Lua:
    return Lua(valkey)


def credit(lua: Lua, amount: int, *, change: str = "one", kind: str = "topup") -> list[object]:
    return lua("credit", [CREDITS, LEDGER], amount, kind, "thanks", change, AMOUNT_MOST)


def test_credit_gives_an_account_its_first_credits_with_a_ledger_entry(lua: Lua) -> None:
    assert credit(lua, 100) == ["ok", 100, 0]
    [(_, entry)] = lua.redis.xrange(LEDGER)
    assert int(entry.pop("at")) > 1_700_000_000_000
    assert entry == {"type": "topup", "amount": "100", "balance": "100", "held": "0", "note": "thanks"}


def test_credit_adds_up(lua: Lua) -> None:
    credit(lua, 100)
    assert credit(lua, 50, change="two") == ["ok", 150, 0]
    assert credit(lua, -30, change="three", kind="adjustment") == ["ok", 120, 0]
    assert [entry["balance"] for _, entry in lua.redis.xrange(LEDGER)] == ["100", "150", "120"]


def test_credit_again_by_the_same_name_changes_nothing(lua: Lua) -> None:
    first = credit(lua, 100)
    before = snapshot(lua.redis)
    assert credit(lua, 100) == first
    assert snapshot(lua.redis) == before


@pytest.mark.parametrize(("amount", "answer"), [(-6, ["ok", 4, 4]), (-7, ["poor", 6])])
def test_credit_takes_away_down_to_what_is_held(lua: Lua, amount: int, answer: list[object]) -> None:
    lua.redis.hset(CREDITS, mapping={"balance": 10, "held": 4})
    assert credit(lua, amount) == answer


def test_credit_that_is_refused_writes_nothing(lua: Lua) -> None:
    assert credit(lua, -1) == ["poor", 0]
    assert snapshot(lua.redis) == {}


@pytest.mark.parametrize("amount", [AMOUNT_MOST + 1, -AMOUNT_MOST - 1, 2**53, 10**30, -(10**30), "1e3", "x"])
def test_credit_of_what_cannot_be_counted_with_writes_nothing(lua: Lua, amount: int) -> None:
    lua.redis.hset(CREDITS, mapping={"balance": 10, "held": 4})
    before = snapshot(lua.redis)
    assert credit(lua, amount) == ["over", 10]
    assert snapshot(lua.redis) == before


def test_credit_fills_an_account_up_to_the_most_and_no_further(lua: Lua) -> None:
    assert credit(lua, AMOUNT_MOST) == ["ok", AMOUNT_MOST, 0]
    assert lua.redis.hget(CREDITS, "balance") == str(AMOUNT_MOST)
    assert credit(lua, 1, change="two") == ["over", AMOUNT_MOST]
    assert credit(lua, -1, change="three") == ["ok", AMOUNT_MOST - 1, 0]
    assert [entry["balance"] for _, entry in lua.redis.xrange(LEDGER)] == ["1000000000000", "999999999999"]


def test_credit_lowers_what_an_earlier_version_let_rise_higher(lua: Lua) -> None:
    lua.redis.hset(CREDITS, mapping={"balance": 5 * AMOUNT_MOST, "held": 0})
    assert credit(lua, 1) == ["over", 5 * AMOUNT_MOST]
    assert credit(lua, -AMOUNT_MOST, change="two") == ["ok", 4 * AMOUNT_MOST, 0]


@pytest.mark.parametrize("field", ["balance", "held"])
@pytest.mark.parametrize(
    "value", ["1e+30", "-9223372036854775808", "9007199254740993", "nan", "", "1.5", "0x10"]
)
def test_credit_of_a_broken_account_writes_nothing(lua: Lua, field: str, value: str) -> None:
    lua.redis.hset(CREDITS, mapping={"balance": 10, "held": 0, field: value})
    before = snapshot(lua.redis)
    assert credit(lua, 1) == ["broken", ""]
    assert snapshot(lua.redis) == before


# --- void_hold -----------------------------------------------------------------------------------


@pytest.fixture
def forgotten(lua: Lua) -> Lua:
    """Three credits are held for a request that is gone, and four for others."""
    lua.redis.hset(CREDITS, mapping={"balance": 10, "held": 7})
    return lua


def void(lua: Lua, amount: int = 3) -> int:
    return lua("void_hold", ["req", CREDITS, LEDGER, "stats"], "req_1", amount)


def test_void_hold_releases_the_hold_of_a_request_that_is_gone(forgotten: Lua) -> None:
    assert void(forgotten) == 1
    assert forgotten.redis.hmget(CREDITS, "balance", "held") == ["10", "4"]
    [(_, entry)] = forgotten.redis.xrange(LEDGER)
    assert (entry["type"], entry["amount"], entry["balance"], entry["held"]) == ("release", "3", "10", "4")
    assert entry["request"] == "req_1"
    assert forgotten.redis.hget("stats", "held") == "-3"


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_void_hold_releases_the_hold_of_a_request_that_has_ended(forgotten: Lua, status: str) -> None:
    forgotten.redis.hset("req", "status", status)
    assert void(forgotten) == 1


@pytest.mark.parametrize("status", ["queued", "processing"])
def test_void_hold_leaves_an_open_request_alone(forgotten: Lua, status: str) -> None:
    forgotten.redis.hset("req", "status", status)
    before = snapshot(forgotten.redis)
    assert void(forgotten) == 0
    assert snapshot(forgotten.redis) == before


def test_void_hold_releases_no_more_than_is_held(forgotten: Lua) -> None:
    before = snapshot(forgotten.redis)
    assert void(forgotten, 8) == 0
    assert snapshot(forgotten.redis) == before
    assert void(forgotten, 7) == 1


def test_void_hold_again_releases_nothing_of_the_other_requests_holds(forgotten: Lua) -> None:
    """The client sends a script again when the connection broke before the reply; two may audit at once."""
    void(forgotten)
    void(forgotten)
    assert forgotten.redis.hget(CREDITS, "held") == "4"


# --- rate ----------------------------------------------------------------------------------------


def hit(lua: Lua, *windows: tuple[str, int, int]) -> list[list[int]]:
    args = [part for _, count, window in windows for part in (count, window)]
    return lua("rate", [name for name, _, _ in windows], *args)


def test_rate_counts_up_to_the_limit_and_no_further(lua: Lua) -> None:
    answers = [hit(lua, ("minute", 3, MINUTE))[0] for _ in range(5)]
    assert [(count, full) for count, _, full in answers] == [(1, 0), (2, 0), (3, 0), (3, 1), (3, 1)]
    assert lua.redis.get("minute") == "3"


def test_rate_says_how_long_the_window_still_lasts(lua: Lua) -> None:
    for _ in range(3):
        [[_, left, _]] = hit(lua, ("minute", 2, MINUTE))
        assert MINUTE / 2 < left <= MINUTE


def test_rate_begins_anew_after_the_window(lua: Lua) -> None:
    assert hit(lua, ("short", 1, 30))[0][2] == 0
    assert hit(lua, ("short", 1, 30))[0][2] in {0, 1}
    await_true(lambda: not lua.redis.exists("short"))
    [[count, _, full]] = hit(lua, ("short", 1, MINUTE))
    assert (count, full) == (1, 0)


def test_a_later_call_does_not_prolong_the_window(lua: Lua) -> None:
    hit(lua, ("minute", 9, MINUTE))
    lua.redis.pexpire("minute", MINUTE // 2)
    [[_, left, _]] = hit(lua, ("minute", 9, MINUTE))
    assert left <= MINUTE // 2


def test_rate_counts_in_no_window_when_one_is_full_and_says_which(lua: Lua) -> None:
    lua.redis.set("minute", 2, px=MINUTE)
    answers = hit(lua, ("minute", 2, MINUTE), ("hour", 100, 60 * MINUTE))
    assert [(count, full) for count, _, full in answers] == [(2, 1), (0, 0)]
    assert not lua.redis.exists("hour")


# --- take_due ------------------------------------------------------------------------------------


def take(lua: Lua, most: int = 100, wait: int = MINUTE) -> list[str]:
    return lua("take_due", ["due"], most, wait)


def test_take_due_gives_what_is_due_oldest_first_and_nothing_that_is_not(lua: Lua) -> None:
    seconds, _ = lua.redis.time()
    lua.redis.zadd("due", {"b": 2, "a": 1, "later": (seconds + 60) * 1000})
    assert take(lua) == ["a", "b"]
    assert lua.redis.zscore("due", "later") == (seconds + 60) * 1000


def test_take_due_gives_the_same_to_nobody_else_for_a_while_and_then_again(lua: Lua) -> None:
    lua.redis.zadd("due", {"a": 1})
    assert take(lua, wait=MINUTE) == ["a"]
    assert take(lua) == []
    lua.redis.zadd("due", {"a": 1})
    take(lua, wait=20)
    await_true(lambda: take(lua) == ["a"])


def test_take_due_gives_no_more_than_asked_for(lua: Lua) -> None:
    lua.redis.zadd("due", {f"id{number}": number for number in range(5)})
    assert take(lua, most=2) == ["id0", "id1"]
    assert take(lua, most=9) == ["id2", "id3", "id4"]


def test_take_due_of_an_empty_set_is_nothing_and_makes_no_set(lua: Lua) -> None:
    assert take(lua) == []
    assert not lua.redis.exists("due")
