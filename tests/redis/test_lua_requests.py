"""submit, claim, renew and finish, each alone on a real server, every branch."""

from __future__ import annotations

import gzip
import time
from collections.abc import Sequence
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from tests.conftest import await_true
from tests.redis.kit import Lua, snapshot

ID = "req_1"
REQUEST, RESULT, CREDITS, LEDGER, OPEN, INDEX, STATS = (
    "req",
    "res",
    "credits",
    "ledger",
    "open",
    "index",
    "stats",
)
DELIVERY, DUE_HOSTS, DUE, OWED = ("msg", "due-hosts", "due", "owed")
WATCH, SEEN, WATCH_OWED, WATCHING = ("watch", "watch-seen", "watch-owed", "watching")
IDEMPOTENCY = "idem"
BATCH, SUMMARY, SUMMARY_DUE = ("batch", "summary", "summary-due")
QUEUE, CLOCK, CALLED = BULK_QUEUE = ("bulk", "clock", "called")
FREE, BATCHES = "free", "batches"
CHANNEL, HOST = "done", "example.com:443"
MINUTE, HOUR = 60_000, 3_600_000


@pytest.fixture
def lua(valkey: Redis) -> Lua:
    valkey.hset(CREDITS, mapping={"balance": 10, "held": 0})
    return Lua(valkey)


def submit(
    lua: Lua,
    *,
    hold: int = 1,
    webhook: str = "",
    request_id: str = ID,
    look_in: int = 5000,
    floor: str = "req_",
    request_key: str = REQUEST,
    fingerprint: str = "",
    watch: str = "",
    running: str = "",
    next_in: int = -1,
    target: tuple[str, str] = ("username", "anna"),
    options: str = "",
    lifetime: int | str = "",
    free_bound: int | str = "",
    windows: Sequence[tuple[str, int, int]] = (),
) -> list[object]:
    keys = [request_key, CREDITS, LEDGER, OPEN, INDEX, STATS, IDEMPOTENCY, WATCH, WATCHING]
    kind, value = target
    args: tuple[object, ...] = (
        request_id,
        "acc",
        "stories",
        kind,
        "bulk",
        hold,
        webhook,
        look_in,
        floor,
        fingerprint,
        86_400,
    )
    # A test's second request lies under another key; the open one is always the first.
    open_one = REQUEST if running else request_key
    keys += [open_one, *BULK_QUEUE, FREE, *(name for name, _, _ in windows)]
    args += (60, watch, running, next_in, 60_000, value, options, lifetime, free_bound)
    limits = [number for _, count, window in windows for number in (count, window)]
    states, *answer = lua("submit", keys, *args, *limits)
    assert states == [] or windows
    return [states, *answer] if windows else answer


def test_a_known_idempotency_key_names_the_first_request_and_holds_nothing(lua: Lua) -> None:
    assert submit(lua, fingerprint="f")[0] == "ok"
    assert submit(lua, fingerprint="f", request_id="req_2", request_key="req2") == ["replay", ID]
    assert lua.redis.hget(CREDITS, "held") == "1"
    assert not lua.redis.exists("req2")
    assert 0 < lua.redis.ttl(IDEMPOTENCY) <= 86_400


def test_an_idempotency_key_does_not_stand_for_two_things(lua: Lua) -> None:
    submit(lua, fingerprint="f")
    assert submit(lua, fingerprint="g", request_id="req_2", request_key="req2") == ["reuse"]
    assert lua.redis.zcard(OPEN) == 1


def test_a_key_that_met_an_empty_balance_is_free_again(lua: Lua) -> None:
    assert submit(lua, hold=11, fingerprint="f")[0] == "poor"
    assert not lua.redis.exists(IDEMPOTENCY)
    assert submit(lua, hold=1, fingerprint="g")[0] == "ok"


def claim(lua: Lua, lease: int = HOUR) -> list[object]:
    return lua("claim", [REQUEST, OPEN, BATCH], ID, lease)


def renew(lua: Lua, fence: object, lease: int = HOUR) -> int:
    return lua("renew", [REQUEST, OPEN], ID, fence, lease)


