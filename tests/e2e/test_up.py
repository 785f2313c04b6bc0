"""`storyhook up` and `storyhook demo`: what a newcomer runs first."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest

from tests.conftest import await_true
from tests.e2e.clients import Customer
from tests.e2e.stack import FOUNDATION, SERVICE, STOP_LIMIT, Stack, group_lives, leaving_nothing
from tests.e2e.up import Up, has_children


def test_what_it_prints_works_and_ctrl_c_leaves_nothing(home: Callable[[], Path], tmp_path: Path) -> None:
    with leaving_nothing(Up(home())) as up:
        up.start()
        assert set(up.pids()) == {*FOUNDATION, *SERVICE, "receiver"}
        wait, deliver = re.findall(r"^curl .*$", up.output(), re.MULTILINE)
        found = json.loads(shell(up, wait))
        assert (found["outcome"], found["username"]) == ("found", "instagram")
        queued = json.loads(shell(up, deliver))
        assert queued["status"] == "processing"
        await_true(lambda: told(up, queued["requestId"]))
        assert "signature valid" in told(up, queued["requestId"])
        assert "nasa" in told(up, queued["requestId"])

        second = up.storyhook("up")
        assert (second.returncode, second.stdout, second.stderr.count("\n")) == (2, "", 1)
        assert "storyhook runs already" in second.stderr

        key = up.ready()["apiKey"]
        assert up.interrupt() == 0
        up.assert_gone()
        assert "Traceback" not in up.output()
        assert sorted(path.name for path in up.folder.iterdir()) == [
            "demo.json", "run.env", "run.lock", "secret_key", "simulator", "store",
        ]  # fmt: skip

        up.start()
        customer = Customer(up.base_url, up.ready()["apiKey"])
        assert customer.api_key == key
        assert customer.credits() == {"balance": 998, "held": 0, "available": 998}
        assert len(customer.call("GET", "/api/requests").json()["requests"]) == 2

        # A command in this folder needs to be told of neither server nor key, nor of where media are.
        fetched = up.storyhook("fetch", "nasa", "--save", str(tmp_path))
        assert (fetched.returncode, fetched.stderr, fetched.stdout.count("\n")) == (0, "", 5)

        up.kill("beat")  # when one dies, all end
        assert up.process.wait(40) not in {0, 2}


@pytest.mark.parametrize("told", ["by Ctrl-C", "that its terminal is closed"])
def test_it_may_be_ended_in_the_middle_of_the_start(home: Callable[[], Path], told: str) -> None:
    with leaving_nothing(Up(home())) as up:
        up.launch()
        await_true(lambda: has_children(up.process.pid))
        assert (up.interrupt() if told == "by Ctrl-C" else up.hang_up()) == 0
        assert up.output().count("SIGHUP received") == (told != "by Ctrl-C")


class Few:
    """The part of `storyhook up` that starts and ends, with processes that do nothing but sleep.

    To be used in a ``with`` block. ``first`` is what it does before; its descriptors are as Popen takes them.
    """

    NAMES = ("store", "web")
    CODE = """
from service.cli.up import StagedManager
manager = StagedManager(lambda: None)
for name in {names}:
    manager.add_process(name, f"echo $$ > {{name}}.new; mv {{name}}.new {{name}}; exec sleep 600")
manager.loop()
with open("ended", "w") as ended:
    ended.write(str(manager.returncode))
"""

    def __init__(self, folder: Path, *, first: str = "", **descriptors: Any) -> None:
        self.folder = folder
        code = first + self.CODE.format(names=self.NAMES)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=folder, start_new_session=True, **descriptors
        )

    def __enter__(self) -> Self:
        await_true(lambda: all((self.folder / name).exists() for name in self.NAMES))
        return self

    def __exit__(self, *_: object) -> None:
        for group in (self.process.pid, *self.groups()):
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        self.process.wait()

    def groups(self) -> list[int]:
        """Return the process groups of what it started, each of which leads its own."""
        files = [self.folder / name for name in self.NAMES]
        return [int(file.read_text()) for file in files if file.exists()]

    def end(self) -> int:
        """Wait until it has ended, and left nothing; return why, as a shell tells it."""
        self.process.wait(STOP_LIMIT)
        assert not any(group_lives(group) for group in (self.process.pid, *self.groups()))
        return int((self.folder / "ended").read_text())


@pytest.mark.parametrize("output", ["gone", "full"])
def test_it_ends_also_when_nobody_reads_what_it_prints(tmp_path: Path, output: str) -> None:
    """As in `storyhook up | tee log` when Ctrl-C ends tee first."""
    descriptors = os.pipe()
    reader, writer = os.fdopen(descriptors[0], "rb"), os.fdopen(descriptors[1], "wb", buffering=0)
    with reader, writer, Few(tmp_path, stdout=writer) as few:
        if output == "gone":
            reader.close()
        else:
            os.set_blocking(writer.fileno(), False)  # at its other holder as well
            for size in (512, 1):
                while writer.write(bytes(size)):
                    pass
        few.process.send_signal(signal.SIGINT)
        assert few.end() == 130


def test_closing_the_terminal_ends_it(tmp_path: Path) -> None:
    """What it started is in sessions of its own, and hears nothing of that by itself."""
    ours, its = pty.openpty()
    terminal = "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    window, line = os.fdopen(ours, "rb", buffering=0), os.fdopen(its, "rb", buffering=0)
    with window, line, Few(tmp_path, first=terminal, stdin=line, stdout=line, stderr=line) as few:
        line.close()
        window.close()
        assert few.end() == 129


def test_it_goes_on_without_a_terminal_when_it_was_told_to(tmp_path: Path) -> None:
    nohup = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    output = tmp_path / "output"
    with output.open("wb") as taken, Few(tmp_path, first=nohup, stdout=taken) as few:
        os.killpg(few.process.pid, signal.SIGHUP)
        few.process.send_signal(signal.SIGINT)
        assert few.end() == 130
    assert "SIGINT received" in output.read_text()
    assert "SIGHUP" not in output.read_text()


def test_a_line_may_be_printed_while_another_is() -> None:
    # As honcho's signal handler does; with Python's own output that is a RuntimeError now and then.
    code = """
import signal, threading, os, time
from service.cli.up import Unbuffered
output, seen = Unbuffered(), []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(print("told", file=output, flush=True)))
ends = time.monotonic() + 60
def tell():
    while len(seen) < 300 and time.monotonic() < ends:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.0005)  # between two signals
thread = threading.Thread(target=tell)
thread.start()
while thread.is_alive():
    print("line", file=output, flush=True)
print(len(seen) >= 300, file=output, flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.rstrip().endswith("True")


def test_a_store_of_ones_own_is_used_instead_of_the_embedded_one(
    stack: Stack, home: Callable[[], Path]
) -> None:
    redis_url = stack.plan.environment["REDIS_URL"].replace("/0", "/7")
    with leaving_nothing(Up(home(), REDIS_URL=redis_url)) as up:
        up.start()
        assert set(up.pids()) == {"instagram", *SERVICE, "receiver"}
        assert "STORE_PORT" not in up.plan.ports()
        assert not (up.folder / "store").exists()
        assert Customer(up.base_url, up.ready()["apiKey"]).stories("nasa").status_code == 200


@pytest.mark.parametrize("name", ["PORT", "SIMULATOR_PORT", "LISTEN_PORT", "STORE_PORT"])
def test_a_busy_port_is_one_line_that_names_the_setting(home: Callable[[], Path], name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stack = Up(home(), **{name: str(port)})
        answer = stack.storyhook("up", **stack.given)
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (2, "", 1)
    assert answer.stderr.startswith(f"storyhook: Port {port} is in use.")
    assert f"{name}=" in answer.stderr
    assert stack.what_is_left() == []
    shutil.rmtree(stack.home)


def test_it_needs_the_folder_of_the_project(stack: Stack, tmp_path: Path) -> None:
    answer = subprocess.run(
        ["storyhook", "up"],
        cwd=tmp_path,
        env=stack.shell_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert "Procfile" in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_demo_matches_every_step_and_leaves_nothing(home: Callable[[], Path]) -> None:
    stack = Stack(home())
    # Set up for something else, which the demo must leave alone.
    answer = stack.storyhook("demo", REDIS_URL="redis://127.0.0.1:1/0", BROKER_URL="redis://127.0.0.1:1/1")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "every step matched" in answer.stdout
    assert answer.stderr == ""
    assert stack.what_is_left() == []
    shutil.rmtree(stack.home)


def told(up: Up, request_id: str) -> str:
    """Return what the receiver in the terminal says of a request's webhook."""
    lines = up.output().splitlines()
    return next((line for line in lines if "receiver" in line and request_id in line), "")


def shell(up: Up, line: str) -> str:
    """Run a line as somebody does who copied it from the terminal."""
    run = subprocess.run(
        ["bash", "-c", line],
        env=up.shell_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return run.stdout
