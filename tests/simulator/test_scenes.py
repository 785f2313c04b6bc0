"""Each scene provokes what it promises: the very exception in the stock client, or the very bytes."""

from __future__ import annotations

import time

import pytest
import requests
from instagrapi import exceptions

from .conftest import INSTAGRAM, SESSION

FAULTS = {
    "ratelimited": exceptions.ClientThrottledError,
    "wait": exceptions.PleaseWaitFewMinutes,
    "ratelimiterror": exceptions.RateLimitError,
    "sentry": exceptions.SentryBlock,
    "proxyblocked": exceptions.ProxyAddressIsBlocked,
    "feedback": exceptions.FeedbackRequired,
    "challenge": exceptions.ChallengeRequired,
    "masked": exceptions.ChallengeRequired,
    "suspended": exceptions.AccountSuspended,
    "checkpoint": exceptions.UnknownError,
    "consent": exceptions.UnknownError,
    "geoblock": exceptions.UnknownError,
    "loginrequired": exceptions.LoginRequired,
    "unauthorized": exceptions.ClientUnauthorizedError,
    "forbidden": exceptions.ClientForbiddenError,
    "notauthorized": exceptions.PrivateAccount,
    "badrequest": exceptions.UnknownError,
    "upgrade": exceptions.ClientNeedsUpgradeError,
    "error": exceptions.ClientError,
    "fail": exceptions.ClientError,
    "html": exceptions.ClientJSONDecodeError,
}


@pytest.mark.parametrize("scene", FAULTS)
def test_the_story_feed_fails_as_the_scene_says(client, scene):
    user = client.user_info_by_username_v1(f"{scene}_anna")
    with pytest.raises(exceptions.ClientError) as caught:
        client.user_stories_v1(user.pk)
    assert type(caught.value) is FAULTS[scene]


@pytest.mark.parametrize("scene", sorted(set(FAULTS) - {"html", "masked"}))
def test_every_error_body_says_fail(simulator, scene):
    body = simulator.feed(f"{scene}_anna").json()
    assert body["status"] == "fail"
    assert body["message"]


def test_masked_is_exactly_not_found(simulator):
    response = simulator.feed("masked_anna")
    assert (response.status_code, response.content) == (404, b"Not Found")


def test_a_challenge_has_an_address(simulator):
    assert "/challenge/" in simulator.feed("challenge_anna").json()["challenge"]["url"]
    assert "/suspended/" in simulator.feed("suspended_anna").json()["challenge"]["url"]


@pytest.mark.parametrize("username", ["missing_anna", "no-such-name", "x" * 31, "ö"])
def test_missing_names_are_not_found(client, username):
    with pytest.raises(exceptions.UserNotFound):
        client.user_info_by_username_v1(username)


def test_private_accounts_show_nothing(client):
    user = client.user_info_by_username_v1("private_anna")
    assert user.is_private
    assert client.private_request(f"feed/user/{user.pk}/story/")["reel"] is None
    with pytest.raises(exceptions.PrivateAccount):
        client.user_highlights(user.pk)


def test_empty_accounts_are_public_and_have_no_reel(client):
    user = client.user_info_by_username_v1("empty_anna")
    assert not user.is_private
    assert client.private_request(f"feed/user/{user.pk}/story/")["reel"] is None


def test_huge_reels_have_a_hundred_items(client):
    stories = client.user_stories_v1(client.user_info_by_username_v1("huge_anna").pk)
    assert len({story.pk for story in stories}) == 100


def test_flaky_fails_once_for_each_name_until_reset(simulator):
    for _ in range(2):
        assert [simulator.feed("flaky_anna").status_code for _ in range(3)] == [500, 200, 200]
        assert simulator.feed("flaky_ben").status_code == 500
        simulator.reset()


def test_slow_takes_its_time(simulator):
    began = time.monotonic()
    assert simulator.feed("slow_1_anna").status_code == 200
    assert 1 <= time.monotonic() - began < 30


@pytest.mark.parametrize("username", ["hang_anna", "slow_10_anna", "slow_anna"])
def test_what_hangs_does_not_answer_in_time(simulator, username):
    with pytest.raises(requests.ReadTimeout):
        simulator.feed(username, timeout=0.3)


def test_truncated_is_shorter_than_it_says(simulator):
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        simulator.feed("truncated_anna")


def test_request_timeout(simulator):
    assert simulator.feed("timeout408_anna").status_code == 408


def test_drift_breaks_one_thing_in_each_item(simulator):
    reel = simulator.feed("drift_anna").json()["reel"]
    items = {item["client_cache_key"]: item for item in reel["items"]}
    assert "full_name" not in reel["user"]
    assert sum(item.get("sponsor_tags", ()) is None for item in items.values()) == 1
    assert sum(item.get("reel_mentions", ()) is None for item in items.values()) == 1
    assert sum("image_versions2" not in item for item in items.values()) == 1
    assert sum(item["code"] is None for item in items.values()) == 1
    assert sum(isinstance(item["pk"], str) for item in items.values()) == 1
    assert any(
        "height" not in version for item in items.values() for version in item.get("video_versions", ())
    )


