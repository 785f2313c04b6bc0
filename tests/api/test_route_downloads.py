"""Files of stories, natively and as HikerAPI has it: handed through, whole or in part, and paid for."""

from __future__ import annotations

import re
import string
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from flask import g
from redis import Redis
from werkzeug.test import TestResponse

from service.actions.audit import audit
from service.api.context import place_to_wait
from service.config import Settings
from service.domain.errors import AccountPrivate, OptedOut, StoryNotFound, UpstreamFailed
from service.domain.operations import STORY
from tests.api.answers import NASA, REEL, EverySource
from tests.api.cdn import FILE, HOST, Cdn, running
from tests.api.support import CREDITS, Front, assert_error, fake_store, make_front
from tests.conftest import RecordingQueue, await_true
from workers.sources.contract import Found
from workers.sources.files import WithFiles

PK = str(REEL["items"][0]["pk"])
PAGE = f"https://www.instagram.com/stories/nasa/{PK}/"
URL = f"{HOST}/v/t66.30100-16/1_2_n.mp4?oh=00_ab&oe=6A"
LAST = len(FILE) - 1

NATIVE = "/api/instagram/download"
ROUTES: list[tuple[str, dict[str, str]]] = [
    (NATIVE, {"storyId": PK}),
    (NATIVE, {"url": PAGE}),
    (NATIVE, {"url": URL}),
    ("/v1/story/download", {"id": PK}),
    ("/v1/story/download/by/story/url", {"url": PAGE}),
    ("/v1/story/download/by/url", {"url": URL}),
]
every_route = pytest.mark.parametrize(("path", "query"), ROUTES)
both_apis = pytest.mark.parametrize(("path", "query"), [ROUTES[0], ROUTES[3]])


def story(**item: Any) -> Found:
    """A story whose file lies on the CDN."""
    video = {"url": URL, "width": 720, "height": 1280}
    made = {**REEL["items"][0], "video_versions": [video], **item}
    return Found({"id": NASA.id, "user": REEL["user"], "items": [made]})


@dataclass
class Place:
    """A front end, and the CDN it takes files from."""

    front: Front
    cdn: Cdn

    @contextmanager
    def working(self, answer: Found | Exception | None = None) -> Iterator[EverySource]:
        source = EverySource(**{STORY: answer or story()})
        with self.front.working(source=WithFiles(source, self.front.services.media)):
            yield source

    def get(
        self,
        path: str,
        query: dict[str, str],
        answer: Found | Exception | None = None,
        *,
        method: str = "GET",
        **headers: str,
    ) -> TestResponse:
        """Download with a worker at work; headers are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with self.working(answer):
            return self.front.call(method, path, query_string=query, headers=named)

    @property
    def free(self) -> int:
        """How many places to wait or download there are left."""
        return int(self.front.app.extensions["storyhook"].admission.waits.free)

    def held(self) -> int:
        return self.front.services.credits.balance(self.front.me.account.account_id).held

    def ledger(self) -> list[tuple[str, int]]:
        entries = self.front.get("/api/credits/ledger").json["entries"]
        return [(entry["type"], entry["amount"]) for entry in reversed(entries)][1:]  # after the top-up


@pytest.fixture(scope="module")
def one_cdn() -> Iterator[Cdn]:
    with running() as cdn:
        yield cdn


@pytest.fixture
def cdn(one_cdn: Cdn) -> Iterator[Cdn]:
    yield one_cdn
    one_cdn.reset()


@pytest.fixture
def place(settings: Settings, redis: Redis, queue: RecordingQueue, cdn: Cdn) -> Place:
    return Place(make_front(settings, redis, queue, media=cdn.media), cdn)


@pytest.fixture
def make(settings: Settings, queue: RecordingQueue, cdn: Cdn) -> Callable[..., Place]:
    """Make a place over a fake store."""
    return lambda **changes: Place(make_front(settings, fake_store(), queue, media=cdn.media, **changes), cdn)


@pytest.fixture
def one(make: Callable[..., Place]) -> Place:
    return make()


# --- what comes ------------------------------------------------------------------------------------


@every_route
def test_a_whole_file(place: Place, path: str, query: dict[str, str]) -> None:
    response = place.get(path, query)
    assert response.status_code == 200, response.text
    assert response.data == FILE
    headers = response.headers
    assert headers["Content-Type"] == "video/mp4"
    assert headers["Content-Length"] == str(len(FILE))
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["X-Content-Type-Options"] == "nosniff"
    name = "1_2_n.mp4" if query.get("url") == URL else f"nasa_{PK}.mp4"
    assert headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert "Content-Range" not in headers
    assert place.ledger() == [("hold", -1), ("charge", -1)]
    assert headers.get("x-hiker-info", "reqs=1") == "reqs=1"
    assert place.free == place.front.settings.sync_waiters
    assert audit(place.front.services).differences == []


RANGES = [
    ("bytes=0-99", 0, 99),
    ("bytes=1000-1099", 1000, 1099),
    ("bytes=5-5", 5, 5),
    ("bytes=-10", LAST - 9, LAST),
    ("bytes=100000-", 100_000, LAST),
    ("bytes=0-", 0, LAST),
    (f"bytes={LAST}-{LAST + 5000}", LAST, LAST),
    ("bytes = 7-9", 7, 9),
]


@both_apis
def test_a_part_of_it(one: Place, path: str, query: dict[str, str]) -> None:
    for asked, first, last in RANGES:
        response = one.get(path, query, Range=asked)
        assert response.status_code == 206, asked
        assert response.data == FILE[first : last + 1], asked
        assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(FILE)}"
        assert response.headers["Content-Length"] == str(last - first + 1)
    assert one.ledger() == [("hold", -1), ("charge", -1)] * len(RANGES)


NO_RANGES = [
    "bytes=0-1,5-9", "bytes=0-0,-1", "lines=1-2", "bytes=-", "bytes=a-b", "bytes", "bytes=", "0-5",
    "bytes=1-2-3", "bytes=-1-2", "bytes=" + "9" * 16 + "-", "bytes=0x5-", "\u00b2-",
]  # fmt: skip


def test_a_range_that_is_no_single_one_brings_all_of_it(one: Place) -> None:
    for asked in NO_RANGES:
        one.cdn.asked.clear()
        response = one.get(*ROUTES[0], Range=asked)
        assert (response.status_code, response.data) == (200, FILE), asked
        assert one.cdn.asked[-1] == "", asked


@every_route
def test_a_range_beyond_the_end_is_416_and_free(place: Place, path: str, query: dict[str, str]) -> None:
    response = place.get(path, query, Range=f"bytes={len(FILE)}-")
    if path == NATIVE:
        assert response.status_code == 416
        assert (response.json["code"], response.json["success"]) == ("range_not_satisfiable", False)
    else:
        assert (response.status_code, response.json["exc_type"]) == (416, "RangeNotSatisfiable")
        assert response.headers["x-hiker-info"] == "reqs=0"
    assert place.ledger() == [("hold", -1), ("release", 1)]
    assert len(place.cdn.asked) == 1, "the file itself was not asked for"


@both_apis
def test_head_is_refused_where_get_is_paid_for(one: Place, path: str, query: dict[str, str]) -> None:
    told = one.get(path, query, method="HEAD")
    assert (told.status_code, told.data) == (405, b"")
    assert told.headers["Allow"] == "GET, OPTIONS"
    assert one.ledger() == []
    assert one.free == one.front.settings.sync_waiters


def test_options_tells_how_to_download(one: Place) -> None:
    response = one.front.call("OPTIONS", NATIVE)
    assert {"GET", "POST", "HEAD"} <= {word.strip() for word in response.headers["Allow"].split(",")}
    assert one.ledger() == []


NAMES = [
    ('na"sa', "/1_n.mp4"),
    ("na\r\nSet-Cookie: a=b", "/1_n.mp4"),
    ("../../etc", "/1_n.mp4"),
    ("näsa\U0001f680", "/1_n.mp4"),
    ("", "/1_n.mp4"),
    ("nasa", "/1_n.mp4%22%0D%0AX-Evil:1"),
    ("nasa", '/1";x=".mp4'),
    ("nasa", "/a;b=c.mp4"),
    ("nasa", "/noending"),
]
SAFE = frozenset(string.ascii_letters + string.digits + "._-")


def name_told(response: TestResponse) -> str:
    assert response.status_code == 200, response.text
    [told] = response.headers.getlist("Content-Disposition")
    assert not {"Set-Cookie", "X-Evil"} & set(response.headers.keys())
    match = re.fullmatch(r'attachment; filename="([^"]+)"', told)
    assert match, told
    return match[1]


def test_the_name_of_the_file_is_only_a_name(one: Place) -> None:
    for number, (username, path) in enumerate(NAMES, 1):
        user = {**REEL["user"], "username": username}
        found = story(video_versions=[{"url": f"{HOST}{path}?oh=1"}], user=user)
        found.data["user"] = user
        told = name_told(one.get(NATIVE, {"storyId": str(number)}, found))
        assert set(told) <= SAFE, told
        assert str(number) in told


def test_the_name_in_a_url_of_the_callers_is_only_a_name(one: Place) -> None:
    odd = ['/1";x=".mp4', "/1_n.mp4%22%0D%0AX-Evil:1", "/a;b=c.mp4", "/noending", "/a/b/..", "/.", "/.bashrc"]
    for path in odd:
        told = name_told(one.get(NATIVE, {"url": f"{HOST}{path}"}))
        assert set(told) <= SAFE, told
        assert not told.startswith("."), told


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/json"])
def test_what_is_no_photo_or_video_is_not_handed_through(one: Place, kind: str) -> None:
    one.cdn.content_type = kind
    response = one.get(*ROUTES[0])
    assert (response.status_code, response.json["code"]) == (502, "upstream_error")
    assert one.ledger() == [("hold", -1), ("release", 1)]


def test_a_file_may_be_found_without_fetching_it(place: Place) -> None:
    with place.working():
        response = place.front.call("POST", NATIVE, json={"storyId": PK})
    data = response.json["data"]
    assert data["url"] == URL
    assert (data["contentType"], data["size"], data["filename"]) == (
        "video/mp4",
        len(FILE),
        f"nasa_{PK}.mp4",
    )
    assert data["storyId"] == PK
    assert place.cdn.asked == ["bytes=0-0"]


# --- what does not ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code", "exc_type"),
    [
        (StoryNotFound(), 404, "story_not_found", "StoryNotFound"),
        (AccountPrivate(), 403, "account_private", "PrivateAccount"),
        (OptedOut(), 451, "opted_out", "OptedOut"),
    ],
)
def test_a_story_that_is_not_shown_is_told_in_the_form_of_the_api(
    one: Place, error: Exception, status: int, code: str, exc_type: str
) -> None:
    native, theirs = (one.get(*ROUTES[number], error) for number in (0, 3))
    assert (native.status_code, native.json["code"]) == (status, code)
    assert (theirs.status_code, theirs.json["exc_type"]) == (status, exc_type)
    assert theirs.headers["x-hiker-info"] == "reqs=0"
    assert one.front.available() == CREDITS


@every_route
def test_the_files_of_who_opted_out_are_not_sent(
    make: Callable[..., Place], path: str, query: dict[str, str]
) -> None:
    """Of a file's URL alone nobody can tell whose it is, unless it has expired and names its story."""
    place = make()
    place.front.services.optouts.add(None, str(NASA.id))
    if query.get("url") == URL:
        key = b64encode(PK.encode()).decode()
        query, place.cdn.gone_at = {"url": f"{URL}&ig_cache_key={key}.3"}, 1
    response = place.get(path, query)
    assert response.status_code == 451, response.text
    assert place.ledger() == [("hold", -1), ("release", 1)]
    assert len(place.cdn.asked) <= 2, "looked at, and not fetched"


