"""What the heaviest calls of every route do to the others: `python -m tests.bench.siege`.

64 callers at a time make the calls of `heaviest`, all routes mixed by chance (``--by-route``: one after the
other), as a stranger without or with wrong credentials, as a customer without credits and as one with 30,000.
Beside them well-behaved customers, accounts of their own, make 5 asynchronous accepts and 2 synchronous
calls a second and look at /healthz ten times a second; they did so alone before. A latency counts from when
the call was due, and one that is not answered within 10 s stands with that. Settings are as they come
(``--lifted``: without limits of rate), but anybody may sign up.

Columns: answers by status (``none``: cut off without one; ``open``: not answered when the time was over), the
most resident memory of the web process and its children (sampled five times a second; what they share counts
in each), latencies in milliseconds, and by how much the store has grown: bytes without buffers of
connections, and keys; at the end of the siege, and once it has settled. The first row is the well-behaved
customers alone, who leave something behind too. The second table tells what kinds of keys grew most.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench import programs
from tests.bench.ground import Answers, Census, Ground, Prepared, by_class, ground, load, table, tell
from tests.bench.heaviest import Call, Known, heaviest, routes

STRANGER, POOR, CUSTOMER = "stranger", "without-credits", "with-credits"
NAMES = {STRANGER: "a stranger", POOR: "a customer without credits", CUSTOMER: "a customer with credits"}
CREDITS = {STRANGER: 0, POOR: 0, CUSTOMER: 30_000}
WRONG_KEY = "Bearer sk_live_0000000000000000000000000000000000000000000000"
BESIDE = ("healthz", "accept", "sync")
MEGABYTE = 1024 * 1024
GREW_MOST = 6  # kinds that are told

HEAD = (
    "scenario", "calls 2xx/3xx", "4xx", "429", "5xx", "none", "open", "web peak MiB", "/healthz p95", "max",
    "accept p95", "sync p95", "store MiB", "settled", "keys", "settled",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What one scenario came to. ``calls`` are answers by status, by call; censuses are of the store."""

    name: str
    calls: dict[str, dict[str, int]]
    peak: int
    beside: dict[str, Answers]
    before: Census
    after: Census
    settled: Census

    def cells(self) -> list[object]:
        counts: Counter[str] = Counter()
        for statuses in self.calls.values():
            counts.update(by_class(statuses))
        health = self.beside["healthz"]
        return [
            self.name,
            *(f"{counts[each]:,}" for each in ("2xx", "4xx", "429", "5xx", "none", "unfinished")),
            f"{self.peak / MEGABYTE:,.0f}",
            f"{health.p95:,.0f}",
            f"{health.longest:,.0f}",
            self.beside["accept"],
            self.beside["sync"],
            *(f"{(each.used - self.before.used) / MEGABYTE:+,.1f}" for each in (self.after, self.settled)),
            *(f"{each.keys - self.before.keys:+,}" for each in (self.after, self.settled)),
        ]

    def grew(self) -> str:
        """Tell which kinds of keys grew most, about how many KiB and by how many keys."""
        grown = {
            name: size - self.before.sizes.get(name, 0)
            for name, size in self.settled.sizes.items()
            if size > self.before.sizes.get(name, 0)
        }
        most = sorted(grown, key=lambda name: -grown[name])[:GREW_MOST]
        counts = {name: self.settled.counts[name] - self.before.counts.get(name, 0) for name in most}
        return "; ".join(f"`{name}` {grown[name] // 1024:+,} KiB, {counts[name]:+,}" for name in most)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "grew": self.grew()}


