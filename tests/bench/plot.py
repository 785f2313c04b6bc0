"""The plot: figures that have a goal, and what stacked ones are made of. Needs the extra ``bench``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from tests.bench.figures import Part, number

mpl.use("Agg")
# The same figures make the same file: ids from a fixed salt, no date, text as text.
mpl.rcParams.update({"svg.hashsalt": "storyhook", "svg.fonttype": "none", "font.size": 9})

MET, MISSED = "#2a7f62", "#b23a48"
LONGEST = 3.0  # shares beyond are cut off here, with their number beside them


def draw(parts: Sequence[Part], path: Path) -> None:
    """Write the plot as SVG."""
    from matplotlib import pyplot

    goals = [
        (f"{part.short}: {figure.name}", figure.share)
        for part in parts
        for figure in part.figures
        if figure.share is not None
    ]
    stacks = [(part.short, part.stacks) for part in parts if part.stacks]
    heights = [max(len(goals), 1) + 1, *(sum(map(len, found.values())) * 0.5 + 2 for _, found in stacks)]
    drawing, panels = pyplot.subplots(
        len(heights),
        figsize=(9, 0.32 * sum(heights) + 1),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    _goals(panels[0][0], goals)
    for panel, (name, found) in zip(panels[1:, 0], stacks, strict=True):
        _stacks(panel, name, found)
    drawing.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(drawing)


def _goals(panel: Any, goals: Sequence[tuple[str, float]]) -> None:
    names, shares = [name for name, _ in goals], [share for _, share in goals]
    bars = panel.barh(
        names, [min(share, LONGEST) for share in shares], color=[MET if s <= 1 else MISSED for s in shares]
    )
    panel.bar_label(bars, [f"{share:.2f}" for share in shares], padding=3)
    panel.axvline(1, color="black", linewidth=1)
    panel.set_xlim(0, LONGEST * 1.1)
    panel.invert_yaxis()
    panel.set_title("Share used of what the goal allows: left of the line it is met", loc="left")


def _stacks(panel: Any, name: str, stacks: dict[str, dict[str, float]]) -> None:
    for row, pieces in stacks.items():
        left = 0.0
        for piece, size in pieces.items():
            panel.barh(row, size, left=left, edgecolor="white", label=f"{row}: {piece}, {number(size)}")
            left += size
    panel.invert_yaxis()
    panel.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    panel.set_title(f"{name}: ms of CPU each", loc="left")