def test_a_story_without_any_file(one: Place) -> None:
    response = one.get(*ROUTES[0], story(video_versions=[], image_versions2={"candidates": []}))
    assert (response.status_code, response.json["code"]) == (404, "media_not_found")
    assert one.front.available() == CREDITS


def test_a_file_that_was_never_there(one: Place) -> None:
    one.cdn.gone_after = 0
    for path, query in ROUTES[2:6:3]:
        response = one.get(path, query)
        assert response.status_code == 404
        assert "media_not_found" in response.text or "MediaNotFound" in response.text
    assert one.front.available() == CREDITS


@every_route
def test_a_file_that_vanishes_after_it_was_looked_at_is_refunded(
    place: Place, path: str, query: dict[str, str]
) -> None:
    place.cdn.gone_after = 1
    response = place.get(path, query)
    if path == NATIVE:
        assert_error(response, 404, "media_not_found")
    else:
        assert (response.status_code, response.json["exc_type"]) == (404, "MediaNotFound")
        assert response.headers["x-hiker-info"] == "reqs=0"
    assert place.ledger() == [("hold", -1), ("charge", -1), ("adjustment", 1)]
    note = place.front.get("/api/credits/ledger").json["entries"][0]["note"]
    assert "req_" in note
    assert place.front.available() == CREDITS
    assert place.free == place.front.settings.sync_waiters
    assert audit(place.front.services).differences == []


