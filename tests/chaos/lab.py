"""The stack a chaos run is made with, and what can be done to it."""

from __future__ import annotations

import mmap
import shutil
import signal
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from redis import Redis
from redis import exceptions as redis_errors

from service.cli.demo import free_ports
from service.stores.connection import open_store
from tests.chaos.hooks import MANNERS, Receivers
from tests.chaos.proxy import Proxy
from tests.conftest import await_true
from tests.e2e.stack import IMPATIENT, Stack

WORKERS = ("worker.1", "worker.2")
DELIVERERS = ("deliverer.1", "deliverer.2")
BEATS = ("beat.1", "beat.2")
PYTHONS = ("web", *WORKERS, *DELIVERERS, *BEATS)
HARNESS = "harness"

INSIDE = Path(__file__).parent / "inside"
LEASE = 5
SETTINGS = {
    **IMPATIENT,
    "LEASE": str(LEASE),
    "SYNC_DEADLINE": "4",
    "SESSION_WAIT": "1",
    "WATCH_EVERY_LEAST": "1",
    "WEBHOOK_SCHEDULE": ",".join(["1", "1", "2", "2", "3", "3", *["5"] * 60]),
    "WORKER_THREADS": "8",
    "DELIVERER_THREADS": "16",
    "LOG_LEVEL": "WARNING",
    "LOG_FORMAT": "json",
}


class Lab(Stack):
    """A Storyhook with two of everything that may come twice, each behind links of its own to the store.

    Two stores take turns: one works, the other is what it fails over to.
    """

    foundation = ("store.1", "store.2", "instagram")
    service = PYTHONS

    def __init__(self, home: Path, seed: int) -> None:
        super().__init__(home, **SETTINGS)
        self.store = "store.1"
        links = [f"{name}-{kind}" for name in (*PYTHONS, HARNESS) for kind in ("store", "broker")]
        # The odd ports out: the other store, and one for each manner of receiver.
        ports = free_ports(len(links) + 1 + len(MANNERS))
        self.store_ports = {"store.1": int(self.plan.environment["STORE_PORT"]), "store.2": ports.pop()}
        self.hook_ports = dict(zip(MANNERS, ports, strict=False))
        self.link_ports = dict(zip(links, ports[len(MANNERS) :], strict=True))
        self.plan = replace(self.plan, environment={**self.plan.environment, **self._way_of(HARNESS)})
        self.proxy = Proxy(self.link_ports, self.store_ports[self.store])
        self.receivers = Receivers(self.hook_ports, home / "log" / "arrivals.jsonl", seed)
        self._twists = {name: Twist(home / "log" / f"{name}.twist") for name in PYTHONS}

    def _way_of(self, name: str) -> dict[str, str]:
        """Return the addresses of a process's own links."""
        store, broker = (self.link_ports[f"{name}-{kind}"] for kind in ("store", "broker"))
        return {
            "REDIS_URL": f"redis://127.0.0.1:{store}/0",
            "BROKER_URL": f"redis://127.0.0.1:{broker}/1",
        }

    def environment_of(self, name: str) -> Mapping[str, str]:
        environment = dict(self.plan.environment)
        if name in self.store_ports:
            folder = str(self.folder / name)
            return {**environment, "STORE_PORT": str(self.store_ports[name]), "STORE_FOLDER": folder}
        if name in PYTHONS:
            path = f"{INSIDE}:{environment['PYTHONPATH']}"
            twist = str(self._twists[name].path)
            return {**environment, **self._way_of(name), "PYTHONPATH": path, "CHAOS_FILE": twist}
        return environment

    def start(self, *names: str) -> Lab:
        if names:
            super().start(*names)
            return self
        self._launch(self.store)
        self._launch("instagram")
        self.await_store()
        for name in self.service:
            self._launch(name)
        self._prepare()
        return self

    def await_store(self) -> None:
        with self.direct() as redis:
            await_true(lambda: _answers(redis), 30)

    def stop(self) -> None:
        for name in list(self._programs):
            self.thaw(name)
        try:
            super().stop()
        finally:
            self.proxy.__exit__()
            self.receivers.__exit__()
            for twist in self._twists.values():
                twist.close()

    # --- what can be done to it --------------------------------------------------------------------

    @contextmanager
    def direct(self) -> Iterator[Redis]:
        """Lend a client of the working store that goes by no link."""
        redis = open_store(f"redis://127.0.0.1:{self.store_ports[self.store]}/0", answer_timeout=10)
        try:
            yield redis
        finally:
            redis.close()

    @contextmanager
    def messages(self) -> Iterator[Redis]:
        """Lend a client of the database with Celery's messages that goes by no link."""
        redis = Redis(port=self.store_ports[self.store], db=1)
        try:
            yield redis
        finally:
            redis.close()

    def down(self, name: str) -> None:
        """kill -9."""
        with suppress(KeyError):
            self.kill(name)

    def up(self, name: str) -> None:
        if not self.runs(name):
            self._programs.pop(name, None)
            self._launch(name)

    def freeze(self, name: str) -> None:
        self.signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        if self.runs(name):
            self.signal(name, signal.SIGCONT)

    def fail_over(self) -> None:
        """Make the other store a replica, let it take over once it has everything, kill the old one."""
        old, new = self.store, next(name for name in self.store_ports if name != self.store)
        shutil.rmtree(self.folder / new, ignore_errors=True)
        self._launch(new)
        port = self.store_ports[new]
        with self.direct() as primary, Redis(port=port, decode_responses=True) as replica:
            await_true(lambda: _answers(replica), 20)
            replica.replicaof("127.0.0.1", self.store_ports[old])
            await_true(lambda: replica.info("replication")["master_link_status"] == "up", 30)
            primary.execute_command("FAILOVER", "TO", "127.0.0.1", port, "TIMEOUT", 5000)
            await_true(lambda: replica.info("replication")["role"] == "master", 20)
        self.store = new
        self.proxy.lead_to(port)
        self.down(old)

    def put_clock_off(self, name: str, seconds: float) -> None:
        self._twists[name].set(clock=seconds)

    def trouble_dns(self, on: bool) -> None:
        for name in DELIVERERS:
            self._twists[name].set(dns=float(on))

    def heal(self) -> None:
        """Everything runs, everything passes, nobody errs."""
        self.receivers.tell(open=True, manner="204")
        self.proxy.heal()
        for name in PYTHONS:
            self._twists[name].set(clock=0.0, dns=0.0)
        for name in (self.store, "instagram", *PYTHONS):
            self.thaw(name)
            self.up(name)
        self.await_store()
        with self.direct() as redis:
            redis.config_set("maxmemory", "0")
            redis.replicaof("NO", "ONE")
        self.await_ready()
        self.simulator.reset()
        self.resume_sessions()


class Twist:
    """How far a process's clock is off, and whether its DNS is in trouble: inside/sitecustomize.py."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(16))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 16)

    def set(self, *, clock: float | None = None, dns: float | None = None) -> None:
        for offset, value in ((0, clock), (8, dns)):
            if value is not None:
                struct.pack_into("d", self._memory, offset, value)

    def close(self) -> None:
        self._memory.close()


def _answers(redis: Any) -> bool:
    try:
        return bool(redis.ping())
    except redis_errors.RedisError:
        return False
