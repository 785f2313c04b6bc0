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


def test_a_page_that_breaks_is_503_and_no_half_page(quick: Callable[..., Front]) -> None:
    front = quick()
    batch_id = accepted(front)
    broken = watched(front, Watched(front, out=lambda read: read == 2))
    assert_error(results(broken, batch_id, "?limit=200"), 503, "service_unavailable")