SENSELESS = [
    {},
    {"storyId": PK, "url": PAGE},
    {"storyId": "nasa"},
    {"url": "https://evil.example/a.mp4"},
    {"url": ""},
    {"id": PK},
    {"storyId": PK, "shape": "raw"},
]


def test_a_call_that_makes_no_sense_takes_nothing(one: Place) -> None:
    for query in SENSELESS:
        response = one.front.get(NATIVE, query_string=query)
        assert (response.status_code, response.json["code"]) == (422, "validation_error"), query
    assert one.front.queue.published == []
    assert one.ledger() == []
    assert one.free == one.front.settings.sync_waiters


def test_without_a_key_or_credits_there_is_nothing(one: Place) -> None:
    path, query = ROUTES[0]
    assert_error(one.front.get(path, query_string=query, headers={"Authorization": ""}), 401, "unauthorized")
    account_id = one.front.me.account.account_id
    one.front.services.credits.add(account_id, -CREDITS, entry_type="adjustment", note="")
    assert_error(one.front.get(path, query_string=query), 402, "insufficient_credits")
    assert one.front.queue.published == []
    assert one.cdn.asked == []


def test_what_is_not_found_in_time_costs_nothing(make: Callable[..., Place]) -> None:
    late = make(sync_deadline=0.05)
    response = late.front.get(NATIVE, query_string=ROUTES[0][1])  # nobody works
    assert_error(response, 504, "upstream_timeout")
    assert int(response.headers["Retry-After"]) > 0
    [(_, _, request_id)] = late.front.queue.published
    with late.working():
        await_true(lambda: late.front.services.requests.get(request_id).is_final)
    assert late.front.available() == CREDITS
    assert audit(late.front.services).differences == []


# --- on its way ------------------------------------------------------------------------------------


def begun(place: Place, path: str, query: dict[str, str]) -> tuple[TestResponse, Iterator[bytes]]:
    """Begin a download and take its first piece."""
    with place.working():
        response = place.front.client.get(
            path, query_string=query, headers=place.front.me.headers, buffered=False
        )
    pieces = iter(response.response)
    next(pieces)
    return response, pieces


