"""The archive's settings, and what the services become by them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import fakeredis
import pytest

from service import config
from service.archive.files import Files
from service.archive.keeper import Keeper
from service.bootstrap import assemble
from service.cli.local import plan
from service.domain.errors import ConfigurationError
from service.domain.ports import Services


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET_KEY", "a secret for tests only, long enough to be accepted")


def services() -> Services:
    return assemble(config.load(), fakeredis.FakeRedis(decode_responses=True), 4)


@pytest.mark.parametrize(
    "url", ["var/archive", "/srv/archive", "file:///srv/archive", "s3://bucket", "s3://b/c/d"]
)
def test_where_files_may_be_kept(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ARCHIVE_URL", url)
    assert isinstance(services().archive, Keeper)
    assert services().archive.enabled


def test_nowhere_is_no_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_URL", "")
    assert not services().archive.enabled


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ARCHIVE_URL", "s3://"),
        ("ARCHIVE_URL", "ftp://host/folder"),
        ("ARCHIVE_URL", "file://host/folder"),
        ("ARCHIVE_URL", "https://bucket.example/prefix"),
        ("ARCHIVE_S3_ENDPOINT", "minio:9000"),
        ("PUBLIC_URL", "storyhook.example.org"),
        ("PUBLIC_URL", "https://storyhook.example.org/?a=b"),
        ("ARCHIVE_TTL", "1"),
        ("ARCHIVE_ITEM_MAX", "0"),
        ("ARCHIVE_MAX", "much"),
        ("ARCHIVE_ACCOUNT_MAX", "-1"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        config.load()


@pytest.mark.parametrize(
    ("given", "share"),
    [({}, 5 * 1024**3), ({"ARCHIVE_MAX": "4000"}, 1000), ({"ARCHIVE_MAX": "0"}, 0)],
)
def test_an_accounts_share_is_a_quarter_unless_it_is_set(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], share: int
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert config.load().archive_account_max == share
    monkeypatch.setenv("ARCHIVE_ACCOUNT_MAX", "70")
    assert config.load().archive_account_max == 70


def test_s3_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"storyhook\[s3\]"):
        Files("s3://bucket")


def test_the_local_stack_keeps_files_in_its_folder_and_names_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = plan(tmp_path / "var").environment
    assert environment["ARCHIVE_URL"] == str(tmp_path / "var" / "archive")
    assert environment["PUBLIC_URL"] == "http://127.0.0.1:3222"
    monkeypatch.setenv("PUBLIC_URL", "https://storyhook.example.org")
    assert plan(tmp_path / "var").environment["PUBLIC_URL"] == "https://storyhook.example.org"
