"""A stack that `storyhook up` starts and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from contextlib import suppress
from typing import Self

from tests.conftest import await_true
from tests.e2e.stack import STOP_LIMIT, Stack

_STARTED = re.compile(r"\| (\w+) started \(pid=(\d+)\)")


class Up(Stack):
    """The same, started and ended by `storyhook up`."""

    process: subprocess.Popen[bytes]

    def start(self, *names: str) -> Self:
        """Run `storyhook up` and wait until it says that it is ready."""
        assert not names, "`storyhook up` starts all or nothing"
        self.launch()
        self._await((self.folder / "ready.json").exists)
        await_true(lambda: "Ctrl-C ends everything" in self.output())
        return self

    def launch(self) -> None:
        """Run `storyhook up` and wait for nothing."""
        log = self.logs / "up.log"
        log.unlink(missing_ok=True)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                ["storyhook", "up"],
                cwd=self.home,
                env=self.given,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._programs = {"up": self.process}
        self._groups.append(self.process.pid)

    def stop(self) -> None:
        self.close()
        self.interrupt()

    def interrupt(self, limit: float = STOP_LIMIT) -> int:
        """End it with SIGINT, as Ctrl-C does; return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self._ended(limit)

    def hang_up(self, limit: float = STOP_LIMIT) -> int:
        """End it with SIGHUP to its group, as closing a terminal does; return the exit status."""
        os.killpg(self.process.pid, signal.SIGHUP)
        return self._ended(limit)

    def _ended(self, limit: float) -> int:
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            for group in [self.process.pid, *self.pids().values()]:
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
            self.process.wait()
            message = f"`storyhook up` had to be killed after {limit} seconds\n{self.output()[-4000:]}"
            raise AssertionError(message) from None
        finally:
            self._programs = {}
            self._groups += self.pids().values()

    def pids(self) -> dict[str, int]:
        """Return the ids of its processes, from the lines it prints."""
        return {name: int(pid) for name, pid in _STARTED.findall(self.output("up"))}

    def pid(self, name: str) -> int:
        return self.pids()[name]

    def kill(self, name: str) -> None:
        """Kill one of its processes; the others end then as well."""
        os.killpg(self.pid(name), signal.SIGKILL)

    def ready(self) -> dict[str, str]:
        """Return what it left for scripts when it was ready."""
        found: dict[str, str] = json.loads((self.folder / "ready.json").read_text())
        return found


def has_children(pid: int) -> bool:
    """Tell whether a process has started another."""
    shown = subprocess.run(["ps", "-A", "-o", "ppid="], capture_output=True, text=True, check=True)
    return str(pid) in shown.stdout.split()
