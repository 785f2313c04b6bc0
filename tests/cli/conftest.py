"""A machine that knows of no server, and a server it may be told of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from tests.cli.standin import Batches
from tests.cli.support import Service


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings in the environment, none in a file, nothing runs in this folder."""
    for name in ("STORYHOOK_URL", "STORYHOOK_API_KEY", "SIMULATED_INSTAGRAM_URL", "TLS_CERT"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(home)


@pytest.fixture(scope="session")
def make_httpserver() -> Iterator[HTTPServer]:
    """What `httpserver` is here: one that answers several callers at a time."""
    with HTTPServer(threaded=True) as server:
        yield server


@pytest.fixture
def service(httpserver: HTTPServer) -> Service:
    return Service(httpserver)


@pytest.fixture
def batches(httpserver: HTTPServer) -> Batches:
    return Batches(httpserver)
