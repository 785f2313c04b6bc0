"""Sessions, CDN, counters and knobs, over plain HTTP."""

from __future__ import annotations

import re
import time

import pytest

from .conftest import INSTAGRAM, SESSION, stock_client


@pytest.fixture
def media(simulator):
    """``{"photo": url, "video": url}`` of somebody's stories."""
    items = simulator.feed("nasa").json()["reel"]["items"]
    photo = next(item for item in items if item["media_type"] == 1)
    video = next(item for item in items if item["media_type"] == 2)
    return {
        "photo": photo["image_versions2"]["candidates"][0]["url"],
        "video": video["video_versions"][0]["url"],
        "small": photo["image_versions2"]["candidates"][-1]["url"],
    }


# Sessions


def test_without_a_session_the_mobile_api_asks_for_login(simulator):
    response = simulator.session(None).get(INSTAGRAM + "users/nasa/usernameinfo/")
    assert (response.status_code, response.json()["message"]) == (403, "login_required")


@pytest.mark.parametrize(
    "headers",
    [
        {"Cookie": "sessionid=nonsense"},
        {"Cookie": "sessionid=abc%3Adef"},
        {"Authorization": "Bearer IGT:2:%%%"},
        {"Authorization": "Bearer IGT:2:e30="},
        {"Authorization": "Bearer something else"},
    ],
)
def test_what_is_no_session_is_no_session(simulator, headers):
    response = simulator.session(None).get(INSTAGRAM + "accounts/current_user/", headers=headers)
    assert response.status_code == 403


def test_the_website_knows_profiles_without_a_session_but_not_stories(simulator):
    web = simulator.session(None)
    profile = web.get("https://www.instagram.com/api/v1/users/web_profile_info/", params={"username": "nasa"})
    assert profile.json()["data"]["user"]["username"] == "nasa"
    stories = web.get("https://www.instagram.com/graphql/query/", params={"variables": '{"reel_ids":[1]}'})
    assert stories.status_code == 401


def test_both_forms_of_a_session_are_the_same_session(simulator):
    simulator.get("accounts/current_user/")
    simulator.session("1001:simulated:1").get(INSTAGRAM + "accounts/current_user/")
    stock_client(simulator).account_info()
    assert simulator.calls()["by_session"] == {SESSION: 3}


@pytest.mark.parametrize("revoked", [SESSION, "1001:simulated:1", "1001"])
def test_a_revoked_session_must_log_in_again(simulator, revoked):
    assert simulator.get("accounts/current_user/").ok
    simulator.knobs(revoked_sessions=[revoked])
    assert simulator.get("accounts/current_user/").json()["message"] == "login_required"
    other = simulator.session("2002%3Aother").get(INSTAGRAM + "accounts/current_user/")
    assert other.json()["user"]["pk"] == 2002


def test_each_session_has_its_own_limit(simulator):
    simulator.knobs(session_limit_per_minute=2)
    statuses = [simulator.get("accounts/current_user/").status_code for _ in range(3)]
    other = simulator.session("2002%3Aother").get(INSTAGRAM + "accounts/current_user/")
    assert (statuses, other.status_code) == ([200, 200, 429], 200)


# The CDN


def test_media_come_with_type_and_length(simulator, media):
    for kind, content_type in {"photo": "image/jpeg", "video": "video/mp4"}.items():
        assert re.match(r"https://scontent[\w-]*\.cdninstagram\.com/[iv]/.*[?&]oe=[0-9A-F]+", media[kind])
        response = simulator.session(None).get(media[kind])
        assert response.headers["Content-Type"] == content_type
        assert int(response.headers["Content-Length"]) == len(response.content) > 1000
        assert response.headers["Accept-Ranges"] == "bytes"


def test_ranges(simulator, media):
    cdn = simulator.session(None)
    whole = cdn.get(media["video"]).content
    part = cdn.get(media["video"], headers={"Range": "bytes=4-11"})
    assert (part.status_code, part.content) == (206, whole[4:12])
    assert part.headers["Content-Range"] == f"bytes 4-11/{len(whole)}"
    assert cdn.get(media["video"], headers={"Range": f"bytes={len(whole)}-"}).status_code == 416
    head = cdn.head(media["video"])
    assert (head.status_code, int(head.headers["Content-Length"])) == (200, len(whole))


@pytest.mark.parametrize(
    ("pattern", "replacement", "complaint"),
    [
        (r"oe=[0-9A-F]+", "oe=7FFFFFFF", "URL signature mismatch"),
        (r"\d+x\d+_n", "4000x4000_n", "URL signature mismatch"),
        (r"oh=\w+&", "", "Bad URL hash"),
    ],
)
def test_addresses_cannot_be_made_up(simulator, media, pattern, replacement, complaint):
    response = simulator.session(None).get(re.sub(pattern, replacement, media["photo"]))
    assert (response.status_code, response.text) == (403, complaint)


