"""Knobs: how slow, how flaky and how strict the simulator is; set at start or over ``/_sim/knobs``."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote

from .ids import is_username
from .scenes import SCENE_CODES


class KnobError(ValueError):
    """A knob that does not exist or a value it does not take; the message names it."""


@dataclass(frozen=True)
class Knobs:
    """All knobs with their resting values."""

    latency_ms: float = 0
    jitter_ms: float = 0
    failure_rate: float = 0
    failure_status: int = 500
    seed: int = 0
    session_limit_per_minute: int = 0
    hiker_status: int = 0
    graph_code: int = 0
    cdn_seconds: int = 0
    media_bytes: int = 0
    revoked_sessions: frozenset[str] = field(default_factory=frozenset)
    scene_overrides: Mapping[str, str] = field(default_factory=dict)

    def turned(self, changes: Mapping[str, Any]) -> Knobs:
        """These knobs with some of them changed; raises KnobError."""
        for name in changes:
            if name not in _READERS:
                raise KnobError(f"unknown knob {name!r}; there are {', '.join(_READERS)}")
        values = {}
        for name, value in changes.items():
            try:
                values[name] = _READERS[name](value)
            except (TypeError, ValueError) as error:
                raise KnobError(f"knob {name!r}: {error}") from None
        return replace(self, **values)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"revoked_sessions": sorted(self.revoked_sessions)}

    def delay_seconds(self, call: int) -> float:
        """How long the call of this number waits before it is answered."""
        jitter_ms = self.jitter_ms * self._draw("delay", call) if self.jitter_ms else 0
        return (self.latency_ms + jitter_ms) / 1000

    def fails(self, call: int) -> bool:
        """Whether the call of this number fails; the same numbers fail for the same seed."""
        return self.failure_rate > 0 and self._draw("failure", call) < self.failure_rate

    def is_revoked(self, session: str) -> bool:
        """Whether a session is revoked, by itself or with all sessions of its user id."""
        return session in self.revoked_sessions or session.partition("%3A")[0] in self.revoked_sessions

    def _draw(self, what: str, call: int) -> float:
        return random.Random(f"{self.seed}:{what}:{call}").random()


def canonical_session(session: str) -> str:
    """A sessionid as Instagram writes it, whether it came quoted (``1%3Aab``) or not (``1:ab``)."""
    return quote(unquote(session), safe="")


def from_environment(environ: Mapping[str, str]) -> Knobs:
    """The knobs at start; raises KnobError naming the variable."""
    changes = {name: environ[variable] for variable, name in _VARIABLES.items() if environ.get(variable)}
    try:
        return Knobs().turned({name: float(text) for name, text in changes.items()})
    except ValueError as error:
        raise KnobError(f"{' / '.join(_VARIABLES)}: {error}") from None


_VARIABLES = {
    "SIMULATOR_LATENCY_MS": "latency_ms",
    "SIMULATOR_FAILURE_RATE": "failure_rate",
    "SIMULATOR_SEED": "seed",
}


def _number(low: float, high: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(value)

    return read


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise ValueError("must be a whole number")
        if not low <= value <= high:
            raise ValueError(f"must lie between {low} and {high}")
        return int(value)

    return read


def _sessions(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(session, str) for session in value):
        raise ValueError("must be a list of session ids")
    return frozenset(map(canonical_session, value))


def _overrides(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("must be an object of username: scene")
    for username, scene in value.items():
        if not is_username(username.lower()):
            raise ValueError(f"{username!r} is no username")
        if scene not in SCENE_CODES:
            raise ValueError(f"unknown scene {scene!r}; there are {', '.join(SCENE_CODES)}")
    return {username.lower(): scene for username, scene in value.items()}


_READERS: dict[str, Callable[[Any], Any]] = {
    "latency_ms": _number(0, 600_000),
    "jitter_ms": _number(0, 600_000),
    "failure_rate": _number(0, 1),
    "failure_status": _whole(400, 599),
    "seed": _whole(-(2**63), 2**63),
    "session_limit_per_minute": _whole(0, 1_000_000),
    "hiker_status": _whole(0, 599),
    "graph_code": _whole(0, 100_000),
    "cdn_seconds": _whole(0, 86_400),
    "media_bytes": _whole(0, 10**9),
    "revoked_sessions": _sessions,
    "scene_overrides": _overrides,
}
