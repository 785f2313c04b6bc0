"""`.env.example` names every setting with its default, and cannot drift from the code."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path

import click
import pytest

from service import config
from service.cli import listen, local, store
from service.config import Settings
from service.domain.instagram import UNLIMITED
from workers.simulator import __main__ as simulator
from workers.simulator import knobs

SECRET = "a secret for tests only, long enough to be accepted"
LINE = re.compile(r"#([A-Z][A-Z0-9_]*)=(.*)")
# Has no default: the one setting that must be given.
REQUIRED = "SECRET_KEY"


@pytest.fixture(scope="module")
def lines(root: Path) -> list[str]:
    return (root / ".env.example").read_text().splitlines()


@pytest.fixture(scope="module")
def example(lines: list[str]) -> dict[str, str]:
    return {match[1]: match[2] for line in lines if (match := LINE.fullmatch(line))}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, example: dict[str, str]) -> None:
    """No .env here, nothing in the environment but the secret, and both put back afterwards."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.chdir(tmp_path)
    for name in example:
        os.environ.pop(name, None)
        os.environ.pop(f"{name}_FILE", None)
    os.environ[REQUIRED] = SECRET


def test_names_are_those_the_code_reads(
    example: dict[str, str], settings_of_service: set[str], settings_of_commands: set[str]
) -> None:
    assert len(settings_of_service) > 30
    assert set(example) == settings_of_service | settings_of_commands


def test_each_name_stands_once_and_is_explained(lines: list[str]) -> None:
    names = [match[1] for line in lines if (match := LINE.fullmatch(line))]
    assert len(names) == len(set(names))
    for before, line in pairwise(lines):
        if LINE.fullmatch(line):
            assert re.fullmatch(r"# [^-].*[^ ]", before), f"{line} is not explained"


def test_nothing_is_set_by_copying_it(lines: list[str]) -> None:
    assert all(not line or line.startswith("#") for line in lines)


def test_each_default_is_the_default(example: dict[str, str], settings_of_service: set[str]) -> None:
    untouched = config.load()
    wrong = [name for name in settings_of_service - {REQUIRED} if _load_with(name, example) != untouched]
    assert wrong == []


def _load_with(name: str, example: dict[str, str]) -> Settings:
    os.environ[name] = example[name]
    try:
        return config.load()
    finally:
        del os.environ[name]


def test_a_file_with_everything_uncommented_changes_nothing(
    lines: list[str], settings_of_service: set[str]
) -> None:
    untouched = config.load()
    names = settings_of_service - {REQUIRED}
    kept = [line[1:] for line in lines if (match := LINE.fullmatch(line)) and match[1] in names]
    assert len(kept) == len(names)
    Path(".env").write_text("\n".join(kept))
    assert config.load() == untouched
    Path(".env").write_text("\n".join([*kept, "LOG_LEVEL=DEBUG"]))
    assert config.load().log_level == "DEBUG", "the file was not read"


@pytest.mark.parametrize("name", ["SECRET_KEY", "REDIS_URL", "METRICS_TOKEN"])
def test_a_file_may_hold_the_value(name: str, tmp_path: Path) -> None:
    value = "redis://elsewhere:6379/3" if name == "REDIS_URL" else "from a file, and long enough for a secret"
    (tmp_path / "value").write_text(f"{value}\n")
    os.environ.pop(name, None)
    os.environ[f"{name}_FILE"] = str(tmp_path / "value")
    assert getattr(config.load(), name.lower()) == value


def test_defaults_of_the_local_stack(example: dict[str, str], tmp_path: Path) -> None:
    stack = local.plan(Path("var"))
    names = ("PORT", "LISTEN_PORT", "STORE_PORT", "SIMULATOR_PORT", "STORE_FOLDER", "SIMULATOR_DATA")
    assert {name: example[name] for name in names} == {name: stack.environment[name] for name in names}
    assert stack.simulated is (example["INSTAGRAM"] == "simulated")
    assert (tmp_path / "var").is_dir(), "the plan was made elsewhere"


def test_only_the_simulated_instagram_is_asked_without_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    budgets = [
        f"{whose}_CALLS_PER_{window}" for whose in ("SESSION", "PROXY") for window in ("MINUTE", "HOUR")
    ]
    simulated = local.plan(Path("var"))
    assert [simulated.environment[name] for name in budgets] == ["0"] * 4
    local.share(simulated)
    assert config.load(local=True).pace == UNLIMITED
    monkeypatch.setenv("INSTAGRAM", "real")
    assert not set(budgets) & local.plan(Path("var")).environment.keys()
    monkeypatch.setenv("INSTAGRAM", "simulated")
    monkeypatch.setenv("SESSION_CALLS_PER_MINUTE", "5")
    assert local.plan(Path("var")).environment["SESSION_CALLS_PER_MINUTE"] == "5"


@pytest.mark.parametrize("command", [store.store, listen.listen])
def test_defaults_of_the_options(command: click.Command, example: dict[str, str]) -> None:
    named = [option for option in command.params if isinstance(option.envvar, str)]
    assert named
    for option in named:
        default = option.get_default(click.Context(command))
        # Where there is no default, click answers with None or with a mark of its own.
        written = str(default) if isinstance(default, int | str | Path) else ""
        assert example[str(option.envvar)] == written, option.name


def test_defaults_of_the_simulator(example: dict[str, str]) -> None:
    options = simulator._options([])
    assert (options.host, options.port) == (example["SIMULATOR_HOST"], int(example["SIMULATOR_PORT"]))
    assert knobs.from_environment(example) == knobs.Knobs()
