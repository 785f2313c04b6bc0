"""What a synchronous call costs on top of Instagram's own time: ``python -m tests.bench.sync_overhead``.

Every measured call makes exactly one call upstream (the ids of the names are known), which takes a fixed
time there. What is left after subtracting that time is compared with the same upstream call made by a bare
instagrapi client in this process. Client, service and simulated Instagram share the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from itertools import count, cycle, islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from service.cli.local import SIMULATED_SESSIONS
from service.domain.instagram import Known, settings_from_sessionid
from tests.e2e.clients import Customer
from tests.e2e.stack import Stack, leaving_nothing
from workers.sources.accounts import client_factory
from workers.sources.calls import CAPABILITIES

NAMES = 16
SERVICE, BARE = "storyhook", "bare instagrapi"

# As many kinds of limits as by default, so that counting them costs the same, and none of them reached.
LIMITS = "1000000/minute,1000000/hour,1000000/day"

# Makes one call about a username; raises when the answer is not what it should be.
Call = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """One measurement. Milliseconds are without the upstream's latency."""

    what: str
    callers: int
    calls: int
    median_ms: float
    p95_ms: float
    p99_ms: float
    per_second: float


class Bench:
    """Measures one stack that nobody else uses."""

    def __init__(self, stack: Stack, latency_ms: float) -> None:
        self._stack = stack
        self._latency_ms = latency_ms
        self._customer = stack.customer(credits=1_000_000)
        self._names: list[str] = []
        self._ids: dict[str, str] = {}

    def prepare(self, callers: int) -> None:
        """Have a session for every caller and know the ids of people with stories."""
        for number in range(SIMULATED_SESSIONS + 1, 2 * callers + 1):
            self._stack.services.sessions.add(f"bench-{number:02d}", _session(number))
        for number in count():
            name = f"bench{number:02d}"
            if self._customer.stories(name).json()["outcome"] == "found":
                self._names.append(name)
                known = self._stack.services.instagram_ids.get(name)
                assert isinstance(known, Known)
                self._ids[name] = known.user_id
            if len(self._names) == NAMES:
                break
        # Every thread of the worker, every client and every connection is there before it counts.
        for what in (SERVICE, BARE):
            self._run(what, callers, callers * 8)

    def measure(self, what: str, callers: int, calls: int) -> Result:
        """Measure ``calls`` calls; raises AssertionError unless each was one call upstream."""
        simulator = self._stack.simulator
        simulator.reset()
        simulator.knobs(latency_ms=self._latency_ms)
        started = time.perf_counter()
        times = self._run(what, callers, calls)
        seconds = time.perf_counter() - started
        asked = simulator.calls()
        assert asked["by_endpoint"] == {"story_feed": calls}, f"not one upstream call each: {asked}"
        over = [each * 1000 - self._latency_ms for each in times]
        cuts = quantiles(over, n=100)
        figures = (median(over), cuts[94], cuts[98], calls / seconds)
        return Result(what, callers, calls, *(round(figure, 2) for figure in figures))

    def _run(self, what: str, callers: int, calls: int) -> list[float]:
        """Return the seconds each call took; every caller has a connection of its own."""
        make = {SERVICE: self._service_call, BARE: self._bare_call}[what]
        loads = [
            list(islice(cycle(self._names), first, first + calls // callers)) for first in range(callers)
        ]
        with ExitStack() as open_clients, ThreadPoolExecutor(callers) as threads:
            ready = [open_clients.enter_context(make(number)) for number in range(callers)]
            return [seconds for times in threads.map(_timed, ready, loads) for seconds in times]

    @contextmanager
    def _service_call(self, _: int) -> Iterator[Call]:
        headers = _headers(self._customer)

        def call(name: str) -> None:
            body = json.dumps({"username": name})
            connection.request("POST", "/api/instagram/stories", body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise AssertionError(f"answered {answer.status}: {content[:200]!r}")

        with closing(HTTPConnection(urlsplit(self._customer.base_url).netloc, timeout=60)) as connection:
            yield call

    @contextmanager
    def _bare_call(self, number: int) -> Iterator[Call]:
        client = client_factory(redirect_to=self._stack.simulator.url)(_session(number), None)

        def call(name: str) -> None:
            answer = client.private_request(f"feed/user/{self._ids[name]}/story/", params=CAPABILITIES)
            if not answer["reel"]["items"]:
                raise AssertionError("answered without stories")

        with client.private, client.public, client.graphql:
            yield call


def _headers(customer: Customer) -> dict[str, str]:
    return {"Authorization": f"Bearer {customer.api_key}", "Content-Type": "application/json"}


def _session(number: int) -> dict[str, Any]:
    return settings_from_sessionid(f"80000000{number:03d}%3Abenchmark{number:08d}%3A1")


def _timed(call: Call, names: Sequence[str]) -> list[float]:
    times = []
    for name in names:
        started = time.perf_counter()
        call(name)
        times.append(time.perf_counter() - started)
    return times


def _ratio(results: Sequence[Result], callers: int) -> float:
    """Return how many times the bare client's overhead the service's is, at the median."""
    found = {result.what: result.median_ms for result in results if result.callers == callers}
    return round(found[SERVICE] / found[BARE], 2)


def _show(report: dict[str, Any]) -> None:
    table = Table(
        "", "callers", "calls", "median ms", "p95 ms", "p99 ms", "calls/s", title_justify="left",
        title=f"Overhead of a sync call over {report['latency_ms']:g} ms upstream",
    )  # fmt: skip
    for result in report["results"]:
        table.add_row(*(str(value) for value in result.values()))
    console = Console()
    console.print(table)
    for callers, ratio in report["ratio"].items():
        console.print(f"{callers} caller(s): {ratio} times the bare client's overhead at the median")
    console.print(f"{report['cpus']} CPUs, load before {report['load_before']}, {report['seconds']} s in all")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser("python -m tests.bench.sync_overhead", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--latency", type=float, default=100.0, metavar="MS", help="of an upstream call")
    parser.add_argument("--calls", type=int, default=200, help="one after the other")
    parser.add_argument("--callers", type=int, default=16, help="at once")
    options = parser.parse_args(arguments)
    started, load = time.monotonic(), round(os.getloadavg()[0], 2)
    home = Path(tempfile.mkdtemp(prefix="storyhook-bench-"))
    with leaving_nothing(Stack(home, RATE_LIMITS=LIMITS)) as stack:
        bench = Bench(stack.start(), options.latency)
        bench.prepare(options.callers)
        each = max(options.calls // 8, 1)
        runs = [(SERVICE, 1, options.calls), (BARE, 1, options.calls // 2)]
        runs += [(what, options.callers, options.callers * each) for what in (SERVICE, BARE)]
        results = [bench.measure(*run) for run in runs]
    report = {
        "latency_ms": options.latency,
        "cpus": os.cpu_count(),
        "load_before": load,
        "seconds": round(time.monotonic() - started, 1),
        "results": [asdict(result) for result in results],
        "ratio": {str(callers): _ratio(results, callers) for callers in sorted({1, options.callers})},
    }
    if options.json:
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        _show(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
