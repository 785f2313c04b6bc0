"""Who may go on now: shares, turns, and what is given back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from service.domain.admission import (
    KNOWN_MOST,
    QUEUED_MOST,
    QUEUED_MOST_EACH,
    Admission,
    Callers,
    Gate,
    Place,
    Places,
    Told,
)
from service.domain.errors import RateLimited, TooBusy


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def test_one_holder_gets_half_while_the_rest_is_free_and_a_quarter_otherwise() -> None:
    places = Places("x", 48)
    assert sum(places.take("greedy") for _ in range(48)) == 24
    assert sum(places.take("second") for _ in range(48)) == 12
    assert sum(places.take("third") for _ in range(48)) == 12
    assert places.free == 0


def test_whoever_else_comes_finds_a_place_beside_one_who_takes_all_there_is() -> None:
    for total in range(2, 50):
        places = Places("x", total)
        while places.take("greedy"):
            pass
        assert places.take("another"), total


def test_one_place_is_there_for_anybody() -> None:
    places = Places("x", 1)
    assert places.take("one")
    assert not places.take("one")
    places.give("one")
    assert places.take("two")


def test_a_refusal_says_whose_calls_are_too_many_and_when_to_come_back() -> None:
    places = Places("files", 4)
    for holder in "abcd":
        assert places.take(holder)
    own, others = places.refusal("a"), places.refusal("e")
    assert isinstance(own, RateLimited)
    assert isinstance(others, TooBusy)
    for error in (own, others):
        assert "files" in error.message
        assert error.retry_after


def test_what_is_there_already_is_counted_and_keeps_out_what_comes_next() -> None:
    places = Places("bytes", 100)
    places.check("a")
    places.add("a", 300)
    with pytest.raises(RateLimited):
        places.check("a")
    places.check("b")
    assert not places.take("b"), "but nothing more is taken"
    places.give("a", 300)
    places.check("a")
    assert places.free == 100


def test_who_waits_gets_the_place_that_is_given_back() -> None:
    async def story() -> None:
        gate = Gate("x", 1, patience=30.0)
        await gate.enter("a")
        turn = asyncio.create_task(gate.enter("b"))
        await asyncio.sleep(0)
        assert not turn.done()
        gate.give("a")
        await turn
        assert gate.free == 0

    run(story())


def test_the_next_one_is_of_the_holder_with_the_fewest_places() -> None:
    async def story() -> None:
        gate = Gate("x", 4, patience=30.0)
        for _ in range(2):
            await gate.enter("many")
        order: list[str] = []

        async def comes(holder: str) -> None:
            await gate.enter(holder)
            order.append(holder)

        await gate.enter("few")
        await gate.enter("other")
        waiting = [asyncio.create_task(comes(holder)) for holder in ("many", "many", "new")]
        await asyncio.sleep(0)
        gate.give("other")
        await waiting[2]
        assert order == ["new"]
        for task in waiting[:2]:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    run(story())


def test_who_has_waited_long_enough_is_told_so_and_leaves_nothing() -> None:
    async def story() -> None:
        gate = Gate("x", 1, patience=0.01)
        await gate.enter("a")
        with pytest.raises(TooBusy):
            await gate.enter("b")
        with pytest.raises(RateLimited):
            await gate.enter("a")
        gate.give("a")
        assert gate.free == 1
        await gate.enter("b")

    run(story())


def test_a_place_granted_to_who_has_gone_comes_back() -> None:
    async def story() -> None:
        gate = Gate("x", 1, patience=30.0)
        await gate.enter("a")
        turn = asyncio.create_task(gate.enter("b"))
        await asyncio.sleep(0)
        gate.give("a")  # grants it
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert gate.free == 1

    run(story())


def test_the_queue_has_an_end_for_each_and_for_all() -> None:
    async def story() -> None:
        gate = Gate("x", 1, patience=30.0)
        await gate.enter("a")
        holders = [f"h{number // QUEUED_MOST_EACH}" for number in range(QUEUED_MOST)]
        waiting = [asyncio.create_task(gate.enter(holder)) for holder in holders]
        await asyncio.sleep(0)
        with pytest.raises(TooBusy):
            await gate.enter("h0")
        with pytest.raises(TooBusy):
            await gate.enter("another")
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        gate.give("a")
        await gate.enter("another")

    run(story())


def test_a_place_is_given_back_once_whoever_leaves() -> None:
    async def story() -> None:
        gate = Gate("x", 2, patience=1.0)
        await gate.enter("a")
        place = Place(gate, "a")
        place.leave()
        place.leave()
        assert gate.free == 2

    run(story())


def test_so_many_callers_are_remembered_and_no_secret_is() -> None:
    callers = Callers()
    for number in range(KNOWN_MOST + 1):
        callers.remember(f"sk_live_{number}", "acc_1")
    assert callers.account_of("sk_live_0") is None
    assert callers.account_of(f"sk_live_{KNOWN_MOST}") == "acc_1"
    assert callers.account_of("") is None
    assert "sk_live" not in repr(vars(callers))


def test_whoever_has_a_place_has_a_thread() -> None:
    admission = Admission(waiters=7)
    assert admission.threads > 7 + sum(gate.total for gate in admission.gates.values())


def test_who_was_told_to_come_back_is_for_seconds_at_most_and_not_all_are_remembered() -> None:
    now = [100.0]
    told = Told(lambda: now[0])
    told.check("a")
    told.tell("a", 3_600)
    with pytest.raises(RateLimited) as refused:
        told.check("a")
    assert refused.value.retry_after == Told.MOST
    told.check("b")
    now[0] += Told.MOST
    told.check("a")
    for number in range(KNOWN_MOST + 1):
        told.tell(f"h{number}", 5)
    told.check("h0")
    with pytest.raises(RateLimited):
        told.check(f"h{KNOWN_MOST}")
