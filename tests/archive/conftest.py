"""An upstream's media, and archives in a folder and in S3 to keep them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from service.archive.files import Files
from service.archive.keeper import Keeper
from tests.archive.support import BUCKET, CREDENTIALS, S3, Cdn, kept_in, make_keeper


@pytest.fixture
def cdn() -> Cdn:
    return Cdn()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    server = S3(tmp_path_factory.mktemp("s3") / "log")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3:
    """An S3 that runs and is empty, and this process its user."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    s3_server.clear()
    return s3_server


@dataclass
class Place:
    """Where files are kept, and how to look past the archive at what is there."""

    files: Files
    folder: Path
    s3: S3 | None = None

    def names(self) -> list[str]:
        if self.s3 is None:
            return kept_in(self.folder)
        return sorted(key.rpartition("/")[2] for key in self.s3.names())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, folder: Path) -> Place:
    """A folder, then S3."""
    if request.param == "folder":
        return Place(Files(folder.as_uri()), folder)
    server = request.getfixturevalue("s3")
    return Place(Files(f"s3://{BUCKET}/kept", server.url), folder, server)


@pytest.fixture
def keeper(folder: Path, valkey: Redis, cdn: Cdn) -> Keeper:
    """An archive in a folder, its index in a real store."""
    return make_keeper(Files(str(folder)), valkey, cdn)
