"""Media that are archived take their time: meanwhile nobody waits for those of another request."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from service.domain.dispatch import publish_bulk
from service.domain.errors import StoreUnavailable
from service.domain.options import Options
from service.domain.ports import Services
from service.domain.requests import BULK, INTERACTIVE, SCRAPE, Submission
from tests.conftest import RecordingQueue
from tests.redis.kit import submission
from tests.redis.test_bulk import Upstream, reel
from workers import gather, scrape
from workers.places import Places
from workers.sources.contract import reel_found

ARCHIVED = Options(archive=True)
ALONE = Options(force=True)


class Archive:
    """Notes who has ended by the time a result's media are to be kept, then does ``during``."""

    enabled = True

    def __init__(self) -> None:
        self.look: Callable[[], list[str]] = list
        self.during: Callable[[], None] = lambda: None
        self.ended_before: list[list[str]] = []

    def keep(self, data: dict[str, Any], *_: object) -> dict[str, Any]:
        self.ended_before.append(self.look())
        self.during()
        return data


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture
def services(services: Services, archive: Archive) -> Services:
    return replace(services, archive=archive)


@pytest.fixture
def landed(services: Services, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Notes what lands, by one call each."""
    noted: list[list[str]] = []
    land_many = services.reels.land_many

    def noting(landings: Sequence[Any]) -> list[list[str]]:
        noted.append([flight.key for flight, _ in landings])
        return land_many(landings)

    monkeypatch.setattr(services.reels, "land_many", noting)
    return noted


@pytest.fixture
def account_id(services: Services) -> str:
    made = services.accounts.create("anna@example.com", "hash")
    services.credits.add(made.account_id, 1_000, entry_type="topup", note="")
    return made.account_id


def asked(account_id: str, name: str, *, archived: bool, queue: str = BULK) -> Submission:
    made = submission(account_id, username=name, queue=queue)
    made = replace(made, max_age=60)
    return replace(made, options=ARCHIVED) if archived else made


def hand_in(services: Services, submissions: list[Submission]) -> list[str]:
    given = [services.requests.submit(each).request_id for each in submissions]
    publish_bulk(services, submissions[0].account_id, given)
    return given


def ended(services: Services, request_ids: list[str]) -> list[str]:
    records = services.requests.get_many(request_ids)
    return [record.request_id for record in records if record is not None and record.is_final]


def work(services: Services, upstream: Upstream, stopping: Callable[[], bool] = lambda: False) -> None:
    gather.run(services, upstream, Places(1), stopping)


def test_a_group_ends_before_the_media_of_one_are_archived(
    services: Services, archive: Archive, account_id: str
) -> None:
    plain = [asked(account_id, name, archived=False) for name in ("one", "two")]
    kept = [asked(account_id, name, archived=True) for name in ("three", "four")]
    first, second, *others = [each.request_id for each in [*kept, *plain]]
    hand_in(services, [*kept, *plain])
    archive.look = lambda: ended(services, [first, second, *others])
    upstream = Upstream()
    work(services, upstream)
    assert archive.ended_before == [others, [first, *others]]
    assert ended(services, [first, second, *others]) == [first, second, *others]
    assert len(upstream.together) == 1
    assert upstream.asked == []


def test_who_waits_for_the_same_reel_is_served_first(
    services: Services, queue: RecordingQueue, archive: Archive, account_id: str
) -> None:
    waiting = asked(account_id, "one", archived=False, queue=INTERACTIVE)
    too = asked(account_id, "one", archived=True, queue=INTERACTIVE)
    alone = asked(account_id, "one", archived=True, queue=INTERACTIVE)
    for each in (waiting, too, alone):
        services.requests.submit(each)
    upstream = Upstream()

    def join(_: str) -> None:
        upstream.before_one = lambda _: None
        for each in (waiting, too):
            scrape.run(services, upstream, each.request_id)

    upstream.before_one = join
    archive.look = lambda: ended(services, [waiting.request_id, too.request_id])
    scrape.run(services, upstream, alone.request_id)
    assert archive.ended_before == [[waiting.request_id]]
    assert (SCRAPE, INTERACTIVE, too.request_id) in queue.published
    scrape.run(services, upstream, too.request_id)
    assert upstream.asked == ["one"]
    assert ended(services, [too.request_id]) == [too.request_id]


def test_a_shared_reel_is_archived_after_the_group(
    services: Services, archive: Archive, account_id: str
) -> None:
    upstream = Upstream()
    hand_in(services, [asked(account_id, name, archived=False) for name in ("one", "two")])
    work(services, upstream)
    again = hand_in(
        services,
        [asked(account_id, name, archived=name == "one") for name in ("one", "two", "three", "four")],
    )
    archive.look = lambda: ended(services, again)
    work(services, upstream)
    assert archive.ended_before == [again[1:]]
    assert ended(services, again) == again
    assert upstream.together == [["one", "two"], ["three", "four"]]
    assert upstream.asked == []


def test_a_worker_that_ends_leaves_the_archiving_to_the_next(
    services: Services, archive: Archive, account_id: str
) -> None:
    given = hand_in(services, [asked(account_id, name, archived=True) for name in ("one", "two", "three")])
    upstream = Upstream()
    work(services, upstream, stopping=lambda: len(archive.ended_before) > 0)
    assert ended(services, given) == given[:1]
    assert [record.attempts for record in services.requests.get_many(given[1:]) if record] == [0, 0]
    for _ in range(2):  # half of what is left is handed on
        work(services, upstream)
    assert ended(services, given) == given
    assert len(upstream.together) == 1, "what was fetched is shared"
    envelope = services.requests.envelope(given[1])
    assert envelope is not None
    assert json.loads(envelope)["cached"] is True


def test_a_reel_whose_media_are_archived_lands_once(
    services: Services, archive: Archive, account_id: str, landed: list[list[str]]
) -> None:
    request_id = services.requests.submit(asked(account_id, "one", archived=True)).request_id
    archive.during = lambda: landed.append(["archiving"])
    scrape.run(services, Upstream(), request_id)
    assert landed == [["one"], ["archiving"]]
    assert ended(services, [request_id]) == [request_id]


def test_a_group_lands_once_and_together(
    services: Services, archive: Archive, account_id: str, landed: list[list[str]]
) -> None:
    names = ["one", "two", "three", "four"]
    given = hand_in(services, [asked(account_id, name, archived=name in names[:2]) for name in names])
    archive.during = lambda: landed.append(["archiving"])
    work(services, Upstream())
    assert landed == [names, ["archiving"], ["archiving"]]
    assert ended(services, given) == given


def test_who_waits_for_one_of_a_group_is_served_before_any_is_archived(
    services: Services, archive: Archive, account_id: str
) -> None:
    waiting = services.requests.submit(asked(account_id, "two", archived=False, queue=INTERACTIVE))
    hand_in(services, [asked(account_id, name, archived=True) for name in ("one", "two")])
    upstream = Upstream()

    def join(name: str) -> None:
        if name == "two":
            scrape.run(services, upstream, waiting.request_id)

    upstream.before = join
    archive.look = lambda: ended(services, [waiting.request_id])
    work(services, upstream)
    assert archive.ended_before == [[waiting.request_id]] * 2
    assert upstream.asked == []


@pytest.mark.parametrize("names", [["one"], ["one", "two"]], ids=["alone", "together"])
def test_what_is_to_be_archived_outlives_a_landing_that_the_store_prevents(
    services: Services, account_id: str, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    given = hand_in(services, [asked(account_id, name, archived=True) for name in names])
    land_many = services.reels.land_many

    def once(_: object) -> None:
        monkeypatch.setattr(services.reels, "land_many", land_many)
        raise StoreUnavailable

    monkeypatch.setattr(scrape, "SETTLE_EVERY", 0.01)
    monkeypatch.setattr(services.reels, "land_many", once)
    work(services, Upstream())
    assert ended(services, given) == given
    assert all(services.reels.board(name, "req_9") for name in names), "the flights are over"


def test_a_reel_that_cannot_be_archived_spoils_no_other(
    services: Services, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = reel_found("5", {"pk": "5", "username": "two"}, {"items": object()})
    given = hand_in(services, [asked(account_id, name, archived=True) for name in ("one", "two", "three")])
    upstream = Upstream()
    monkeypatch.setattr(
        upstream, "reels", lambda names, _: {name: reel(name) for name in names} | {"two": odd}
    )
    work(services, upstream)
    records = services.requests.get_many(given)
    assert [record.code or record.outcome for record in records if record] == [
        "found",
        "internal_error",
        "found",
    ]


def test_shared_reels_are_archived_by_others_too_who_have_a_place(
    services: Services, archive: Archive, account_id: str
) -> None:
    names = [f"name{number}" for number in range(8)]
    upstream, waiting = Upstream(), []
    hand_in(services, [asked(account_id, name, archived=False) for name in names])
    work(services, upstream)
    given = hand_in(services, [asked(account_id, name, archived=True) for name in names])
    archive.during = lambda: waiting.append(services.bulk.waiting())
    work(services, upstream)
    assert waiting == [4] * 4, "before the first of them is archived the others' half is handed on"
    for _ in range(4):
        work(services, upstream)
    assert ended(services, given) == given
    assert (len(upstream.together), upstream.asked) == (1, [])


def test_whose_turn_it_is_is_not_handed_on_for_others_that_go_alone(
    services: Services, account_id: str
) -> None:
    upstream = Upstream()
    hand_in(services, [asked(account_id, "one", archived=False)])
    work(services, upstream)
    backlog = [
        replace(asked(account_id, f"two{number}", archived=False), options=ALONE) for number in range(9)
    ]
    first, *_ = hand_in(services, [asked(account_id, "one", archived=True), *backlog])
    work(services, upstream)
    assert ended(services, [first]) == [first]
