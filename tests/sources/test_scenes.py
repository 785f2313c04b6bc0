"""Every scene of the simulated Instagram through the real client, and the session after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import requests
from redis import Redis

from service.domain.errors import (
    AccountPrivate,
    FetchError,
    Retry,
    UpstreamBlocked,
    UpstreamFailed,
    UpstreamTimeout,
    UserNotFound,
)
from service.domain.instagram import SessionState
from service.stores.instagram_ids import NOT_FOUND

NEVER, AGAIN, ELSEWHERE = Retry.NEVER, Retry.AGAIN, Retry.ELSEWHERE
ACTIVE, RESTING, QUARANTINED = SessionState
blocked, failed, late = UpstreamBlocked, UpstreamFailed, UpstreamTimeout


class Fault(NamedTuple):
    """What a scene is expected to do; ``reason`` is also the word of what is only counted."""

    username: str
    error: type[FetchError]
    retry: Retry
    state: SessionState
    reason: str
    rest_seconds: int


FAULTS = [
    Fault("private_anna", AccountPrivate, NEVER, ACTIVE, "", 0),
    Fault("missing_anna", UserNotFound, NEVER, ACTIVE, "", 0),
    Fault("ratelimited_anna", blocked, ELSEWHERE, RESTING, "throttled", 1_801),
    Fault("wait_anna", blocked, ELSEWHERE, RESTING, "please_wait", 14_402),
    Fault("ratelimiterror_anna", blocked, ELSEWHERE, RESTING, "rate_limit", 3_603),
    Fault("sentry_anna", blocked, ELSEWHERE, RESTING, "sentry_block", 86_404),
    Fault("proxyblocked_anna", blocked, ELSEWHERE, RESTING, "proxy_blocked", 86_405),
    Fault("feedback_anna", blocked, NEVER, RESTING, "feedback", 86_406),
    Fault("challenge_anna", blocked, ELSEWHERE, QUARANTINED, "challenge", 0),
    Fault("masked_anna", blocked, ELSEWHERE, QUARANTINED, "challenge", 0),
    Fault("suspended_anna", blocked, ELSEWHERE, QUARANTINED, "suspended", 0),
    Fault("checkpoint_anna", blocked, ELSEWHERE, QUARANTINED, "checkpoint", 0),
    Fault("consent_anna", blocked, ELSEWHERE, QUARANTINED, "consent", 0),
    Fault("geoblock_anna", blocked, ELSEWHERE, QUARANTINED, "geoblock", 0),
    Fault("loginrequired_anna", blocked, ELSEWHERE, QUARANTINED, "login_required", 0),
    Fault("unauthorized_anna", blocked, ELSEWHERE, QUARANTINED, "unauthorized", 0),
    Fault("forbidden_anna", failed, AGAIN, RESTING, "forbidden", 607),
    Fault("notauthorized_anna", AccountPrivate, NEVER, ACTIVE, "", 0),
    Fault("badrequest_anna", failed, AGAIN, ACTIVE, "bad_request", 0),
    Fault("upgrade_anna", failed, NEVER, ACTIVE, "", 0),
    Fault("error_anna", failed, AGAIN, ACTIVE, "", 0),
    Fault("flaky_anna", failed, AGAIN, ACTIVE, "", 0),
    Fault("fail_anna", failed, AGAIN, ACTIVE, "", 0),
    Fault("html_anna", failed, AGAIN, ACTIVE, "html", 0),
    Fault("truncated_anna", late, AGAIN, ACTIVE, "network", 0),
    Fault("hang_anna", late, AGAIN, ACTIVE, "timeout", 0),
    Fault("timeout408_anna", late, AGAIN, ACTIVE, "timeout", 0),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.username)
def test_fault(make_world: Callable[..., Any], simulator: str, fault: Fault) -> None:
    world = make_world(simulator, read_timeout=0.3 if fault.username.startswith("hang") else 30)
    with pytest.raises(FetchError) as caught:
        world.stories(fault.username)
    assert type(caught.value) is fault.error
    assert caught.value.retry is fault.retry
    assert caught.value.retry_after == (61 if fault.error is blocked else None)
    record = world.session()
    assert (record.state, record.failure) == (fault.state, fault.reason)
    assert record.reason == ("" if fault.state is ACTIVE else fault.reason)
    assert not record.leased
    if fault.state is RESTING:
        assert record.rested_until - record.last_used == fault.rest_seconds * 1000
    for hidden in ("9001", "s1", "http", "127.0.0.1", "{", fault.username):
        assert hidden not in caught.value.message


@pytest.mark.parametrize("username", ["anna", "stickers_anna", "drift_anna", "huge_anna", "slow_1_anna"])
def test_stories(make_world: Callable[..., Any], simulator: str, username: str) -> None:
    world = make_world(simulator)
    reel = world.stories(username).data
    assert reel["items"]
    assert reel["user"]["username"] == username
    assert str(reel["id"]) == str(reel["user"]["pk"]) == world.ids.get(username).user_id
    record = world.session()
    assert (record.state, record.uses, record.leased) == (ACTIVE, 1, False)


def test_the_reel_is_handed_on_as_it_came(make_world: Callable[..., Any], simulator: str) -> None:
    world = make_world(simulator)
    reel = world.stories("drift_anna").data
    authorization = world.built[0].authorization
    raw = requests.get(
        f"{simulator}/api/v1/feed/user/{reel['id']}/story/",
        headers={"Authorization": authorization},
        timeout=60,
    ).json()["reel"]
    assert raw.keys() == reel.keys()
    assert [item["id"] for item in raw["items"]] == [item["id"] for item in reel["items"]]
    assert [sorted(item) for item in raw["items"]] == [sorted(item) for item in reel["items"]]


def test_empty_is_a_success(make_world: Callable[..., Any], simulator: str) -> None:
    reel = make_world(simulator).stories("empty_anna").data
    assert reel["items"] == []
    assert reel["user"]["username"] == "empty_anna"
    assert reel["user"]["is_private"] is False


def test_a_known_id_saves_the_look_up(
    make_world: Callable[..., Any], simulator: str, asked: Callable[[], dict[str, int]]
) -> None:
    world = make_world(simulator)
    first = world.stories("Anna")
    assert asked() == {"usernameinfo": 1, "story_feed": 1}
    assert world.stories("anna").data["id"] == first.data["id"]
    assert asked() == {"usernameinfo": 1, "story_feed": 2}


def test_no_stories_by_a_known_id_are_looked_up_once_in_a_while(
    make_world: Callable[..., Any], simulator: str, asked: Callable[[], dict[str, int]], store: Redis
) -> None:
    """Who was public an hour ago and shows nothing has no story; after PRIVACY_TTL it is looked up again."""
    world = make_world(simulator)
    for _ in range(2):
        assert world.stories("empty_anna").data["items"] == []
    for _ in range(2):
        with pytest.raises(AccountPrivate):
            world.stories("private_anna")
    assert asked() == {"usernameinfo": 2, "story_feed": 4}
    store.delete("{ig}:seen:empty_anna", "{ig}:seen:private_anna")
    again = world.stories("empty_anna").data
    assert (again["items"], again["user"]["username"]) == ([], "empty_anna")
    with pytest.raises(AccountPrivate):
        world.stories("private_anna")
    assert asked() == {"usernameinfo": 4, "story_feed": 6}


def test_a_missing_name_is_asked_for_once(
    make_world: Callable[..., Any], simulator: str, asked: Callable[[], dict[str, int]]
) -> None:
    world = make_world(simulator)
    for _ in range(2):
        with pytest.raises(UserNotFound):
            world.stories("missing_anna")
    assert world.ids.get("missing_anna") is NOT_FOUND
    assert asked() == {"usernameinfo": 1}


def test_a_flaky_name_works_the_second_time(make_world: Callable[..., Any], simulator: str) -> None:
    world = make_world(simulator)
    with pytest.raises(UpstreamFailed):
        world.stories("flaky_ben")
    assert world.stories("flaky_ben").data["user"]["username"] == "flaky_ben"


def test_repeated_html_rests_the_session(make_world: Callable[..., Any], simulator: str) -> None:
    world = make_world(simulator)
    for reason in ("", "html_repeated"):
        with pytest.raises(UpstreamFailed):
            world.stories("html_anna")
        assert world.session().reason == reason
    assert world.session().state is RESTING


def test_a_success_between_resets_the_count(make_world: Callable[..., Any], simulator: str) -> None:
    world = make_world(simulator)
    for _ in range(3):
        with pytest.raises(UpstreamFailed):
            world.stories("html_anna")
        world.stories("anna")
    assert world.session().state is ACTIVE


def test_another_session_serves_after_a_block(make_world: Callable[..., Any], simulator: str) -> None:
    world = make_world(simulator, accounts=2)
    with pytest.raises(UpstreamBlocked):
        world.stories("challenge_anna")
    assert world.stories("anna").data["user"]["username"] == "anna"
    assert sorted(record.state for record in world.sessions.list()) == [ACTIVE, QUARANTINED]


def test_an_exhausted_pool_says_when_to_come_back(make_world: Callable[..., Any], simulator: str) -> None:
    world = make_world(simulator)
    with pytest.raises(UpstreamBlocked):
        world.stories("ratelimited_anna")
    with pytest.raises(UpstreamBlocked, match="no usable Instagram session") as caught:
        world.stories("anna")
    assert caught.value.retry is NEVER
    assert 1_700 < (caught.value.retry_after or 0) <= 1_801


def test_a_revoked_session_is_quarantined(make_world: Callable[..., Any], simulator: str) -> None:
    world = make_world(simulator)
    requests.post(
        f"{simulator}/_sim/knobs", json={"revoked_sessions": ["9001"]}, timeout=60
    ).raise_for_status()
    with pytest.raises(UpstreamBlocked):
        world.stories("anna")
    assert (world.session().state, world.session().reason) == (QUARANTINED, "login_required")


def test_a_closed_port_is_a_timeout(make_world: Callable[..., Any]) -> None:
    world = make_world("http://127.0.0.1:1")
    with pytest.raises(UpstreamTimeout):
        world.stories("anna")
    assert (world.session().state, world.session().failure) == (ACTIVE, "network")
