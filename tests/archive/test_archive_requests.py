"""A request with "archive": true, from its fetch to its envelope."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from service.archive.keeper import Keeper
from service.config import Settings
from service.domain.errors import FetchError, LeaseLost
from service.domain.options import Options
from service.domain.ports import Services
from service.domain.requests import BULK, INTERACTIVE
from service.stores import keys
from tests.archive.support import Cdn, digest_of, photo
from tests.conftest import RecordingQueue, make_services
from tests.redis.kit import ACCOUNT, submission
from tests.upstreams import StoriesByName
from workers import gather, scrape
from workers.places import Places
from workers.sources.contract import Found, GoOn, always, reel_found

ARCHIVE = Options(archive=True)


class Upstream(StoriesByName):
    """Shows two photos of each account; the second cannot be had."""

    def stories(self, username: str) -> Found:
        user = {"pk": 42, "username": username}
        items = [photo(3_741_925_019_028_375_123), photo(2)]
        return reel_found("42", user, {"id": 42, "user": user, "items": items})

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        return {name: self.stories(name) for name in usernames}


@pytest.fixture
def services(settings: Settings, valkey: Redis, queue: RecordingQueue, keeper: Keeper, cdn: Cdn) -> Services:
    cdn.add(photo(3_741_925_019_028_375_123), b"the first")
    made = replace(make_services(settings, valkey, queue), archive=keeper)
    made.credits.add(ACCOUNT, 100, entry_type="topup", note="")
    return made


def submit(services: Services, **changes: Any) -> str:
    return services.requests.submit(submission(**{"queue": INTERACTIVE, **changes})).request_id


def items_of(services: Services, request_id: str) -> list[dict[str, Any]]:
    envelope = json.loads(services.requests.envelope(request_id) or b"{}")
    assert envelope["success"] is True
    assert envelope["creditsCharged"] == 1
    items: list[dict[str, Any]] = envelope["data"]["items"]
    return items


def test_the_envelope_tells_what_was_kept_and_what_not(services: Services, cdn: Cdn, valkey: Redis) -> None:
    asked = submit(services, options=ARCHIVE)
    scrape.run(services, Upstream(), asked)
    first, second = items_of(services, asked)
    assert first["archive"]["sha256"] == digest_of(b"the first")
    assert first["archiveUrl"].startswith("https://storyhook.example/archive/")
    assert second["archiveError"] == "media_not_found"
    assert valkey.smembers("{archive}:owners:" + digest_of(b"the first")) == {"42"}


def test_only_who_asks_for_it_pays_with_time(services: Services, cdn: Cdn) -> None:
    asked = submit(services)
    scrape.run(services, Upstream(), asked)
    assert [set(item) & {"archive", "archiveUrl", "archiveError"} for item in items_of(services, asked)] == [
        set()
    ] * 2
    assert cdn.fetched == []


def test_only_what_is_handed_over_is_kept(services: Services, cdn: Cdn) -> None:
    asked = submit(services, options=replace(ARCHIVE, amount=1))
    scrape.run(services, Upstream(), asked)
    assert len(items_of(services, asked)) == 1
    assert len(cdn.fetched) == 1


def test_who_is_served_by_anothers_fetch_gets_links_of_their_own(services: Services, cdn: Cdn) -> None:
    scrape.run(services, Upstream(), submit(services))
    asked = submit(services, options=ARCHIVE, max_age=600)
    scrape.run(services, Upstream(), asked)
    assert "archiveUrl" in items_of(services, asked)[0]


def test_a_group_is_archived_together(services: Services, cdn: Cdn) -> None:
    asked = [
        submit(services, username=name, options=ARCHIVE, queue=BULK) for name in ("anna", "bert", "carl")
    ]
    services.bulk.push(ACCOUNT, asked)
    gather.run(services, Upstream(), Places(1), lambda: False)
    assert all("archiveUrl" in items_of(services, each)[0] for each in asked)
    assert cdn.fetched.count(photo(3_741_925_019_028_375_123)["image_versions2"]["candidates"][0]["url"]) == 1


@pytest.mark.parametrize("shared", [False, True])
def test_a_worker_that_lost_its_claim_meanwhile_ends_nothing(
    services: Services, valkey: Redis, cdn: Cdn, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    if shared:
        scrape.run(services, Upstream(), submit(services))
    asked = submit(services, options=ARCHIVE, max_age=600)

    def lost(claim: object) -> None:
        raise LeaseLost

    monkeypatch.setattr(services.requests, "renew", lost)
    scrape.run(services, Upstream(), asked)
    assert valkey.hget(keys.request(asked), "status") == "processing"
    assert services.requests.envelope(asked) is None
    assert cdn.fetched == []
