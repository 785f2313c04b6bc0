"""Files that were shared before anybody opted out: those that name their story are looked up anew."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from service.actions.audit import audit
from service.actions.optouts import opt_out
from service.domain.errors import StoryNotFound
from service.domain.operations import DOWNLOAD, STORY, Ask
from service.domain.ports import Services
from service.domain.ports.media import MediaFile
from service.domain.requests import BULK, INTERACTIVE
from service.domain.targets import MEDIA_URL, Target
from tests.conftest import RecordingQueue
from tests.redis.kit import submission
from tests.upstreams import StoriesByName
from workers import gather, scrape
from workers.places import Places
from workers.sources.contract import Found
from workers.sources.files import WithFiles

PK = "3411111111111111111"
CDN = "https://scontent.cdninstagram.com"
OF_A_STORY = f"{CDN}/photo_n.jpg?ig_cache_key={base64.b64encode(PK.encode()).decode()}.3-ccb7-5"
OF_NOBODY = f"{CDN}/photo_n.jpg"


class Upstream(StoriesByName):
    """Knows whose the story is, or that it is over; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.over = False

    def serves(self, ask: Ask) -> bool:
        return ask.operation == STORY

    def fetch(self, ask: Ask) -> Found:
        self.asked += 1
        if self.over:
            raise StoryNotFound
        return Found({"id": 42, "user": {"pk": 42, "username": "anna"}, "items": [{"pk": int(PK)}]}, "fake")


class Cdn:
    """Has every file; counts the looks, and lets something happen meanwhile."""

    def __init__(self) -> None:
        self.looks = 0
        self.meanwhile: list[Callable[[], Any]] = []

    def probe(self, url: str) -> MediaFile:
        self.looks += 1
        while self.meanwhile:
            self.meanwhile.pop(0)()
        return MediaFile(url, "image/jpeg", 102_400)

    def open(self, url: str, range: str | None = None) -> Any:
        raise AssertionError("nothing is fetched here")


class Scene:
    """A customer who asks for a file by its address, and what becomes of it."""

    def __init__(self, services: Services, queue: RecordingQueue) -> None:
        self.services, self.queue = services, queue
        self.upstream, self.cdn = Upstream(), Cdn()
        self.source = WithFiles(self.upstream, self.cdn, services.optouts.anybody)
        self.account_id = services.accounts.create("me@example.com", "hash").account_id
        services.credits.add(self.account_id, 100, entry_type="topup", note="")

    def ask(self, url: str = OF_A_STORY, **changes: Any) -> str:
        given = {"queue": INTERACTIVE, "max_age": 3_600, **changes}
        asked = submission(self.account_id, operation=DOWNLOAD, target=Target(MEDIA_URL, url), **given)
        return self.services.requests.submit(asked).request_id

    def work(self, request_id: str) -> None:
        scrape.run(self.services, self.source, request_id)

    def work_off(self) -> None:
        """Do what was published, and what that publishes."""
        while self.queue.published:
            _, _, request_id = self.queue.published.pop(0)
            self.work(request_id)

    def ended(self, request_id: str) -> tuple[str | None, bool, int]:
        """How it ended, whether with what was fetched for others, and after how many takes."""
        record = self.services.requests.get(request_id)
        assert record is not None
        assert audit(self.services).differences == []
        return record.code or record.outcome, record.cached, record.attempts


@pytest.fixture
def scene(services: Services, queue: RecordingQueue) -> Scene:
    return Scene(services, queue)


@pytest.mark.parametrize("queue_of", [INTERACTIVE, BULK])
def test_a_file_that_was_shared_before_is_not_shown_after_the_first_opt_out(
    scene: Scene, queue_of: str
) -> None:
    scene.work(scene.ask())
    opt_out(scene.services, ["anna"])
    asked = scene.ask(queue=queue_of)
    if queue_of == BULK:
        scene.services.bulk.push(scene.account_id, [asked])
        gather.run(scene.services, scene.source, Places(1), lambda: False)
    else:
        scene.work(asked)
    assert scene.ended(asked) == ("opted_out", False, 1)
    assert "data" not in json.loads(scene.services.requests.envelope(asked) or b"")


def test_who_opted_out_as_somebody_else_costs_one_look_for_all(scene: Scene) -> None:
    scene.work(scene.ask())
    assert scene.upstream.asked == 0
    opt_out(scene.services, ["bert"])
    asked = [scene.ask() for _ in range(3)]
    for each in asked:
        scene.work(each)
    assert [scene.ended(each) for each in asked] == [
        ("found", False, 1), ("found", True, 1), ("found", True, 1),
    ]  # fmt: skip
    body = json.loads(scene.services.requests.envelope(asked[-1]) or b"")
    assert body["data"]["id"] == "42"
    assert (scene.upstream.asked, scene.cdn.looks) == (1, 2)


@pytest.mark.parametrize(("opted_out", "ends"), [("anna", "opted_out"), ("bert", "found")])
def test_who_waited_while_somebody_opted_out_is_not_shown_it(scene: Scene, opted_out: str, ends: str) -> None:
    first, *others = (scene.ask() for _ in range(4))
    scene.cdn.meanwhile += [lambda name=each: scene.work(name) for each in others]
    scene.cdn.meanwhile.append(lambda: scene.services.optouts.add(opted_out, None))
    scene.work(first)
    scene.work_off()
    assert scene.ended(first) == ("found", False, 1), "it was begun before"
    assert [scene.ended(each)[0] for each in others] == [ends] * 3
    assert (scene.upstream.asked, scene.cdn.looks) == (1, 2), "one of them has it fetched for all"


def test_somebody_who_opts_out_between_the_look_and_the_claim_counts(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.work(scene.ask())
    claim, asked = scene.services.requests.claim, scene.ask()

    def late(*what: Any) -> Any:
        scene.services.optouts.add("anna", None)
        return claim(*what)

    monkeypatch.setattr(scene.services.requests, "claim", late)
    scene.work(asked)
    assert scene.ended(asked) == ("opted_out", False, 1)


def test_what_nobody_can_tell_the_owner_of_is_shared_once_it_was_asked(scene: Scene) -> None:
    scene.upstream.over = True
    scene.services.optouts.add("bert", None)
    asked = [scene.ask() for _ in range(3)]
    for each in asked:
        scene.work(each)
    assert [scene.ended(each)[1] for each in asked] == [False, True, True]
    assert (scene.upstream.asked, scene.cdn.looks) == (1, 1)


def test_a_file_whose_address_tells_nothing_is_shared_as_before(scene: Scene) -> None:
    scene.work(scene.ask(OF_NOBODY))
    opt_out(scene.services, ["anna"])
    asked = scene.ask(OF_NOBODY)
    scene.work(asked)
    assert scene.ended(asked) == ("found", True, 1)


def test_nobody_on_the_list_costs_no_look(scene: Scene) -> None:
    asked = [scene.ask() for _ in range(2)]
    for each in asked:
        scene.work(each)
    assert [scene.ended(each)[1] for each in asked] == [False, True]
    assert (scene.upstream.asked, scene.cdn.looks) == (0, 1)
