"""The memory of one running simulator: knobs, counters, names, and who has failed once already."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from flask import current_app

from .calls import Calls
from .ids import is_username, scene_of_id
from .knobs import Knobs
from .names import NameBook
from .scenes import NORMAL, Scene, named
from .sessions import SessionLimits
from .world import Person

KEY = "simulator"


class State:
    """All of it; one per app, shared by its threads."""

    def __init__(self, knobs: Knobs | None = None, folder: Path | None = None) -> None:
        self._resting = knobs or Knobs()
        self._lock = threading.Lock()
        self._failed_once: set[int] = set()
        self.knobs = self._resting
        self.calls = Calls()
        self.limits = SessionLimits()
        self.names = NameBook(folder)

    def reset(self) -> None:
        """Forget counters, limits and who failed once; turn the knobs back to their start. Names stay."""
        with self._lock:
            self._failed_once.clear()
            self.knobs = self._resting
        self.calls.reset()
        self.limits.reset()

    def turn(self, changes: Mapping[str, Any]) -> Knobs:
        """Change some knobs; raises KnobError and changes none."""
        with self._lock:
            self.knobs = self.knobs.turned(changes)
            return self.knobs

    def person_named(self, username: str) -> Person | None:
        """Who has this username; None for what can be no username."""
        username = username.lower()
        if not is_username(username):
            return None
        user_id = self.names.remember(username)
        return Person(user_id, username, self._scene(user_id, username))

    def person(self, user_id: int) -> Person:
        """Who has this id; everybody exists."""
        username = self.names.username(user_id)
        return Person(user_id, username, self._scene(user_id, username))

    def fails_now(self, person: Person) -> bool:
        """True the first time it is asked about a person, False ever after."""
        with self._lock:
            first = person.id not in self._failed_once
            self._failed_once.add(person.id)
            return first

    def _scene(self, user_id: int, username: str) -> Scene:
        if override := self.knobs.scene_overrides.get(username):
            return named(override)
        return scene_of_id(user_id) or Scene(NORMAL)


def state() -> State:
    """The state of the app which is answering."""
    return cast(State, current_app.extensions[KEY])
