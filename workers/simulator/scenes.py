"""Scenes: what a username's prefix makes happen.

``challenge_anna`` is asked to pass a challenge, ``slow_10_ben`` answers after ten seconds, and a name
without a known prefix is an ordinary public account. The two-digit code stands in front of the user's id,
so the scene survives where only the id is known; codes must therefore never change their meaning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NORMAL = "normal"
DEFAULT_SLOW_SECONDS = 3
LONGEST_WAIT_SECONDS = 60

SCENE_CODES = {
    NORMAL: 17,
    "private": 20,
    "missing": 21,
    "empty": 22,
    "slow": 23,
    "ratelimited": 24,
    "challenge": 25,
    "flaky": 26,
    "huge": 27,
    "stickers": 28,
    "html": 29,
    "drift": 30,
    "wait": 31,
    "feedback": 32,
    "sentry": 33,
    "ratelimiterror": 34,
    "proxyblocked": 35,
    "masked": 36,
    "suspended": 37,
    "checkpoint": 38,
    "consent": 39,
    "geoblock": 40,
    "loginrequired": 41,
    "unauthorized": 42,
    "forbidden": 43,
    "notauthorized": 44,
    "badrequest": 45,
    "upgrade": 46,
    "error": 47,
    "fail": 48,
    "truncated": 49,
    "hang": 50,
    "timeout408": 51,
}
_NAME_OF_CODE = {code: name for name, code in SCENE_CODES.items()}
_SLOW_SECONDS = re.compile(r"slow_(\d{1,2})_")


@dataclass(frozen=True)
class Scene:
    """One scene; ``seconds`` counts only for ``slow``."""

    name: str
    seconds: int = 0

    @property
    def code(self) -> int:
        return SCENE_CODES[self.name]


def named(name: str, seconds: int = DEFAULT_SLOW_SECONDS) -> Scene:
    """The scene of that name; KeyError when there is none."""
    if name not in SCENE_CODES:
        raise KeyError(name)
    return Scene(name, min(seconds, LONGEST_WAIT_SECONDS) if name == "slow" else 0)


def scene_of_name(username: str) -> Scene:
    """The scene which a username's prefix chooses."""
    prefix, underscore, _ = username.partition("_")
    if not underscore or prefix == NORMAL or prefix not in SCENE_CODES:
        return Scene(NORMAL)
    match = _SLOW_SECONDS.match(username)
    return named(prefix, int(match[1]) if match else DEFAULT_SLOW_SECONDS)


def scene_of_code(code: int, seconds: int) -> Scene | None:
    """The scene of a code, or None for a number that is no code."""
    name = _NAME_OF_CODE.get(code)
    return named(name, seconds) if name else None
