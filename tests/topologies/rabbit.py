"""A RabbitMQ of Debian's package as a plain process on loopback, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kombu import Connection

from service.broker import QUEUES
from service.cli.demo import free_ports
from service.queue import OUT_OF_REACH
from tests.conftest import await_true

PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"
EPMD = shutil.which("epmd") or ""
MISSING = "RabbitMQ is not installed here: `apt-get install rabbitmq-server` (it need not run as a service)"
START_LIMIT = 90.0
ELECTION_LIMIT = 10.0
RESTARTS = 5

# Nothing of the machine's own RabbitMQ; as few threads as it takes.
_CONFIG = """
listeners.tcp.local = 127.0.0.1:{port}
loopback_users.guest = true
log.file.level = warning
"""


def is_there() -> bool:
    return bool(EPMD) and Path(PROGRAM).exists()


class RabbitMq:
    """One node. It is killed as a machine that fails is, or frozen, and started again with its data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.port, self._distribution, self._names = free_ports(3)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        (folder / "rabbitmq.conf").write_text(_CONFIG.format(port=self.port))
        (folder / "env.conf").touch()
        (folder / "plugins").write_text("[].\n")
        self._process: subprocess.Popen[bytes] | None = None

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),  # where Erlang keeps its cookie
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"storyhook{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }

    @contextmanager
    def running(self) -> Iterator[RabbitMq]:
        # Erlang would start one by itself and leave it behind.
        names = subprocess.Popen(
            [EPMD, "-address", "127.0.0.1", "-port", str(self._names)],
            env=self._environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            self.start()
            yield self
        finally:
            self.kill()
            names.kill()
            names.wait()

    def start(self) -> None:
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [PROGRAM], env=self._environment(), cwd=self.folder, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        await_true(self._answers, START_LIMIT)

    def come_back(self) -> None:
        """Start it after a kill; again, as an operator would, when a queue of ours has no leader then.

        A quorum queue of a single node now and then elects none: rabbitmq-server, issue 10070.
        """
        for _ in range(RESTARTS):
            self.start()
            if all(self._is_led(queue) for queue in QUEUES):
                return
            self.kill()
        raise AssertionError(f"a queue had no leader after {RESTARTS} starts")

    def _is_led(self, queue: str) -> bool:
        """Tell whether one may consume from it, which only its leader can grant."""
        with suppress(AssertionError):
            await_true(lambda: self._grants(queue), ELECTION_LIMIT)
            return True
        return False

    def _grants(self, queue: str) -> bool:
        with suppress(*OUT_OF_REACH), Connection(self.url) as connection:
            connection.default_channel.basic_qos(0, 1, False)
            connection.default_channel.basic_consume(queue)
            return True
        return False

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "output").read_text()
        with suppress(Exception), Connection(self.url, connect_timeout=2) as connection:
            connection.connect()
            return True
        return False

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