def finish(
    lua: Lua,
    fence: object = 1,
    *,
    status: str = "succeeded",
    outcome: str = "found",
    code: str = "",
    charge: int = 1,
    ttl: int = 100,
    floor: str = "msg_",
    cached: int = 0,
    items: int = 3,
    silent: int = 0,
    remember: str = "",
    source: tuple[str, str, str] = ("", "", ""),
    burden: int = 0,
) -> list[object]:
    keys = [REQUEST, RESULT, CREDITS, LEDGER, OPEN, STATS, DELIVERY, DUE_HOSTS, DUE, OWED]
    keys += [BATCH, SUMMARY, SUMMARY_DUE, WATCH, SEEN, WATCH_OWED, INDEX, FREE, BATCHES]
    verdict = (ID, fence, status, outcome, code, charge, items, 60, gzip.compress(b"{}"), ttl, CHANNEL)
    receiver, batch = ("msg_1", HOST, 5000), ("msg_0", "", "")
    rest = (floor, cached, *batch, silent, remember, *source, burden, 10 * ttl)
    return lua("finish", keys, *verdict, *receiver, *rest)


def cancel(lua: Lua) -> list[object]:
    return finish(lua, "", status="cancelled", outcome="", code="cancelled", charge=0)


def credits(lua: Lua) -> tuple[int, int]:
    balance, held = lua.redis.hmget(CREDITS, "balance", "held")
    return int(balance), int(held)


def entries(lua: Lua) -> list[tuple[str, int, int, int]]:
    rows = [fields for _, fields in lua.redis.xrange(LEDGER)]
    return [(row["type"], int(row["amount"]), int(row["balance"]), int(row["held"])) for row in rows]


def server_ms(lua: Lua) -> int:
    seconds, micros = lua.redis.time()
    return seconds * 1000 + micros // 1000


# --- submit --------------------------------------------------------------------------------------


def test_submit_stores_the_request_holds_its_price_and_opens_it(lua: Lua) -> None:
    before = server_ms(lua)
    answer, created, available, _ = submit(lua, hold=3, webhook="https://example.com/hook")
    assert (answer, available) == ("ok", 7)
    assert before <= int(str(created)) <= server_ms(lua)
    assert lua.redis.hgetall(REQUEST) == {
        "account": "acc", "operation": "stories", "username": "anna", "queue": "bulk", "status": "queued",
        "hold": "3", "max_age": "60",
        "created_at": str(created), "webhook_url": "https://example.com/hook",
    }  # fmt: skip
    assert credits(lua) == (10, 3)
    assert entries(lua) == [("hold", -3, 10, 3)]
    assert lua.redis.zrange(OPEN, 0, -1, withscores=True) == [(ID, float(str(created)) + 5000)]
    assert lua.redis.zrange(INDEX, 0, -1, withscores=True) == [(ID, 0)]
    assert lua.redis.hgetall(STATS) == {"held": "3", "accepted": "1"}


@pytest.mark.parametrize(
    "target", [("user_id", "7"), ("story_id", "9"), ("highlight_id", "17"), ("media_url", "https://a/b c")]
)
def test_submit_stores_what_it_is_about_in_a_field_of_its_kind(lua: Lua, target: tuple[str, str]) -> None:
    _, created, *_ = submit(lua, target=target)
    kind, value = target
    assert lua.redis.hgetall(REQUEST) == {
        "account": "acc", "operation": "stories", kind: value, "queue": "bulk", "status": "queued",
        "hold": "1", "max_age": "60", "created_at": str(created),
    }  # fmt: skip


def test_submit_stores_options_where_some_were_chosen(lua: Lua) -> None:
    submit(lua)
    assert not lua.redis.hexists(REQUEST, "options")
    submit(lua, request_id="req_2", request_key="req2", options='{"amount":3}')
    assert lua.redis.hget("req2", "options") == '{"amount":3}'


def test_submit_without_a_webhook_stores_none(lua: Lua) -> None:
    submit(lua)
    assert not lua.redis.hexists(REQUEST, "webhook_url")


