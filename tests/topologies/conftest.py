"""Stores and brokers of several machines, and a service over each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.receiver import Receiver


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for what servers write, which may be much."""
    made = tmp_path_factory.mktemp("servers")
    yield made
    shutil.rmtree(made)


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Return a function that makes an empty folder."""
    return lambda: tmp_path_factory.mktemp("home")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver
