"""`storyhook archive`, and the hourly housekeeping."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from redis import Redis

from service.archive.keeper import Keeper
from service.cli.main import main
from service.config import Settings
from service.domain.ports import Services
from tests.archive.support import OWNER, Cdn, age, digest_of, nothing, photo, reel
from tests.conftest import RecordingQueue, make_services
from workers.schedule import housekeep


@pytest.fixture
def services(
    settings: Settings,
    valkey: Redis,
    keeper: Keeper,
    cdn: Cdn,
    monkeypatch: pytest.MonkeyPatch,
) -> Services:
    """Services whose archive keeps two files of four bytes."""
    for number in (1, 2):
        cdn.add(photo(number), b"four"[:3] + bytes([number]))
    keeper.keep(reel(photo(1), photo(2)), OWNER, nothing)
    made = replace(make_services(settings, valkey, RecordingQueue()), archive=keeper)
    monkeypatch.setattr("service.cli.archive.open_services", lambda: made)
    return made


def test_how_much_there_is(services: Services) -> None:
    result = CliRunner().invoke(main, ["archive", "size", "--json"])
    assert json.loads(result.output) == [{"files": 2, "bytes": 8}]


def test_what_is_over_goes_when_it_is_asked_for(services: Services, valkey: Redis) -> None:
    age(valkey, digest_of(b"fou\x01"))
    assert CliRunner().invoke(main, ["archive", "expire"]).output == "1 file(s) deleted\n"
    assert services.archive.totals().files == 1


def test_what_is_over_goes_with_the_housekeeping(services: Services, valkey: Redis) -> None:
    age(valkey, digest_of(b"fou\x02"))
    housekeep(services)
    assert services.archive.totals().files == 1
