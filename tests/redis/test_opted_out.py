"""Work for accounts that opted out: nothing is asked about them, and nothing of them is passed on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from redis import Redis

from service.actions.audit import audit
from service.domain import ids
from service.domain.dispatch import publish_bulk
from service.domain.errors import FetchError
from service.domain.operations import HIGHLIGHT, HIGHLIGHTS, STORIES, STORY, USER, Ask
from service.domain.ports import Services
from service.domain.requests import Run
from service.domain.targets import HIGHLIGHT_ID, STORY_ID, USER_ID, USERNAME, Target, named
from service.domain.watches import Watch
from tests.redis.kit import submission
from tests.upstreams import StoriesByName
from workers import gather, scrape
from workers.places import Places
from workers.sources.contract import Found, GoOn, always

HOOK = "https://example.com/hook"
ANNA = {"pk": 42, "username": "Anna", "is_private": False}
SECRET = "https://cdn.example/annas.jpg"


class Upstream(StoriesByName):
    """Knows Anna by everything she has, and everybody else by name; counts what it is asked."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def serves(self, ask: Ask) -> bool:
        return True

    def fetch(self, ask: Ask) -> Found:
        self.calls.append(ask)
        self.meanwhile()
        items = [{"pk": 7, "url": SECRET}]
        if ask.target.kind == USERNAME and ask.target.value not in ("anna", "renamed"):
            return stories_of(ask.target.value)
        user = {**ANNA, "username": "renamed"} if ask.target.value == "renamed" else ANNA
        data = {"id": "highlight:8" if ask.operation == HIGHLIGHT else 42, "user": user}
        return Found(data | ({"tray": items} if ask.operation == HIGHLIGHTS else {"items": items}), "fake")

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        self.calls.append(list(usernames))
        return {name: stories_of(name, 42 if name == "renamed" else 5) for name in usernames}


def stories_of(username: str, user_id: int = 5) -> Found:
    return Found({"id": user_id, "user": {"pk": user_id, "username": username}, "items": [{"pk": 1}]}, "fake")


class Scene:
    """A customer, an upstream, and what becomes of requests."""

    def __init__(self, services: Services, redis: Redis) -> None:
        self.services = services
        self.redis = redis
        self.upstream = Upstream()
        self.account_id = services.accounts.create("me@example.com", "hash").account_id
        services.credits.add(self.account_id, 100, entry_type="topup", note="")

    def ask(self, operation: str, target: Target, **changes: Any) -> str:
        asked = submission(self.account_id, operation=operation, target=target, **changes)
        return self.services.requests.submit(asked).request_id

    def run(self, operation: str, target: Target, **changes: Any) -> str:
        request_id = self.ask(operation, target, **changes)
        scrape.run(self.services, self.upstream, request_id)
        return request_id

    def gather(self, *names: str) -> dict[str, str]:
        made = {name: self.ask(STORIES, named(name)) for name in names}
        publish_bulk(self.services, self.account_id, list(made.values()))
        gather.run(self.services, self.upstream, Places(1), lambda: False)
        return made

    def refused(self, *request_ids: str) -> None:
        """Check that these ended opted_out, cost nothing, and brought nothing."""
        for request_id in request_ids:
            record = self.services.requests.get(request_id)
            envelope = self.services.requests.envelope(request_id)
            assert record is not None
            assert envelope is not None
            assert (record.status, record.code, record.charged) == ("failed", "opted_out", 0)
            assert (record.owner, record.source, record.cached) == (None, None, False)
            body = json.loads(envelope)
            assert (body["code"], body["creditsCharged"], "data" in body) == ("opted_out", 0, False)
        assert self.services.credits.balance(self.account_id).held == 0
        assert audit(self.services).differences == []


@pytest.fixture
def scene(services: Services, redis: Redis) -> Scene:
    return Scene(services, redis)


@pytest.mark.parametrize("operation", [STORIES, HIGHLIGHTS, USER])
@pytest.mark.parametrize("target", [named("anna"), Target(USER_ID, "42")], ids=["name", "id"])
def test_nothing_is_asked_about_a_name_or_id_on_the_list(
    scene: Scene, operation: str, target: Target
) -> None:
    scene.services.optouts.add("anna", "42")
    request_id = scene.run(operation, target)
    assert scene.upstream.calls == []
    scene.refused(request_id)


