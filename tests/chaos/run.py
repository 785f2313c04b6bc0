"""One chaos run: load and faults, healing, quiet, and the reckoning."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from service.actions.deliveries import replay_failed
from service.domain.requests import SUCCEEDED
from service.stores import keys
from tests.chaos.check import Examiner, Findings
from tests.chaos.faults import Fault, Scene, deck
from tests.chaos.hooks import Arrival
from tests.chaos.lab import Lab
from tests.chaos.load import OK, Call, History, Load
from tests.chaos.operations import ACCOUNTS, CREDITS, POOR, POOR_CREDITS, operations
from tests.chaos.report import Injection, Row, table
from tests.conftest import await_true
from tests.e2e.clients import Customer
from tests.e2e.stack import new_address

REQUESTS_A_ROUND = 6_000
LONG_FROM = 5_000
BREATH = 0.8  # seconds between two faults
READY_AFTER = 1.2  # seconds a stack takes to be ready again, on average
QUIET_LIMIT = 420.0

Tell = Callable[[str], None]


@dataclass
class Result:
    """What a run found."""

    seed: int
    requests: int
    injections: list[Injection]
    findings: Findings
    rows: dict[str, Row]
    audit: str
    seconds: float
    quiet: float
    arrivals: list[Arrival]

    @property
    def holds_good(self) -> bool:
        return self.findings.holds_good


class Run:
    """``count`` operations drawn from ``seed``, in ``home``."""

    def __init__(self, home: Path, seed: int, count: int, tell: Tell) -> None:
        self.seed = seed
        self.count = count
        self.tell = tell
        self.lab = Lab(home, seed)
        self.history = History(home / "log" / "history.jsonl")
        self.injections: list[Injection] = []
        self._accounts: list[str] = []
        self._opening: dict[str, int] = {}

    def run(self) -> Result:
        """Start, hurt, heal, check. Raises AssertionError when the service does not come back."""
        begun = time.monotonic()
        self.lab.start()
        load = Load(self._customers(), self.lab.hook_ports, operations(self.seed, self.count), self.history)
        faults = deck(
            random.Random(f"faults:{self.seed}"),
            max(1, self.count // REQUESTS_A_ROUND),
            long=self.count >= LONG_FROM,
        )
        self.tell(f"seed {self.seed}: {self.count} operations, {len(faults)} faults")
        with _Backlog(self.lab, load):
            load.start()
            self._hurt(load, faults)
            load.gate.rate = 1_000.0
            self.lab.heal()
            load.join(600)
        live = self._last_looks(load)
        quiet = self._await_quiet()
        return self._reckon(time.monotonic() - begun, quiet, live)

    def close(self) -> None:
        """End everything, whatever state it is in."""
        self.lab.stop()
        self.history.close()

    def _customers(self) -> list[Customer]:
        customers = []
        for number in range(ACCOUNTS):
            credits = POOR_CREDITS if number == POOR else CREDITS
            email = new_address()
            customers.append(self.lab.customer(credits, email=email))
            account = self.lab.services.accounts.by_email(email)
            assert account is not None
            self._accounts.append(account.account_id)
            self._opening[account.account_id] = credits
        secrets = {str(number): each.secret() for number, each in enumerate(customers)}
        self.lab.receivers.tell(secrets=secrets)
        return customers

    def _hurt(self, load: Load, faults: Sequence[Fault]) -> None:
        for number, fault in enumerate(faults):
            left = sum(each.seconds + BREATH + READY_AFTER for each in faults[number:])
            load.gate.rate = max(1.0, (self.count - load.gate.taken) / left)
            time.sleep(BREATH)  # all goes well in between, for a while
            rng = random.Random(f"injection:{self.seed}:{number}")
            begun = time.time()
            fault.inject(Scene(self.lab, load, rng, number))
            healed = time.time()
            self.lab.await_ready()
            load.check()
            self.injections.append(Injection(fault, begun, healed))
            done = len(self.history.calls)
            self.tell(
                f"{number + 1:4}/{len(faults)}  {fault.name:45} {healed - begun:5.1f} s, "
                f"ready after {time.time() - healed:4.1f} s, {load.gate.taken} operations, {done} calls, "
                f"{load.gate.open_requests} open"
            )

    def _last_looks(self, load: Load) -> dict[str, set[str]]:
        """Let each watch look once more, now that all is well, and pause it; return what there was to see."""
        live = {}
        for account, customer in enumerate(load.customers):
            for watch in customer.call("GET", "/api/watches", params={"limit": 200}).json()["watches"]:
                seen = customer.stories(watch["username"], prefer="wait=20", maxAge=0).json()
                live[watch["watchId"]] = {item["pk"] for item in seen["data"]["items"]}
                # Told of like what the customers asked for, or the request would come from nowhere.
                self.history.add(
                    Call(time.time(), -1, account, "submit", OK, 200, request_id=seen["requestId"])
                )
                path = f"/api/watches/{watch['watchId']}"
                await_true(lambda ask=customer.call, path=path: _looked(ask, path), 60)
                assert customer.call("POST", f"{path}/pause").ok
        return live

    def _await_quiet(self) -> float:
        """Send again what was given up, as an operator would, and wait until nothing is owed any more."""
        begun = time.monotonic()
        for account_id in self._accounts:
            while replay_failed(self.lab.services, account_id, 0)[1]:
                pass
        await_true(self._is_quiet, QUIET_LIMIT)
        return time.monotonic() - begun

    def _is_quiet(self) -> bool:
        time.sleep(0.25)  # between two looks
        with self.lab.direct() as redis, redis.pipeline(transaction=False) as pipe:
            for shard in range(16):
                pipe.zcard(keys.open_requests(shard))
                pipe.zcard(keys.due_hosts(shard))
            return not any(pipe.execute())

    def _reckon(self, seconds: float, quiet: float, live: Mapping[str, set[str]]) -> Result:
        arrivals = list(self.lab.receivers.arrivals())
        opening = {account_id: self._opening[account_id] for account_id in self._accounts}
        examiner = Examiner(self.lab.services, opening, self.history.calls, arrivals, live)
        findings = examiner.examine()
        audit = self.lab.storyhook("audit")
        if audit.returncode != 0:
            findings.wrong.append(f"audit: {audit.stdout}{audit.stderr}")
        rows = table(self.injections, findings, arrivals, f":{self.lab.hook_ports['fine']}/")
        return Result(
            self.seed,
            self.count,
            self.injections,
            findings,
            rows,
            audit.stdout.strip().splitlines()[-1] if audit.stdout else "",
            seconds,
            quiet,
            arrivals,
        )


def _looked(ask: Callable[..., Any], path: str) -> bool:
    """Have a watch run; tell whether it saw what there is."""
    answer = ask("POST", f"{path}/run")
    if not answer.ok:
        return False
    ended = ask("GET", f"/api/requests/{answer.json()['requestId']}", params={"wait": 20})
    return bool(ended.json().get("status") == SUCCEEDED)


class _Backlog:
    """Tells the customers how many requests are open, so that they wait behind a backlog."""

    def __init__(self, lab: Lab, load: Load) -> None:
        self._lab = lab
        self._load = load
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.25):
            with suppress(RedisError), self._lab.direct() as redis, redis.pipeline(transaction=False) as pipe:
                for shard in range(16):
                    pipe.zcard(keys.open_requests(shard))
                self._load.gate.open_requests = sum(pipe.execute())
