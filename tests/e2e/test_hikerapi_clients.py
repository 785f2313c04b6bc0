"""The stock `hikerapi` clients, as they come from PyPI, over TLS against a whole Storyhook.

What they are told is compared with what the native API says of the same thing at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import hikerapi
import httpx
import pytest
import requests

from service.api.hiker.routes import ROUTES, Route
from service.domain.operations import DOWNLOAD, HIGHLIGHT, STORY
from service.domain.targets import HIGHLIGHT_ID, MEDIA_URL, STORY_ID, USER_ID, USERNAME
from tests.e2e.clients import Customer
from tests.e2e.conftest import TlsStack

NAME = "nasa"
MANY = "huge_hiker"  # a hundred stories: the youngest of them ends in no test
CREDITS = 10_000
TIMEOUT = 60
SAFE = {"safe_int": "on"}
STORY_KEYS = {
    "pk", "id", "code", "taken_at", "media_type", "product_type", "thumbnail_url", "user", "video_url",
    "video_duration", "sponsor_tags", "mentions", "links", "hashtags", "locations", "stickers", "medias",
}  # fmt: skip
HIGHLIGHT_KEYS = {
    "pk", "id", "title", "created_at", "latest_reel_media", "cover_media", "is_pinned_highlight",
    "media_count", "media_ids", "user", "items",
}  # fmt: skip
USER_KEYS = {
    "pk", "id", "username", "full_name", "profile_pic_url", "profile_pic_url_hd", "is_private", "is_verified",
}  # fmt: skip
INSTAGRAM = "https://www.instagram.com"
UNKNOWN_FILE = "https://scontent-sim1-1.cdninstagram.com/v/t66.30100-16/1_2_n.mp4?oe=7FFFFFFF&oh=00_0"

Call = Callable[..., Any]


@dataclass(frozen=True)
class World:
    """What the simulated Instagram shows of one account, as the native API tells it; every id is a string."""

    customer: Customer
    simulator: str

    def native(self, operation: str, **body: Any) -> Any:
        """Return the ``data`` of a native call, fetched anew."""
        answer = self.customer.call("POST", f"/api/instagram/{operation}", json={"maxAge": 0, **body})
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def file(self, url: str) -> bytes:
        """Return a file as the simulated CDN has it."""
        parts = urlsplit(url)
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"{self.simulator}{parts.path}?{parts.query}", timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.content

    @property
    def user_id(self) -> str:
        return str(self.native("user", username=NAME)["id"])

    def by(self, method: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return how a method about an account is asked, and how the native API is asked the same."""
        if "username" in method:
            return {"username": NAME}, {"username": NAME}
        return {"user_id": self.user_id}, {"userId": self.user_id}

    def item(self, media_type: int = 1) -> Any:
        """Return the youngest raw photo (1) or video (2) of somebody who has many."""
        items = self.native("stories", username=MANY)["items"]
        return [item for item in items if item["media_type"] == media_type][-1]

    def page(self, item: Any) -> str:
        return f"{INSTAGRAM}/stories/{MANY}/{item['pk']}/"

    @property
    def highlight(self) -> str:
        """The number of a highlight."""
        return str(self.native("highlights", username=NAME)["tray"][0]["id"]).removeprefix("highlight:")

    def target(self, route: Route) -> str:
        """Return something that a route may be asked about."""
        item, number = self.item(), self.highlight
        pages = {STORY_ID: self.page(item), HIGHLIGHT_ID: f"{INSTAGRAM}/stories/highlights/{number}/"}
        if route.by.name == "url" and route.by.kind in pages:
            return pages[route.by.kind]
        kinds = {USERNAME: NAME, USER_ID: self.user_id, STORY_ID: item["pk"], HIGHLIGHT_ID: number}
        return str({**kinds, MEDIA_URL: best(item)}[route.by.kind])


def best(item: Any) -> str:
    """Return the address of the largest version of a raw item."""
    return str((item.get("video_versions") or item["image_versions2"]["candidates"])[0]["url"])


def agree(theirs: Callable[[], Any], ours: Callable[[], Any]) -> Any:
    """Check that both say the same but for integers that we write as strings; return what they say.

    A story may end, or midnight change the addresses of files, between the two: then they are asked again.
    """
    for last in (False, True):
        expected, told = as_strings(ours()), theirs()
        if last or as_strings(told) == expected:
            assert as_strings(told) == expected
            break
    return told


