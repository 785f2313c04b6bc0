"""The examples for cron and systemd, run as they stand, in the environment cron and systemd give."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.standin import Batches
from tests.cli.support import KEY, Service

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "deploy" / "client"
TIMES = re.compile(r"(?:[\d*/,-]+ ){5}(.*)")


def crontab_lines(path: Path) -> list[str]:
    """Return the commands of the crontab lines in a file."""
    found = [TIMES.fullmatch(line) for line in path.read_text().splitlines()]
    return [match[1] for match in found if match]


def unit(name: str) -> dict[str, str]:
    """Read a unit: names to values; sections do not matter here."""
    lines = (CLIENT / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and line[0] not in "#[")


@pytest.fixture
def home(tmp_path: Path, batches: Batches) -> Path:
    """The home of somebody who has installed Storyhook there, and has a list and a config file."""
    home = tmp_path / "h"
    program = home / "storyhook" / ".venv" / "bin" / "storyhook"
    config = home / ".config" / "storyhook" / "config.toml"
    for path in (program, config):
        path.parent.mkdir(parents=True)
    command = shlex.join([sys.executable, "-m", "service.cli.main"])
    program.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {command} "$@"\n')
    program.chmod(0o700)
    config.write_text(f'url = "{batches.url}"\napi_key = "{KEY}"\n')
    config.chmod(0o600)
    (home / "names.txt").write_text("# those of every day\nnasa\n@esa\n")
    return home


def run(command: list[str], home: Path, path: str) -> subprocess.CompletedProcess[str]:
    environment = [f"HOME={home}", "LOGNAME=ana", "USER=ana", "SHELL=/bin/sh", f"PATH={path}"]
    return subprocess.run(
        ["env", "-i", *environment, *command],
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def results(home: Path) -> list[str]:
    return [json.loads(line)["username"] for line in (home / "stories.ndjson").read_text().splitlines()]


@pytest.mark.parametrize("path", [CLIENT / "crontab", ROOT / "README.md"], ids=lambda path: path.name)
def test_the_lines_for_cron(service: Service, batches: Batches, home: Path, path: Path) -> None:
    commands = crontab_lines(path)
    assert {re.search(r"storyhook (\w+) ", command)[1] for command in commands} == {"fetch", "batch"}  # type: ignore[index]
    for command in commands:
        assert "%" not in command, "cron ends a line there"
        told = run(["/bin/sh", "-c", command], home, "/usr/bin:/bin")
        assert (told.returncode, told.stdout, told.stderr) == (0, "", ""), command
    assert results(home) == ["nasa", "esa"]
    assert sorted(path.name for path in (home / "stories").iterdir()) == ["esa", "nasa"]
    assert set(service.names()) == {"nasa", "esa"}


def test_a_line_for_cron_is_a_new_batch_each_time_and_mails_what_goes_wrong(
    batches: Batches, home: Path
) -> None:
    [command] = [line for line in crontab_lines(CLIENT / "crontab") if "storyhook batch" in line]
    for _ in range(2):
        assert run(["/bin/sh", "-c", command], home, "/usr/bin:/bin").returncode == 0
    assert len(batches.batches) == 2
    (home / "names.txt").write_text("nasa\nprivate_a\n")
    told = run(["/bin/sh", "-c", command], home, "/usr/bin:/bin")
    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (1, "", 1)
    assert "1 of 2 ended otherwise: 1 account_private" in told.stderr


def in_time(seconds: int, command: str) -> str:
    """Return a command that waits for so long and no longer."""
    return re.sub(r"--wait-seconds \d+", f"--wait-seconds {seconds}", command)


def test_what_was_not_ended_in_time_is_finished_by_the_next_morning_s_line(
    batches: Batches, home: Path
) -> None:
    [command] = [line for line in crontab_lines(CLIENT / "crontab") if "storyhook batch" in line]
    batches.looks = 2
    late = run(["/bin/sh", "-c", in_time(0, command)], home, "/usr/bin:/bin")
    assert (late.returncode, late.stdout, late.stderr.count("\n")) == (4, "", 1)
    [memory] = (home / ".local/state/storyhook/batches").glob("*.json")
    state = json.loads(memory.read_bytes())
    memory.write_text(json.dumps({**state, "begun": state["begun"] - 24 * 3_600}))
    told = run(["/bin/sh", "-c", command], home, "/usr/bin:/bin")
    assert (told.returncode, len(batches.batches)) == (0, 1)
    assert "going on with bat_070001" in told.stderr
    assert results(home) == ["nasa", "esa"]


def test_systemd_tries_again_what_was_not_ended_in_time(batches: Batches, home: Path) -> None:
    service = unit("storyhook-batch.service")
    command = service["ExecStart"].replace("%h", str(home))
    batches.looks = 2
    late = run(shlex.split(in_time(0, command)), home, "/usr/bin:/bin").returncode
    assert late != 0
    assert str(late) not in service["SuccessExitStatus"].split() + service["RestartPreventExitStatus"].split()
    assert service["Restart"] == "on-failure"
    assert run(shlex.split(command), home, "/usr/bin:/bin").returncode == 0
    assert (len(batches.batches), results(home)) == (1, ["nasa", "esa"])


def test_the_unit_for_systemd(batches: Batches, home: Path) -> None:
    service = unit("storyhook-batch.service")
    command = shlex.split(service["ExecStart"].replace("%h", str(home)))
    assert "%" not in " ".join(command), "no other specifier is known here"
    told = run(command, home, "/usr/local/bin:/usr/bin:/bin")
    assert (told.returncode, told.stderr) == (0, "")
    assert results(home) == ["nasa", "esa"]
    assert (home / ".local/state/storyhook/batches").is_dir()
    (home / "names.txt").write_text("private_a\n")
    ended_otherwise = run(command, home, "/usr/bin:/bin").returncode
    assert str(ended_otherwise) == service["SuccessExitStatus"]
    (home / ".config/storyhook/config.toml").unlink()
    assert str(run(command, home, "/usr/bin:/bin").returncode) == service["RestartPreventExitStatus"]


def test_the_timer_is_for_the_unit() -> None:
    timer = unit("storyhook-batch.timer")
    assert "Unit" not in timer, "it starts the unit of its own name"
    assert timer["WantedBy"] == "timers.target"
    assert re.fullmatch(r"\*-\*-\* \d\d:\d\d:\d\d", timer["OnCalendar"])
