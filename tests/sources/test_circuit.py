"""When an upstream is left alone, and when it is asked again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from workers.sources.circuit import OPEN_SECONDS, TRIES_LEAST, WINDOW_SECONDS, Circuit


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit(clock)


def tell(circuit: Circuit, *outcomes: bool | None) -> None:
    """Let it be tried, with these failures (True) and successes (False)."""
    for failed in outcomes:
        number = circuit.enter()
        assert number is not None
        circuit.leave(number, failed)


@pytest.mark.parametrize(
    ("failures", "successes", "opens"),
    [(TRIES_LEAST - 1, 0, False), (TRIES_LEAST, 0, True), (7, 3, True), (6, 4, False), (0, 50, False)],
)
def test_it_opens_when_most_of_many_fail(
    circuit: Circuit, failures: int, successes: int, opens: bool
) -> None:
    tell(circuit, *[False] * successes, *[True] * failures)
    assert bool(circuit.wait()) is opens
    assert (circuit.enter() is None) is opens


def test_what_says_nothing_about_the_upstream_is_not_counted(circuit: Circuit) -> None:
    tell(circuit, *[None] * 50)
    assert circuit.wait() == 0


def test_what_is_long_ago_is_forgotten(circuit: Circuit, clock: Clock) -> None:
    tell(circuit, *[True] * (TRIES_LEAST - 1))
    clock.now += WINDOW_SECONDS
    tell(circuit, True)
    assert circuit.wait() == 0
    tell(circuit, *[True] * (TRIES_LEAST - 1))
    assert circuit.wait() == OPEN_SECONDS


def test_the_wait_runs_down(circuit: Circuit, clock: Clock) -> None:
    tell(circuit, *[True] * TRIES_LEAST)
    clock.now += 12
    assert circuit.wait() == OPEN_SECONDS - 12


def opened(circuit: Circuit, clock: Clock) -> int:
    """Open it, wait, and return the number of the probe."""
    tell(circuit, *[True] * TRIES_LEAST)
    clock.now += OPEN_SECONDS
    probe = circuit.enter()
    assert probe is not None
    return probe


def test_one_probe_at_a_time(circuit: Circuit, clock: Clock) -> None:
    probe = opened(circuit, clock)
    assert circuit.enter() is None
    assert circuit.wait() > 0
    circuit.leave(probe, False)
    assert circuit.wait() == 0
    tell(circuit, *[True] * (TRIES_LEAST - 1))  # counted from the beginning
    assert circuit.wait() == 0


def test_a_probe_that_fails_keeps_it_open(circuit: Circuit, clock: Clock) -> None:
    circuit.leave(opened(circuit, clock), True)
    assert circuit.wait() == OPEN_SECONDS


def test_a_probe_that_says_nothing_makes_room_for_another(circuit: Circuit, clock: Clock) -> None:
    circuit.leave(opened(circuit, clock), None)
    assert circuit.enter() is not None


def test_a_straggler_is_not_taken_for_the_probe(circuit: Circuit, clock: Clock) -> None:
    late = circuit.enter()
    assert late is not None
    probe = opened(circuit, clock)
    circuit.leave(late, False)
    assert circuit.enter() is None
    circuit.leave(probe, True)
    assert circuit.wait() == OPEN_SECONDS


def test_many_threads_may_share_it(circuit: Circuit, clock: Clock) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: tell(circuit, False), range(400)))
    tell(circuit, *[True] * 399)
    assert circuit.wait() == 0, "a try was lost"
    clock.now += WINDOW_SECONDS + OPEN_SECONDS
    tell(circuit, *[True] * TRIES_LEAST)
    clock.now += OPEN_SECONDS
    with ThreadPoolExecutor(8) as threads:
        numbers = list(threads.map(lambda _: circuit.enter(), range(40)))
    assert sum(number is not None for number in numbers) == 1
