"""Whose files are kept under which names: an opt-out by name finds them for as long as there are any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from service.actions.optouts import opt_out
from service.archive.files import Files
from service.archive.keeper import Keeper
from service.config import Settings
from service.domain.options import Options
from service.domain.ports import Services
from service.domain.requests import INTERACTIVE
from service.domain.targets import USER_ID, Target, named
from tests.archive.support import OWNER, Cdn, age, digest_of, kept_in, make_keeper, nothing, photo, reel
from tests.conftest import RecordingQueue, make_services
from tests.redis.kit import ACCOUNT, submission
from tests.upstreams import StoriesByName
from workers import scrape
from workers.sources.contract import Found, reel_found


class Renamed(StoriesByName):
    """Shows the same account under whatever name it is asked for; it is called ``Anna`` now."""

    def stories(self, username: str) -> Found:
        user = {"pk": 42, "username": "Anna"}
        return reel_found("42", user, {"id": 42, "user": user, "items": [photo(1)]})


@pytest.fixture
def kept(folder: Path, redis: Redis, cdn: Cdn) -> Keeper:
    """An archive over a fake store, then over a real one."""
    return make_keeper(Files(str(folder)), redis, cdn)


@pytest.fixture
def services(settings: Settings, redis: Redis, queue: RecordingQueue, kept: Keeper) -> Services:
    made = replace(make_services(settings, redis, queue), archive=kept)
    made.credits.add(ACCOUNT, 100, entry_type="topup", note="")
    return made


def keep(keeper: Keeper, cdn: Cdn, pk: int, owner: str, *names: str, body: bytes = b"") -> str:
    """Archive one photo; return its digest."""
    content = body or bytes([pk])
    cdn.add(photo(pk), content)
    [item] = keeper.keep(reel(photo(pk)), owner, nothing, names)["items"]
    assert "archiveUrl" in item
    return digest_of(content)


def names_left(redis: Redis) -> list[str]:
    return list(redis.scan_iter("{archive}:names*"))


def test_an_opt_out_by_name_finds_the_files_when_nothing_else_knows_the_id(
    services: Services, kept: Keeper, folder: Path, cdn: Cdn
) -> None:
    keep(kept, cdn, 1, "42", "anna")
    keep(kept, cdn, 2, "43", "bert")
    report = opt_out(services, ["@Anna"])
    assert (report.media, report.subjects.user_ids) == (1, {"42"})
    assert kept_in(folder) == [f"{digest_of(bytes([2]))}.jpg"]
    assert services.optouts.covers([], ["42"]), "what is fetched by id is refused as well"
    assert kept.owners_called(["anna", "bert"]) == [("bert", "43")]
    assert opt_out(services, ["anna"]).media == 0


@pytest.mark.parametrize("name", ["anna", "anna.new", "anna.newest"])
def test_each_name_an_account_had_leads_to_all_its_files(
    services: Services, kept: Keeper, cdn: Cdn, redis: Redis, name: str
) -> None:
    keep(kept, cdn, 1, "42", "anna")
    keep(kept, cdn, 2, "42", "anna.new")
    keep(kept, cdn, 1, "42", "anna.newest")
    assert opt_out(services, [name]).media == 2
    assert kept.totals().files == 0
    assert names_left(redis) == []


def test_a_name_that_two_accounts_had_leads_to_both(
    services: Services, kept: Keeper, folder: Path, cdn: Cdn
) -> None:
    keep(kept, cdn, 1, "42", "anna")
    keep(kept, cdn, 2, "43", "anna")
    assert opt_out(services, ["anna"]).media == 2
    assert kept_in(folder) == []


@pytest.mark.parametrize(("known", "other"), [("anna", "annab"), ("anna", "ann"), ("anna", "anna 7")])
def test_a_name_is_not_taken_for_one_it_begins_like(kept: Keeper, cdn: Cdn, known: str, other: str) -> None:
    keep(kept, cdn, 1, "42", known)
    keep(kept, cdn, 2, "43", other)
    assert kept.owners_called([known]) == [(known, "42")]
    assert kept.owners_called([]) == kept.owners_called(["carl", ""]) == []


def test_names_live_as_long_as_any_file_of_the_account(kept: Keeper, cdn: Cdn, redis: Redis) -> None:
    first, second = (keep(kept, cdn, number, "42", "anna") for number in (1, 2))
    age(redis, first)
    assert kept.expire() == 1
    assert kept.owners_called(["anna"]) == [("anna", "42")]
    age(redis, second)
    assert kept.expire() == 1
    assert names_left(redis) == []


def test_names_go_with_a_file_that_stays_for_somebody_else(kept: Keeper, cdn: Cdn, redis: Redis) -> None:
    for pk, owner, name in ((1, "42", "anna"), (2, "43", "bert")):
        keep(kept, cdn, pk, owner, name, body=b"the same")
    assert kept.purge("42") == 0
    assert kept.owners_called(["anna", "bert"]) == [("bert", "43")]
    assert kept.purge("43") == 1
    assert names_left(redis) == []


def test_nobodys_files_have_no_name(kept: Keeper, cdn: Cdn, redis: Redis) -> None:
    keep(kept, cdn, 1, "", "anna")
    keep(kept, cdn, 2, OWNER, "")
    assert names_left(redis) == []


@pytest.mark.parametrize(
    ("target", "names"), [(named("anna.old"), ["anna", "anna.old"]), (Target(USER_ID, "42"), ["anna"])]
)
def test_a_request_notes_the_name_it_asked_for_and_the_one_it_found(
    services: Services, kept: Keeper, cdn: Cdn, target: Target, names: Sequence[str]
) -> None:
    cdn.add(photo(1), b"one")
    asked: Any = submission(target=target, queue=INTERACTIVE, options=Options(archive=True))
    scrape.run(services, Renamed(), services.requests.submit(asked).request_id)
    assert kept.owners_called(["anna", "anna.old"]) == [(name, "42") for name in names]
