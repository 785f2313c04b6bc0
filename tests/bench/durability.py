"""What it costs not to forget: `python -m tests.bench.durability`.

One job's steps at the store (submit, claim, finish, claim and record of its delivery), and a whole service's
synchronous call, with ``appendfsync everysec`` and ``always``. Then what a failover drops when the replica
lags: requests are accepted at a known rate while the replica hears nothing, then it takes over.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from redis import Redis
from rich.console import Console
from rich.table import Table

from service.cli.demo import free_ports
from service.domain import ids
from service.domain.deliveries import DELIVERED, Attempt, Plan
from service.domain.policy import Policy
from service.domain.requests import BULK, Ending, Submission
from service.domain.targets import named
from service.stores.connection import open_store
from service.stores.credits import Credits
from service.stores.deliveries import Deliveries
from service.stores.requests import Requests
from tests.chaos.proxy import Proxy
from tests.conftest import await_true, finish_one, running_valkey
from tests.e2e.stack import Stack, leaving_nothing

MODES = ("everysec", "always")
ENVELOPE = b'{"success":true,"data":{"items":[' + b'{"id":"3870123456789012345"},' * 120 + b"{}]}}"
HOOK = "https://example.com/hook"
LAGS = (0.2, 1.0)
RATE = 200


class Jobs:
    """Does the store's part of jobs."""

    def __init__(self, redis: Redis) -> None:
        policy = Policy()
        self.requests = Requests(redis, policy, 16)
        self.deliveries = Deliveries(redis, policy, 16)
        self._credits = Credits(redis)
        self.account_id = ids.new_id(ids.ACCOUNT, 3, int(time.time() * 1000))
        self._credits.add(self.account_id, 1_000_000, entry_type="topup", note="")

    def submit(self) -> str:
        request_id = ids.new_id(ids.REQUEST, 3, int(time.time() * 1000))
        self.requests.submit(
            Submission(request_id, self.account_id, "stories", named("anna"), BULK, hold=1, webhook_url=HOOK)
        )
        return request_id

    def job(self) -> float:
        """Do all steps of one; return the seconds of the first, which the caller waits for."""
        started = time.perf_counter()
        request_id = self.submit()
        accepted = time.perf_counter() - started
        claim = self.requests.claim(request_id)
        assert claim is not None
        owed = finish_one(self.requests, claim, Ending("succeeded", ENVELOPE, 1, outcome="found"))
        assert owed is not None
        held = self.deliveries.claim(owed.delivery_id, owed.host)
        assert held is not None
        self.deliveries.record(held, Attempt(int(time.time()), 0.01, 204), Plan(DELIVERED))
        return accepted


def store_steps(folder: Path, fsync: str, threads: int, seconds: float) -> tuple[float, float, float]:
    """Return jobs a second, and the median and 99th percentile of accepting one (ms)."""
    with running_valkey(folder, free_ports(1)[0], "--appendfsync", fsync) as url:
        redis = open_store(url)
        jobs = Jobs(redis)
        deadline = time.monotonic() + seconds

        def work(_: int) -> list[float]:
            times = []
            while time.monotonic() < deadline:
                times.append(jobs.job())
            return times

        with ThreadPoolExecutor(threads) as pool:
            times = sorted(itertools.chain(*pool.map(work, range(threads))))
        redis.close()
    return len(times) / seconds, statistics.median(times) * 1000, times[int(len(times) * 0.99)] * 1000


def sync_calls(home: Path, fsync: str, calls: int) -> tuple[float, float]:
    """Return median and 99th percentile of a synchronous call to a whole service (ms)."""
    with leaving_nothing(Stack(home, STORE_FSYNC=fsync, LOG_LEVEL="WARNING")) as stack:
        stack.start()
        customer = stack.customer(calls + 100)
        times = []
        for number in range(calls + 20):
            started = time.perf_counter()
            assert customer.stories(f"user{number % 50}").status_code == 200
            times.append((time.perf_counter() - started) * 1000)
        times = sorted(times[20:])
    return statistics.median(times), times[int(len(times) * 0.99)]


def lost_at_failover(folder: Path, lag: float) -> tuple[int, int]:
    """Accept requests while a replica hears nothing for ``lag`` seconds, then let it take over.

    Returns how many were accepted in that time, and how many of all it does not know.
    """
    first, second, link = free_ports(3)
    for name in ("first", "second"):
        (folder / name).mkdir(parents=True)
    primary, replica = running_valkey(folder / "first", first), running_valkey(folder / "second", second)
    with primary as url, replica as replica_url, Proxy({"replica-store": link}, first) as proxy:
        redis, follower = open_store(url), open_store(replica_url)
        jobs = Jobs(redis)
        follower.replicaof("127.0.0.1", link)
        await_true(lambda: follower.info("replication")["master_link_status"] == "up", 20)
        known = [jobs.submit() for _ in range(RATE)]
        await_true(lambda: follower.exists(f"{{s03}}:req:{known[-1]}"), 10)
        proxy.lead_to(free_ports(1)[0])  # nowhere
        deadline, late = time.monotonic() + lag, []
        while time.monotonic() < deadline:
            late.append(jobs.submit())
            time.sleep(1 / RATE)  # the rate is what is measured at
        primary.stop()
        follower.replicaof("NO", "ONE")
        missing = sum(not follower.exists(f"{{s03}}:req:{request_id}") for request_id in (*known, *late))
        redis.close()
        follower.close()
    return len(late), missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--calls", type=int, default=300)
    options = parser.parse_args()
    console = Console(width=110)
    table = Table("appendfsync", "threads", "jobs/s", "accept median ms", "accept p99 ms")
    with tempfile.TemporaryDirectory() as base:
        for threads in (1, 8):
            for mode in MODES:
                folder = Path(base) / f"{mode}{threads}"
                folder.mkdir()
                found = store_steps(folder, mode, threads, options.seconds)
                table.add_row(mode, str(threads), *(f"{value:.2f}" for value in found))
        console.print(table)
        table = Table("appendfsync", "sync call median ms", "p99 ms")
        for mode in MODES:
            found_calls = sync_calls(Path(tempfile.mkdtemp(dir=base)), mode, options.calls)
            table.add_row(mode, *(f"{value:.1f}" for value in found_calls))
        console.print(table)
        table = Table("replica silent for s", "accepted meanwhile", "lost at the failover")
        for lag in LAGS:
            folder = Path(tempfile.mkdtemp(dir=base))
            table.add_row(f"{lag}", *map(str, lost_at_failover(folder, lag)))
        console.print(table)


if __name__ == "__main__":
    main()
