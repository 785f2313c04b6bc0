"""The scripts of deliveries and their hosts, each alone on a real server, every branch."""

from __future__ import annotations

import pytest
from redis import Redis

from tests.conftest import await_true
from tests.redis.kit import Lua, snapshot

ID, HOST = "msg_1", "example.com:443"
DELIVERY, LOG, HOSTS, DUE, STATS, BODY = "msg", "log", "due-hosts", "due", "stats", "body"
INFLIGHT, HEALTH = "inflight", "health"
HOUR, MINUTE = 3_600_000, 60_000
GRACE = MINUTE  # long enough that nothing is handed out twice on a slow machine


@pytest.fixture
def lua(valkey: Redis) -> Lua:
    """A delivery that is due."""
    made = Lua(valkey)
    now = server_ms(made)
    times = {"created_at": now, "started_at": now, "next_at": now}
    valkey.hset(DELIVERY, mapping={"status": "pending", "host": HOST, "attempts": 0, "tries": 0, **times})
    valkey.zadd(HOSTS, {HOST: now})
    valkey.zadd(DUE, {ID: now})
    valkey.set(BODY, "{}", ex=1000)
    return made


def server_ms(lua: Lua) -> int:
    seconds, micros = lua.redis.time()
    return seconds * 1000 + micros // 1000


def claim(lua: Lua, lease: int = HOUR) -> list[object]:
    return lua("delivery_claim", [DELIVERY, DUE], ID, lease)


def record(
    lua: Lua,
    fence: object = 1,
    status: str = "delivered",
    *,
    wait: int = 0,
    counts: int = 1,
    seconds: float = 0.3,
) -> list[str]:
    keys = [DELIVERY, LOG, HOSTS, DUE, STATS]
    return lua(
        "delivery_record",
        keys,
        ID,
        fence,
        status,
        wait,
        '{"at":1}',
        100,
        seconds,
        counts,
        HOST,
        "done",
        GRACE,
    )


def defer(lua: Lua, fence: object = 1, wait: int = 1000) -> int:
    return lua("delivery_defer", [DELIVERY, HOSTS, DUE], ID, fence, HOST, wait)


def replay(lua: Lua) -> str:
    return lua("delivery_replay", [DELIVERY, LOG, HOSTS, DUE, BODY], ID, HOST, 500, 5000)


# --- claim ---------------------------------------------------------------------------------------


def test_claim_of_a_due_delivery_gives_a_fence_and_keeps_it_from_others(lua: Lua) -> None:
    before = server_ms(lua)
    fence, flat = claim(lua)
    fields = dict(zip(flat[::2], flat[1::2], strict=True))  # type: ignore[index]
    assert fence == 1
    assert before + HOUR <= int(fields["lease_until"]) <= server_ms(lua) + HOUR
    assert lua.redis.zscore(DUE, ID) == int(fields["lease_until"])
    unchanged = snapshot(lua.redis)
    assert claim(lua) == []
    assert snapshot(lua.redis) == unchanged


def test_claim_after_the_lease_gives_the_next_fence(lua: Lua) -> None:
    claim(lua, lease=20)
    await_true(lambda: server_ms(lua) > int(lua.redis.hget(DELIVERY, "lease_until") or 0))
    assert claim(lua)[0] == 2


def test_claim_before_its_time_gives_nothing(lua: Lua) -> None:
    lua.redis.hset(DELIVERY, "next_at", server_ms(lua) + HOUR)
    assert claim(lua) == []


@pytest.mark.parametrize("status", ["delivered", "exhausted", "gone", "blocked"])
def test_claim_of_what_has_ended_gives_nothing_and_is_not_looked_at_again(lua: Lua, status: str) -> None:
    lua.redis.hset(DELIVERY, "status", status)
    assert claim(lua) == []
    assert lua.redis.zscore(DUE, ID) is None


def test_claim_of_what_is_gone_gives_nothing_and_is_not_looked_at_again(lua: Lua) -> None:
    lua.redis.delete(DELIVERY)
    assert claim(lua) == []
    assert not lua.redis.exists(DELIVERY, DUE)