class Siege:
    """Runs the scenarios on one ground."""

    def __init__(self, field: Ground, known: Known, given: argparse.Namespace) -> None:
        self._ground = field
        self._known = known
        self._given = given
        self._key = f"Bearer {field.customer.api_key}"

    def rows(self) -> list[Row]:
        self._alone(min(5.0, self._given.seconds))  # until everything is warm
        found = [self._alone(self._given.seconds)]
        calls = self._chosen()
        for who in self._given.callers:
            if not self._given.by_route:
                found.append(self._scenario(NAMES[who], who, calls))
                continue
            for operation in routes(calls):
                some = [call for call in calls if call.operation == operation]
                found.append(self._scenario(f"{NAMES[who]}, {' '.join(operation)}", who, some))
        return found

    def _chosen(self) -> list[Call]:
        calls = heaviest(self._known)
        if self._given.only:
            calls = [call for call in calls if call.route in self._given.only]
        if not calls:
            raise SystemExit(f"None of these is a route: {', '.join(self._given.only)}")
        return calls

    def _alone(self, seconds: float) -> Row:
        return self._measured("nobody", lambda: {}, seconds)

    def _scenario(self, name: str, who: str, calls: Sequence[Call]) -> Row:
        self._ground.have_credits(CREDITS[who])
        request_id, batch_id = self._ground.open_ones()
        old = (self._known.open_request_id, self._known.open_batch_id)
        paths = [
            call.path.replace(old[0], request_id).replace(old[1], batch_id) for call in calls
        ]  # those of before may have been taken for lost meanwhile
        plan = {
            "address": self._ground.address,
            "seconds": self._given.seconds,
            "callers": self._given.at_once,
            "holding": self._given.at_once if self._given.by_route else max(self._given.at_once // 4, 1),
            "first": self._ground.next_numbers(),
            "credentials": ["", WRONG_KEY] if who == STRANGER else [self._key],
            "calls": [{**asdict(call), "path": path} for call, path in zip(calls, paths, strict=True)],
        }
        return self._measured(name, lambda: programs.ask("tests.bench.besiege", plan), self._given.seconds)

    def _measured(self, name: str, besiege: Any, seconds: float) -> Row:
        self._ground.fresh_web()
        before = self._ground.census()
        with self._ground.watched() as seen, ThreadPoolExecutor(2) as both:
            siege = both.submit(besiege)
            beside = self._ground.well_behaved(seconds, *BESIDE)
            calls = siege.result()
        after = self._ground.census()
        begun = time.monotonic()
        self._ground.settle(self._given.settle)
        time.sleep(max(begun + self._given.settle - time.monotonic(), 0))  # it is about what stays
        row = Row(name, calls, seen.peak, beside, before, after, self._ground.census())
        tell(table(row.cells(), ()).partition("\n")[0], to=sys.stderr)
        return row


def markdown(rows: Sequence[Row]) -> str:
    """Return both tables."""
    kinds = table(
        ("scenario", "kinds of keys that grew most, settled"), [(row.name, row.grew()) for row in rows]
    )
    return f"{table(HEAD, [row.cells() for row in rows])}\n\n{kinds}\n"


def measure(given: argparse.Namespace) -> list[Row]:
    settings = {"RATE_LIMITS": "100000000/minute"} if given.lifted else {}
    with ground(**settings) as field:
        known = field.prepare(Prepared(given.items, given.huge, given.ledger))
        return Siege(field, known, given).rows()


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tests.bench.siege",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60, help="of each scenario")
    parser.add_argument("--at-once", type=int, default=64, help="callers who besiege")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="ROUTE,...", default=[])
    parser.add_argument("--callers", nargs="+", choices=CREDITS, default=list(CREDITS))
    parser.add_argument("--by-route", action="store_true", help="each route by itself: give fewer --seconds")
    parser.add_argument("--lifted", action="store_true", help="without limits of rate")
    parser.add_argument("--settle", type=float, default=10, help="seconds after each scenario")
    sizes = Prepared()
    parser.add_argument("--items", type=int, default=sizes.items, help="of the large batch")
    parser.add_argument("--huge", type=int, default=sizes.huge, help="of the batch of huge reels")
    parser.add_argument("--ledger", type=int, default=sizes.ledger, help="entries")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures as JSON too")
    return parser.parse_args(arguments)


def report(rows: Sequence[Row], file: Path | None) -> None:
    """Print both tables, and write all figures as JSON."""
    tell(f"{load()}\n\n{markdown(rows)}")
    if file:
        file.write_text(json.dumps([row.to_json() for row in rows], indent=2) + "\n", encoding="utf-8")


def main() -> None:
    given = options()
    report(measure(given), given.json)


def stop(number: int, _: object) -> None:
    """End as on Ctrl-C, so that everything that was started ends too."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    main()