def test_stickers_carry_every_kind(simulator):
    kinds = {
        "reel_mentions",
        "story_link_stickers",
        "story_hashtags",
        "story_locations",
        "story_polls",
        "story_questions",
        "story_feed_media",
        "story_bloks_stickers",
        "story_music_stickers",
    }
    assert all(kinds <= item.keys() for item in simulator.feed("stickers_anna").json()["reel"]["items"])


def test_a_fault_spoils_a_batch(simulator):
    ids = [simulator.user_id("nasa"), simulator.user_id("challenge_anna")]
    response = simulator.get("feed/reels_media/", params={"reel_ids": ids})
    assert response.json()["message"] == "challenge_required"


def test_who_is_gone_or_shows_nothing_is_left_out_of_a_batch(simulator):
    ids = [simulator.user_id(name) for name in ("nasa", "empty_anna", "private_anna", "ben")]
    assert simulator.knobs(scene_overrides={"ben": "missing"}).ok
    response = simulator.get("feed/reels_media/", params={"reel_ids": ids})
    assert list(response.json()["reels"]) == [str(ids[0])]


def test_a_private_highlight_stays_closed(simulator):
    number = simulator.user_id("private_anna") * 100
    form = {"signed_body": f'SIGNATURE.{{"user_ids":["highlight:{number}"]}}'}
    answer = simulator.session(SESSION).post(INSTAGRAM + "feed/reels_media/", data=form)
    assert answer.json()["reels"] == {}


def media_info(simulator, pk):
    return simulator.get(f"media/{pk}/info/")


def tray(simulator, username):
    return simulator.get(f"highlights/{simulator.user_id(username)}/highlights_tray/")


def highlight(simulator, number):
    form = {"signed_body": f'SIGNATURE.{{"user_ids":["highlight:{number}"]}}'}
    return simulator.session(SESSION).post(INSTAGRAM + "feed/reels_media/", data=form)


@pytest.mark.parametrize("scene", sorted(set(FAULTS) - {"html"}))
def test_a_fault_plays_on_highlights_and_media_too(simulator, scene):
    """Whom it concerns is looked up as ever."""
    kept = tray(simulator, "nasa").json()["tray"][0]["id"].removeprefix("highlight:")
    pk = simulator.feed("nasa").json()["reel"]["items"][0]["pk"]
    assert simulator.knobs(scene_overrides={"nasa": scene}).ok
    expected = simulator.feed("nasa")
    for answer in (tray(simulator, "nasa"), highlight(simulator, kept), media_info(simulator, pk)):
        assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
    assert simulator.get("users/nasa/usernameinfo/").ok


@pytest.mark.parametrize(
    ("scene", "of_media"),
    [
        ("private", "Not authorized to view user"),
        ("missing", "Media not found or unavailable"),
        ("empty", "Media not found or unavailable"),
    ],
)
def test_what_is_closed_or_gone_is_not_shown_by_its_id(simulator, scene, of_media):
    kept = tray(simulator, "nasa").json()["tray"][0]["id"].removeprefix("highlight:")
    pk = simulator.feed("nasa").json()["reel"]["items"][0]["pk"]
    assert simulator.knobs(scene_overrides={"nasa": scene}).ok
    assert highlight(simulator, kept).json()["reels"] == {}
    assert media_info(simulator, pk).json()["message"] == of_media


def test_who_is_empty_has_no_highlights(simulator):
    assert tray(simulator, "nasa").json()["tray"]
    assert simulator.knobs(scene_overrides={"nasa": "empty"}).ok
    assert tray(simulator, "nasa").json()["tray"] == []


def test_who_is_missing_has_no_tray(simulator):
    owner = simulator.user_id("nasa")
    assert simulator.knobs(scene_overrides={"nasa": "missing"}).ok
    assert simulator.get(f"highlights/{owner}/highlights_tray/").status_code == 404


def test_drift_breaks_media_and_highlights_too(simulator):
    items = simulator.feed("drift_anna").json()["reel"]["items"]
    for item in items:
        [alone] = media_info(simulator, item["pk"]).json()["items"]
        assert sorted(alone) == sorted(item)
    kept = tray(simulator, "nasa").json()["tray"][0]["id"].removeprefix("highlight:")
    assert simulator.knobs(scene_overrides={"nasa": "drift"}).ok
    reel = highlight(simulator, kept).json()["reels"][f"highlight:{kept}"]
    assert "full_name" not in reel["user"]
    assert all(item["code"] is None for item in reel["items"])


def test_an_override_gives_a_name_another_scene(simulator):
    owner = simulator.user_id("nasa")
    assert simulator.knobs(scene_overrides={"NASA": "empty"}).ok
    assert simulator.get(f"feed/user/{owner}/story/").json()["reel"] is None
    simulator.reset()
    assert simulator.feed("nasa").json()["reel"]["items"]
