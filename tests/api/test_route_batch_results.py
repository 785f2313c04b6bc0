"""The results of a batch on their way: in pages that are not too large, and in one stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import TestResponse

from service.actions import batch as actions
from service.app import create_app
from service.domain.errors import StoreUnavailable
from service.stores import keys
from tests.api.support import BATCH, Front, assert_error

NAMES = [f"name{number}" for number in range(45)]
AT_ONCE = actions.RESULTS_AT_ONCE


class Watched:
    """The store of requests; it remembers how many results it was asked for at a time.

    ``out`` says at which of the reads (from 1) it does not answer.
    """

    def __init__(self, front: Front, out: Callable[[int], bool] = lambda _: False) -> None:
        self._requests = front.services.requests
        self._out = out
        self.asked: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._requests, name)

    def get_many(self, request_ids: Sequence[str]) -> list[Any]:
        self.asked.append(len(request_ids))
        if self._out(len(self.asked)):
            raise StoreUnavailable
        return self._requests.get_many(request_ids)


def watched(front: Front, requests: Watched) -> Front:
    services = replace(front.services, requests=requests)
    return replace(front, services=services, app=create_app(front.settings, services))


def accepted(front: Front) -> str:
    response = front.call("POST", BATCH, json={"usernames": NAMES, "maxAge": 0})
    assert response.status_code == 202, response.text
    return str(response.json["batchId"])


def results(front: Front, batch_id: str, query: str = "", **options: Any) -> TestResponse:
    return front.get(f"/api/batches/{batch_id}/results{query}", **options)


# --- pages -----------------------------------------------------------------------------------------


def test_a_large_page_is_read_a_few_at_a_time(quick: Callable[..., Front]) -> None:
    front = quick()
    batch_id = accepted(front)
    requests = Watched(front)
    page = results(watched(front, requests), batch_id, "?limit=200").json
    assert [each["username"] for each in page["results"]] == NAMES
    assert page["nextCursor"] is None
    assert requests.asked == [AT_ONCE, AT_ONCE, len(NAMES) - 2 * AT_ONCE]


@pytest.mark.parametrize("query", ["", "&data=false"])
def test_a_page_ends_early_where_it_gets_too_large_and_its_cursor_goes_on(
    quick: Callable[..., Front], monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    front = quick()
    batch_id = accepted(front)
    whole = results(front, batch_id, f"?limit=200{query}").json["results"]
    most = 3 * len(json.dumps(whole[0]))
    monkeypatch.setattr(actions, "PAGE_MOST", most)
    found: list[Any] = []
    cursor, pages = "0", 0
    while cursor is not None:
        page = results(front, batch_id, f"?limit=200&cursor={cursor}{query}")
        assert len(page.data) < 2 * most
        found += page.json["results"]
        cursor, pages = page.json["nextCursor"], pages + 1
    assert found == whole
    assert pages > 5


def test_a_page_has_one_result_however_large_it_is(
    quick: Callable[..., Front], monkeypatch: pytest.MonkeyPatch
) -> None:
    front = quick()
    monkeypatch.setattr(actions, "PAGE_MOST", 1)
    page = results(front, accepted(front), "?limit=200").json
    assert (len(page["results"]), page["nextCursor"]) == (1, "1")


def test_a_page_ends_by_what_was_read_for_it_too(
    quick: Callable[..., Front], monkeypatch: pytest.MonkeyPatch
) -> None:
    front = quick()
    monkeypatch.setattr(actions, "READ_MOST", 1)
    page = results(front, accepted(front), "?limit=200&data=false").json
    assert (len(page["results"]), page["nextCursor"]) == (1, "1")


def test_a_page_that_breaks_is_503_and_no_half_page(quick: Callable[..., Front]) -> None:
    front = quick()
    batch_id = accepted(front)
    broken = watched(front, Watched(front, out=lambda read: read == 2))
    assert_error(results(broken, batch_id, "?limit=200"), 503, "service_unavailable")


# --- the stream ------------------------------------------------------------------------------------


def lines_of(response: TestResponse) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.data.endswith(b"\n")
    return [json.loads(line) for line in response.data.splitlines()]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is out is waited for hardly at all."""
    monkeypatch.setattr(actions, "READ_EVERY", 0.0)
    monkeypatch.setattr(actions, "READ_PATIENCE", 0.0)


def test_a_stream_outlasts_a_short_outage(
    quick: Callable[..., Front], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "READ_EVERY", 0.0)
    monkeypatch.setattr(actions, "READ_PATIENCE", 3_600.0)
    front = quick()
    batch_id = accepted(front)
    requests = Watched(front, out=lambda read: read in {2, 3, 4, 6})
    lines = lines_of(results(watched(front, requests), batch_id, "?format=ndjson"))
    assert [each["username"] for each in lines] == NAMES
    assert requests.asked == [20, 20, 20, 20, 20, 5, 5], "what failed was asked for again, and nothing else"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("query", ["", "&data=false"])