def test_submit_again_with_the_same_id_changes_nothing_and_answers_the_same(lua: Lua) -> None:
    first = submit(lua, hold=3)
    before = snapshot(lua.redis)
    assert submit(lua, hold=3) == first
    assert snapshot(lua.redis) == before


def test_submit_again_answers_the_same_when_the_money_is_spent_meanwhile(lua: Lua) -> None:
    first = submit(lua, hold=10)
    assert submit(lua, hold=10) == first


@pytest.mark.parametrize(("hold", "accepted"), [(9, True), (10, True), (11, False)])
def test_submit_takes_what_the_available_balance_covers(lua: Lua, hold: int, accepted: bool) -> None:
    assert (submit(lua, hold=hold)[0] == "ok") == accepted


def test_submit_that_is_too_dear_stores_nothing_and_tells_what_is_available(lua: Lua) -> None:
    lua.redis.hset(CREDITS, "held", 4)
    before = snapshot(lua.redis)
    assert submit(lua, hold=7) == ["poor", 6, 0]
    assert snapshot(lua.redis) == before


def test_submit_for_an_account_without_credits_is_poor(lua: Lua) -> None:
    lua.redis.delete(CREDITS)
    assert submit(lua) == ["poor", 0, 0]


def test_submit_of_what_is_free_holds_nothing_and_writes_no_ledger(lua: Lua) -> None:
    lua.redis.delete(CREDITS)
    assert submit(lua, hold=0)[0] == "ok"
    assert not lua.redis.exists(CREDITS, LEDGER)


def test_submit_drops_ids_below_the_floor_from_the_index(lua: Lua) -> None:
    lua.redis.zadd(INDEX, {"req_0": 0, "req_00": 0, "req_0z": 0})
    submit(lua, floor="req_00")
    assert lua.redis.zrange(INDEX, 0, -1) == ["req_00", "req_0z", ID]


def test_submit_puts_what_is_for_it_into_the_bulk_queue_and_says_whether_to_call_a_worker(lua: Lua) -> None:
    assert submit(lua, lifetime=1_000)[-1] == 1
    assert submit(lua, lifetime=1_000, request_id="req_2", request_key="req2")[-1] == 0, "one is on the way"
    assert lua.redis.zrange(QUEUE, 0, -1, withscores=True) == [(ID, 0), ("req_2", 1)]
    assert 0 < lua.redis.pttl(CALLED) <= 1_000


def test_submit_again_leaves_the_bulk_queue_alone_and_has_a_worker_called(lua: Lua) -> None:
    first = submit(lua, lifetime=1_000)
    lua.redis.delete(*BULK_QUEUE)  # a worker took it
    assert submit(lua, lifetime=1_000) == first
    assert not lua.redis.exists(*BULK_QUEUE)


@pytest.mark.parametrize("refused", [{"hold": 11}, {"fingerprint": "f"}, {"fingerprint": "g"}])
def test_submit_puts_nothing_into_the_bulk_queue_that_is_not_stored(
    lua: Lua, refused: dict[str, Any]
) -> None:
    submit(lua, fingerprint="f")
    before = snapshot(lua.redis)
    assert submit(lua, lifetime=1_000, request_id="req_2", request_key="req2", **refused)[0] != "ok"
    assert snapshot(lua.redis) == before


def test_submit_counts_the_call_in_the_same_step(lua: Lua) -> None:
    windows = [("minute", 3, MINUTE), ("hour", 9, HOUR)]
    states, *answer = submit(lua, windows=windows)
    assert (answer[0], [state[::2] for state in states]) == ("ok", [[1, 0], [1, 0]])  # type: ignore[attr-defined]
    assert all(left > 0 for _, left, _ in states)  # type: ignore[attr-defined]
    assert lua.redis.mget("minute", "hour") == ["1", "1"]


def test_submit_again_counts_the_call_once(lua: Lua) -> None:
    _, *first = submit(lua, windows=[("minute", 1, MINUTE)])
    assert submit(lua, windows=[("minute", 1, MINUTE)]) == [[], *first]
    assert lua.redis.get("minute") == "1"