def test_a_file_may_be_made_larger_than_it_was_drawn(simulator, media):
    """The end of it is padding, ranges go through both, and what is larger already stays as it is."""
    drawn = simulator.session(None).get(media["video"]).content
    size = len(drawn) + 200_000
    simulator.knobs(media_bytes=size)
    padded = simulator.session(None).get(media["video"])
    assert int(padded.headers["Content-Length"]) == size
    assert padded.content == drawn + bytes(200_000)
    part = {"Range": f"bytes={len(drawn) - 10}-{len(drawn) + 9}"}
    response = simulator.session(None).get(media["video"], headers=part)
    assert (response.status_code, response.content) == (206, drawn[-10:] + bytes(10))
    last = simulator.session(None).get(media["video"], headers={"Range": "bytes=-70000"})
    assert (len(last.content), last.headers["Content-Range"]) == (
        70_000,
        f"bytes {size - 70_000}-{size - 1}/{size}",
    )
    simulator.knobs(media_bytes=1)
    assert simulator.session(None).get(media["video"]).content == drawn


def test_addresses_may_be_short_lived(simulator):
    simulator.knobs(cdn_seconds=1)
    url = simulator.get("users/nasa/usernameinfo/").json()["user"]["hd_profile_pic_versions"][-1]["url"]
    cdn, deadline = simulator.session(None), time.monotonic() + 30
    while (answer := cdn.get(url)).ok and time.monotonic() < deadline:
        time.sleep(0.05)  # between two looks
    assert (answer.status_code, answer.text) == (403, "URL signature expired")
    simulator.knobs(cdn_seconds=0)
    fresh = simulator.get("users/nasa/usernameinfo/").json()["user"]["hd_profile_pic_versions"][-1]["url"]
    assert cdn.get(fresh).ok


def test_the_avatar_is_a_picture_too(simulator):
    url = simulator.get("users/nasa/usernameinfo/").json()["user"]["hd_profile_pic_versions"][-1]["url"]
    assert simulator.session(None).get(url).content[:3] == b"\xff\xd8\xff"


def test_an_unknown_file_is_not_found(simulator):
    assert (
        simulator.session(None).get("https://scontent-sim1-1.cdninstagram.com/i/else.jpg").status_code == 404
    )


# Counters


def test_calls_are_counted(simulator, media):
    simulator.reset()
    simulator.get("users/NASA/usernameinfo/")
    simulator.feed("challenge_anna")
    simulator.get("no/such/endpoint/")
    simulator.session(None).get(media["small"])
    calls = simulator.calls()
    assert calls["total"] == 5
    assert calls["by_endpoint"] == {"usernameinfo": 2, "story_feed": 1, "unknown": 1, "cdn_photo": 1}
    assert calls["by_username"] == {"nasa": 1, "challenge_anna": 2}
    assert calls["by_session"] == {SESSION: 4, "anonymous": 1}
    simulator.reset()
    assert simulator.calls()["total"] == 0


# Knobs


def test_an_unknown_knob_is_named(simulator):
    response = simulator.knobs(latency_ms=5, gravity=1)
    assert response.status_code == 400
    assert "gravity" in response.json()["message"]
    assert simulator.knobs().json()["latency_ms"] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"latency_ms": -1},
        {"jitter_ms": "fast"},
        {"failure_rate": 1.5},
        {"failure_rate": True},
        {"failure_status": 200},
        {"seed": 0.5},
        {"session_limit_per_minute": -1},
        {"cdn_seconds": -1},
        {"media_bytes": 2**40},
        {"revoked_sessions": "1001"},
        {"scene_overrides": {"nasa": "gone"}},
        {"scene_overrides": {"no such": "empty"}},
        {"scene_overrides": ["nasa"]},
    ],
)
def test_a_bad_value_is_refused_and_the_knob_named(simulator, change):
    response = simulator.knobs(**change)
    assert response.status_code == 400
    assert next(iter(change)) in response.json()["message"]


def test_latency_is_added(simulator):
    simulator.knobs(latency_ms=150)
    began = time.monotonic()
    simulator.get("accounts/current_user/")
    assert time.monotonic() - began >= 0.15


def test_failures_are_drawn_from_seed_and_call_number(simulator):
    def statuses(seed: int) -> list[int]:
        simulator.reset()
        simulator.knobs(failure_rate=0.5, failure_status=503, seed=seed)
        return [simulator.get("accounts/current_user/").status_code for _ in range(16)]

    first = statuses(1)
    assert set(first) == {200, 503}
    assert statuses(1) == first != statuses(2)


def test_a_body_that_is_no_object_is_refused(simulator):
    response = simulator.session(None).post(f"{simulator.url}/_sim/knobs", data="[1]")
    assert response.status_code == 400


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("users/99999999999999999999999/info/", 404),
        ("feed/user/99999999999999999999999/story/", 404),
        ("feed/user/me/story/", 404),
        ("media/12_34_56/info/", 400),
        ("media/99999999999999999999999_1/info/", 400),
    ],
)
def test_numbers_that_are_no_ids_are_refused(simulator, path, status):
    response = simulator.get(path)
    assert (response.status_code, response.json()["status"]) == (status, "fail")


@pytest.mark.parametrize(
    "body", ["SIGNATURE.", "SIGNATURE.[]", "SIGNATURE.{}", 'SIGNATURE.{"user_ids":["x:1","me"]}']
)
def test_a_batch_of_nothing_is_empty(simulator, body):
    answer = simulator.session().post(INSTAGRAM + "feed/reels_media/", data={"signed_body": body})
    assert answer.json() == {"reels": {}, "reels_media": [], "status": "ok"}