# --- record --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["delivered", "exhausted", "gone", "blocked"])
def test_record_of_an_end_closes_the_delivery_and_gives_it_a_lifetime(lua: Lua, status: str) -> None:
    claim(lua)
    assert record(lua, status=status) == ["ok", ""]
    fields = lua.redis.hgetall(DELIVERY)
    assert (fields["status"], fields["attempts"], fields["tries"]) == (status, "1", "1")
    assert "lease_until" not in fields
    assert "ended_at" in fields
    assert lua.redis.lrange(LOG, 0, -1) == ['{"at":1}']
    assert lua.redis.zscore(DUE, ID) is None
    assert 50 <= lua.redis.ttl(DELIVERY) <= 100
    assert 50 <= lua.redis.ttl(LOG) <= 100
    assert lua.redis.hget(STATS, f"delivery:{status}") == "1"


def test_record_of_a_failure_says_when_the_next_attempt_is(lua: Lua) -> None:
    claim(lua)
    before = server_ms(lua)
    assert record(lua, status="pending", wait=HOUR) == ["ok", ""]
    next_at = int(lua.redis.hget(DELIVERY, "next_at") or 0)
    assert before + HOUR <= next_at <= server_ms(lua) + HOUR
    assert lua.redis.zscore(DUE, ID) == next_at
    assert claim(lua) == []
    assert lua.redis.ttl(DELIVERY) == -1
    assert lua.redis.hget(STATS, "delivery:failed") == "1"


def test_record_of_a_failure_never_postpones_the_look_at_the_host(lua: Lua) -> None:
    claim(lua)
    lua.redis.zadd(HOSTS, {HOST: 7})
    record(lua, status="pending", wait=HOUR)
    assert lua.redis.zscore(HOSTS, HOST) == 7


def test_record_of_trouble_of_our_own_uses_up_no_try(lua: Lua) -> None:
    claim(lua)
    record(lua, status="pending", counts=0)
    assert lua.redis.hmget(DELIVERY, "attempts", "tries") == ["1", "0"]


def test_record_again_changes_nothing(lua: Lua) -> None:
    claim(lua)
    record(lua, status="pending", wait=HOUR)
    before = snapshot(lua.redis)
    assert record(lua, status="pending", wait=HOUR) == ["ok", ""]
    assert snapshot(lua.redis) == before


def test_record_with_a_stale_fence_or_without_a_claim_is_lost(lua: Lua) -> None:
    assert record(lua) == ["lost", ""]
    claim(lua, lease=0)
    claim(lua)
    before = snapshot(lua.redis)
    assert record(lua, 1) == ["lost", ""]
    assert snapshot(lua.redis) == before
    assert record(lua, 2) == ["ok", ""]


def test_record_of_what_has_ended_or_is_gone_is_lost(lua: Lua) -> None:
    claim(lua)
    lua.redis.hset(DELIVERY, "status", "delivered")
    assert record(lua) == ["lost", ""]
    lua.redis.delete(DELIVERY)
    assert record(lua) == ["lost", ""]


def test_record_hands_on_another_delivery_that_waits_for_the_host_and_keeps_it_from_others(lua: Lua) -> None:
    lua.redis.zadd(DUE, {"msg_2": 5, "msg_3": server_ms(lua) + HOUR})
    claim(lua)
    assert record(lua) == ["ok", "msg_2"]
    assert (lua.redis.zscore(DUE, "msg_2") or 0) > server_ms(lua)


def test_record_wakes_who_waits_for_the_attempt(lua: Lua) -> None:
    claim(lua)
    with lua.redis.pubsub(ignore_subscribe_messages=False) as pubsub:
        pubsub.subscribe("done")
        assert (pubsub.get_message(timeout=30) or {})["type"] == "subscribe"
        record(lua)
        assert (pubsub.get_message(timeout=30) or {})["data"] == "delivered"


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.01, "0.05"), (0.3, "0.5"), (2, "2.5"), (15, "15"), (16, None)]
)
def test_record_counts_how_long_the_attempt_took(lua: Lua, seconds: float, bucket: str | None) -> None:
    claim(lua)
    record(lua, seconds=seconds)
    counters = lua.redis.hgetall(STATS)
    assert [name for name in counters if name.startswith("attempt_seconds:")] == (
        [f"attempt_seconds:{bucket}"] if bucket else []
    )
    assert float(counters["attempt_seconds_sum"]) == pytest.approx(seconds)