def test_submit_over_a_limit_does_nothing(lua: Lua) -> None:
    lua.redis.set("minute", 2, px=MINUTE)
    before = snapshot(lua.redis)
    windows = [("minute", 2, MINUTE), ("hour", 9, HOUR)]
    states, *answer = submit(lua, lifetime=1_000, fingerprint="f", windows=windows)
    assert (answer, [state[::2] for state in states]) == (["limited"], [[2, 1], [0, 0]])  # type: ignore[attr-defined]
    assert snapshot(lua.redis) == before


@pytest.mark.parametrize("what", [{"hold": 11}, {"fingerprint": "f"}, {"fingerprint": "g"}])
def test_submit_counts_a_call_that_comes_to_nothing(lua: Lua, what: dict[str, Any]) -> None:
    submit(lua, fingerprint="f")
    refused = {"request_id": "req_2", "request_key": "req2", **what}
    states, verdict, *_ = submit(lua, windows=[("minute", 3, MINUTE)], **refused)
    assert (verdict in {"poor", "replay", "reuse"}, states[0][0]) == (True, 1)  # type: ignore[index]


# --- claim ---------------------------------------------------------------------------------------


def test_claim_of_a_queued_request_gives_a_fence_a_lease_and_its_fields(lua: Lua) -> None:
    submit(lua)
    before = server_ms(lua)
    fence, lease_until, flat = claim(lua)
    fields = dict(zip(flat[::2], flat[1::2], strict=True))  # type: ignore[index]
    assert fence == 1
    assert before + HOUR <= int(str(lease_until)) <= server_ms(lua) + HOUR
    assert (fields["status"], fields["attempts"], fields["username"]) == ("processing", "1", "anna")
    assert fields == lua.redis.hgetall(REQUEST)
    assert lua.redis.zscore(OPEN, ID) == lease_until


def test_claim_of_a_leased_request_gives_nothing_and_changes_nothing(lua: Lua) -> None:
    submit(lua)
    claim(lua)
    before = snapshot(lua.redis)
    assert claim(lua) == []
    assert snapshot(lua.redis) == before


def test_claim_after_the_lease_gives_the_next_fence(lua: Lua) -> None:
    submit(lua)
    claim(lua, lease=20)
    await_true(lambda: server_ms(lua) > int(lua.redis.hget(REQUEST, "lease_until") or 0))
    assert claim(lua)[0] == 2
    assert lua.redis.hget(REQUEST, "attempts") == "2"


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_claim_of_what_has_ended_gives_nothing_and_closes_it(lua: Lua, status: str) -> None:
    submit(lua)
    lua.redis.hset(REQUEST, "status", status)
    assert claim(lua) == []
    assert lua.redis.zscore(OPEN, ID) is None
    assert lua.redis.hget(REQUEST, "status") == status


def test_claim_of_what_is_not_there_gives_nothing_and_closes_it(lua: Lua) -> None:
    lua.redis.zadd(OPEN, {ID: 1, "req_2": 2})
    assert claim(lua) == []
    assert lua.redis.zrange(OPEN, 0, -1) == ["req_2"]
    assert not lua.redis.exists(REQUEST)


# --- renew ---------------------------------------------------------------------------------------


def release(lua: Lua, fence: object = 1, *, parked: int = 0) -> int:
    return lua("release", [REQUEST, OPEN, STATS, BATCH], ID, fence, 5_000, parked)


def test_release_gives_a_claimed_request_back_as_if_it_had_not_been_taken_up(lua: Lua) -> None:
    submit(lua)
    claim(lua)
    before = server_ms(lua)
    assert release(lua) == 1
    fields = lua.redis.hgetall(REQUEST)
    assert (fields["status"], fields["attempts"], fields["fence"]) == ("queued", "0", "1")
    assert not {"lease_until", "parked"} & fields.keys()
    assert before + 5_000 <= lua.redis.zscore(OPEN, ID) <= server_ms(lua) + 5_000
    assert release(lua) == 0, "a second time changes nothing"
    assert claim(lua)[0] == 2


