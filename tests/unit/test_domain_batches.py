"""What callers see of a batch: its numbers add up, and its summary is always the same bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import ids
from service.domain.batches import BatchRecord, BatchSubmission, summary, view
from service.domain.namelists import NAMES_MOST, Entry
from service.domain.options import Options

NOW = 1_790_000_000_000
HOOK = "https://example.com/hook"
BATCH = ids.new_batch_id(7, NOW)


def batch(**changes: object) -> BatchRecord:
    made = BatchRecord(
        batch_id=BATCH, account_id="acc_07", operation="stories", total=10, left=10, processing=0, hold=1,
        charged=0, item_count=0, cached=0, created_at=NOW, webhook_url=None, webhook_mode="each", max_age=60,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def submission(**changes: object) -> BatchSubmission:
    made = BatchSubmission(BATCH, "acc_07", "stories", [Entry(1, "anna"), Entry(2, "bert", "x")], hold=1)
    return replace(made, **changes)  # type: ignore[arg-type]


# --- ids -----------------------------------------------------------------------------------------


@given(st.integers(0, 255), st.integers(0, 2**48 - 1), st.sets(st.integers(1, NAMES_MOST), max_size=9))
def test_the_items_of_a_batch_have_ids_of_their_own_in_its_shard_and_order(
    shard: int, at: int, numbers: set[int]
) -> None:
    batch_id = ids.new_batch_id(shard, at)
    assert ids.shard_of(batch_id, ids.BATCH) == shard
    items = [ids.item_of(batch_id, number) for number in sorted(numbers)]
    assert items == sorted(set(items))
    for item in items:
        assert ids.shard_of(item, ids.REQUEST) == shard
        assert ids.born_ms(item) == ids.born_ms(batch_id) == at
    deliveries = {ids.delivery_of(each) for each in (batch_id, *items)}
    assert len(deliveries) == len(items) + 1, "the summary's webhook is none of the items'"


def test_two_batches_of_a_moment_share_no_item() -> None:
    made = {ids.new_batch_id(1, NOW) for _ in range(1_000)}
    assert len(made) == 1_000
    assert len({ids.item_of(each, NAMES_MOST) for each in made}) == 1_000
    first, second = sorted(made)[:2]
    assert ids.item_of(first, NAMES_MOST) < ids.item_of(second, 1)


# --- what is asked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "mode", "each", "whole"),
    [
        (None, "each", False, False), (None, "summary", False, False), (None, "both", False, False),
        (HOOK, "each", True, False), (HOOK, "summary", False, True), (HOOK, "both", True, True),
    ],
)  # fmt: skip
def test_the_mode_says_which_webhooks_are_owed(url: str | None, mode: str, each: bool, whole: bool) -> None:
    made = submission(webhook_url=url, webhook_mode=mode)
    assert (made.owes_each, made.owes_summary) == (each, whole)


def test_a_fingerprint_is_that_of_what_is_asked_and_of_nothing_else() -> None:
    asked = submission().fingerprint
    same = submission(batch_id=ids.new_batch_id(7, NOW + 1), idempotency_key="k")
    assert same.fingerprint == asked
    elsewhere = submission(entries=[Entry(5, "anna"), Entry(9, "bert", "x")])
    assert elsewhere.fingerprint == asked, "the same names on other lines"
    others = [
        {"entries": [Entry(1, "anna")]},
        {"entries": [Entry(1, "bert", "x"), Entry(2, "anna")]},
        {"entries": [Entry(1, "anna"), Entry(2, "bert")]},
        {"webhook_url": HOOK},
        {"webhook_mode": "both"},
        {"max_age": 1},
        {"clamp": True},
        {"options": Options(shape="story")},
        {"options": Options(archive=True)},
    ]
    assert len({asked, *(submission(**changes).fingerprint for changes in others)}) == len(others) + 1


def test_the_fingerprint_of_a_plain_batch_is_what_it_was() -> None:
    asked = json.dumps(["stories", [["anna", None], ["bert", "x"]], HOOK, "each", 60, False])
    made = submission(webhook_url=HOOK, max_age=60)
    assert made.fingerprint == hashlib.sha256(asked.encode()).hexdigest()


# --- what is seen --------------------------------------------------------------------------------


@st.composite
def batches(draw: st.DrawFn) -> BatchRecord:
    """A batch anywhere between its start and its end."""
    counts = draw(st.lists(st.integers(0, 3_000), min_size=5, max_size=5).filter(any))
    queued, processing, *ended = counts
    started = draw(st.sampled_from([0, NOW + 1, NOW + 5_000])) if not processing else NOW + 1
    final = queued + processing == 0
    return batch(
        total=sum(counts),
        left=queued + processing,
        processing=processing,
        hold=draw(st.integers(0, 3)),
        started_at=started,
        finished_at=NOW + 9 if final else 0,
        cancelled_at=draw(st.sampled_from([0, NOW + 3])),
        statuses=dict(zip(("succeeded", "failed", "cancelled"), ended, strict=True)),
    )


@given(batches(), st.integers(-10_000, 8 * 86_400_000))
def test_the_numbers_add_up_at_any_time(made: BatchRecord, passed: int) -> None:
    seen = view(made, NOW + passed)
    json.dumps(seen)
    assert sum(seen["states"].values()) == seen["total"] == made.total
    assert min(seen["states"].values()) >= 0
    assert seen["creditsHeld"] == made.hold * (seen["states"]["queued"] + seen["states"]["processing"])
    assert (seen["progress"] == 1) == (seen["status"] != "processing") == (made.left == 0)
    assert 0 <= seen["progress"] <= 1
    if seen["eta"] is not None:
        assert datetime.fromisoformat(seen["eta"]).timestamp() * 1000 >= NOW + passed


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "processing"),
        ({"cancelled_at": NOW}, "processing"),
        ({"left": 0}, "completed"),
        ({"left": 0, "cancelled_at": NOW}, "cancelled"),
    ],
)
def test_a_batch_is_over_when_its_items_are(changes: dict[str, int], status: str) -> None:
    assert view(batch(**changes))["status"] == status


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, None),
        ({"left": 8, "statuses": {"cancelled": 2}, "started_at": NOW}, None),  # cancelling is no speed
        ({"left": 8, "statuses": {"succeeded": 2}, "started_at": NOW}, 40),
        ({"left": 4, "statuses": {"failed": 2, "cancelled": 4}, "started_at": NOW}, 20),
        ({"left": 1, "statuses": {"succeeded": 9}, "started_at": NOW + 9_000}, 1 / 9),
        ({"left": 10, "started_at": NOW}, None),
        ({"left": 0, "statuses": {"succeeded": 10}, "started_at": NOW}, None),
        ({"left": 8, "statuses": {"succeeded": 2}, "started_at": NOW + 60_000}, None),  # the store's clock
    ],
)
def test_the_end_is_told_by_the_speed_so_far(changes: dict[str, Any], seconds: float | None) -> None:
    ends_at = batch(**changes).ends_at(NOW + 10_000)
    assert ends_at == (None if seconds is None else int(NOW + 10_000 + seconds * 1_000))


def test_a_large_batch_of_which_one_item_was_cancelled_can_be_looked_at() -> None:
    seen = view(batch(total=NAMES_MOST, left=NAMES_MOST - 1, statuses={"cancelled": 1}), NOW + 1)
    assert seen["eta"] is None


def test_a_summary_is_what_is_seen_at_the_end_whenever_that_is() -> None:
    ended = batch(
        left=0, charged=7, item_count=20, cached=2, started_at=NOW + 1, finished_at=NOW + 500,
        webhook_url=HOOK, webhook_mode="both",
        statuses={"succeeded": 7, "failed": 2, "cancelled": 1},
        outcomes={"found": 7, "cancelled": 1, "account_private": 2},
    )  # fmt: skip
    body = summary(ended)
    assert json.loads(body) == view(ended, NOW + 10**9) == view(ended)
    assert json.loads(body) == {
        "success": True,
        "batchId": BATCH,
        "status": "completed",
        "total": 10,
        "states": {"queued": 0, "processing": 0, "succeeded": 7, "failed": 2, "cancelled": 1},
        "outcomes": {"account_private": 2, "cancelled": 1, "found": 7},
        "cached": 2,
        "progress": 1.0,
        "itemCount": 20,
        "creditsHeld": 0,
        "creditsCharged": 7,
        "webhookUrl": HOOK,
        "webhookMode": "both",
        "maxAge": 60,
        "createdAt": "2026-09-21T14:13:20.000Z",
        "startedAt": "2026-09-21T14:13:20.001Z",
        "finishedAt": "2026-09-21T14:13:20.500Z",
        "eta": None,
        "results": f"/api/batches/{BATCH}/results",
    }
    shuffled = replace(
        ended,
        outcomes=dict(reversed(ended.outcomes.items())),
        statuses=dict(reversed(ended.statuses.items())),
    )
    assert summary(shuffled) == body
