"""Files of stories: which one it is, what is told of it, and what an expired address is good for."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from service.domain.errors import (
    AccountPrivate,
    FetchError,
    MediaNotFound,
    NoSessionFree,
    Retry,
    StoryNotFound,
    UpstreamFailed,
    UpstreamTimeout,
)
from service.domain.operations import DOWNLOAD, HIGHLIGHT, OPERATIONS, STORIES, STORY, USER, Ask
from service.domain.ports.media import MediaFile
from service.domain.targets import HIGHLIGHT_ID, MEDIA_URL, STORY_ID, USERNAME, Target, named
from tests.upstreams import StoriesByName
from workers.sources.contract import Found
from workers.sources.files import WithFiles

PK = "3411111111111111111"
CDN = "https://scontent.cdninstagram.com"
SMALL, LARGE, PHOTO = f"{CDN}/small_n.mp4?oh=1", f"{CDN}/v/large_n.mp4?oh=1", f"{CDN}/photo_n.jpg?oh=1"
KEY = base64.b64encode(PK.encode()).decode()
EXPIRED = f"{CDN}/old_n.jpg?ig_cache_key={KEY}.3-ccb7-5&oe=6A"
USER_OBJECT = {"pk": 528817151, "username": "nasa"}
ITEM: dict[str, Any] = {
    "pk": int(PK),
    "video_versions": [
        {"url": SMALL, "width": 360, "height": 640},
        {"url": LARGE, "width": 720, "height": 1280},
    ],
    "image_versions2": {"candidates": [{"url": PHOTO, "width": 1080, "height": 1920}]},
}


class Stories(StoriesByName):
    """An upstream that has one story, and serves so much."""

    name = "one"

    def __init__(
        self, item: dict[str, Any] | FetchError = ITEM, serves: tuple[str, ...] = (STORY, USER)
    ) -> None:
        self._item = item
        self._serves = serves
        self.asked: list[Ask] = []
        self.nobody: NoSessionFree | None = None

    def serves(self, ask: Ask) -> bool:
        return ask.operation in self._serves

    def fetch(self, ask: Ask) -> Found:
        self.asked.append(ask)
        if isinstance(self._item, FetchError):
            raise self._item
        return Found({"id": 528817151, "user": USER_OBJECT, "items": [self._item]}, self.name)

    def reels(self, usernames: Any, go_on: Any = None) -> dict[str, Found | FetchError]:
        return dict.fromkeys(usernames, UpstreamFailed())

    def unserved(self) -> NoSessionFree | None:
        return self.nobody


class Files:
    """A CDN that has these files; of all others it says ``otherwise``."""

    def __init__(self, *urls: str, otherwise: FetchError | None = None) -> None:
        self._urls = urls
        self._otherwise = otherwise or MediaNotFound()
        self.looked_at: list[str] = []

    def probe(self, url: str) -> MediaFile:
        self.looked_at.append(url)
        if url not in self._urls:
            raise self._otherwise
        return MediaFile(url, "image/jpeg" if ".jpg" in url else "video/mp4", 102_400)

    def open(self, url: str, range: str | None = None) -> Any:
        raise AssertionError("nothing is fetched here")


def download(kind: str, value: str) -> Ask:
    return Ask(DOWNLOAD, Target(kind, value))


OF_STORY = download(STORY_ID, PK)
OF_URL = download(MEDIA_URL, PHOTO)


def test_the_largest_version_of_a_story_is_looked_at_and_told_of() -> None:
    source, files = Stories(), Files(LARGE)
    found = WithFiles(source, files).fetch(OF_STORY)
    assert found.source == "one"
    assert found.data == {
        "id": 528817151,
        "user": USER_OBJECT,
        "storyId": PK,
        "url": LARGE,
        "contentType": "video/mp4",
        "size": 102_400,
        "filename": f"nasa_{PK}.mp4",
    }
    assert files.looked_at == [LARGE]
    assert source.asked == [Ask(STORY, Target(STORY_ID, PK))]


def test_a_photo_has_only_pictures() -> None:
    found = WithFiles(Stories({**ITEM, "video_versions": None}), Files(PHOTO)).fetch(OF_STORY)
    assert (found.data["url"], found.data["filename"]) == (PHOTO, f"nasa_{PK}.jpg")


@pytest.mark.parametrize(
    "without",
    [
        {"video_versions": [], "image_versions2": {"candidates": []}},
        {"video_versions": None, "image_versions2": None},
        {"video_versions": [{"url": None}], "image_versions2": {}},
        {"video_versions": [{"url": 5}]},
        {"video_versions": [{}]},
        {"video_versions": "?", "image_versions2": []},
    ],
)
def test_a_story_without_media_has_no_file(without: dict[str, Any]) -> None:
    files = Files(LARGE)
    with pytest.raises(MediaNotFound) as caught:
        WithFiles(Stories({**ITEM, **without}), files).fetch(OF_STORY)
    assert "no such photo or video" in caught.value.message
    assert files.looked_at == []


@pytest.mark.parametrize("error", [StoryNotFound(), AccountPrivate(), NoSessionFree(5.0), UpstreamTimeout()])
def test_a_story_that_is_not_shown_ends_as_it_does(error: FetchError) -> None:
    files = Files(LARGE)
    with pytest.raises(type(error)) as caught:
        WithFiles(Stories(error), files).fetch(OF_STORY)
    assert caught.value is error
    assert files.looked_at == []


@pytest.mark.parametrize("error", [MediaNotFound(), UpstreamTimeout(), UpstreamFailed()])
def test_a_file_of_a_story_that_cannot_be_had_is_told_so(error: FetchError) -> None:
    with pytest.raises(type(error)):
        WithFiles(Stories(), Files(otherwise=error)).fetch(OF_STORY)


def test_a_file_by_its_url_is_looked_at_and_nobody_asked() -> None:
    source = Stories()
    found = WithFiles(source, Files(PHOTO)).fetch(OF_URL)
    assert source.asked == []
    assert (found.data["url"], found.data["contentType"], found.data["filename"]) == (
        PHOTO,
        "image/jpeg",
        "photo_n.jpg",
    )
    assert (found.data["id"], found.data["user"], found.data["storyId"]) == (None, None, None)


def test_a_url_may_tell_the_story_it_is_of() -> None:
    found = WithFiles(Stories(), Files(EXPIRED)).fetch(download(MEDIA_URL, EXPIRED))
    assert (found.data["url"], found.data["storyId"]) == (EXPIRED, PK)


def test_an_expired_url_that_tells_its_story_leads_to_the_file_of_now() -> None:
    source, files = Stories(), Files(LARGE, PHOTO)
    found = WithFiles(source, files).fetch(download(MEDIA_URL, EXPIRED))
    assert (found.data["url"], found.data["storyId"], found.data["id"]) == (PHOTO, PK, 528817151)
    assert files.looked_at == [EXPIRED, PHOTO], "the address was that of a picture"
    assert source.asked == [Ask(STORY, Target(STORY_ID, PK))]


def test_whose_a_file_is_is_asked_where_somebody_opted_out() -> None:
    source = Stories()
    found = WithFiles(source, Files(EXPIRED), lambda: True).fetch(download(MEDIA_URL, EXPIRED))
    assert (found.data["url"], found.data["id"], found.data["user"]) == (EXPIRED, 528817151, USER_OBJECT)
    assert source.asked == [Ask(STORY, Target(STORY_ID, PK))]


@pytest.mark.parametrize("error", [StoryNotFound(), AccountPrivate()])
def test_a_file_outlives_its_story(error: FetchError) -> None:
    found = WithFiles(Stories(error), Files(EXPIRED), lambda: True).fetch(download(MEDIA_URL, EXPIRED))
    assert (found.data["url"], found.data["id"]) == (EXPIRED, None)


def test_an_expired_url_that_tells_nothing_is_gone() -> None:
    source = Stories()
    with pytest.raises(MediaNotFound):
        WithFiles(source, Files()).fetch(OF_URL)
    assert source.asked == []


def test_an_expired_url_whose_story_is_over_ends_as_the_story_does() -> None:
    with pytest.raises(StoryNotFound):
        WithFiles(Stories(StoryNotFound()), Files()).fetch(download(MEDIA_URL, EXPIRED))


def test_an_expired_url_is_gone_where_no_story_can_be_asked_for() -> None:
    source = Stories(serves=(STORIES,))
    with pytest.raises(MediaNotFound):
        WithFiles(source, Files()).fetch(download(MEDIA_URL, EXPIRED))
    assert source.asked == []


def test_what_is_wrong_with_the_cdn_asks_for_no_story() -> None:
    source = Stories()
    with pytest.raises(UpstreamTimeout):
        WithFiles(source, Files(otherwise=UpstreamTimeout())).fetch(download(MEDIA_URL, EXPIRED))
    assert source.asked == []


@pytest.mark.parametrize(
    ("url", "filename"),
    [
        (f"{CDN}/a/b/1_2_n.mp4?x=/../c.jpg", "1_2_n.mp4"),
        (f"{CDN}/a/b/..", "story"),
        (f"{CDN}/.", "story"),
        (f"{CDN}/.bashrc", "bashrc"),
        (f"{CDN}/noending", "noending"),
    ],
)
def test_a_file_is_named_by_its_url_where_no_story_is_known(url: str, filename: str) -> None:
    found = WithFiles(Stories(), Files(url)).fetch(download(MEDIA_URL, url))
    assert found.data["filename"] == filename


def test_a_story_of_an_unknown_name_has_a_filename_as_well() -> None:
    class Nameless(Stories):
        def fetch(self, ask: Ask) -> Found:
            return Found({**super().fetch(ask).data, "user": {"pk": 5}}, "one")

    found = WithFiles(Nameless(), Files(LARGE)).fetch(OF_STORY)
    assert found.data["filename"] == f"story_{PK}.mp4"


def test_what_it_serves_is_what_the_source_does_and_files() -> None:
    with_stories, without = WithFiles(Stories(), Files()), WithFiles(Stories(serves=(STORIES,)), Files())
    assert with_stories.serves(OF_STORY)
    assert not without.serves(OF_STORY)
    assert with_stories.serves(OF_URL)
    assert without.serves(OF_URL), "which needs nobody but the CDN"
    assert with_stories.serves(Ask(USER, named("nasa")))
    assert not with_stories.serves(Ask(HIGHLIGHT, Target(HIGHLIGHT_ID, "5")))
    assert without.name == "one"


def test_what_nobody_serves_is_refused_without_asking() -> None:
    source = Stories()
    with pytest.raises(UpstreamFailed) as caught:
        WithFiles(source, Files()).fetch(Ask(HIGHLIGHT, Target(HIGHLIGHT_ID, "5")))
    assert caught.value.retry is Retry.NEVER
    assert source.asked == []


def test_all_else_is_the_sources() -> None:
    source = Stories()
    files = WithFiles(source, Files())
    ask = Ask(USER, Target(USERNAME, "nasa"))
    assert files.fetch(ask).source == "one"
    assert source.asked == [ask]
    assert set(files.reels(["nasa", "esa"])) == {"nasa", "esa"}
    assert files.unserved() is None
    source.nobody = NoSessionFree(5.0)
    assert files.unserved() is source.nobody


def test_a_download_ends_with_nothing_that_has_no_price() -> None:
    known = {*OPERATIONS[DOWNLOAD].prices}
    for error in (StoryNotFound, MediaNotFound, AccountPrivate, UpstreamFailed, UpstreamTimeout):
        assert error.code in known