@both_apis
def test_a_second_download_is_refused_where_there_is_one_place(
    make: Callable[..., Place], path: str, query: dict[str, str]
) -> None:
    place = make(sync_waiters=1)
    place.cdn.stalls_after = 70_000
    response, pieces = begun(place, path, query)
    before, published = place.front.stored(), len(place.front.queue.published)
    second = place.front.get(path, query_string=query)
    if path == NATIVE:
        assert_error(second, 429, "rate_limited")
    else:
        assert (second.status_code, second.json["exc_type"]) == (429, "RateLimited")
    assert int(second.headers["Retry-After"]) > 0
    assert place.front.stored() == before
    assert len(place.front.queue.published) == published, "nothing was handed in"

    place.cdn.go_on.set()
    rest = b"".join(pieces)
    assert FILE.endswith(rest)
    assert place.free == 1, "the place is back as soon as the stream has ended"
    response.close()
    assert place.free == 1
    place.cdn.stalls_after = None
    assert place.get(path, query).data == FILE


@both_apis
def test_the_place_comes_back_when_the_caller_hangs_up(
    make: Callable[..., Place], path: str, query: dict[str, str]
) -> None:
    place = make(sync_waiters=1)
    place.cdn.stalls_after = 70_000
    response, _ = begun(place, path, query)
    assert place.free == 0
    response.close()
    assert place.free == 1
    place.cdn.go_on.set()
    place.cdn.stalls_after = None
    assert place.get(path, query).data == FILE


def test_the_place_comes_back_when_the_caller_hangs_up_before_the_first_byte(
    make: Callable[..., Place],
) -> None:
    place = make(sync_waiters=1)
    with place.working():
        response = place.front.client.get(
            NATIVE, query_string=ROUTES[0][1], headers=place.front.me.headers, buffered=False
        )
    assert place.free == 0
    response.close()
    assert place.free == 1


def test_who_waits_for_a_result_and_who_downloads_share_the_places(make: Callable[..., Place]) -> None:
    place = make(sync_waiters=1)
    place.cdn.stalls_after = 70_000
    response, _ = begun(place, *ROUTES[0])
    theirs = place.front.get("/v1/user/stories", query_string={"user_id": "5"})
    assert (theirs.status_code, theirs.json["exc_type"]) == (429, "RateLimited")
    ours = place.front.stories()
    assert ours.status_code == 202, "it can be polled"
    assert place.held() == 1
    response.close()


def test_a_file_that_breaks_off_is_no_whole_one(make: Callable[..., Place]) -> None:
    place = make(sync_waiters=1)
    place.cdn.breaks_after = 70_000
    with place.working():
        response = place.front.client.get(
            NATIVE, query_string=ROUTES[0][1], headers=place.front.me.headers, buffered=False
        )
    assert response.headers["Content-Length"] == str(len(FILE))
    came = bytearray()
    with pytest.raises(UpstreamFailed):  # the server breaks the connection, so the caller sees it
        came.extend(byte for piece in response.response for byte in piece)
    assert FILE.startswith(bytes(came))
    assert len(came) < len(FILE)
    response.close()
    assert place.free == 1


def test_a_file_is_passed_on_before_all_of_it_has_come(one: Place) -> None:
    one.cdn.stalls_after = 70_000
    response, pieces = begun(one, *ROUTES[0])
    assert not one.cdn.go_on.is_set()
    one.cdn.go_on.set()
    assert sum(len(piece) for piece in pieces) < len(FILE)
    response.close()


def test_an_exchange_that_has_a_place_needs_no_other(make: Callable[..., Place]) -> None:
    place = make(sync_waiters=1)
    with place.front.app.test_request_context():
        g.account = place.front.me.account
        with place_to_wait() as first, place_to_wait() as second:
            assert (first, second, place.free) == (True, True, 0)
        assert place.free == 1
        assert not g.has_place
