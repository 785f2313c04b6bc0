"""Measure Storyhook beside the bare parts it is made of, all in one run: ``python -m tests.bench``.

Prints a table and writes docs/benchmarks.md with a plot. With --only or --quick nothing is written, unless
--docs says where.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from inspect import getdoc
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console

from tests.bench import accept, concurrency, job, latency, peers, report, scale, soak, sync
from tests.bench.figures import Part
from tests.bench.lab import Lab, Sizes
from tests.e2e.stack import ROOT
from tests.webhooks.fast_receiver import fast_receiver

PARTS = {
    "accept": accept, "job": job, "sync": sync, "concurrency": concurrency, "latency": latency,
    "scale": scale, "peers": peers, "soak": soak,
}  # fmt: skip
QUICK = Sizes(rounds=1, posts=20, jobs=20, calls=4, seconds=1.0, queued=(200, 300))
RECEIVERS = 8


def run(part: str, lab: Lab) -> Part:
    """Measure one part."""
    module: ModuleType = PARTS[part]
    title, _, note = (getdoc(module) or "").partition("\n\n")
    started = time.monotonic()
    found: Any = module.measure(lab)
    figures, stacks = found if isinstance(found, tuple) else (found, {})
    return Part(f"{part}: {title.rstrip('.')}", note, figures, stacks, time.monotonic() - started)


def sizes(given: argparse.Namespace) -> Sizes:
    """Return how much is done."""
    if given.quick:
        return QUICK
    if given.long:
        return Sizes(jobs=4_800, queued=(100_000, 1_000_000), soak_minutes=given.soak_minutes)
    return Sizes(soak_minutes=given.soak_minutes)


def write(folder: Path, command: str, parts: Sequence[Part], about: dict[str, str]) -> None:
    """Write benchmarks.md and benchmarks.svg."""
    from tests.bench.plot import draw

    folder.mkdir(parents=True, exist_ok=True)
    draw(parts, folder / "benchmarks.svg")
    page = report.markdown(command, about, parts, "benchmarks.svg")
    (folder / "benchmarks.md").write_text(page, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; returns the exit status: 0 even where a goal is missed."""
    given = _options(arguments)
    chosen = given.only or [part for part in PARTS if part != "soak" or given.long]
    about, console, parts = report.machine(), Console(), []
    with (
        tempfile.TemporaryDirectory(prefix="storyhook-bench-") as folder,
        fast_receiver(RECEIVERS) as receiver,
    ):
        lab = Lab(Path(folder), sizes(given), receiver)
        for part in chosen:
            parts.append(run(part, lab))
            console.print(report.table(parts[-1]))
    if docs := given.docs or (None if given.only or given.quick else ROOT / "docs"):
        write(docs, _command(given), parts, about)
    if given.json:
        found = {"machine": about, "parts": [part.to_json() for part in parts]}
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def _command(given: argparse.Namespace) -> str:
    """Return what to call for a run like this one."""
    words = ["python -m tests.bench"]
    words += ["--only", *given.only] if given.only else []
    words += ["--quick"] if given.quick else []
    words += [f"--long --soak-minutes {given.soak_minutes:g}"] if given.long else []
    return " ".join(words)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, help="measure these parts only")
    parser.add_argument("--quick", action="store_true", help="a handful of everything: does it work at all?")
    parser.add_argument("--long", action="store_true", help="with a queue of 1,000,000 and the soak")
    parser.add_argument("--soak-minutes", type=float, default=30.0, metavar="N")
    parser.add_argument("--docs", type=Path, metavar="FOLDER", help="where to write the page and the plot")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON too")
    return parser.parse_args(arguments)


def _stop(number: int, _: object) -> None:
    """End as on Ctrl-C, so that everything that was started ends too."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main())