# --- defer and replay ----------------------------------------------------------------------------


def test_defer_gives_a_delivery_back_without_an_attempt(lua: Lua) -> None:
    claim(lua)
    lua.redis.delete(HOSTS)
    before = server_ms(lua)
    assert defer(lua, wait=1000) == 1
    assert before + 1000 <= (lua.redis.zscore(DUE, ID) or 0) <= server_ms(lua) + 1000
    assert lua.redis.zscore(HOSTS, HOST) == lua.redis.zscore(DUE, ID)
    assert lua.redis.hmget(DELIVERY, "attempts", "tries") == ["0", "0"]
    assert claim(lua)[0] == 2


@pytest.mark.parametrize("fence", [0, 2])
def test_defer_with_another_fence_changes_nothing(lua: Lua, fence: int) -> None:
    claim(lua)
    before = snapshot(lua.redis)
    assert defer(lua, fence) == 0
    assert snapshot(lua.redis) == before


@pytest.mark.parametrize("status", ["delivered", "exhausted", "gone"])
def test_replay_makes_an_ended_delivery_due_from_the_start_for_good(lua: Lua, status: str) -> None:
    claim(lua)
    record(lua, status=status)
    assert replay(lua) == status
    fields = lua.redis.hgetall(DELIVERY)
    assert (fields["status"], fields["attempts"], fields["tries"]) == ("pending", "1", "0")
    assert "ended_at" not in fields
    assert (lua.redis.ttl(DELIVERY), lua.redis.ttl(LOG)) == (-1, -1)
    assert 400 <= lua.redis.ttl(BODY) <= 500
    assert lua.redis.lrange(LOG, 0, -1) == ['{"at":1}']
    assert claim(lua)[0] == 3


def test_an_attempt_that_outlived_its_lease_does_not_count_against_a_replay(lua: Lua) -> None:
    fence, _ = claim(lua)
    lua.redis.hset(DELIVERY, "lease_until", 1)
    assert replay(lua) == "pending"
    assert record(lua, fence, status="exhausted") == ["lost", ""]
    assert lua.redis.hget(DELIVERY, "status") == "pending"


def test_replay_while_an_attempt_is_under_way_changes_nothing(lua: Lua) -> None:
    claim(lua)
    before = snapshot(lua.redis)
    assert replay(lua) == "running"
    assert snapshot(lua.redis) == before


def test_replay_without_a_body_or_a_delivery_changes_nothing(lua: Lua) -> None:
    lua.redis.delete(BODY)
    before = snapshot(lua.redis)
    assert replay(lua) == "expired"
    assert snapshot(lua.redis) == before
    lua.redis.set(BODY, "{}")
    lua.redis.delete(DELIVERY)
    assert replay(lua) == "expired"
    assert not lua.redis.exists(DELIVERY)


# --- hosts ---------------------------------------------------------------------------------------


def due_of_host(lua: Lua, most: int = 10, wait: int = 0) -> list[str]:
    return lua("due_of_host", [HOSTS, DUE], HOST, most, GRACE, wait)


def enter(lua: Lua, delivery_id: str = ID, places: int = 2, lease: int = HOUR) -> int:
    return lua("host_enter", [INFLIGHT, HEALTH], delivery_id, places, lease)


def room(lua: Lua, places: int = 2) -> list[int]:
    return lua("host_room", [INFLIGHT, HEALTH], places)


def leave(
    lua: Lua, verdict: str = "fine", slow: int = 0, delivery_id: str = ID, opens_for: int = HOUR
) -> str:
    return lua("host_leave", [INFLIGHT, HEALTH], delivery_id, verdict, slow, 10, 70, 5, opens_for)


def test_due_of_host_hands_out_what_is_due_once_and_says_when_to_look_again(lua: Lua) -> None:
    later = server_ms(lua) + HOUR
    lua.redis.zadd(DUE, {"msg_2": 5, "msg_3": later})
    assert due_of_host(lua) == ["msg_2", ID]
    assert due_of_host(lua) == []
    kept = lua.redis.zscore(DUE, ID)
    assert lua.redis.zscore(HOSTS, HOST) == kept


