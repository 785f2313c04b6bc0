"""What clients who are slow in every way do to the others: `python -m tests.bench.slow_clients`.

200 at a time, each way by itself for 25 s, on the web process itself, without a proxy in front. Beside them
well-behaved customers look at their credits and accept 5 times a second, make 2 synchronous calls a second
and look at /healthz ten times a second; they did so alone before. A latency counts from when the call was
due, and one that is not answered within 10 s stands with that.

Columns: how many connections the web process had at most, and at the end; how many of the slow ones were hung
up on, as they saw it, and after how many seconds at the median (who reads nothing cannot see it: there the
connections tell); the statuses they were sent; the others' latencies in milliseconds, 95th
percentile; the most resident memory of the web process and its children.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench import programs
from tests.bench.ground import Answers, Ground, Prepared, Watched, ground, load, table, tell
from tests.bench.heaviest import BATCH, BATCH_MOST, Known
from tests.bench.siege import MEGABYTE, stop

BESIDE = ("healthz", "credits", "accept", "sync")
CONNECTING = 2.0  # seconds until the slow ones are there
BODY = 60_000
STORIES = "/api/instagram/stories"

HEAD = (
    "way", "connections most", "at the end", "hung up on", "after s", "statuses", "credits p95", "accept p95",
    "sync p95", "/healthz p95", "max", "web peak MiB",
)  # fmt: skip


@dataclass(frozen=True)
class Way:
    """A way of being slow; see `tests.bench.drip`."""

    name: str
    head: str = ""
    ahead: int = 0
    pieces: Sequence[str] = ()
    every: float = 1.0
    read: int | None = None
    read_every: float = 0.1


def ways(known: Known, key: str, fresh: Callable[[], str], host: str) -> dict[str, Way]:
    """Return all of them by the letters ``--only`` takes.

    They come with the besieging account's ``key``; where calls count against limits, with a ``fresh`` one.
    """

    def head(method: str, path: str, *more: str, key: str = key) -> str:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {key}", *more]
        return "\r\n".join(lines) + "\r\n\r\n"

    json_type, text_type = "Content-Type: application/json", "Content-Type: text/plain"
    post = head("POST", STORIES, json_type, f"Content-Length: {BODY}")
    chunked = head("POST", STORIES, json_type, "Transfer-Encoding: chunked")
    batch = head("POST", BATCH, text_type, f"Content-Length: {BATCH_MOST}")
    letters = list(head("GET", "/api/credits", f"X-Slow: {'a' * 1_000}"))
    results = f"/api/batches/{known.huge_batch_id}/results"
    download = f"/api/instagram/download?storyId={known.story_id}"
    looked = {
        "a page of results": lambda: head("GET", f"{results}?limit=200"),
        "a stream of results": lambda: head("GET", f"{results}?format=ndjson"),
        "an archived file": lambda: head("GET", known.archive_path),
        "a download": lambda: head("GET", download, key=fresh()),
    }
    unread = {
        f"d{at}": Way(f"reads nothing of {what}", asked(), read=0)
        for at, (what, asked) in enumerate(looked.items(), 1)
    }
    slow = {
        f"e{at}": Way(f"reads a byte in 100 ms of {what}", asked(), read=1)
        for at, (what, asked) in enumerate(looked.items(), 1)
    }
    return {
        "a": Way("a body, a byte a second", post, pieces=["x"]),
        "b": Way("a body in chunks, a byte a second", chunked, pieces=["1\r\nx\r\n"]),
        "c": Way("headers, a byte a second", pieces=letters),
        **unread,
        **slow,
        "f": Way("most of 2 MiB of a batch, then a byte a second", batch, 2_000_000, ["a"]),
        "g": Way("sends nothing"),
    }


@dataclass(frozen=True)
class Row:
    """What one way came to; ``slow`` is what `tests.bench.drip` printed."""

    name: str
    slow: dict[str, Any]
    seen: Watched
    beside: dict[str, Answers]

    def cells(self) -> list[object]:
        counts = [count for _, count in self.seen.connections]
        cut = self.slow.get("cut", [])
        statuses = self.slow.get("statuses", {})
        return [
            self.name,
            max(counts, default=0),
            counts[-1] if counts else 0,
            len(cut),
            f"{statistics.median(cut):.1f}" if cut else "",
            ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())),
            self.beside["credits"],
            self.beside["accept"],
            self.beside["sync"],
            f"{self.beside['healthz'].p95:,.0f}",
            f"{self.beside['healthz'].longest:,.0f}",
            f"{self.seen.peak / MEGABYTE:,.0f}",
        ]


def measured(field: Ground, way: Way | None, given: argparse.Namespace, seconds: float) -> Row:
    """Measure a way, or nobody."""
    field.fresh_web()
    plan = (
        {**asdict(way), "address": field.address, "clients": given.clients, "seconds": seconds} if way else {}
    )
    with ThreadPoolExecutor(1) as beside, field.watched() as seen:
        slow = beside.submit(lambda: programs.ask("tests.bench.drip", plan) if plan else {})
        time.sleep(min(CONNECTING, seconds / 2) if way else 0)
        # Until just before the slow ones end, so that they are there for all of it.
        found = field.well_behaved(max(seconds - CONNECTING - 1, 1.0), *BESIDE)
        came = slow.result()
    name = way.name if way else "nobody"
    if way:
        # What was open while they were there; the healthy ones may have been waited for longer.
        seen.connections = [each for each in seen.connections if each[0] <= seconds]
    return Row(name, came, seen, found)


def rows_of(field: Ground, known: Known, given: argparse.Namespace) -> list[Row]:
    """Measure the ways that are asked for, by default all of them, after nobody."""
    field.have_credits(10_000)

    def fresh() -> str:
        return field.stack.customer(credits=1_000).api_key

    every = ways(known, field.customer.api_key, fresh, field.address)
    measured(field, None, given, min(5.0, given.seconds))  # until everything is warm
    rows = [measured(field, None, given, given.seconds)]
    for letter in given.only or every:
        rows.append(measured(field, every[letter], given, given.seconds))
        tell(table(rows[-1].cells(), ()).partition("\n")[0], to=sys.stderr)
    return rows


def measure(given: argparse.Namespace) -> list[Row]:
    with ground() as field:
        return rows_of(field, field.prepare(Prepared(given.items, given.huge, 0)), given)


def markdown(rows: Sequence[Row]) -> str:
    return table(HEAD, [row.cells() for row in rows]) + "\n"


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tests.bench.slow_clients",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=25, help="of each way")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="a,b,...", default=[])
    parser.add_argument("--items", type=int, default=1_000, help="of the large batch")
    parser.add_argument("--huge", type=int, default=200, help="of the batch of huge reels")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures as JSON too")
    return parser.parse_args(arguments)


def report(rows: Sequence[Row], file: Path | None) -> None:
    """Print the table, and write all figures as JSON."""
    tell(f"{load()}\n\n{markdown(rows)}")
    if file:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


def main() -> None:
    given = options()
    report(measure(given), given.json)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    main()
