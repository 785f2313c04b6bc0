"""What one dead receiver does to the others: `python -m tests.bench.isolation`.

Healthy receivers get webhooks at a steady pace, at first alone, then while another one, which takes
connections and never answers, has 1,000 deliveries pending. Real processes with the settings as they
come; the latency is from the moment a delivery is owed to the moment its receiver has it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from service.actions import accounts as actions
from service.domain.ports import Services
from service.domain.requests import DELIVER, DELIVERIES
from tests.conftest import await_true
from tests.e2e.stack import Stack, leaving_nothing, new_address
from tests.webhooks.fast_receiver import FastReceiver, fast_receiver
from tests.webhooks.support import owe

HEALTHY = 5
PER_SECOND = 20
SECONDS = 45
PENDING = 1_000


def send(services: Services, account_id: str, host: str) -> tuple[str, float]:
    """Owe a webhook and tell the deliverers, as a worker does; return its id and when."""
    delivery_id = owe(services, account_id, f"http://{host}/hook")
    owed_at = time.time()
    services.queue.enqueue(DELIVER, DELIVERIES, delivery_id, host)
    return delivery_id, owed_at


def pace(
    services: Services, account_id: str, receiver: FastReceiver, seconds: float
) -> tuple[dict[str, float], list[int]]:
    """Send at a steady pace; return when each was owed, and the silent attempts in flight by second."""
    owed: dict[str, float] = {}
    in_flight: list[int] = []
    begun = time.monotonic()
    for number in range(int(seconds * PER_SECOND)):
        time.sleep(max(begun + number / PER_SECOND - time.monotonic(), 0))  # the pace is what it is about
        delivery_id, at = send(services, account_id, receiver.hosts[number % len(receiver.hosts)])
        owed[delivery_id] = at
        if number % PER_SECOND == 0:
            in_flight.append(int(receiver.seen()["held"]))
    await_true(lambda: owed.keys() <= receiver.seen()["at"].keys(), 30)
    return owed, in_flight


def latencies(owed: dict[str, float], receiver: FastReceiver) -> dict[str, float]:
    """Return the median, the 95th percentile and the longest in milliseconds."""
    came = receiver.seen()["at"]
    all_of_them = sorted((came[delivery_id] - at) * 1_000 for delivery_id, at in owed.items())
    return {
        "count": len(all_of_them),
        "median_ms": statistics.median(all_of_them),
        "p95_ms": statistics.quantiles(all_of_them, n=20)[-1],
        "max_ms": all_of_them[-1],
    }


def measure(seconds: float, pending: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        fast_receiver(HEALTHY, silent=1) as receiver,
        leaving_nothing(Stack(Path(folder) / "home")) as stack,
    ):
        stack.start("store")
        services = stack.services
        account_id, other_id = (
            actions.create_account(
                services, email=new_address(), password="a long enough password"
            ).account_id
            for _ in range(2)
        )
        stack.start("deliverer")
        await_true(services.stats.workers, 30)
        pace(services, account_id, receiver, 5)  # until everything is warm
        alone, _ = pace(services, account_id, receiver, seconds)
        for _ in range(pending):
            send(services, other_id, receiver.silent[0])
        beside, in_flight = pace(services, account_id, receiver, seconds)
        still_due, _ = services.deliveries.backlog()
        before, after = latencies(alone, receiver), latencies(beside, receiver)
    return {
        "healthy_receivers": HEALTHY,
        "per_second": PER_SECOND,
        "pending_at_the_dead_one": pending,
        "alone": before,
        "beside_it": after,
        "median_ratio": after["median_ms"] / before["median_ms"],
        "p95_ratio": after["p95_ms"] / before["p95_ms"],
        "in_flight_at_the_dead_one": in_flight,
        "overdue_in_the_end": still_due,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each of the two phases")
    parser.add_argument("--pending", type=int, default=PENDING)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    found = measure(given.seconds, given.pending)
    if given.json:
        json.dump(found, sys.stdout, indent=2)
        return
    show = Console(highlight=False, soft_wrap=True).print
    for name in ("alone", "beside_it"):
        figures = found[name]
        show(
            f"{name.replace('_', ' '):10} {figures['count']} deliveries: "
            f"median {figures['median_ms']:.1f} ms, p95 {figures['p95_ms']:.1f} ms, "
            f"longest {figures['max_ms']:.0f} ms"
        )
    show(f"ratio      median {found['median_ratio']:.2f}, p95 {found['p95_ratio']:.2f}")
    flight = found["in_flight_at_the_dead_one"]
    show(f"attempts in flight at the dead receiver, second by second: {flight}", markup=False)


if __name__ == "__main__":
    main()