def as_strings(value: Any) -> Any:
    """Return a JSON value with its integers as strings."""
    if isinstance(value, dict):
        return {key: as_strings(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_strings(each) for each in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


@pytest.fixture(scope="module")
def world(tls_stack: TlsStack) -> World:
    stack = tls_stack.stack
    customer = stack.customer(CREDITS)
    return World(Customer(customer.base_url, customer.api_key, tls_stack.ca_file), stack.simulator.url)


@pytest.fixture
def hiker(tls_stack: TlsStack, world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world, in an environment that points HikerAPI's clients at it."""
    monkeypatch.setenv("SSL_CERT_FILE", tls_stack.ca_file)
    monkeypatch.setenv("HIKERAPI_HOST", urlsplit(tls_stack.stack.base_url).netloc)
    monkeypatch.setenv("HIKERAPI_TOKEN", world.customer.api_key)
    return world


def _by_client(token: str | None = None) -> Iterator[Call]:
    client = hikerapi.Client(token=token, timeout=TIMEOUT)
    yield lambda method, **given: getattr(client, method)(**given)
    client._client.close()  # it has no way of its own to close


async def _asked_async(token: str | None, method: str, **given: Any) -> Any:
    async with hikerapi.AsyncClient(token=token, timeout=TIMEOUT) as client:
        return await getattr(client, method)(**given)


@pytest.fixture(params=["Client", "AsyncClient"])
def call(request: pytest.FixtureRequest, hiker: World) -> Iterator[Call]:
    """Calls a method of one client or the other."""
    if request.param == "Client":
        yield from _by_client()
    else:
        yield lambda method, **given: asyncio.run(_asked_async(None, method, **given))


# --- stories of an account -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["user_stories_v1", "user_stories_by_username_v1"])
def test_stories_of_an_account_v1(hiker: World, call: Call, method: str) -> None:
    asked, natively = hiker.by(method)
    stories = agree(
        lambda: call(method, **asked), lambda: hiker.native("stories", **natively, shape="story")["items"]
    )
    assert len(stories) == 5
    for story in stories:
        assert set(story) == STORY_KEYS
        assert set(story["user"]) == USER_KEYS
        assert isinstance(story["pk"], str)
        assert story["taken_at"].endswith("Z")
    assert {bool(story["video_url"]) for story in stories} == {True, False}
    assert len(call(method, **asked, amount=2)) == 2


@pytest.mark.parametrize("method", ["user_stories_v2", "user_stories_by_username_v2"])
def test_stories_of_an_account_v2(hiker: World, call: Call, method: str) -> None:
    """The raw feed: ids are integers beyond what JavaScript can hold, unless `safe_int` is asked for."""
    asked, natively = hiker.by(method)
    around = {"broadcast": None, "unviewable_authors_info": None, "status": "ok"}
    body = agree(
        lambda: call(method, **asked), lambda: {**around, "reel": hiker.native("stories", **natively)}
    )
    assert all(isinstance(item["pk"], int) and item["pk"] > 2**53 for item in body["reel"]["items"])
    safe = call(method, **asked, **SAFE)["reel"]
    assert all(isinstance(item["pk"], str) for item in safe["items"])


def test_an_account_without_stories(call: Call) -> None:
    assert call("user_stories_by_username_v1", username="empty_hiker") == []
    assert call("user_stories_by_username_v2", username="empty_hiker")["reel"] is None


# --- one story -----------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", [1, 2])
def test_one_story(hiker: World, call: Call, media_type: int) -> None:
    item = hiker.item(media_type)
    by_id, by_url = {"id": item["pk"]}, {"url": hiker.page(item)}
    for method, asked in (("story_by_id_v1", by_id), ("story_by_url_v1", by_url)):
        story = agree(
            lambda method=method, asked=asked: call(method, **asked),
            lambda: hiker.native("story", storyId=item["pk"], shape="story")["items"][0],
        )
        assert (set(story), story["pk"]) == (STORY_KEYS, item["pk"])
    for method, asked in (("story_by_id_v2", by_id), ("story_by_url_v2", by_url)):
        raw = agree(
            lambda method=method, asked=asked: call(method, **asked)["reel"],
            lambda: hiker.native("story", storyId=item["pk"]),
        )
        assert raw["items"][0]["pk"] == int(item["pk"])
        assert call(method, **asked, **SAFE)["reel"]["items"][0]["pk"] == item["pk"]


@pytest.mark.parametrize(("media_type", "begins"), [(1, b"\xff\xd8\xff"), (2, b"ftyp")])
def test_the_file_of_a_story(hiker: World, call: Call, media_type: int, begins: bytes) -> None:
    item = hiker.item(media_type)
    expected = hiker.file(best(item))
    assert begins in expected[:12]
    assert call("story_download_v1", id=item["pk"]) == expected
    assert call("story_download_by_story_url_v1", url=hiker.page(item)) == expected
    assert call("story_download_by_url_v1", url=best(item)) == expected


# --- highlights ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["user_highlights_v1", "user_highlights_by_username_v1"])
def test_highlights_of_an_account_v1(hiker: World, call: Call, method: str) -> None:
    asked, natively = hiker.by(method)
    highlights = agree(
        lambda: call(method, **asked), lambda: hiker.native("highlights", **natively, shape="story")["tray"]
    )
    assert len(highlights) == 2
    assert all(set(each) == HIGHLIGHT_KEYS and each["items"] == [] for each in highlights)
    assert [each["pk"] for each in call(method, **asked, amount=1)] == [highlights[0]["pk"]]


@pytest.mark.parametrize("method", ["user_highlights_v2", "user_highlights_by_username_v2"])
def test_highlights_of_an_account_v2(hiker: World, call: Call, method: str) -> None:
    asked, natively = hiker.by(method)

    def ours() -> Any:
        tray = hiker.native("highlights", **natively)["tray"]
        return [{**each, "pk": each["id"].removeprefix("highlight:"), "items": []} for each in tray]

    tray = agree(lambda: call(method, **asked)["response"]["tray"], ours)
    one = call(method, **asked, amount=1)
    assert [each["pk"] for each in one["response"]["tray"]] == [tray[0]["pk"]]
    assert one["next_page_id"] is None


def test_the_pages_of_highlights(hiker: World, call: Call) -> None:
    """The clients' own helper goes on until there is no further page."""
    asked = {"user_id": hiker.user_id}
    tray = agree(
        lambda: call("user_highlights", **asked),
        lambda: call("user_highlights_v2", **asked)["response"]["tray"],
    )
    assert len(tray) == 2
    assert len(call("user_highlights", **asked, count=1)) == 1


def test_one_highlight(hiker: World, call: Call) -> None:
    number = hiker.highlight

    def ours(**more: str) -> Any:
        return hiker.native("highlight", highlightId=number, **more)

    highlight = agree(
        lambda: call("highlight_by_url_v1", url=f"{INSTAGRAM}/stories/highlights/{number}/"),
        lambda: ours(shape="story"),
    )
    assert set(highlight) == HIGHLIGHT_KEYS
    assert all(set(story) == STORY_KEYS for story in highlight["items"])
    reels = agree(
        lambda: call("highlight_by_id_v2", id=number)["response"]["reels"],
        lambda: {f"highlight:{number}": {**ours(), "items": ours(shape="story")["items"]}},
    )
    assert len(reels[f"highlight:{number}"]["items"]) == len(highlight["items"])


# --- accounts, share links -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["user_by_id", "user_by_username"])
def test_an_account(hiker: World, call: Call, method: str) -> None:
    asked, natively = hiker.by(method)
    asked = {"id": asked["user_id"]} if "user_id" in asked else asked

    def ours() -> Any:
        return hiker.native("user", **natively)["user"]

    v1 = agree(lambda: call(f"{method}_v1", **asked), ours)
    v2 = agree(lambda: call(f"{method}_v2", **asked)["user"], ours)
    assert (v1["username"], v2["pk"]) == (NAME, int(hiker.user_id))
    assert call(f"{method}_v2", **asked, **SAFE)["user"]["pk"] == hiker.user_id


def test_an_account_by_its_url(hiker: World, call: Call) -> None:
    assert call("user_by_username_v1", username=f"{INSTAGRAM}/{NAME}/")["username"] == NAME


def test_share_links(call: Call) -> None:
    code = "aGlnaGxpZ2h0OjE4MTQ2MjE2Njk4MDIyMTc0"
    shared = {"pk": 18146216698022174, "type": "highlight"}
    assert call("share_by_code_v1", code=code) == shared
    assert call("share_by_url_v1", url=f"{INSTAGRAM}/s/{code}?igsh=x") == shared


# --- what it costs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "more", "reqs"),
    [
        ("user_stories_v1", {}, 2),
        ("user_stories_v2", {"force": "on"}, 1),
        ("user_stories_by_username_v1", {"force": "true"}, 2),
        ("user_stories_by_username_v2", {}, 3),
        ("user_highlights", {}, 2),
        ("user_highlights_v1", {"force": "on"}, 1),
        ("user_highlights_by_username_v2", {}, 3),
    ],
)
def test_what_a_call_costs(hiker: World, call: Call, method: str, more: dict[str, str], reqs: int) -> None:
    asked, _ = hiker.by(method)
    before = hiker.customer.credits()["available"]
    body = call(method, **asked, **more)
    assert "exc_type" not in body
    assert before - hiker.customer.credits()["available"] == reqs


def test_many_calls_of_one_client_at_once(hiker: World) -> None:
    async def all_of_them() -> list[Any]:
        async with hikerapi.AsyncClient(timeout=TIMEOUT) as client:
            names = [f"hiker{number}" for number in range(30)]
            return await asyncio.gather(*(client.user_by_username_v1(username=name) for name in names))

    before = hiker.customer.credits()["available"]
    told = asyncio.run(all_of_them())
    assert [user["username"] for user in told] == [f"hiker{number}" for number in range(30)]
    assert before - hiker.customer.credits()["available"] == 30


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "asked", "exc_type"),
    [
        ("user_stories_by_username_v1", {"username": "private_hiker"}, "PrivateAccount"),
        ("user_highlights_by_username_v2", {"username": "private_hiker"}, "PrivateAccount"),
        ("user_stories_by_username_v2", {"username": "missing_hiker"}, "UserNotFound"),
        ("user_by_username_v1", {"username": "missing_hiker"}, "UserNotFound"),
        ("story_by_id_v1", {"id": "4"}, "StoryNotFound"),
        ("story_download_v1", {"id": "4"}, "StoryNotFound"),
        ("highlight_by_id_v2", {"id": "4"}, "HighlightNotFound"),
        ("story_download_by_url_v1", {"url": UNKNOWN_FILE}, "MediaNotFound"),
        ("user_stories_gql", {"user_id": "4"}, "NotFound"),
        ("user_highlights_gql", {"user_id": "4"}, "NotFound"),
        ("highlight_by_id_gql", {"id": "4"}, "NotFound"),
        ("user_by_url_v1", {"url": f"{INSTAGRAM}/{NAME}/"}, "NotFound"),
        ("share_reel_by_url_v1", {"url": f"{INSTAGRAM}/reel/C0"}, "NotFound"),
    ],
)
def test_errors_come_in_their_form_and_cost_nothing(
    hiker: World, call: Call, method: str, asked: dict[str, str], exc_type: str
) -> None:
    before = hiker.customer.credits()
    body = call(method, **asked)
    assert (set(body), body["exc_type"]) == ({"detail", "exc_type"}, exc_type)
    assert hiker.customer.credits() == before