def test_due_of_host_hands_out_no_more_than_there_are_places_and_looks_again_after_the_wait(lua: Lua) -> None:
    lua.redis.zadd(DUE, {"msg_2": 5})
    assert due_of_host(lua, most=1) == ["msg_2"]
    assert due_of_host(lua, most=0, wait=HOUR) == []
    assert (lua.redis.zscore(HOSTS, HOST) or 0) > server_ms(lua) + HOUR - MINUTE


def test_due_of_host_forgets_a_host_that_is_owed_nothing(lua: Lua) -> None:
    lua.redis.delete(DUE)
    assert due_of_host(lua) == []
    assert not lua.redis.exists(HOSTS)


def test_a_host_has_so_many_places_and_those_of_dead_deliverers_come_back(lua: Lua) -> None:
    assert [enter(lua, f"msg_{number}") for number in range(3)] == [0, 0, 1000]
    assert room(lua) == [0, 1000]
    leave(lua, delivery_id="msg_0")
    assert room(lua) == [1, 0]
    assert enter(lua, "msg_3", lease=20) == 0
    await_true(lambda: enter(lua, "msg_4") == 0)


def test_who_did_not_hear_that_it_has_a_place_asks_again_and_has_it(lua: Lua) -> None:
    assert [enter(lua, "msg_1", places=1), enter(lua, "msg_1", places=1)] == [0, 0]
    assert enter(lua, "msg_2", places=1) == 1000


def test_a_host_in_trouble_gets_one_attempt_at_a_time_for_a_while(lua: Lua) -> None:
    leave(lua, "failed", slow=HOUR)
    assert room(lua) == [1, 0]
    assert [enter(lua, "msg_1"), enter(lua, "msg_2")] == [0, 1000]


def test_a_circuit_opens_at_seven_failures_of_ten_and_not_before(lua: Lua) -> None:
    verdicts = ["fine"] * 3 + ["failed"] * 7
    assert [leave(lua, verdict) for verdict in verdicts] == ["closed"] * 9 + ["open"]
    assert HOUR - MINUTE < enter(lua) <= HOUR
    free, wait = room(lua)
    assert free == 0
    assert HOUR - MINUTE < wait <= HOUR


def test_a_circuit_stays_closed_at_six_failures_of_ten(lua: Lua) -> None:
    verdicts = ["fine"] * 4 + ["failed"] * 6
    assert {leave(lua, verdict) for verdict in verdicts} == {"closed"}
    assert enter(lua) == 0


def test_failures_of_long_ago_do_not_count(lua: Lua) -> None:
    long_ago = server_ms(lua) // 60_000 - 5
    lua.redis.hset(HEALTH, mapping={f"a{long_ago}": 100, f"f{long_ago}": 100})
    assert leave(lua, "failed") == "closed"
    assert not lua.redis.hexists(HEALTH, f"a{long_ago}")


def test_an_open_circuit_lets_one_probe_through_when_its_time_is_up(lua: Lua) -> None:
    lua.redis.hset(HEALTH, "open_until", server_ms(lua) - 1)
    assert [enter(lua, "msg_1"), enter(lua, "msg_2")] == [0, 1000]
    assert leave(lua, "failed") == "open"
    assert enter(lua, "msg_2") > 1000


def test_a_probe_that_goes_well_closes_the_circuit_and_clears_the_record(lua: Lua) -> None:
    lua.redis.hset(HEALTH, mapping={"open_until": server_ms(lua) - 1, "a1": 50, "f1": 50})
    enter(lua)
    assert leave(lua, "fine") == "recovered"
    assert not lua.redis.exists(HEALTH, INFLIGHT)


def test_what_says_nothing_about_the_host_gives_the_place_back_only(lua: Lua) -> None:
    enter(lua)
    assert leave(lua, "unknown") == "closed"
    assert not lua.redis.exists(HEALTH, INFLIGHT)
    lua.redis.hset(HEALTH, "open_until", server_ms(lua) + HOUR)
    assert leave(lua, "unknown") == "open"


def test_what_is_kept_of_a_host_goes_away_by_itself(lua: Lua) -> None:
    enter(lua)
    leave(lua, "failed", delivery_id="msg_2")
    assert 0 < lua.redis.pttl(INFLIGHT) <= HOUR
    assert 0 < lua.redis.pttl(HEALTH) <= HOUR
