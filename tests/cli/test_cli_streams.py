"""Commands whose caller has closed a standard stream, as `<&-` does: Python has None for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli import main
from service.cli.up import Unbuffered
from tests.cli.standin import Batches
from tests.cli.support import KEY, Service

STDIN, STDOUT, STDERR = "<&-", ">&-", "2>&-"


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("nasa\n")
    return path


def storyhook(closing: str, *arguments: object, url: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli.main", *map(str, arguments)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(main.__file__).parents[2]),
        "STORYHOOK_URL": url,
        "STORYHOOK_API_KEY": KEY,
    }
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {closing}', "sh", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,  # without a terminal that could be asked for a password
    )


def test_names_from_a_closed_stdin_are_none(service: Service) -> None:
    told = storyhook(STDIN, "fetch", "nasa", "-", url=service.url)
    assert (told.returncode, told.stderr) == (0, "")
    told = storyhook(STDIN, "fetch", "-", url=service.url)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr == "storyhook: Standard input holds no names.\n"
    assert service.names() == ["nasa"]


def test_a_list_from_a_closed_stdin_is_empty(batches: Batches) -> None:
    told = storyhook(STDIN, "batch", "-", url=batches.url)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr == "storyhook: -: there are no names in it.\n"
    assert batches.requests == []


def test_a_settings_file_from_a_closed_stdin_is_none() -> None:
    told = storyhook(STDIN, "instagram", "add", "main", "--settings", "-")
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith("storyhook: settings: This file is not JSON: ")
    assert told.stderr.count("\n") == 1


def test_a_password_that_nobody_can_be_asked_for_ends_the_command() -> None:
    told = storyhook(STDIN, "account", "create", "anna@example.com")
    assert told.returncode == 1
    assert told.stderr.endswith("Aborted!\n")
    assert "Traceback" not in told.stderr


def test_without_stdout_nothing_is_fetched(service: Service) -> None:
    told = storyhook(STDOUT, "fetch", "nasa", url=service.url)
    assert (told.returncode, told.stderr) == (2, "storyhook: Standard output is closed.\n")
    assert service.requests == []


@pytest.mark.parametrize("options", [(), ("--wait",), ("--out", "-")], ids=str)
def test_without_stdout_no_batch_is_made(batches: Batches, names: Path, options: tuple[str, ...]) -> None:
    told = storyhook(STDOUT, "batch", names, *options, url=batches.url)
    assert (told.returncode, told.stderr) == (2, "storyhook: Standard output is closed.\n")
    assert batches.requests == []


def test_a_table_without_stdout_is_dropped(service: Service) -> None:
    service.server.expect_request("/api/watches").respond_with_json({"watches": []})
    told = storyhook(STDOUT, "watch", "list", url=service.url)
    assert (told.returncode, told.stderr) == (0, "")


def test_what_up_prints_without_stdout_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert Unbuffered().write("ready\n") == 6
    assert not Unbuffered().isatty()


def test_without_stderr_names_are_fetched(service: Service) -> None:
    told = storyhook(STDERR, "fetch", "nasa", url=service.url)
    assert told.returncode == 0
    assert told.stdout.count("\n") == 1


def test_without_stderr_a_batch_is_made(batches: Batches, names: Path) -> None:
    told = storyhook(STDERR, "batch", names, "--wait", url=batches.url)
    assert told.returncode == 0
    assert told.stdout.startswith("bat_070001: completed: ")
