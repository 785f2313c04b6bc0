"""Calls at a later time."""

from __future__ import annotations

import threading

from service.egress.alarms import Alarms
from tests.conftest import await_true


def test_alarms_ring_in_the_order_of_their_times_whatever_the_order_they_were_set_in() -> None:
    alarms, rung = Alarms(), []
    held = threading.Event()
    alarms.set(0, held.wait)  # nothing rings before all are set
    for name, seconds in (("third", 0.03), ("first", 0.01), ("second", 0.02)):
        alarms.set(seconds, lambda name=name: rung.append(name))
    held.set()
    await_true(lambda: len(rung) == 3)
    assert rung == ["first", "second", "third"]


def test_an_earlier_one_does_not_wait_for_a_later_one() -> None:
    alarms, rung = Alarms(), threading.Event()
    alarms.set(3_600, lambda: None)
    alarms.set(0.01, rung.set)
    assert rung.wait(30)


def test_a_cancelled_one_does_not_ring() -> None:
    alarms, rung = Alarms(), []
    held = threading.Event()
    alarms.set(0, held.wait)
    alarms.set(0.01, lambda: rung.append("cancelled")).cancel()
    alarms.set(0.02, lambda: rung.append("kept"))
    held.set()
    await_true(lambda: rung)
    assert rung == ["kept"]


def test_cancelled_ones_are_forgotten_when_the_next_is_due() -> None:
    alarms, rung = Alarms(), threading.Event()
    alarms.set(0.05, rung.set)
    for _ in range(500):
        alarms.set(0.1, lambda: None).cancel()
    kept = alarms.set(3_600, lambda: None)
    assert rung.wait(30)
    await_true(lambda: [each for _, _, each in alarms._waiting] == [kept])


def test_one_thread_serves_all() -> None:
    alarms, before = Alarms(), threading.active_count()
    for _ in range(500):
        alarms.set(3_600, lambda: None)
    assert threading.active_count() == before + 1
