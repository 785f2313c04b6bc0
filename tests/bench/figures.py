"""What a run found: figures, each beside its floor and its goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

RATIO, VALUE = "ratio", "value"


@dataclass(frozen=True)
class Goal:
    """A bound on a figure's ratio or value: it holds from below or from above."""

    bound: float
    on: str = RATIO
    at_least: bool = False

    def share(self, reached: float) -> float:
        """Return how much of what is allowed was used: up to 1 the goal is met."""
        if self.at_least:
            return self.bound / reached if reached else float("inf")
        return reached / self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {number(self.bound)}{'×' if self.on == RATIO else ''}"


@dataclass(frozen=True)
class Figure:
    """One figure; ``floor`` was measured in the same run, in the same unit."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    goal: Goal | None = None

    @property
    def ratio(self) -> float | None:
        """How many times its floor it is; None without one."""
        return self.value / self.floor if self.floor else None

    @property
    def share(self) -> float | None:
        """How much of what its goal allows was used; None without a goal."""
        if self.goal is None:
            return None
        reached = self.value if self.goal.on == VALUE else self.ratio
        if reached is None:
            raise ValueError(f"{self.name} has a goal for its ratio, but no floor")
        return self.goal.share(reached)

    @property
    def met(self) -> bool | None:
        """Whether its goal is met; None without one."""
        return None if self.share is None else self.share <= 1

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "floor": self.floor,
            "ratio": self.ratio,
            "goal": str(self.goal) if self.goal else None,
            "met": self.met,
        }


@dataclass(frozen=True)
class Part:
    """What one part of a run found. ``note`` says in Markdown how it was measured.

    ``name`` is what the command calls it, a colon, and what it is about.
    ``stacks`` are figures made of parts, for the plot: what of whom, for example milliseconds of CPU by
    process.
    """

    name: str
    note: str
    figures: Sequence[Figure]
    stacks: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def short(self) -> str:
        return self.name.partition(":")[0]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "seconds": round(self.seconds, 1),
            "figures": [figure.to_json() for figure in self.figures],
            "stacks": self.stacks,
        }


def number(value: float) -> str:
    """Return a number with about three digits that say something."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.3g}"


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile of at least two values, one that was measured or lies between two that were."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]
