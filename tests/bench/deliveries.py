"""Deliveries per second and CPU per delivery, beside a bare loop: `python -m tests.bench.deliveries`.

10,000 webhooks wait for one receiver, a process that answers at once. A deliverer as `storyhook
deliverer` starts it works them off: claimed, signed, sent, recorded. Then `requests.Session.post`
sends the same bytes to the same receiver from one loop that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import requests
from rich.console import Console

from service.actions import accounts as actions
from service.domain import ids
from tests.conftest import await_true
from tests.e2e.stack import Stack, leaving_nothing, new_address
from tests.webhooks.fast_receiver import FastReceiver, fast_receiver

COUNT = 10_000
BARE = 3_000
ACCOUNTS = 8
LIMIT = 170.0
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the CPU a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def envelope() -> bytes:
    """Return a body of the size of a small reel."""
    item = {
        "id": secrets.token_hex(12),
        "media_type": 2,
        "url": f"https://cdn.example/{secrets.token_hex(40)}",
    }
    return json.dumps({"success": True, "status": "succeeded", "data": {"items": [item] * 20}}).encode()


def owe_many(stack: Stack, receiver: FastReceiver, body: bytes, count: int) -> None:
    """Store ``count`` deliveries of several accounts, so in several shards."""
    services, host = stack.services, receiver.hosts[0]
    accounts = [
        actions.create_account(services, email=new_address(), password="a long enough password").account_id
        for _ in range(ACCOUNTS)
    ]
    for number in range(count):
        account_id = accounts[number % ACCOUNTS]
        delivery_id = ids.new_id(ids.DELIVERY, ids.shard_in(account_id), services.clock())
        services.deliveries.create_single(account_id, delivery_id, f"http://{host}/hook", host, body)


def delivered(stack: Stack, receiver: FastReceiver, count: int) -> dict[str, float]:
    """Start a deliverer and measure it from its first to its last delivery."""
    stack.start("deliverer")
    await_true(lambda: receiver.seen()["count"], 30)
    pid = stack.pid("deliverer")
    begun, before, cpu = time.monotonic(), receiver.seen()["count"], cpu_seconds(pid)
    store = cpu_seconds(stack.pid("store"))
    give_up = begun + LIMIT
    while (came := len(receiver.seen()["at"])) < count:
        if time.monotonic() > give_up:
            break
        time.sleep(0.25)  # between two looks
    seconds, done = time.monotonic() - begun, came - before
    return {
        "deliveries": done,
        "repeated": receiver.seen()["count"] - came,
        "seconds": seconds,
        "per_second": done / seconds,
        "cpu_ms": (cpu_seconds(pid) - cpu) / done * 1_000,
        "store_cpu_ms": (cpu_seconds(stack.pid("store")) - store) / done * 1_000,
    }


def bare(receiver: FastReceiver, body: bytes, count: int) -> dict[str, float]:
    """Send the same bytes from one loop."""
    url = f"http://{receiver.hosts[0]}/hook"
    with requests.Session() as session:
        session.trust_env = False
        session.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=10)
        begun, cpu = time.monotonic(), time.process_time()
        for _ in range(count):
            session.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=10)
        seconds, used = time.monotonic() - begun, time.process_time() - cpu
    return {"posts": count, "seconds": seconds, "per_second": count / seconds, "cpu_ms": used / count * 1_000}


def measure(count: int) -> dict[str, Any]:
    body = envelope()
    with tempfile.TemporaryDirectory() as folder, leaving_nothing(Stack(Path(folder) / "home")) as stack:
        stack.start("store")
        with fast_receiver() as receiver:
            owe_many(stack, receiver, body, count)
            ours = delivered(stack, receiver, count)
            stack.end("deliverer")
            loop = bare(receiver, body, BARE)
    return {
        "body_bytes": len(body),
        "processors": os.cpu_count(),
        "deliverer": ours,
        "requests_loop": loop,
        "cpu_ratio": ours["cpu_ms"] / loop["cpu_ms"],
        "speed_ratio": ours["per_second"] / loop["per_second"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    found = measure(given.count)
    if given.json:
        json.dump(found, sys.stdout, indent=2)
        return
    ours, loop = found["deliverer"], found["requests_loop"]
    show = Console(highlight=False, soft_wrap=True).print
    show(
        f"{ours['deliveries']:.0f} deliveries of {found['body_bytes']} bytes in {ours['seconds']:.1f} s: "
        f"{ours['per_second']:.0f}/s, {ours['cpu_ms']:.2f} ms CPU each, the store "
        f"{ours['store_cpu_ms']:.2f} ms; {ours['repeated']:.0f} came twice"
    )
    show(f"requests.Session.post in a loop: {loop['per_second']:.0f}/s, {loop['cpu_ms']:.2f} ms CPU each")
    show(f"{found['speed_ratio']:.2f} of its speed, {found['cpu_ratio']:.2f} times its CPU")


if __name__ == "__main__":
    main()
