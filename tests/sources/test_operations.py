"""Each operation against the simulated Instagram: what is found, how scenes end, and what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import requests

from service.domain.errors import (
    AccountPrivate,
    FetchError,
    HighlightNotFound,
    StoreUnavailable,
    StoryNotFound,
    UpstreamTimeout,
    UserNotFound,
)
from service.domain.instagram import NOT_FOUND, Pace, SessionState
from service.domain.operations import HIGHLIGHT, HIGHLIGHTS, OPERATIONS, STORIES, STORY, USER, Ask
from service.domain.targets import HIGHLIGHT_ID, MEDIA_URL, STORY_ID, USER_ID, USERNAME, Target
from tests.sources.test_scenes import FAULTS, Fault

Asked = Callable[[], dict[str, int]]
Make = Callable[..., Any]

NASA = "nasa"  # always has stories and highlights
LISTS = {STORIES: ("items", "story_feed"), HIGHLIGHTS: ("tray", "highlights_tray")}


class Nasa:
    """An account with stories and highlights, its ids, and what may become of it."""

    def __init__(self, simulator: str, targets: dict[str, str]) -> None:
        self._simulator = simulator
        self._targets = targets

    def target(self, kind: str) -> Target:
        """The account, or its first story or highlight."""
        return Target(kind, self._targets[kind])

    def became(self, scene: str) -> None:
        """Give it another scene; its ids stay what they were."""
        knobs = {"scene_overrides": {NASA: scene}}
        requests.post(f"{self._simulator}/_sim/knobs", json=knobs, timeout=5).raise_for_status()


@pytest.fixture
def nasa(make_world: Make, simulator: str) -> Nasa:
    world = make_world(simulator)
    stories = world.stories(NASA).data
    tray = world.fetch(HIGHLIGHTS, USERNAME, NASA).data["tray"]
    world.ids.forget(NASA)
    world.sessions.remove("s1")
    requests.post(f"{simulator}/_sim/reset", timeout=5).raise_for_status()
    ids = {
        USER_ID: str(stories["id"]),
        STORY_ID: str(stories["items"][0]["pk"]),
        HIGHLIGHT_ID: tray[0]["id"].removeprefix("highlight:"),
    }
    return Nasa(simulator, {USERNAME: NASA, **ids})


@pytest.fixture
def world(make_world: Make, simulator: str, nasa: Nasa) -> Any:
    return make_world(simulator)


def ask(world: Any, operation: str, target: Target, force: bool = False) -> Any:
    return world.source.fetch(Ask(operation, target, force))


# --- found ---------------------------------------------------------------------------------------


def test_all_but_files_is_served(world: Any) -> None:
    kinds = {each.name: each.targets[0] for each in OPERATIONS.values()}
    served = {name for name, kind in kinds.items() if world.source.serves(Ask(name, Target(kind, "1")))}
    assert served == {STORIES, STORY, HIGHLIGHTS, HIGHLIGHT, USER}
    assert not world.source.serves(Ask("download", Target(MEDIA_URL, "https://example.com/")))


COST: dict[tuple[str, str], tuple[list[str], list[str]]] = {
    # what is called the first time, and once it is known
    (STORIES, USERNAME): (["usernameinfo", "story_feed"], ["story_feed"]),
    (STORIES, USER_ID): (["story_feed"], ["story_feed"]),
    (STORY, STORY_ID): (["media_info"], ["media_info"]),
    (HIGHLIGHTS, USERNAME): (["usernameinfo", "highlights_tray"], ["highlights_tray"]),
    (HIGHLIGHTS, USER_ID): (["highlights_tray"], ["highlights_tray"]),
    (HIGHLIGHT, HIGHLIGHT_ID): (["reels_media"], ["reels_media"]),
    (USER, USERNAME): (["usernameinfo"], ["usernameinfo"]),
    (USER, USER_ID): (["user_info"], ["user_info"]),
}


@pytest.mark.parametrize("what", COST, ids="-by-".join)
def test_found(world: Any, nasa: Nasa, asked: Asked, what: tuple[str, str]) -> None:
    (operation, kind), expected = what, Counter[str]()
    for calls in COST[what]:
        found = ask(world, operation, nasa.target(kind))
        expected.update(calls)
        assert asked() == expected
        assert found.source == "instagrapi"
        assert found.data["user"]["username"] == NASA
        assert found.data["user"]["pk"] == int(nasa.target(USER_ID).value), "integers stay integers"
        counted = OPERATIONS[operation].counted
        assert not counted or found.data[counted]
    assert not world.session().leased


def test_what_is_found_by_its_id_is_what_was_asked_for(world: Any, nasa: Nasa) -> None:
    story = ask(world, STORY, nasa.target(STORY_ID)).data
    assert [str(item["pk"]) for item in story["items"]] == [nasa.target(STORY_ID).value]
    assert str(story["id"]) == nasa.target(USER_ID).value
    highlight = ask(world, HIGHLIGHT, nasa.target(HIGHLIGHT_ID)).data
    assert highlight["id"] == f"highlight:{nasa.target(HIGHLIGHT_ID).value}"
    [entry] = [
        each
        for each in ask(world, HIGHLIGHTS, nasa.target(USER_ID)).data["tray"]
        if each["id"] == highlight["id"]
    ]
    assert entry["title"] == highlight["title"]
    assert entry["media_count"] == len(highlight["items"])
    assert "items" not in entry
    kept = ask(world, STORY, Target(STORY_ID, str(highlight["items"][-1]["pk"])))
    assert kept.data["items"][0]["id"] == highlight["items"][-1]["id"]


def test_a_name_and_its_id_show_the_same(world: Any, nasa: Nasa) -> None:
    for operation, (counted, _) in LISTS.items():
        by_name, by_id = (ask(world, operation, nasa.target(kind)).data for kind in (USERNAME, USER_ID))
        assert [each["id"] for each in by_name[counted]] == [each["id"] for each in by_id[counted]]
        assert str(by_name["id"]) == str(by_id["id"]) == nasa.target(USER_ID).value
    by_name, by_id = (ask(world, USER, nasa.target(kind)).data for kind in (USERNAME, USER_ID))
    assert by_name == by_id
    assert by_name["id"] == nasa.target(USER_ID).value
    assert by_name["user"]["follower_count"] > 0


def test_drifted_stories_are_handed_on_raw(world: Any) -> None:
    items = world.stories("drift_anna").data["items"]
    assert len(items) == 6
    for item in items:
        [alone] = world.fetch(STORY, STORY_ID, str(item["pk"])).data["items"]
        assert sorted(alone) == sorted(item)


# --- faults --------------------------------------------------------------------------------------

OF_SESSIONS = [fault for fault in FAULTS if not fault.username.startswith(("private_", "missing_"))]


@pytest.mark.parametrize("fault", OF_SESSIONS, ids=lambda fault: fault.username.partition("_")[0])
@pytest.mark.parametrize("operation", [STORIES, STORY, HIGHLIGHTS, HIGHLIGHT])
def test_fault(make_world: Make, simulator: str, nasa: Nasa, operation: str, fault: Fault) -> None:
    kind = OPERATIONS[operation].targets[-1]
    scene = fault.username.partition("_")[0]
    world = make_world(simulator, read_timeout=0.3 if scene == "hang" else 10)
    nasa.became(scene)
    with pytest.raises(FetchError) as caught:
        ask(world, operation, nasa.target(kind))
    assert type(caught.value) is fault.error
    assert caught.value.retry is fault.retry
    record = world.session()
    assert (record.state, record.failure) == (fault.state, fault.reason)
    assert not record.leased
    for hidden in ("9001", "s1", "http", "127.0.0.1", "{", nasa.target(kind).value):
        assert hidden not in caught.value.message


# --- private, missing, empty ---------------------------------------------------------------------


FINAL: dict[tuple[str, str, str], type[FetchError]] = {
    ("private", STORIES, USER_ID): AccountPrivate,
    ("private", HIGHLIGHTS, USER_ID): AccountPrivate,
    ("private", HIGHLIGHTS, USERNAME): AccountPrivate,
    ("private", STORY, STORY_ID): AccountPrivate,
    ("private", HIGHLIGHT, HIGHLIGHT_ID): HighlightNotFound,
    ("missing", STORIES, USER_ID): UserNotFound,
    ("missing", HIGHLIGHTS, USER_ID): UserNotFound,
    ("missing", HIGHLIGHTS, USERNAME): UserNotFound,
    ("missing", USER, USER_ID): UserNotFound,
    ("missing", USER, USERNAME): UserNotFound,
    ("missing", STORY, STORY_ID): StoryNotFound,
    ("missing", HIGHLIGHT, HIGHLIGHT_ID): HighlightNotFound,
    ("empty", STORY, STORY_ID): StoryNotFound,
    ("empty", HIGHLIGHT, HIGHLIGHT_ID): HighlightNotFound,
}


@pytest.mark.parametrize("case", FINAL, ids="-".join)
def test_final(world: Any, nasa: Nasa, case: tuple[str, str, str]) -> None:
    scene, operation, kind = case
    nasa.became(scene)
    for _ in range(2):
        with pytest.raises(FetchError) as caught:
            ask(world, operation, nasa.target(kind))
        assert type(caught.value) is FINAL[case]
    assert (world.session().state, world.session().failure) == (SessionState.ACTIVE, "")


def test_a_private_account_can_be_looked_up(world: Any, nasa: Nasa) -> None:
    nasa.became("private")
    for kind in (USERNAME, USER_ID):
        assert ask(world, USER, nasa.target(kind)).data["user"]["is_private"] is True


@pytest.mark.parametrize("operation", LISTS)
def test_empty_by_id_is_looked_up_once_in_a_while(
    world: Any, nasa: Nasa, asked: Asked, store: Any, operation: str
) -> None:
    counted, endpoint = LISTS[operation]
    nasa.became("empty")
    for calls in ({endpoint: 1, "user_info": 1}, {endpoint: 2, "user_info": 1}):
        data = ask(world, operation, nasa.target(USER_ID)).data
        assert (data[counted], data["user"]["username"]) == ([], NASA)
        assert data["id"] == nasa.target(USER_ID).value
        assert asked() == calls
    store.delete(f"{{ig}}:seen:id:{nasa.target(USER_ID).value}")
    ask(world, operation, nasa.target(USER_ID))
    assert asked() == {endpoint: 3, "user_info": 2}


def test_who_was_found_by_id_and_shows_nothing_later_is_not_looked_up(
    world: Any, nasa: Nasa, asked: Asked
) -> None:
    """Polling by id costs a call each."""
    ask(world, STORIES, nasa.target(USER_ID))
    nasa.became("empty")
    assert ask(world, STORIES, nasa.target(USER_ID)).data["items"] == []
    assert asked() == {"story_feed": 2}


def test_highlights_found_tell_who_is_public_as_stories_do(world: Any, nasa: Nasa, asked: Asked) -> None:
    ask(world, HIGHLIGHTS, nasa.target(USER_ID))
    nasa.became("empty")
    assert ask(world, STORIES, nasa.target(USER_ID)).data["items"] == []
    assert asked() == {"highlights_tray": 1, "story_feed": 1}


def test_private_by_id_is_remembered(world: Any, nasa: Nasa, asked: Asked) -> None:
    nasa.became("private")
    for calls in ({"story_feed": 1, "user_info": 1}, {"story_feed": 2, "user_info": 1}):
        with pytest.raises(AccountPrivate):
            ask(world, STORIES, nasa.target(USER_ID))
        assert asked() == calls


def test_a_missing_id_is_asked_for_once(world: Any, nasa: Nasa, asked: Asked) -> None:
    nasa.became("missing")
    for operation in (STORIES, HIGHLIGHTS, USER):
        with pytest.raises(UserNotFound, match="of this id"):
            ask(world, operation, nasa.target(USER_ID))
        assert asked() == {"story_feed": 1, "user_info": 1}
    assert world.ids.get_seen(nasa.target(USER_ID).value) is NOT_FOUND


# --- force ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", LISTS)
@pytest.mark.parametrize("kind", [USERNAME, USER_ID])
def test_force_takes_what_shows_nothing_for_empty(
    world: Any, nasa: Nasa, asked: Asked, operation: str, kind: str
) -> None:
    counted, endpoint = LISTS[operation]
    nasa.became("empty")
    data = ask(world, operation, nasa.target(kind), force=True).data
    assert data[counted] == []
    assert str(data["user"]["pk"]) == data["id"] == nasa.target(USER_ID).value
    assert asked() == {endpoint: 1} | ({"usernameinfo": 1} if kind == USERNAME else {})


@pytest.mark.parametrize("kind", [USERNAME, USER_ID])
def test_force_does_not_ask_whether_an_account_is_private(
    world: Any, nasa: Nasa, asked: Asked, kind: str
) -> None:
    nasa.became("private")
    for _ in range(2):
        assert ask(world, STORIES, nasa.target(kind), force=True).data["items"] == []
    assert asked() == {"story_feed": 2} | ({"usernameinfo": 1} if kind == USERNAME else {})
    with pytest.raises(AccountPrivate):
        ask(world, HIGHLIGHTS, nasa.target(kind), force=True)  # Instagram says so unasked


@pytest.mark.parametrize("kind", [USERNAME, USER_ID])
def test_force_does_not_look_up_what_is_known(
    world: Any, nasa: Nasa, asked: Asked, store: Any, kind: str
) -> None:
    ask(world, STORIES, nasa.target(kind))
    store.delete(*store.keys("{ig}:seen:*"))
    nasa.became("empty")
    before = asked()
    assert ask(world, STORIES, nasa.target(kind), force=True).data["items"] == []
    assert asked() == {**before, "story_feed": before["story_feed"] + 1}


def test_force_finds_no_one_who_is_not_there(world: Any, nasa: Nasa) -> None:
    nasa.became("missing")
    for kind in (USERNAME, USER_ID):
        with pytest.raises(UserNotFound):
            ask(world, STORIES, nasa.target(kind), force=True)


# --- sessions and budgets ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what", [what for what, (calls, _) in COST.items() if len(calls) == 1], ids="-by-".join
)
def test_the_last_call_of_a_budget_serves_what_takes_one(
    world: Any, nasa: Nasa, sessions: Any, what: tuple[str, str]
) -> None:
    sessions._pace = Pace(session_minute=1)
    operation, kind = what
    assert ask(world, operation, nasa.target(kind), force=operation in LISTS).data["user"]
    assert world.session().calls_minute == 1


def test_another_session_serves_after_a_challenge(make_world: Make, simulator: str, nasa: Nasa) -> None:
    world = make_world(simulator, accounts=2)
    with pytest.raises(FetchError):
        world.fetch(HIGHLIGHTS, USERNAME, "challenge_anna")
    assert ask(world, STORY, nasa.target(STORY_ID)).data["items"]


def test_what_is_slow_times_out(make_world: Make, simulator: str, nasa: Nasa) -> None:
    world = make_world(simulator, read_timeout=0.3)
    nasa.became("slow")
    with pytest.raises(UpstreamTimeout):
        ask(world, HIGHLIGHTS, nasa.target(USER_ID))


def test_a_store_that_goes_away_meanwhile_loses_nothing_of_what_was_found(
    world: Any, nasa: Nasa, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out(*_: Any) -> None:
        raise StoreUnavailable

    for name in ("put", "put_missing", "put_seen", "forget"):
        monkeypatch.setattr(world.ids, name, out)
    for operation, kind in ((STORIES, USER_ID), (HIGHLIGHTS, USERNAME), (USER, USER_ID)):
        assert ask(world, operation, nasa.target(kind)).data["user"]
    nasa.became("missing")
    with pytest.raises(UserNotFound):
        ask(world, STORIES, nasa.target(USER_ID))