@pytest.mark.parametrize("fence", [0, 2, ""])
def test_release_with_another_fence_changes_nothing(lua: Lua, fence: object) -> None:
    submit(lua)
    claim(lua)
    before = snapshot(lua.redis)
    assert release(lua, fence) == 0
    assert snapshot(lua.redis) == before


def test_release_that_waits_for_a_session_counts_the_wait(lua: Lua) -> None:
    submit(lua)
    for times in (1, 2):
        claim(lua)
        assert release(lua, times, parked=1) == 1
        assert release(lua, times, parked=1) == 0, "a second time counts nothing"
        assert lua.redis.hget(REQUEST, "parked") == str(5_000 * times)
        assert lua.redis.hget(STATS, "parked") == str(times)


# --- park ----------------------------------------------------------------------------------------


def park(lua: Lua, known: int = 0) -> int:
    return lua("park", [REQUEST, OPEN, STATS], ID, known, 7_000)


def test_park_puts_a_queued_request_off_and_counts_the_wait_once(lua: Lua) -> None:
    submit(lua)
    postpone(lua)
    before = server_ms(lua)
    assert park(lua) == 1
    fields = lua.redis.hgetall(REQUEST)
    assert (fields["status"], fields["parked"], fields["looks"]) == ("queued", "7000", "0")
    assert before + 7_000 <= lua.redis.zscore(OPEN, ID) <= server_ms(lua) + 7_000
    stored = snapshot(lua.redis)
    assert park(lua) == 0, "a second time changes nothing"
    assert snapshot(lua.redis) == stored
    assert park(lua, 7_000) == 1
    assert lua.redis.hget(STATS, "parked") == "2"


def test_park_leaves_alone_what_is_worked_on_or_not_there(lua: Lua) -> None:
    assert park(lua) == 0
    submit(lua)
    claim(lua)
    before = snapshot(lua.redis)
    assert park(lua) == 0
    assert snapshot(lua.redis) == before


def postpone(lua: Lua, wait: int = 1_000, longest: int = HOUR) -> int:
    return lua("postpone", [REQUEST, OPEN], ID, wait, longest)


def test_postpone_counts_and_doubles_the_wait_up_to_the_longest(lua: Lua) -> None:
    submit(lua)
    for count, seconds in ((1, 1), (2, 2), (3, 4), (4, 5), (5, 5)):
        before = server_ms(lua)
        assert postpone(lua, longest=5_000) == count
        wait = seconds * 1000
        assert before + wait <= lua.redis.zscore(OPEN, ID) <= server_ms(lua) + wait


def test_postpone_forgets_a_request_that_has_ended(lua: Lua) -> None:
    assert postpone(lua) == 0
    assert not lua.redis.exists(REQUEST), "counting must not make a request"
    lua.redis.hset(REQUEST, "status", "succeeded")
    lua.redis.zadd(OPEN, {ID: 1})
    assert postpone(lua) == 0
    assert not lua.redis.exists(OPEN)


def test_renew_prolongs_the_lease_and_postpones_the_sweep(lua: Lua) -> None:
    submit(lua)
    _, first, _ = claim(lua, lease=1000)
    assert renew(lua, 1, lease=HOUR) == 1
    lease_until = int(lua.redis.hget(REQUEST, "lease_until") or 0)
    assert lease_until >= int(str(first)) - 1000 + HOUR
    assert lua.redis.zscore(OPEN, ID) == lease_until


def test_renew_works_after_the_lease_as_long_as_nobody_took_over(lua: Lua) -> None:
    submit(lua)
    claim(lua, lease=0)
    assert renew(lua, 1) == 1
    assert claim(lua) == []


@pytest.mark.parametrize("fence", [0, 2, ""])
def test_renew_with_another_fence_changes_nothing(lua: Lua, fence: object) -> None:
    submit(lua)
    claim(lua)
    before = snapshot(lua.redis)
    assert renew(lua, fence) == 0
    assert snapshot(lua.redis) == before


def test_renew_is_refused_to_the_worker_whose_work_was_taken_over(lua: Lua) -> None:
    submit(lua)
    claim(lua, lease=0)
    claim(lua)
    assert (renew(lua, 1), renew(lua, 2)) == (0, 1)


