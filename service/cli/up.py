"""`storyhook up`: the whole service on one machine, as `make run` starts it."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import requests
from honcho.environ import parse_procfile
from honcho.manager import Manager
from honcho.printer import Printer

from service import config
from service.bootstrap import build
from service.cli import local
from service.cli.words import complain
from service.domain.errors import ConfigurationError, StoryhookError
from service.tls import check_certificate

START_LIMIT = 60.0
STOP_LIMIT = 30.0
# These go last, so that the others can finish what they do.
FOUNDATION = frozenset({"store", "instagram"})
HUNG_UP = 129  # the terminal was closed
INTERRUPTED = {HUNG_UP, 130, 143}  # and honcho's codes for Ctrl-C and SIGTERM: the ordinary end


class Unbuffered:
    """Standard output for whoever prints also in a signal handler, as honcho does.

    Python's own refuses that while it is printing (RuntimeError: reentrant call), so that Ctrl-C at the
    wrong moment left everything running. For the same reason what nobody takes any more is dropped:
    in `storyhook up | tee log`, Ctrl-C may end the reader first.
    """

    def write(self, text: str) -> int:
        left = b"" if sys.stdout is None else text.encode("utf-8", "replace")
        with suppress(OSError):
            while left:
                left = left[os.write(sys.stdout.fileno(), left) :]
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        return sys.stdout is not None and sys.stdout.isatty()


class StagedManager(Manager):
    """honcho's manager, except that the store outlives those who write to it.

    ``on_start`` runs on a thread of its own once all processes are started: honcho forks, and a
    process with threads must not.
    """

    def __init__(self, on_start: Callable[[], None]) -> None:
        super().__init__(Printer(Unbuffered()))
        self._on_start = on_start
        self._kill_at = float("inf")
        self._terminating = False
        self._pid = os.getpid()

    def loop(self) -> None:
        """Start everything, print what it says, and return when all of it has ended."""
        # Who is called by nohup is to outlive the terminal.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._hang_up)
        super().loop()

    def _hang_up(self, *_: object) -> None:
        """End as after Ctrl-C: in sessions of their own the processes do not hear of the terminal's end."""
        # honcho's helpers inherit this; each has to wait for the end of the process it started.
        if os.getpid() == self._pid:
            self._system_print("SIGHUP received\n")
            self.returncode = HUNG_UP
            self.terminate()

    def _start(self) -> None:
        super()._start()
        threading.Thread(target=self._on_start, daemon=True).start()

    def terminate(self) -> None:
        """Stop everything in two stages."""
        if self._terminating:
            return
        self._terminating = True
        self._kill_at = time.monotonic() + STOP_LIMIT
        threading.Thread(target=self._stop_in_stages, daemon=True).start()

    def kill(self) -> None:
        """Kill what is left, but not before everyone had the time to finish."""
        if time.monotonic() > self._kill_at:
            super().kill()

    def _stop_in_stages(self) -> None:
        self._end([name for name in self._processes if name not in FOUNDATION])
        self._end([name for name in self._processes if name in FOUNDATION])

    def _end(self, names: list[str]) -> None:
        """End processes and wait for them; one that is just starting is told once it has an id."""
        told: set[str] = set()
        while any(self._runs(name) for name in names) and time.monotonic() < self._kill_at:
            for name in names:
                pid = self._processes[name].get("pid")
                if pid and name not in told and self._runs(name):
                    self._procmgr.terminate(pid)
                    told.add(name)
            time.sleep(0.05)

    @property
    def ends(self) -> bool:
        """Whether it was told to stop."""
        return self._terminating

    def _runs(self, name: str) -> bool:
        return "returncode" not in self._processes[name]


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("var"), show_default=True)
def up(folder: Path) -> None:
    """Start everything in the Procfile and print how to call it; Ctrl-C ends it all."""
    procfile = Path("Procfile")
    if not procfile.exists():
        raise ConfigurationError("There is no Procfile here: run this in the folder of the project.")
    stack = local.plan(folder)
    with _only_one(folder):
        local.check_ports(stack)
        local.share(stack)
        os.environ.update(stack.environment)
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        # A wrong setting ends it here, with one line, and not in five processes.
        settings = config.load()
        if settings.tls_cert:
            check_certificate(settings.tls_cert, settings.tls_key)
        ready = folder / "ready.json"
        ready.unlink(missing_ok=True)
        manager = StagedManager(lambda: _announce(stack, ready, lambda: manager.ends))
        for name, command in stack.processes(parse_procfile(procfile.read_text()).processes).items():
            manager.add_process(name, command)
        manager.loop()
        ready.unlink(missing_ok=True)
    sys.exit(0 if manager.returncode in INTERRUPTED else manager.returncode or 1)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    with (folder / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"This folder ({folder.resolve()}) is in use: storyhook runs already."
            ) from None
        yield


def _announce(stack: local.Stack, ready: Path, ends: Callable[[], bool]) -> None:
    """Prepare the demo account and print how to call, once everything answers."""
    try:
        services = build(config.load())
        if stack.simulated:
            local.simulated_sessions(services)
        api_key = local.demo_account(services, stack.folder)
        _await_ready(stack, ends)
    except (StoryhookError, TimeoutError) as error:
        if not ends():
            complain(f"not ready: {error}")
        return
    if ends():
        return
    urls = {"url": stack.base_url, "receiver": stack.receiver_url, "caFile": stack.ca_file}
    if stack.simulated:
        urls["simulatedInstagram"] = stack.environment["SIMULATED_INSTAGRAM_URL"]
    local.write_private(ready, json.dumps({**urls, "apiKey": api_key}))
    Unbuffered().write(f"{_banner(stack, api_key)}\n")


def _await_ready(stack: local.Stack, ends: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_LIMIT
    problem = "no answer"
    while time.monotonic() < deadline and not ends():
        try:
            answer = requests.get(f"{stack.base_url}/readyz", timeout=2, verify=stack.ca_file or True)
            if answer.ok:
                return
            problem = answer.text
        except requests.exceptions.SSLError as error:
            raise ConfigurationError(
                f"TLS_CERT does not hold for {stack.base_url}: {error}. "
                "`storyhook dev-cert` makes one that does."
            ) from None
        except requests.RequestException as error:
            problem = str(error)
        time.sleep(0.1)
    if ends():
        return
    raise TimeoutError(f"not everything answered within {START_LIMIT:.0f} seconds: {problem}")


def _banner(stack: local.Stack, api_key: str) -> str:
    source = "a simulated Instagram (INSTAGRAM=real for the real one)" if stack.simulated else "Instagram"
    return f"""
Storyhook is ready.

  API        {stack.base_url}
  Docs       {stack.base_url}/docs
  Source     {source}
  Account    {local.DEMO_EMAIL}, {local.DEMO_CREDITS} credits to start with
  API key    {api_key}

Wait for the result:

{_curl(stack, api_key, '{"username": "instagram"}')}

Have it delivered (the receiver of this terminal shows what arrives):

{_curl(stack, api_key, f'{{"username": "nasa", "webhookUrl": "{stack.receiver_url}"}}')}

Ctrl-C ends everything; accounts, credits and requests are kept in {stack.folder}/.
"""


def _curl(stack: local.Stack, api_key: str, body: str) -> str:
    url = f"{stack.base_url}/api/instagram/stories"
    trust = f"--cacert {shlex.quote(stack.ca_file)} " if stack.ca_file else ""
    return (
        f"curl -sS {trust}-X POST {url} -H 'Authorization: Bearer {api_key}' "
        f"-H 'Content-Type: application/json' -d '{body}'"
    )
