"""Every operation through real processes: asked sync, async and by webhook, shaped, shared, downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from service.domain.inputs import inputs_of
from service.domain.operations import DOWNLOAD, HIGHLIGHT, HIGHLIGHTS, OPERATIONS, STORIES, STORY, USER
from tests.bench.downloads import MEGABYTE, peak
from tests.conftest import await_true
from tests.e2e.clients import Customer
from tests.e2e.receiver import Receiver
from tests.e2e.stack import Stack
from tests.e2e.test_calls import CHARGED, RELEASED

NAME = "huge_olga"  # a hundred stories: the youngest of them ends in no test
INSTAGRAM = "https://www.instagram.com"
WAYS = [(operation.name, each.field) for operation in OPERATIONS.values() for each in inputs_of(operation)]
COUNTED = {STORIES: "items", STORY: "items", HIGHLIGHT: "items", HIGHLIGHTS: "tray"}
KEYS = {
    STORIES: {"id", "user", "items"},
    STORY: {"id", "user", "items"},
    HIGHLIGHTS: {"id", "user", "tray"},
    HIGHLIGHT: {"id", "user", "items", "title", "cover_media"},
    USER: {"id", "user"},
    DOWNLOAD: {"id", "user", "storyId", "url", "contentType", "size", "filename"},
}
LARGE = 50 * MEGABYTE
AT_ONCE = 4
PLACES = 64  # SYNC_WAITERS
MOST_GROWTH = 20 * MEGABYTE

needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")


class World:
    """What the simulated Instagram shows of one account."""

    def __init__(self, stack: Stack, customer: Customer) -> None:
        self.stack, self.customer = stack, customer

    def fetch(self, operation: str, prefer: str = "", **body: Any) -> requests.Response:
        headers = {"Prefer": prefer} if prefer else None
        return self.customer.call("POST", f"/api/instagram/{operation}", json=body, headers=headers)

    def data(self, operation: str, **body: Any) -> Any:
        answer = self.fetch(operation, **{"maxAge": 0, **body})
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def item(self, media_type: int = 1, username: str = NAME) -> Any:
        """Return the youngest raw photo (1) or video (2)."""
        items = self.data(STORIES, username=username)["items"]
        return [item for item in items if item["media_type"] == media_type][-1]

    def highlight(self) -> str:
        return str(self.data(HIGHLIGHTS, username="nasa")["tray"][0]["id"]).removeprefix("highlight:")

    def body(self, operation: str, field: str) -> dict[str, str]:
        """Return the body that asks for something by this field."""
        if field in ("username", "userId"):
            return {field: "nasa" if field == "username" else self.data(USER, username="nasa")["id"]}
        if operation == HIGHLIGHT:
            number = self.highlight()
            return {field: number if field != "url" else f"{INSTAGRAM}/stories/highlights/{number}/"}
        pk = self.item()["pk"]
        return {field: pk if field != "url" else f"{INSTAGRAM}/stories/{NAME}/{pk}/"}

    def download(self, headers: dict[str, str] | None = None, **query: str) -> requests.Response:
        return self.customer.call("GET", "/api/instagram/download", params=query, headers=headers)

    def size_of(self, pk: str) -> int:
        """Download a story's file, hold none of it, and return how many bytes came."""
        with self.begun(pk) as answer:
            return sum(map(len, answer.iter_content(MEGABYTE)))

    @contextmanager
    def begun(self, pk: str) -> Iterator[requests.Response]:
        """Begin to download a story's file, and hang up at the end."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(
                f"{self.customer.base_url}/api/instagram/download",
                params={"storyId": pk},
                headers={"Authorization": f"Bearer {self.customer.api_key}"},
                stream=True,
                timeout=100,
            )
            answer.raise_for_status()
            yield answer

    def on_cdn(self, url: str) -> requests.Response:
        """Ask the simulated CDN itself."""
        parts = urlsplit(url)
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"{self.stack.simulator.url}{parts.path}?{parts.query}", timeout=20)

    def charged_for(self, call: Callable[[], requests.Response]) -> tuple[requests.Response, int]:
        """Make a call; return its answer and what it cost in the end."""
        before = self.customer.credits()
        answer = call()
        after = self.customer.credits()
        assert after["held"] == before["held"] == 0
        return answer, before["balance"] - after["balance"]


@pytest.fixture
def world(stack: Stack, customer: Customer) -> World:
    return World(stack, customer)


def best(item: Any) -> str:
    return str((item.get("video_versions") or item["image_versions2"]["candidates"])[0]["url"])


# --- asked for ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "field"), WAYS)
def test_every_operation_is_answered_at_once_and_charged_once(
    world: World, operation: str, field: str
) -> None:
    body = world.body(operation, field)
    answer, cost = world.charged_for(lambda: world.fetch(operation, **body))
    envelope = answer.json()
    assert (answer.status_code, envelope["outcome"], cost) == (200, "found", 1), answer.text
    data = envelope["data"]
    assert set(data) >= KEYS[operation]
    counted = len(data[COUNTED[operation]]) if operation in COUNTED else 1
    assert envelope["itemCount"] == counted > 0
    assert isinstance(data["user"]["pk"], str)
    assert world.customer.ledger(envelope["requestId"]) == CHARGED
    assert world.customer.look(envelope["requestId"]).content == answer.content


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_may_be_polled(world: World, operation: str) -> None:
    body = world.body(operation, inputs_of(OPERATIONS[operation])[0].field)
    answer = world.fetch(operation, "respond-async", **body)
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    assert answer.headers["Location"] == f"/api/requests/{answer.json()['requestId']}"
    envelope = world.customer.outcome(answer.json()["requestId"])
    assert (envelope["outcome"], envelope["creditsCharged"]) == ("found", 1)
    assert set(envelope["data"]) >= KEYS[operation]


def test_a_highlight_by_webhook(world: World, receiver: Receiver) -> None:
    answer = world.fetch(HIGHLIGHT, highlightId=world.highlight(), webhookUrl=receiver.url)
    request_id = answer.json()["requestId"]
    assert answer.status_code == 202
    [arrival] = receiver.wait_for(request_id)
    envelope = arrival.verified(world.customer.secret())
    assert (envelope["outcome"], envelope["itemCount"]) == ("found", len(envelope["data"]["items"]))
    assert arrival.body == world.customer.look(request_id).content


@pytest.mark.parametrize(
    ("operation", "body", "code", "status"),
    [
        (STORIES, {"username": "private_olga"}, "account_private", 403),
        (HIGHLIGHTS, {"username": "private_olga"}, "account_private", 403),
        (HIGHLIGHTS, {"username": "missing_olga"}, "user_not_found", 404),
        (USER, {"username": "missing_olga"}, "user_not_found", 404),
        (STORY, {"storyId": "4"}, "story_not_found", 404),
        (DOWNLOAD, {"storyId": "4"}, "story_not_found", 404),
        (HIGHLIGHT, {"highlightId": "4"}, "highlight_not_found", 404),
    ],
)
def test_what_is_not_there_is_said_and_costs_nothing(
    world: World, operation: str, body: dict[str, str], code: str, status: int
) -> None:
    answer, cost = world.charged_for(lambda: world.fetch(operation, **body))
    envelope = answer.json()
    assert (answer.status_code, envelope["code"], cost) == (status, code, 0)
    assert world.customer.ledger(envelope["requestId"]) == RELEASED


# --- shaped, cut, shared ------------------------------------------------------------------------


@pytest.mark.parametrize("operation", list(COUNTED))
def test_a_result_in_the_shape_of_stories(world: World, operation: str) -> None:
    body = world.body(operation, inputs_of(OPERATIONS[operation])[0].field)
    raw, shaped = world.data(operation, **body), world.data(operation, **body, shape="story")
    name = COUNTED[operation]
    assert [each["id"] for each in shaped[name]] == [each["id"] for each in raw[name]]
    for each in shaped[name]:
        assert "thumbnail_url" in each or each["items"] == []
        assert "image_versions2" not in each


def test_no_more_than_was_asked_for(world: World) -> None:
    stories = world.fetch(STORIES, username=NAME, amount=3).json()
    assert (stories["itemCount"], len(stories["data"]["items"])) == (3, 3)
    highlights = world.fetch(HIGHLIGHTS, username="nasa", amount=1).json()
    assert (highlights["itemCount"], len(highlights["data"]["tray"])) == (1, 1)


def test_a_batch_in_the_shape_of_stories(world: World) -> None:
    asked = {"usernames": ["nasa", NAME], "shape": "story"}
    made = world.customer.call("POST", "/api/instagram/stories/batch", json=asked).json()
    path = f"/api/batches/{made['batchId']}"
    await_true(
        lambda: world.customer.call("GET", path, params={"wait": 20}).json()["status"] == "completed", 60
    )
    results = world.customer.call("GET", f"{path}/results").json()["results"]
    items = [item for each in results for item in each["data"]["items"]]
    assert len(items) == sum(each["itemCount"] for each in results) > 100
    assert all("thumbnail_url" in item and "image_versions2" not in item for item in items)


def test_a_watch_in_the_shape_of_stories(world: World, receiver: Receiver) -> None:
    asked = {"username": "nasa", "every": "1h", "webhookUrl": receiver.url, "shape": "story"}
    made = world.customer.call("POST", "/api/watches", json=asked).json()
    assert made["shape"] == "story"
    await_true(lambda: bool(receiver.arrivals), 40)
    items = receiver.arrivals[0].verified(world.customer.secret())["data"]["items"]
    assert all("thumbnail_url" in item and "image_versions2" not in item for item in items)
    assert world.customer.call("DELETE", f"/api/watches/{made['watchId']}").status_code == 204


def test_highlights_are_shared_while_they_are_young_enough(world: World) -> None:
    def trays() -> int:
        return int(world.stack.simulator.calls()["by_endpoint"].get("highlights_tray", 0))

    asked = {"username": "natgeo", "maxAge": 0}
    first = world.fetch(HIGHLIGHTS, **asked).json()
    before = trays()
    again = world.fetch(HIGHLIGHTS, **{**asked, "maxAge": 3_600}).json()
    assert (first["cached"], again["cached"], trays()) == (False, True, before)
    assert again["data"] == first["data"]
    assert world.fetch(HIGHLIGHTS, **asked).json()["cached"] is False
    assert trays() == before + 1


# --- downloaded ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("media_type", "content_type"), [(1, "image/jpeg"), (2, "video/mp4")])
def test_a_file_by_story_by_page_and_by_its_address(world: World, media_type: int, content_type: str) -> None:
    item = world.item(media_type)
    expected = world.on_cdn(best(item)).content
    page = f"{INSTAGRAM}/stories/{NAME}/{item['pk']}/"
    for query in ({"storyId": item["pk"]}, {"url": page}, {"url": best(item)}):
        answer, cost = world.charged_for(lambda query=query: world.download(**query))
        assert (answer.status_code, cost) == (200, 1), answer.text
        assert answer.content == expected
        assert answer.headers["Content-Type"] == content_type
        assert answer.headers["Content-Length"] == str(len(expected))
        assert answer.headers["Content-Disposition"].startswith('attachment; filename="')


def test_a_download_is_gone_on_with(world: World) -> None:
    item = world.item(2)
    whole = world.on_cdn(best(item)).content
    size = len(whole)
    for asked, part in {"0-99": whole[:100], f"{size // 2}-": whole[size // 2 :], "-7": whole[-7:]}.items():
        answer, cost = world.charged_for(
            lambda asked=asked: world.download({"Range": f"bytes={asked}"}, storyId=item["pk"])
        )
        assert (answer.status_code, answer.content, cost) == (206, part, 1)
        assert answer.headers["Content-Range"].endswith(f"/{size}")
    half = world.download({"Range": f"bytes=0-{size // 2}"}, storyId=item["pk"]).content
    rest = world.download({"Range": f"bytes={len(half)}-"}, storyId=item["pk"]).content
    assert half + rest == whole


def test_past_the_end_there_is_nothing_and_nothing_to_pay(world: World) -> None:
    item = world.item()
    answer, cost = world.charged_for(lambda: world.download({"Range": "bytes=99999999-"}, storyId=item["pk"]))
    assert (answer.status_code, answer.json()["code"], cost) == (416, "range_not_satisfiable", 0)


def test_an_address_that_has_expired_is_fetched_anew_while_its_story_lives(world: World) -> None:
    world.stack.simulator.knobs(cdn_seconds=1)
    photo, video = world.item(1), world.item(2)
    urls = best(photo), best(video)
    await_true(lambda: all(world.on_cdn(url).status_code == 403 for url in urls), 30)
    world.stack.simulator.knobs(cdn_seconds=0)
    answer, cost = world.charged_for(lambda: world.download(url=urls[0]))
    assert (answer.status_code, cost) == (200, 1)
    assert answer.content == world.on_cdn(best(world.item(1))).content
    # The address of a video does not tell whose it is.
    answer, cost = world.charged_for(lambda: world.download(url=urls[1]))
    assert (answer.status_code, answer.json()["code"], cost) == (404, "media_not_found", 0)


def test_an_address_nobody_knows_is_404_and_free(world: World) -> None:
    url = "https://scontent-sim1-1.cdninstagram.com/v/t66.30100-16/1_2_n.mp4?oe=7FFFFFFF&oh=00_0"
    answer, cost = world.charged_for(lambda: world.download(url=url))
    assert (answer.status_code, answer.json()["code"], cost) == (404, "media_not_found", 0)


@needs_proc
def test_a_large_file_is_handed_through_and_not_held(world: World) -> None:
    pk = world.item(2)["pk"]
    world.stack.simulator.knobs(media_bytes=LARGE)
    web = world.stack.pid("web")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(world.size_of, [pk] * AT_ONCE))  # whatever is made once is there from now on
        Path(f"/proc/{web}/clear_refs").write_text("5")  # its peak is what it holds now
        before = peak(web)
        assert list(threads.map(world.size_of, [pk] * AT_ONCE)) == [LARGE] * AT_ONCE
    assert peak(web) - before < MOST_GROWTH


def test_who_hangs_up_holds_no_place(world: World) -> None:
    """More downloads are broken off than may be under way at a time."""
    pk = world.item(2)["pk"]
    world.stack.simulator.knobs(media_bytes=LARGE)
    for _ in range(PLACES + 1):
        with world.begun(pk) as answer:
            assert next(answer.iter_content(1024))
    world.stack.simulator.knobs(media_bytes=0)
    assert world.download(storyId=pk).status_code == 200