def test_renew_of_what_has_ended_or_is_queued_or_missing_is_refused(lua: Lua) -> None:
    assert renew(lua, 1) == 0
    submit(lua)
    assert renew(lua, 1) == 0
    claim(lua)
    finish(lua)
    assert renew(lua, 1) == 0
    assert lua.redis.zscore(OPEN, ID) is None


# --- finish --------------------------------------------------------------------------------------


def test_finish_stores_the_end_and_the_result_and_closes_the_request(lua: Lua) -> None:
    submit(lua)
    claim(lua)
    before = server_ms(lua)
    assert finish(lua) == ["ok", ""]
    record = lua.redis.hgetall(REQUEST)
    assert before <= int(record.pop("finished_at")) <= server_ms(lua)
    assert record.items() >= {
        "status": "succeeded", "outcome": "found", "code": "", "charged": "1", "item_count": "3",
        "retry_after": "60",
    }.items()  # fmt: skip
    assert "lease_until" not in record
    assert gzip.decompress(lua.redis.execute_command("GET", RESULT, NEVER_DECODE=True)) == b"{}"
    assert lua.redis.zscore(OPEN, ID) is None


def test_finish_stores_and_counts_who_gave_it_and_whose_it_is(lua: Lua) -> None:
    submit(lua)
    claim(lua)
    finish(lua, source=("instagrapi", "7", "anna"))
    record = lua.redis.hgetall(REQUEST)
    assert (record["source"], record["owner"], record["owner_name"]) == ("instagrapi", "7", "anna")
    assert lua.redis.hget(STATS, "source:instagrapi") == "1"
    before = snapshot(lua.redis)
    assert finish(lua, source=("instagrapi", "7", "anna")) == ["ok", ""], "the reply was lost"
    assert snapshot(lua.redis) == before


def test_finish_of_what_nobody_gave_names_nobody(lua: Lua) -> None:
    submit(lua)
    claim(lua)
    finish(lua, status="failed", outcome="", code="upstream_error", charge=0)
    assert not {"source", "owner", "owner_name"} & lua.redis.hgetall(REQUEST).keys()
    assert not [name for name in lua.redis.hkeys(STATS) if name.startswith("source:")]


def test_finish_charges_what_was_held(lua: Lua) -> None:
    submit(lua, hold=3)
    claim(lua)
    finish(lua, charge=3)
    assert credits(lua) == (7, 0)
    assert entries(lua) == [("hold", -3, 10, 3), ("charge", -3, 7, 0)]


def test_finish_releases_what_is_not_charged(lua: Lua) -> None:
    submit(lua, hold=3)
    claim(lua)
    finish(lua, charge=1)
    assert credits(lua) == (9, 0)
    assert entries(lua) == [("hold", -3, 10, 3), ("charge", -1, 9, 2), ("release", 2, 9, 0)]


def test_a_released_hold_is_available_again(lua: Lua) -> None:
    submit(lua, hold=10)
    claim(lua)
    finish(lua, status="failed", outcome="", code="account_private", charge=0)
    assert credits(lua) == (10, 0)
    assert entries(lua) == [("hold", -10, 10, 10), ("release", 10, 10, 0)]


def test_finish_leaves_the_holds_of_other_requests_alone(lua: Lua) -> None:
    lua.redis.hset(CREDITS, "held", 5)
    submit(lua, hold=2)
    claim(lua)
    finish(lua, charge=1)
    assert credits(lua) == (9, 5)


def test_finish_of_what_was_free_touches_no_credits(lua: Lua) -> None:
    submit(lua, hold=0)
    claim(lua)
    finish(lua, charge=0)
    assert credits(lua) == (10, 0)
    assert entries(lua) == []


def test_finish_refuses_a_charge_over_the_hold_and_changes_nothing(lua: Lua) -> None:
    submit(lua, hold=1)
    claim(lua)
    before = snapshot(lua.redis)
    with pytest.raises(ResponseError, match="CHARGE"):
        finish(lua, charge=2)
    assert snapshot(lua.redis) == before