def test_what_makes_no_sense_comes_as_a_list(call: Call) -> None:
    [complaint] = call("user_stories_v1", user_id="nasa")["detail"]
    assert complaint["loc"] == ["query", "user_id"]
    [complaint] = call("story_download_by_url_v1", url="https://example.com/a.mp4")["detail"]
    assert complaint["loc"] == ["query", "url"]


def test_a_wrong_token_and_an_empty_purse(tls_stack: TlsStack, hiker: World) -> None:
    for token in ("sk_live_wrong", tls_stack.stack.customer(0).api_key):
        expected = "Unauthorized" if token.endswith("wrong") else "InsufficientFunds"
        for call in _by_client(token):
            assert call("user_stories_v1", user_id="5")["exc_type"] == expected
        asked = _asked_async(token, "user_stories_v1", user_id="5")
        assert asyncio.run(asked)["exc_type"] == expected


def test_who_does_not_trust_the_certificate_is_not_served(
    hiker: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    for call in _by_client():
        with pytest.raises(httpx.ConnectError):
            call("user_by_username_v1", username=NAME)


# --- any other client: plain https ---------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_route_says_what_it_cost(hiker: World, route: Route) -> None:
    query = {route.by.name: hiker.target(route)}
    before = hiker.customer.credits()["available"]
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(
            hiker.customer.base_url + route.path,
            params=query,
            headers={"x-access-key": hiker.customer.api_key},
            verify=hiker.customer.ca_file,
            timeout=TIMEOUT,
        )
    assert answer.status_code == 200, answer.text
    reqs = before - hiker.customer.credits()["available"]
    assert answer.headers["x-hiker-info"] == f"reqs={reqs}"
    one = {STORY, HIGHLIGHT, DOWNLOAD, "user"}
    assert reqs == (1 if route.operation in one else 3 if route.by.kind == USERNAME else 2)
    if route.operation == DOWNLOAD:
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["Content-Disposition"].endswith('.jpg"')


def test_a_highlight_by_its_id_v1(hiker: World) -> None:
    """A route without a method in the stock client."""
    number = hiker.highlight
    found = agree(
        lambda: hiker.customer.call("GET", "/v1/highlight/by/id", params={"id": number}).json(),
        lambda: hiker.native("highlight", highlightId=number, shape="story"),
    )
    assert found["id"] == f"highlight:{number}"


def test_the_balance(hiker: World) -> None:
    body = hiker.customer.call("GET", "/sys/balance").json()
    assert body["requests"] == hiker.customer.credits()["available"]
