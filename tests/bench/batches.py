"""What many requests cost: ``python -m tests.bench.batches``.

Upstream calls per reel (counted by the simulated Instagram), what others feel of a large batch, how long one
takes and how much memory. The simulated Instagram takes 300 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from service.domain.instagram import settings_from_sessionid
from tests.bench.proc import resident_bytes
from tests.conftest import await_true
from tests.e2e.stack import Stack, leaving_nothing

LATENCY_MS = 300.0
BATCH = "/api/instagram/stories/batch"


class Bench:
    """Measures one stack that nobody else uses."""

    def __init__(self, stack: Stack, sessions: int) -> None:
        self.stack = stack
        self.customer = stack.customer(credits=10_000_000)
        self.other = stack.customer(credits=10_000_000)
        for record in stack.services.sessions.list():
            stack.services.sessions.remove(record.name)
        for number in range(sessions):
            settings = settings_from_sessionid(f"80000000{number:03d}%3Abenchmark{number:08d}%3A1")
            stack.services.sessions.add(f"bench-{number:02d}", settings)

    # --- upstream calls ----------------------------------------------------------------------------

    def calls_per_reel(self, count: int) -> dict[str, float]:
        """Return the calls per reel of a batch of new names, and of the same names again."""
        names = [f"distinct{number:05d}" for number in range(count)]
        figures = {}
        for kind in ("cold", "warm"):
            asked, view = self._counted(lambda: self.finish(self.submit(names, maxAge=0)))
            assert view["states"]["succeeded"] == count, view
            figures[kind] = asked / count
        return figures

    def calls_for_the_same(self, requests: int, names: int) -> dict[str, float]:
        """Return the calls per request of many requests for few reels at once."""

        def ask(number: int) -> str:
            return self.customer.queue(f"popular{number % names:02d}")

        def all_of_them() -> None:
            with ThreadPoolExecutor(32) as threads:
                asked = list(threads.map(ask, range(requests)))
                assert all("data" in self.customer.outcome(each, 60) for each in asked)

        calls, _ = self._counted(all_of_them)
        return {"requests": requests, "names": names, "calls": calls, "per_request": calls / requests}

    def _counted(self, work: Any) -> tuple[int, Any]:
        self.stack.simulator.reset()
        self.stack.simulator.knobs(latency_ms=LATENCY_MS)
        result = work()
        return int(self.stack.simulator.calls()["total"]), result

    # --- a large batch, and who else is there --------------------------------------------------------

    def fairness(self, count: int, calls: int, callers: int) -> dict[str, float]:
        """Return a sync call's times on an idle system and beside a batch of another account, in ms."""
        self.stack.simulator.knobs(latency_ms=LATENCY_MS)
        self._sync(calls // 4, callers)  # until everything is warm
        idle = self._sync(calls, callers)
        started = time.perf_counter()
        batch = self.submit([f"backlog{number:05d}" for number in range(count)])
        accepted = time.perf_counter() - started
        with self._peaks("web", "worker", "store") as peaks:
            beside = self._sync(calls, callers)
            left = self.view(batch)["total"] - sum(
                self.view(batch)["states"][each] for each in ("succeeded", "failed")
            )
            assert left > 0, "the batch ended before the calls did"
            view = self.finish(batch, seconds=3_600)
        seconds = time.perf_counter() - started
        assert view["states"]["succeeded"] == count, view
        return {
            "idle_median_ms": statistics.median(idle),
            "idle_p95_ms": _p95(idle),
            "beside_median_ms": statistics.median(beside),
            "beside_p95_ms": _p95(beside),
            "p95_ratio": _p95(beside) / _p95(idle),
            "batch_accept_ms": accepted * 1000,
            "batch_seconds": seconds,
            "batch_per_second": count / seconds,
            **{f"{name}_peak_mb": peak / 1e6 for name, peak in peaks.items()},
        }

    def _sync(self, calls: int, callers: int) -> list[float]:
        def one(number: int) -> float:
            started = time.perf_counter()
            answer = self.other.stories(f"waited{number % 16:02d}", maxAge=0)
            assert answer.status_code == 200, answer.text
            return (time.perf_counter() - started) * 1000

        with ThreadPoolExecutor(callers) as threads:
            return list(threads.map(one, range(calls)))

    @contextmanager
    def _peaks(self, *names: str) -> Iterator[dict[str, int]]:
        """Watch the resident memory of processes with their children; fills in the largest (bytes)."""
        peaks, ended = dict.fromkeys(names, 0), threading.Event()

        def watch() -> None:
            while not ended.wait(0.2):
                for name in names:
                    peaks[name] = max(peaks[name], resident_bytes(self.stack.pid(name)))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield peaks
        finally:
            ended.set()
            watcher.join()

    # --- calling the service -----------------------------------------------------------------------------

    def submit(self, names: Sequence[str], **options: Any) -> str:
        answer = self.customer.call("POST", BATCH, json={"usernames": list(names), **options})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["batchId"])

    def view(self, batch_id: str, wait: float = 0) -> dict[str, Any]:
        found: dict[str, Any] = self.customer.call(
            "GET", f"/api/batches/{batch_id}", params={"wait": wait}, timeout=90
        ).json()
        return found

    def finish(self, batch_id: str, seconds: float = 600) -> dict[str, Any]:
        await_true(lambda: self.view(batch_id, wait=30)["status"] != "processing", seconds)
        return self.view(batch_id)


def _p95(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def measure(given: argparse.Namespace) -> dict[str, Any]:
    home = Path(tempfile.mkdtemp(prefix="storyhook-bench-"))
    settings = {"WORKER_THREADS": str(given.threads)} if given.threads else {}
    with leaving_nothing(Stack(home, **settings)) as stack:
        bench = Bench(stack.start(), given.sessions)
        parts = {
            "calls_per_reel": lambda: bench.calls_per_reel(given.names),
            "same_reels": lambda: bench.calls_for_the_same(1_000, 10),
            "fairness": lambda: bench.fairness(given.batch, 400, given.callers),
        }
        return {name: measure() for name, measure in parts.items() if not given.only or name in given.only}


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.bench.batches", description=__doc__)
    parser.add_argument("--names", type=int, default=1_000, help="distinct names")
    parser.add_argument("--batch", type=int, default=10_000, help="items of the large batch")
    parser.add_argument("--callers", type=int, default=4, help="who make sync calls at a time")
    parser.add_argument("--threads", type=int, help="WORKER_THREADS of the one worker")
    parser.add_argument("--sessions", type=int, default=64, help="Instagram sessions there are")
    parser.add_argument("--only", nargs="*", help="measure these parts only")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    found = measure(given)
    if given.json:
        json.dump(found, sys.stdout, indent=2)
        return
    show = Console(highlight=False, soft_wrap=True).print
    for part, figures in found.items():
        show(part.replace("_", " "))
        for name, value in figures.items():
            show(f"  {name.replace('_', ' '):32} {value:,.3f}")


if __name__ == "__main__":
    main()
