"""`storyhook optout` beside a real store."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from service.actions.optouts import purge
from service.bootstrap import build
from service.cli.main import main
from service.config import Settings
from service.domain.ports import Services
from service.domain.targets import named
from tests.conftest import finish_one
from tests.redis.kit import ending, submission


@pytest.fixture
def services(settings: Settings, valkey: Redis) -> Services:
    return build(settings)


@pytest.fixture
def run(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `storyhook optout` in a folder without settings of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, ["optout", *arguments])


def claimed(services: Services, account_id: str, username: str) -> str:
    asked = submission(account_id, target=named(username))
    services.requests.submit(asked)
    claim = services.requests.claim(asked.request_id)
    assert claim is not None
    if username == "anna":
        finish_one(services.requests, claim, ending(source="fake", owner="42", owner_name=username))
    return asked.request_id


def test_an_account_is_added_listed_and_taken_off(run: Callable[..., Result], services: Services) -> None:
    account_id = services.accounts.create("me@example.com", "hash").account_id
    services.credits.add(account_id, 10, entry_type="topup", note="")
    request_id = claimed(services, account_id, "anna")
    services.instagram_ids.put("anna", "42")

    added = run("add", "@Anna", "7", "--note", "by letter, 3 May")
    assert added.exit_code == 0, added.output
    erased = "1 request(s), 0 shared result(s), 0 file(s), 1 remembered id(s)"
    told = f"anna, id 42, id 7: opted out; erased {erased}\n"
    assert (added.stdout, added.stderr) == (told, "")
    assert services.requests.get(request_id) is None

    listed = run("list", "--json")
    rows = [(row["account"], row["kind"], row["linked to"], row["note"]) for row in json.loads(listed.stdout)]
    assert sorted(rows) == [
        ("42", "user_id", "anna", ""),
        ("7", "user_id", "", "by letter, 3 May"),
        ("anna", "username", "", "by letter, 3 May"),
    ]
    assert "by letter" in run("list").stdout

    removed = run("remove", "42")
    assert (removed.exit_code, removed.stdout) == (0, "42, anna: served again\n")
    assert [each.account.value for each in services.optouts.list()] == ["7"]


def test_what_is_still_worked_on_is_told(
    run: Callable[..., Result], services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id = services.accounts.create("me@example.com", "hash").account_id
    services.credits.add(account_id, 10, entry_type="topup", note="")
    claimed(services, account_id, "bert")
    monkeypatch.setattr("service.actions.optouts.purge", partial(purge, patience=0))
    told = run("add", "bert")
    assert told.exit_code == 0
    assert "1 request(s) that may bring something of them are still worked on" in told.stderr


def test_an_id_that_an_older_version_listed_with_its_zeros_is_taken_off(
    run: Callable[..., Result], services: Services
) -> None:
    services.optouts.add(None, "007")
    assert run("remove", "007").exit_code == 0
    assert services.optouts.list() == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["remove", "anna"], "anna is not on the list"),
        (["add", "an na"], "account: A username holds only"),
        (["add", "9" * 21], "account: Give the numeric id of an Instagram user: 1 to 19 digits"),
        (["add"], "Missing argument"),
        (["remove"], "Missing argument"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    run: Callable[..., Result], services: Services, arguments: list[str], told: str
) -> None:
    refused = run(*arguments)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert told in refused.stderr
    assert services.optouts.list() == []