def test_finish_again_changes_nothing_and_answers_the_same(lua: Lua) -> None:
    submit(lua, webhook="https://example.com/")
    claim(lua)
    first = finish(lua)
    before = snapshot(lua.redis)
    assert finish(lua) == first == ["ok", "msg_1"]
    assert snapshot(lua.redis) == before


@pytest.mark.parametrize("fence", [0, 1, 3])
def test_finish_with_another_fence_than_the_newest_is_lost(lua: Lua, fence: int) -> None:
    submit(lua)
    claim(lua, lease=0)
    claim(lua)
    before = snapshot(lua.redis)
    assert finish(lua, fence) == ["lost"]
    assert snapshot(lua.redis) == before


def test_finish_with_another_end_than_the_one_that_was_is_lost(lua: Lua) -> None:
    submit(lua)
    claim(lua)
    finish(lua)
    before = snapshot(lua.redis)
    assert finish(lua, status="failed", outcome="", code="upstream_error", charge=0) == ["lost"]
    assert snapshot(lua.redis) == before


def test_finish_with_a_fence_of_what_was_never_claimed_or_never_was_is_lost(lua: Lua) -> None:
    assert finish(lua) == ["lost"]
    submit(lua)
    assert finish(lua) == ["lost"]
    assert lua.redis.hget(REQUEST, "status") == "queued"


def test_a_queued_request_is_cancelled_without_a_fence_and_its_hold_released(lua: Lua) -> None:
    submit(lua, hold=4)
    assert cancel(lua) == ["ok", ""]
    assert lua.redis.hget(REQUEST, "status") == "cancelled"
    assert lua.redis.zscore(OPEN, ID) is None
    assert credits(lua) == (10, 0)


def test_cancelling_again_changes_nothing(lua: Lua) -> None:
    submit(lua)
    cancel(lua)
    before = snapshot(lua.redis)
    assert cancel(lua) == ["ok", ""]
    assert snapshot(lua.redis) == before


def test_a_claimed_request_cannot_be_cancelled_not_even_after_its_lease(lua: Lua) -> None:
    submit(lua)
    claim(lua, lease=0)
    before = snapshot(lua.redis)
    assert cancel(lua) == ["lost"]
    assert snapshot(lua.redis) == before


def test_a_request_that_is_gone_or_has_ended_cannot_be_cancelled(lua: Lua) -> None:
    assert cancel(lua) == ["lost"]
    submit(lua)
    claim(lua)
    finish(lua)
    assert cancel(lua) == ["lost"]


def test_a_cancelled_request_cannot_be_claimed(lua: Lua) -> None:
    submit(lua)
    cancel(lua)
    assert claim(lua) == []


def test_finish_owes_a_delivery_that_is_due_at_once(lua: Lua) -> None:
    submit(lua, webhook="https://example.com/hook")
    claim(lua)
    assert finish(lua) == ["ok", "msg_1"]
    finished_at = lua.redis.hget(REQUEST, "finished_at")
    assert lua.redis.hgetall(DELIVERY) == {
        "account": "acc", "request": ID, "url": "https://example.com/hook",
        "host": HOST, "status": "pending", "attempts": "0",
        "tries": "0", "created_at": finished_at, "started_at": finished_at, "next_at": finished_at,
    }  # fmt: skip
    assert lua.redis.zrange(OWED, 0, -1, withscores=True) == [("msg_1", 0)]


def test_finish_leaves_the_delivery_to_the_message_for_a_while_and_then_to_the_pump(lua: Lua) -> None:
    submit(lua, webhook="https://example.com/hook")
    claim(lua)
    finish(lua)
    look = float(lua.redis.hget(REQUEST, "finished_at") or 0) + 5000
    assert lua.redis.zrange(DUE, 0, -1, withscores=True) == [("msg_1", look)]
    assert lua.redis.zrange(DUE_HOSTS, 0, -1, withscores=True) == [(HOST, look)]


def test_finish_never_postpones_the_look_at_a_host(lua: Lua) -> None:
    lua.redis.zadd(DUE_HOSTS, {HOST: 7})
    submit(lua, webhook="https://example.com/hook")
    claim(lua)
    finish(lua)
    assert lua.redis.zscore(DUE_HOSTS, HOST) == 7


