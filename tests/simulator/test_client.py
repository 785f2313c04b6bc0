"""The unmodified instagrapi client gets what it needs."""

from __future__ import annotations

import pytest
from instagrapi import Client, exceptions
from instagrapi.utils.ids import InstagramIdCodec
from PIL import Image


def user_id(client: Client, username: str) -> str:
    return client.user_info_by_username_v1(username).pk


def a_user_with_highlights(client: Client) -> str:
    return user_id(client, "nasa")


def test_a_profile_by_name_and_by_id(client):
    by_name = client.user_info_by_username_v1("NASA")
    by_id = client.user_info_v1(by_name.pk)
    assert by_name.username == "nasa"
    assert by_name.model_dump() == by_id.model_dump()
    assert client.user_id_from_username("nasa") == by_name.pk


def test_a_profile_from_the_website(client):
    assert client.user_info_by_username_gql("nasa").pk == user_id(client, "nasa")


@pytest.mark.parametrize("username", ["instagram", "nasa"])
def test_demo_names_have_photos_and_videos(client, username):
    stories = client.user_stories_v1(user_id(client, username))
    assert {story.media_type for story in stories} == {1, 2}
    for story in stories:
        assert story.product_type == "story"
        assert int(story.pk) > 2**53
        assert story.code == InstagramIdCodec.encode(story.pk)
        assert story.id == f"{story.pk}_{story.user.pk}"
        assert bool(story.video_url) == (story.media_type == 2)


def test_stories_from_the_website(client):
    owner = user_id(client, "nasa")
    private, public = client.user_stories_v1(owner), client.user_stories_gql(owner)
    assert [story.pk for story in public] == [story.pk for story in private]
    assert [story.video_url for story in public] == [story.video_url for story in private]


def test_story_info_finds_the_owner_of_a_bare_pk(client):
    wanted = client.user_stories_v1(user_id(client, "nasa"))[0]
    assert client.story_info(wanted.pk).id == wanted.id
    assert client.media_info_v1(wanted.id).code == wanted.code


def test_an_unknown_pk_is_no_media(client):
    with pytest.raises(exceptions.MediaNotFound):
        client.media_info_v1("3999999999999999999")


def test_highlights(client):
    tray = client.user_highlights(a_user_with_highlights(client))
    assert tray
    for entry in tray:
        assert int(entry.pk) > 2**53
        highlight = client.highlight_info(entry.pk)
        assert highlight.title == entry.title
        assert len(highlight.items) == entry.media_count == len(highlight.media_ids)
        assert client.media_info_v1(highlight.items[0].pk).id == highlight.items[0].id


def test_an_unknown_highlight_is_not_found(client):
    with pytest.raises(exceptions.HighlightNotFound):
        client.highlight_info("17999999999999999")


def test_the_sessions_own_account(client):
    account = client.account_info()
    assert account.pk == "1001"
    assert account.username == "id.1001"


def test_downloads_are_real_media(client, tmp_path):
    stories = client.user_stories_v1(user_id(client, "nasa"))
    photo = next(story for story in stories if story.media_type == 1)
    video = next(story for story in stories if story.media_type == 2)
    with Image.open(client.story_download_by_url(photo.thumbnail_url, folder=tmp_path)) as picture:
        picture.load()
        assert (picture.format, picture.size) == ("JPEG", (1080, 1920))
    body = client.story_download_by_url(video.video_url, folder=tmp_path).read_bytes()
    assert body[4:8] == b"ftyp"
    assert body.index(b"moov") < body.index(b"mdat")


def test_every_sticker_is_understood(client):
    stories = client.user_stories_v1(user_id(client, "stickers_anna"))
    assert {story.media_type for story in stories} == {1, 2}
    for story in stories:
        assert story.mentions[0].user.username
        assert str(story.links[0].webUri).startswith("https://l.instagram.com/?u=https%3A%2F%2Fexample.com")
        assert story.hashtags[0].hashtag.name == "simulated"
        assert story.locations[0].location.city == "Simville"
        assert story.polls[0].options == ["Tea", "Coffee"]
        assert story.medias[0].media_pk > 2**53
        assert story.sponsor_tags[0].username == "brand.sim"


def test_all_highlights_and_no_others_of_a_batch(client):
    """Signed body with user ids and highlights mixed, as the app posts it."""
    owner = a_user_with_highlights(client)
    highlight = client.user_highlights(owner)[0].id
    data = {"user_ids": [owner, highlight], "source": "profile"}
    reels = client.private_request("feed/reels_media/", data)["reels"]
    assert set(reels) == {owner, highlight}
    assert {reel["reel_type"] for reel in reels.values()} == {"user_reel", "highlight_reel"}
