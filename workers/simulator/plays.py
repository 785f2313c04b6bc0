"""Plays the scenes of the people who are asked about, before (or instead of) what they show."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from flask import Response

from .answers import FAULTS, fail, server_error, truncated, user_not_found
from .scenes import LONGEST_WAIT_SECONDS
from .state import state
from .world import Person

Faults = Mapping[str, Callable[[], Response]]


def play(people: list[Person], answer: Callable[[], Response], faults: Faults = FAULTS) -> Response:
    """The answer, delayed, spoiled or replaced by the first scene among the people that says so.

    ``faults`` are the answers of the API that is asked, by scene.
    """
    if wait := max((person.scene.seconds for person in people), default=0):
        time.sleep(wait)
    for person in people:
        if instead := _instead(person, faults):
            return instead
    whole = answer()
    return truncated(whole) if any(person.scene.name == "truncated" for person in people) else whole


def _instead(person: Person, faults: Faults) -> Response | None:
    scene = person.scene.name
    if scene in faults:
        return faults[scene]()
    if scene == "missing":
        return user_not_found()
    if scene == "flaky" and state().fails_now(person):
        return server_error()
    if scene == "hang":
        # Longer than any sane client waits; bounded, so that a forgotten one frees its thread.
        time.sleep(LONGEST_WAIT_SECONDS)
        return fail(504, "Gateway timeout")
    return None