def test_finish_drops_ids_below_the_floor_from_the_list_of_deliveries(lua: Lua) -> None:
    lua.redis.zadd(OWED, {"msg_0": 0, "msg_00": 0})
    submit(lua, webhook="https://example.com/hook")
    claim(lua)
    finish(lua, floor="msg_00")
    assert lua.redis.zrange(OWED, 0, -1) == ["msg_00", "msg_1"]


def test_a_cancelled_request_owes_its_delivery_too(lua: Lua) -> None:
    submit(lua, webhook="https://example.com/hook")
    assert cancel(lua) == ["ok", "msg_1"]
    assert lua.redis.zscore(DUE, "msg_1") is not None


def test_finish_without_a_webhook_owes_none(lua: Lua) -> None:
    submit(lua)
    claim(lua)
    finish(lua)
    assert not lua.redis.exists(DELIVERY, DUE_HOSTS, DUE, OWED)


def test_finish_gives_request_and_result_their_lifetime_and_the_delivery_none(lua: Lua) -> None:
    submit(lua, webhook="https://example.com/hook")
    claim(lua)
    assert lua.redis.ttl(REQUEST) == -1
    finish(lua, ttl=100)
    assert 50 <= lua.redis.ttl(REQUEST) <= 100
    assert 50 <= lua.redis.ttl(RESULT) <= 100
    assert [lua.redis.ttl(key) for key in (DELIVERY, CREDITS, LEDGER, STATS)] == [-1, -1, -1, -1]


def test_finish_wakes_who_listens_and_a_lost_or_repeated_one_wakes_nobody(lua: Lua) -> None:
    submit(lua)
    claim(lua)
    with lua.redis.pubsub() as pubsub:
        pubsub.subscribe(CHANNEL)
        assert (pubsub.get_message(timeout=30) or {})["type"] == "subscribe"
        finish(lua, 7)
        finish(lua)
        finish(lua)
        assert (pubsub.get_message(timeout=30) or {})["data"] == "succeeded"
        assert pubsub.get_message(timeout=0.05) is None


@pytest.mark.parametrize(
    ("outcome", "code", "label"), [("found", "", "found"), ("", "user_not_found", "user_not_found")]
)
def test_finish_counts_the_outcome_or_else_the_code(lua: Lua, outcome: str, code: str, label: str) -> None:
    submit(lua)
    claim(lua)
    finish(lua, outcome=outcome, code=code)
    counters = lua.redis.hgetall(STATS)
    assert counters[f"outcome:{label}"] == "1"
    assert (counters["accepted"], counters["held"]) == ("1", "0")


BUCKETS = ("0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60")


@pytest.mark.parametrize("age", [0, 200, 400, 900, 2000, 4000, 9000, 29_000, 49_000])
def test_finish_counts_how_long_it_took(lua: Lua, age: int) -> None:
    submit(lua)
    claim(lua)
    created_at = server_ms(lua) - age
    lua.redis.hset(REQUEST, "created_at", created_at)
    finish(lua)
    # On a busy machine it took longer than the age, and longer than the age's bucket has room for.
    took = (int(lua.redis.hget(REQUEST, "finished_at") or 0) - created_at) / 1000
    assert took >= age / 1000
    bucket = next(each for each in BUCKETS if took <= float(each))
    counters = lua.redis.hgetall(STATS)
    buckets = {name: count for name, count in counters.items() if name.startswith("job_seconds:")}
    assert buckets == {f"job_seconds:{bucket}": "1"}
    assert float(counters["job_seconds_sum"]) == pytest.approx(took)


def test_finish_counts_what_took_longer_than_all_buckets_in_the_sum_only(lua: Lua) -> None:
    submit(lua)
    claim(lua)
    lua.redis.hset(REQUEST, "created_at", int(time.time() * 1000) - 100_000)
    finish(lua)
    assert not [name for name in lua.redis.hkeys(STATS) if name.startswith("job_seconds:")]
    assert float(lua.redis.hget(STATS, "job_seconds_sum") or 0) >= 99