def test_a_stream_that_breaks_says_so_in_its_last_line_and_where_to_go_on(
    quick: Callable[..., Front], query: str
) -> None:
    front = quick()
    batch_id = accepted(front)
    broken = watched(front, Watched(front, out=lambda read: read > 2))
    *lines, last = lines_of(results(broken, batch_id, f"?format=ndjson&cursor=3{query}"))
    assert [each["username"] for each in lines] == NAMES[3 : 3 + 2 * AT_ONCE]
    assert all("requestId" in each for each in lines)
    assert (last["success"], last["code"], last["nextCursor"]) == (False, "store_unavailable", "43")
    assert "cut off" in last["error"]
    assert last["error"].endswith("go on with cursor=43.")
    assert set(last) == {"success", "code", "error", "nextCursor"}

    rest = lines_of(results(front, batch_id, f"?format=ndjson&cursor={last['nextCursor']}{query}"))
    assert [each["username"] for each in lines + rest] == NAMES[3:]


def test_a_stream_that_cannot_begin_is_503(quick: Callable[..., Front]) -> None:
    front = quick()
    batch_id = accepted(front)
    broken = watched(front, Watched(front, out=lambda _: True))
    assert_error(results(broken, batch_id, "?format=ndjson"), 503, "service_unavailable")


@pytest.mark.usefixtures("impatient")
def test_a_result_that_cannot_be_read_does_not_make_a_stream_look_complete(
    quick: Callable[..., Front],
) -> None:
    front = quick()
    batch_id = accepted(front)
    ended = results(front, batch_id, "?limit=45").json["results"][30]["requestId"]
    front.work(ended)
    front.redis.set(keys.result(ended), b"no gzip")
    *lines, last = lines_of(results(front, batch_id, "?format=ndjson"))
    assert [each["username"] for each in lines] == NAMES[:30]
    assert (last["code"], last["nextCursor"]) == ("broken_row", "30")


def test_a_stream_is_not_tried_again_when_the_process_ends(
    quick: Callable[..., Front], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "READ_PATIENCE", 3_600.0)
    front = quick()
    batch_id = accepted(front)
    broken = watched(front, Watched(front, out=lambda read: read > 1))
    broken.app.extensions["storyhook"].stopping.set()
    *_, last = lines_of(results(broken, batch_id, "?format=ndjson"))
    assert (last["code"], last["nextCursor"]) == ("store_unavailable", "20")


# --- a place, and a time ---------------------------------------------------------------------------


def free(front: Front) -> int:
    """How many places to wait, download or read a stream there are left."""
    return int(front.app.extensions["storyhook"].admission.waits.free)


def begun(front: Front, batch_id: str) -> TestResponse:
    """Begin to read a stream."""
    path = f"/api/batches/{batch_id}/results?format=ndjson"
    response = front.client.get(path, headers=front.me.headers, buffered=False)
    next(iter(response.response))
    return response


def test_a_stream_takes_a_place_for_as_long_as_it_is_read(quick: Callable[..., Front]) -> None:
    front = quick(sync_waiters=1)
    batch_id = accepted(front)
    stream = begun(front, batch_id)
    told = assert_error(results(front, batch_id, "?format=ndjson"), 429, "rate_limited")
    assert "calls that wait" in told["error"]
    assert results(front, batch_id).status_code == 200, "a page holds nobody up"
    stream.close()
    assert free(front) == 1
    assert len(lines_of(results(front, batch_id, "?format=ndjson"))) == len(NAMES)
    assert free(front) == 1


@pytest.mark.parametrize("query", ["?format=ndjson&cursor=x", "?format=ndjson&cursor=99", "?format=ndjson"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_place_comes_back_whatever_was_asked(
    quick: Callable[..., Front], query: str, method: str
) -> None:
    front = quick(sync_waiters=1)
    front.call(method, f"/api/batches/{accepted(front)}/results{query}").close()
    assert free(front) == 1


def test_the_place_comes_back_when_a_stream_cannot_begin(quick: Callable[..., Front]) -> None:
    front = quick(sync_waiters=1)
    broken = watched(front, Watched(front, out=lambda _: True))
    assert results(broken, accepted(front), "?format=ndjson").status_code == 503
    assert free(broken) == 1


def test_a_stream_that_is_read_too_slowly_says_so_in_its_last_line(quick: Callable[..., Front]) -> None:
    front = quick(body_limit=-1.0)
    [last] = lines_of(results(front, accepted(front), "?format=ndjson&cursor=7"))
    assert (last["success"], last["code"], last["nextCursor"]) == (False, "stream_timeout", "7")
    assert last["error"].endswith("go on with cursor=7.")
