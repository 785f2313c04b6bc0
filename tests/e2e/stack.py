"""A whole Storyhook of its own: the real processes, on free ports, in a folder that is theirs alone.

``Stack`` starts the lines of the Procfile itself, so that one of them may be killed, frozen and started
again while the others live. `tests.e2e.up` leaves that to ``storyhook up``, which ends all when one dies.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import requests
from honcho.environ import parse_procfile
from redis import Redis

from service import config
from service.actions import accounts as actions
from service.bootstrap import assemble
from service.cli import local
from service.cli.demo import free_ports
from service.domain.ports import Services
from service.stores import meta
from service.stores.connection import open_store
from tests.conftest import ELSEWHERE, await_true
from tests.e2e.clients import Customer, Simulator

ROOT = Path(__file__).resolve().parents[2]
PORTS = ("PORT", "SIMULATOR_PORT", "LISTEN_PORT", "STORE_PORT")

# As `storyhook up` does it: these start first and end last, so that the others can finish what they do.
FOUNDATION = ("store", "instagram")
SERVICE = ("web", "worker", "deliverer", "beat")

# The URL of a broker the tests are to run on, as `ELSEWHERE` is that of a store.
BROKER = os.environ.get("TEST_BROKER_URL", "")

START_LIMIT = 60.0
STOP_LIMIT = 40.0

# With `everysec` a store whose disk hangs puts off what it writes for up to 2 s, and loses it when it is
# killed. With `no` it has written all it answered, and it is the system that brings it to the disk.
KILLED_AND_WHOLE = {"STORE_FSYNC": "no"}

# So that what was lost is looked for soon, and a dead worker's work taken over after seconds.
IMPATIENT = {
    **KILLED_AND_WHOLE,
    "LEASE": "5",
    "PICKUP_GRACE": "1",
    "SWEEP_INTERVAL": "1",
    "SYNC_DEADLINE": "1",
    "SESSION_WAIT": "1",
    "UPSTREAM_CONNECT_TIMEOUT": "1",
    "UPSTREAM_READ_TIMEOUT": "3",
    "WEBHOOK_TIMEOUT": "2",
    "WEBHOOK_SCHEDULE": "2,1,1",
}
# What a process needs of this machine; everything else about it is decided here.
_INHERITED = ("HOME", "LANG", "LC_ALL", "SYSTEMROOT")


class Stack:
    """The processes of one installation. Their current directory is ``home``, their data in ``home/var``.

    ``settings`` are environment variables; "" unsets one. What is not set is as `storyhook up` has it.
    """

    foundation: tuple[str, ...] = FOUNDATION[1:] if ELSEWHERE else FOUNDATION
    service: tuple[str, ...] = SERVICE

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.folder = home / "var"
        self.temporary = home / "tmp"
        self.logs = home / "log"
        for folder in (self.temporary, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "Procfile", home)
        self.given = self._given(settings)
        with self._environment(self.given):
            self.plan = local.plan(Path("var"))
        self.base_url = self.plan.base_url
        self.ca_file = self.plan.ca_file
        self.simulator = Simulator(self.plan.environment.get("SIMULATED_INSTAGRAM_URL", ""))
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self._groups: list[int] = []
        self._redis: Redis | None = None
        self._services: Services | None = None

    def _given(self, settings: Mapping[str, str]) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        ours = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.temporary),
            "RATE_LIMITS": "1000000/minute",
            "NAMES_LIMITS": "1000000/hour",
            "FREE_LIMIT": "1000000/hour",
            **({"REDIS_URL": ELSEWHERE} if ELSEWHERE else {}),
            **({"BROKER_URL": BROKER} if BROKER else {}),
            **dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True)),
        }
        return {name: value for name, value in {**inherited, **ours, **settings}.items() if value != ""}

    @contextmanager
    def _environment(self, variables: Mapping[str, str]) -> Iterator[None]:
        """Be, for a moment, where and how the processes are."""
        with chdir(self.home), patch.dict(os.environ, variables, clear=True):
            yield

    # --- starting and stopping ---------------------------------------------------------------------

    def start(self, *names: str) -> Self:
        """Start these processes, by default all that the service needs, and wait until it is ready."""
        whole = not names
        for name in names or self.foundation + self.service:
            self._launch(name)
        if whole:
            self._prepare()
        return self

    def _prepare(self) -> None:
        """Do what `storyhook up` does once the processes run."""
        with self._environment(self.plan.environment):
            local.share(self.plan)
        local.simulated_sessions(self.services)
        self.await_ready()

    def _launch(self, name: str) -> None:
        assert not self.runs(name), f"{name} runs already"
        with (self.logs / f"{name}.log").open("ab") as log:
            program = subprocess.Popen(
                self.command_of(name),
                cwd=self.home,
                env=dict(self.environment_of(name)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._programs[name] = program
        self._groups.append(program.pid)

    def command_of(self, name: str) -> list[str]:
        """Return how a process is started: by default as its line of the Procfile says."""
        lines = self.plan.processes(parse_procfile((ROOT / "Procfile").read_text()).processes)
        return ["/bin/sh", "-c", lines[name.partition(".")[0]]]

    def environment_of(self, name: str) -> Mapping[str, str]:
        """Return the environment of a process; ``worker.2`` is another one of the line ``worker``."""
        return self.plan.environment

    def await_ready(self) -> None:
        """Wait until the front end says that the store, a worker and a deliverer are there."""
        self._await(self._is_ready)

    def _await(self, condition: Any) -> None:
        def holds() -> bool:
            dead = [name for name, program in self._programs.items() if program.poll() is not None]
            assert not dead, f"{dead} ended"
            return bool(condition())

        try:
            await_true(holds, START_LIMIT)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()[-4000:]}") from None

    def _is_ready(self) -> bool:
        with suppress(requests.RequestException):
            return Customer(self.base_url, "", self.ca_file).call("GET", "/readyz", timeout=2).ok
        return False

    def stop(self) -> None:
        """End everything in the order of `storyhook up`; what does not end in time is killed and told."""
        self.close()
        late = self.end(*(name for name in self._programs if name not in self.foundation))
        late += self.end(*(name for name in self._programs if name in self.foundation))
        assert not late, f"{late} had to be killed\n{self.output()[-4000:]}"

    def end(self, *names: str) -> list[str]:
        """End these processes with SIGTERM; return the names of those that had to be killed."""
        running = [name for name in names if self.runs(name)]
        for name in running:
            self.signal(name, signal.SIGTERM)
        late = []
        for name in running:
            try:
                self._programs[name].wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                late.append(name)
                self.kill(name)
        for name in names:
            self._programs.pop(name, None)
        return late

    def close(self) -> None:
        """Close what this process has open."""
        if self._redis is not None:
            self._redis.close()
        self._redis = self._services = None

    def what_is_left(self) -> list[str]:
        """Return what a stopped stack has left behind: processes, ports, files out of place."""
        left = [f"process group {group}" for group in self._groups if group_lives(group)]
        left += [f"port {port} ({name})" for name, port in self.plan.ports().items() if _listens(port)]
        left += [f"temporary file {path}" for path in self.temporary.rglob("*")]
        expected = {"var", "tmp", "log", "Procfile"}
        return left + [f"file {path}" for path in self.home.iterdir() if path.name not in expected]

    def assert_gone(self) -> None:
        """Check that a stopped stack has left nothing behind."""
        with suppress(AssertionError):
            await_true(lambda: not self.what_is_left(), 30)
        assert self.what_is_left() == []

    # --- doing things to one process ---------------------------------------------------------------

    def pid(self, name: str) -> int:
        return self._programs[name].pid

    def runs(self, name: str) -> bool:
        program = self._programs.get(name)
        return program is not None and program.poll() is None

    def signal(self, name: str, number: int) -> None:
        os.kill(self.pid(name), number)

    def kill(self, name: str) -> None:
        """Kill a process, and what it started, as a machine that fails does."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid(name), signal.SIGKILL)
        self._programs.pop(name).wait()

    def restart(self, name: str) -> None:
        """Kill a process and start it anew."""
        self.kill(name)
        self._launch(name)

    @contextmanager
    def frozen(self, *names: str) -> Iterator[None]:
        """Stop processes for a while with SIGSTOP."""
        for name in names:
            self.signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            for name in names:
                self.signal(name, signal.SIGCONT)

    def output(self, name: str = "") -> str:
        """Return what a process has printed, or all of them."""
        files = [self.logs / f"{name}.log"] if name else sorted(self.logs.glob("*.log"))
        return "\n".join(f"--- {file.stem}\n{file.read_text(errors='replace')}" for file in files)

    # --- using the service -------------------------------------------------------------------------

    @property
    def services(self) -> Services:
        """The services over this stack's store, to look behind what the API shows."""
        if self._services is None:
            with self._environment(self.plan.environment):
                settings = config.load()
            self._redis = open_store(settings.redis_url)
            meta.wait_until_ready(self._redis, START_LIMIT)
            self._services = assemble(settings, self._redis, meta.fix_shards(self._redis, settings.shards))
        return self._services

    @property
    def redis(self) -> Redis:
        """The client behind `services`."""
        assert self.services
        assert self._redis is not None
        return self._redis

    @property
    def demo(self) -> Customer:
        """The demo account, as `storyhook up` makes it."""
        return Customer(self.base_url, self.api_key, self.ca_file)

    @property
    def api_key(self) -> str:
        return local.demo_account(self.services, self.folder)

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Make a call as the demo account."""
        return self.demo.call(method, path, **options)

    def customer(self, credits: int = 100, *, email: str = "") -> Customer:
        """Return a new account with this many credits."""
        email = email or new_address()
        account = actions.create_account(self.services, email=email, password="a long enough password")
        if credits:
            actions.add_credits(self.services, account.account_id, credits, note="opening credits")
        api_key, _ = actions.create_key(self.services, account.account_id, name="test")
        return Customer(self.base_url, api_key, self.ca_file)

    def broker(self) -> Any:
        """Return a client of the database where Celery's messages are; to be closed."""
        with self._environment(self.plan.environment):
            return open_store(config.load().broker_url)

    def resume_sessions(self) -> None:
        """Make every Instagram session usable again."""
        for record in self.services.sessions.list():
            self.services.sessions.resume(record.name)

    def storyhook(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a `storyhook` command in the folder where the stack was started."""
        return subprocess.run(
            ["storyhook", *arguments],
            cwd=self.home,
            env=self.shell_environment(**settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def from_cron(self, line: str, home: Path, api_key: str) -> subprocess.CompletedProcess[str]:
        """Run a crontab's line as cron does: with a home that has a config file, and next to nothing else."""
        config = home / ".config" / "storyhook" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'url = "{self.base_url}"\napi_key = "{api_key}"\n')
        config.chmod(0o600)
        ours = self.shell_environment()
        return subprocess.run(
            ["sh", "-c", line],
            cwd=home,
            env={"PATH": ours["PATH"], "PYTHONPATH": ours["PYTHONPATH"], "HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def shell_environment(self, **settings: str) -> dict[str, str]:
        """Return the environment of a terminal in that folder: the stack's own settings are not in it."""
        ours = ("PATH", "PYTHONPATH", "TMPDIR", *_INHERITED)
        return {**{name: self.given[name] for name in ours if name in self.given}, **settings}


def new_address() -> str:
    """Return an e-mail address nobody has."""
    return f"{secrets.token_hex(6)}@example.com"


@contextmanager
def leaving_nothing(stack: Stack) -> Iterator[Stack]:
    """Lend a stack; afterwards stop it, look for what it left, and remove its folder."""
    try:
        yield stack
    finally:
        stack.stop()
        stack.assert_gone()
        shutil.rmtree(stack.home)


def group_lives(group: int) -> bool:
    """Tell whether a process group has a member that is more than a zombie."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    shown = subprocess.run(["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True)
    members = [line.split() for line in shown.stdout.splitlines()]
    return any(int(pgid) == group and not state.startswith("Z") for pgid, state in members)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