@pytest.mark.parametrize(
    ("operation", "target"),
    [
        (STORY, Target(STORY_ID, "7")),
        (HIGHLIGHT, Target(HIGHLIGHT_ID, "8")),
        (STORIES, named("anna")),
        (HIGHLIGHTS, named("renamed")),
    ],
    ids=["story", "highlight", "unknown name", "new name"],
)
def test_what_turns_out_to_be_of_one_on_the_list_is_not_passed_on(
    scene: Scene, operation: str, target: Target
) -> None:
    scene.services.optouts.add(None, "42")
    request_id = scene.run(operation, target, webhook_url=HOOK)
    assert len(scene.upstream.calls) == 1
    scene.refused(request_id)
    record = scene.services.requests.get(request_id)
    assert record is not None
    shared, _ = scene.services.reels.get(record.ask.key)
    assert shared is not None
    assert (shared.code, b"annas" in shared.body) == ("opted_out", False)
    name = "renamed" if target.value == "renamed" else "anna"
    assert scene.services.optouts.covers([name], []), "and it is known from now on"
    scene.refused(scene.run(STORIES, named(name), max_age=0))
    assert len(scene.upstream.calls) == 1


def test_a_name_on_the_list_brings_its_id_with_it(scene: Scene) -> None:
    scene.services.optouts.add("anna", None)
    first = scene.run(STORY, Target(STORY_ID, "7"))
    second = scene.run(STORIES, Target(USER_ID, "42"))
    assert len(scene.upstream.calls) == 1
    scene.refused(first, second)


def test_those_who_waited_for_the_same_are_told_the_same(scene: Scene) -> None:
    scene.services.optouts.add(None, "42")
    first, second = (scene.ask(STORY, Target(STORY_ID, "7")) for _ in range(2))
    scene.upstream.meanwhile = lambda: scrape.run(scene.services, scene.upstream, second)
    scrape.run(scene.services, scene.upstream, first)
    assert len(scene.upstream.calls) == 1
    scene.refused(first, second)


@pytest.mark.parametrize("listed", [("anna", None), (None, "42")], ids=["name", "id"])
def test_what_was_shared_before_is_not_shown_any_more(
    scene: Scene, listed: tuple[str | None, str | None]
) -> None:
    targets = [(STORIES, named("anna")), (STORY, Target(STORY_ID, "7")), (STORIES, Target(USER_ID, "42"))]
    for operation, target in targets:
        scene.run(operation, target)
    assert len(scene.upstream.calls) == 3
    scene.services.optouts.add(*listed)
    scene.refused(*[scene.run(operation, target, max_age=3_600) for operation, target in targets])
    assert len(scene.upstream.calls) == 3


def test_a_group_is_asked_for_without_those_on_the_list(scene: Scene) -> None:
    scene.services.optouts.add("anna", "42")
    made = scene.gather("bert", "anna", "carl", "dora", "emil")
    assert scene.upstream.calls == [["bert", "carl", "dora", "emil"]]
    scene.refused(made.pop("anna"))
    records = scene.services.requests.get_many(list(made.values()))
    assert [(each.outcome, each.charged) for each in records if each] == [("found", 1)] * 4


def test_who_turns_out_to_be_on_the_list_in_a_group_is_not_passed_on(scene: Scene) -> None:
    scene.services.optouts.add(None, "42")
    made = scene.gather("bert", "renamed")
    scene.refused(made["renamed"])
    assert scene.services.optouts.covers(["renamed"], [])
    bert = scene.services.requests.get(made["bert"])
    assert bert is not None
    assert (bert.outcome, bert.owner, bert.owner_name) == ("found", "5", "bert")


def test_a_group_of_nobody_else_makes_no_call(scene: Scene) -> None:
    for name in ("anna", "bert"):
        scene.services.optouts.add(name, None)
    made = scene.gather("anna", "bert")
    assert scene.upstream.calls == []
    scene.refused(*made.values())


def test_a_watch_tells_of_it_once(scene: Scene) -> None:
    services, target = scene.services, named("anna")
    services.optouts.add("anna", None)
    watch_id = ids.new_id(ids.WATCH, ids.shard_in(scene.account_id), services.clock())
    services.watches.add(Watch(watch_id, scene.account_id, "anna", "15m", HOOK, True, False, 60))
    run = Run(watch_id, next_in=1)
    runs = [scene.run(STORIES, target, webhook_url=HOOK, watch=run) for _ in range(3)]
    assert scene.upstream.calls == []
    scene.refused(*runs)
    told = [services.deliveries.get(ids.delivery_of(each)) is not None for each in runs]
    assert told == [True, False, False]
