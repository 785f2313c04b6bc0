"""`storyhook instagram list` beside a real store: what each session made of what it may make."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.bootstrap import build
from service.cli.main import main
from service.config import Settings
from service.domain.instagram import Leased, Pace, settings_from_sessionid

LOGIN = settings_from_sessionid("42%3Aabcdefghijklmno%3A7")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder without settings of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("valkey")
@pytest.mark.parametrize(
    ("minute", "shown"), [(5, ("3 of 5", "3 of 50")), (0, ("no limit", "3 of 50"))], ids=["5", "none"]
)
def test_the_list_tells_the_calls_of_now(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, minute: int, shown: tuple[str, str]
) -> None:
    monkeypatch.setenv("SESSION_CALLS_PER_MINUTE", str(minute))
    monkeypatch.setenv("SESSION_CALLS_PER_HOUR", "50")
    services = build(replace(settings, pace=Pace(minute, 50)))
    services.sessions.add("main", LOGIN)
    leased = services.sessions.lease(60, 4)
    assert isinstance(leased, Leased)
    services.sessions.release(leased, used=3)
    said = CliRunner().invoke(main, ["instagram", "list", "--json"])
    assert said.exit_code == 0, said.output
    [row] = json.loads(said.output)
    assert (row["calls/minute"], row["calls/hour"], row["state"]) == (*shown, "active")
