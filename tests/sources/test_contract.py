"""What every source keeps to, each over real HTTP against the simulated Instagram, HikerAPI or Graph API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
import requests

from service.domain.errors import (
    AccountPrivate,
    FetchError,
    HighlightNotFound,
    StoryNotFound,
    UpstreamBlocked,
    UpstreamFailed,
    UpstreamTimeout,
    UserNotFound,
)
from service.domain.operations import HIGHLIGHT, HIGHLIGHTS, OPERATIONS, STORIES, STORY, USER, Ask
from service.domain.stories import with_string_ids
from service.domain.targets import HIGHLIGHT_ID, STORY_ID, USERNAME, Target
from tests.sources.subjects import ASKED, MEMBERS, TOKEN, Subject, ask, introduce, make, person
from workers.simulator.ids import user_id_of
from workers.simulator.world import highlights
from workers.sources.contract import Found

# Has highlights on two pages and several stories, a video among them; has some in every scene, too.
ANNA = "otto"
SCENES = ("private", "missing", "empty", "error", "html", "truncated", "drift", "slow_20")
NAMES = (ANNA, *(f"{scene}_{ANNA}" for scene in SCENES))
# Each operation once, by its first kind of target.
ONE_EACH = list({operation: (operation, target) for operation, target in reversed(ASKED)}.values())
BROKEN = {"error": UpstreamFailed, "html": UpstreamFailed, "truncated": UpstreamTimeout}
TROUBLE = {"upstream_blocked", "upstream_timeout", "upstream_error"}
# As each upstream sends a user's id.
ID_TYPES = {"instagrapi": int, "hikerapi": int, "graph": str, "web": str}

Make = Callable[..., Subject]


@pytest.fixture(params=MEMBERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def subject(kind: str, simulator: str, make_world: Callable[..., Any]) -> Make:
    def of(timeout: float = 30.0) -> Subject:
        return make(kind, simulator, make_world, NAMES, timeout)

    return of


def served(subject: Subject, operation: str, kind: str, name: str = ANNA) -> Ask:
    """Return the ask, or skip the test: this source does not do that."""
    asked = ask(operation, kind, name)
    if not subject.source.serves(asked):
        pytest.skip("not served")
    return asked


def failure(subject: Subject, asked: Ask) -> FetchError:
    """Return how it ends, which is one of the documented ways and tells no secret."""
    with pytest.raises(FetchError) as caught:
        subject.source.fetch(asked)
    error = caught.value
    assert error.code in TROUBLE | set(OPERATIONS[asked.operation].endings)
    assert TOKEN not in str(error)
    assert "127.0.0.1" not in str(error)
    return error


def check(found: Found, subject: Subject, asked: Ask) -> None:
    """Check the parts that a result has, and that the store can keep it."""
    data, operation = found.data, OPERATIONS[asked.operation]
    assert found.source in subject.names
    assert isinstance(data["user"], dict)
    assert isinstance(data["user"]["pk"], ID_TYPES[found.source])
    if asked.operation == HIGHLIGHT:
        assert data["id"] == f"highlight:{asked.target.value}"
    else:
        assert str(data["id"]) == str(data["user"]["pk"])
    if operation.counted:
        entries = data[operation.counted]
        assert isinstance(entries, list)
        assert all(isinstance(entry, dict) for entry in entries)
        assert all("items" not in entry for entry in entries)
    orjson.dumps(with_string_ids(data))


@pytest.mark.parametrize(("operation", "target"), ASKED)
def test_found(subject: Make, simulator: str, operation: str, target: str) -> None:
    here = subject()
    asked = served(here, operation, target)
    introduce(simulator, ANNA)
    found = here.source.fetch(asked)
    check(found, here, asked)
    assert str(found.data["user"]["pk"]) == str(user_id_of(ANNA))
    if operation in {STORIES, STORY, HIGHLIGHT}:
        for item in found.data["items"]:
            assert item["media_type"] in {1, 2}
            assert item["image_versions2"]["candidates"][0]["url"].startswith("https://")
            assert isinstance(item["taken_at"], int)
            assert bool(item.get("video_versions")) is (item["media_type"] == 2)
    if operation == STORIES:
        assert len(found.data["items"]) == 3
    if operation == STORY:
        assert [str(item["pk"]) for item in found.data["items"]] == [asked.target.value]
    if operation == HIGHLIGHT:
        assert len(found.data["items"]) == len(highlights_of(ANNA)[0].items)
    if operation == HIGHLIGHTS:
        assert [entry["id"] for entry in found.data["tray"]] == [each.id for each in highlights_of(ANNA)]
    if operation == USER:
        user = found.data["user"]
        assert (user["username"], user["is_private"]) == (ANNA, False)
        assert user["media_count"] > 0
        assert user["follower_count"] > 0


def highlights_of(name: str) -> list[Any]:
    return highlights(person(name))


@pytest.mark.parametrize(
    ("operation", "target"), [each for each in ASKED if each[0] in {STORIES, HIGHLIGHTS}]
)
def test_nothing_to_show(subject: Make, operation: str, target: str) -> None:
    here = subject()
    asked = served(here, operation, target, f"empty_{ANNA}")
    found = here.source.fetch(asked)
    check(found, here, asked)
    if operation == STORIES:
        assert found.data["items"] == []


@pytest.mark.parametrize(
    ("operation", "target"), [each for each in ASKED if each[0] in {STORIES, HIGHLIGHTS}]
)
def test_private(subject: Make, kind: str, operation: str, target: str) -> None:
    here = subject()
    asked = served(here, operation, target, f"private_{ANNA}")
    if kind == "graph":  # accounts of one's own are not private to their tokens
        assert here.source.fetch(asked).data["items"] == []
    else:
        assert isinstance(failure(here, asked), AccountPrivate)


def test_a_private_account_can_be_looked_up(subject: Make) -> None:
    here = subject()
    asked = served(here, USER, USERNAME, f"private_{ANNA}")
    assert here.source.fetch(asked).data["user"]["is_private"] is True


@pytest.mark.parametrize(
    ("operation", "target"), [each for each in ASKED if each[0] in {STORIES, HIGHLIGHTS, USER}]
)
def test_no_such_account(subject: Make, kind: str, operation: str, target: str) -> None:
    here = subject()
    error = failure(here, served(here, operation, target, f"missing_{ANNA}"))
    # The Graph API says the same of an account that the token may not see.
    assert isinstance(error, UpstreamBlocked if kind == "graph" else UserNotFound)


@pytest.mark.parametrize(
    ("operation", "target", "value", "error"),
    [
        (STORY, STORY_ID, "3000000000000000001", StoryNotFound),
        (HIGHLIGHT, HIGHLIGHT_ID, f"{user_id_of(ANNA)}77", HighlightNotFound),
    ],
)
def test_no_such_thing(
    subject: Make, operation: str, target: str, value: str, error: type[FetchError]
) -> None:
    here = subject()
    served(here, operation, target)
    assert isinstance(failure(here, Ask(operation, Target(target, value))), error)


@pytest.mark.parametrize(("operation", "target"), ONE_EACH)
@pytest.mark.parametrize("scene", BROKEN)
def test_broken_answers(subject: Make, simulator: str, operation: str, target: str, scene: str) -> None:
    name = f"{scene}_{ANNA}"
    here = subject()
    asked = served(here, operation, target, name)
    introduce_quietly(simulator, name)
    if here.is_spared(asked):
        check(here.source.fetch(asked), here, asked)
    else:
        assert isinstance(failure(here, asked), BROKEN[scene])


def introduce_quietly(url: str, name: str) -> None:
    """Let it be seen through the website, which plays no scene."""
    requests.get(f"{url}/api/v1/users/web_profile_info/", params={"username": name}, timeout=60)


@pytest.mark.parametrize(("operation", "target"), ONE_EACH)
def test_no_answer_in_time(subject: Make, simulator: str, operation: str, target: str) -> None:
    here = subject(timeout=0.5)
    name = f"slow_20_{ANNA}"
    asked = served(here, operation, target, name)
    introduce_quietly(simulator, name)
    if here.is_spared(asked):
        check(here.source.fetch(asked), here, asked)
    else:
        assert isinstance(failure(here, asked), UpstreamTimeout)


@pytest.mark.parametrize(("operation", "target"), ONE_EACH)
def test_nobody_there(
    kind: str, make_world: Callable[..., Any], simulator: str, operation: str, target: str
) -> None:
    here = make(kind, "http://127.0.0.1:9", make_world, NAMES, 5.0)
    assert isinstance(failure(here, served(here, operation, target)), UpstreamTimeout)


@pytest.mark.parametrize(("operation", "target"), ONE_EACH)
def test_fields_that_changed(subject: Make, simulator: str, operation: str, target: str) -> None:
    """What drifted comes as it is where it is still usable; nothing but a documented end comes of it."""
    here = subject()
    name = f"drift_{ANNA}"
    asked = served(here, operation, target, name)
    introduce_quietly(simulator, name)
    ended = outcome(here, asked)
    if isinstance(ended, Found):
        check(ended, here, asked)
    else:
        assert isinstance(ended, UpstreamFailed)


def outcome(subject: Subject, asked: Ask) -> Found | FetchError:
    try:
        return subject.source.fetch(asked)
    except FetchError as error:
        return error


def test_names_in_a_group_are_found_or_left(subject: Make) -> None:
    """Whoever is missing is asked for alone; nothing uncertain is told."""
    here = subject()
    names = [ANNA, f"empty_{ANNA}", f"missing_{ANNA}"]
    answers = here.source.reels(names)
    assert set(answers) <= set(names)
    assert all(isinstance(each, Found | FetchError) for each in answers.values())
    assert here.source.unserved() is None


def test_what_is_served_is_known(subject: Make) -> None:
    here = subject()
    assert any(here.source.serves(ask(operation, target, ANNA)) for operation, target in ASKED)
    assert not here.source.serves(Ask("download", Target("story_id", "1")))
