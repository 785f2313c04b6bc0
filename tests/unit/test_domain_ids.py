"""Identifiers: sortable, sharded, and told apart from anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import ids

shards = st.integers(0, 255)
moments = st.integers(0, 2**48 - 1)


@given(shards, moments, moments)
def test_ids_of_one_shard_sort_by_the_time_they_were_made(shard: int, one: int, other: int) -> None:
    first, second = sorted((one, other))
    if first < second:
        assert ids.new_id(ids.REQUEST, shard, first) < ids.new_id(ids.REQUEST, shard, second)


@given(shards, moments)
def test_an_id_names_its_shard_and_the_time_it_was_made(shard: int, at: int) -> None:
    made = ids.new_id(ids.REQUEST, shard, at)
    assert ids.shard_of(made, ids.REQUEST) == shard
    assert ids.shard_in(made) == shard
    assert ids.born_ms(made) == at


@given(shards, moments, moments)
def test_a_floor_parts_the_ids_made_before_from_those_made_after(shard: int, at: int, floor_at: int) -> None:
    made = ids.new_id(ids.REQUEST, shard, at)
    assert (made > ids.floor_id(ids.REQUEST, shard, floor_at)) == (at >= floor_at)


def test_a_floor_before_1970_sorts_before_every_id() -> None:
    assert ids.floor_id(ids.REQUEST, 3, -1) < ids.new_id(ids.REQUEST, 3, 0)


def test_ids_of_the_same_moment_differ_and_sort_as_they_were_made() -> None:
    made = [ids.new_id(ids.REQUEST, 1, 1) for _ in range(1000)]
    assert len(set(made)) == 1000
    assert made == sorted(made)


def test_where_the_ids_of_a_moment_run_out_they_still_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    ids.new_id(ids.REQUEST, 1, 1)
    monkeypatch.setattr(ids._newest, "_random", 2**80 - 1)
    made = ids.new_id(ids.REQUEST, 1, 1)
    assert ids.shard_of(made, ids.REQUEST) == 1
    assert ids.born_ms(made) == 1


def test_batches_of_the_same_moment_share_no_item() -> None:
    batches = [ids.new_batch_id(1, 1) for _ in range(1000)]
    assert len({ids.item_of(batch, 1) for batch in batches}) == 1000


@given(shards, moments)
def test_a_request_and_its_delivery_share_all_but_the_prefix(shard: int, at: int) -> None:
    request_id = ids.new_id(ids.REQUEST, shard, at)
    delivery_id = ids.delivery_of(request_id)
    assert ids.shard_of(delivery_id, ids.DELIVERY) == shard
    assert delivery_id.split("_")[1] == request_id.split("_")[1]


def test_an_id_of_another_kind_is_not_taken() -> None:
    assert ids.shard_of(ids.new_id(ids.ACCOUNT, 7, 1), ids.REQUEST) is None


GOOD = "req_07" + "0" * 26


@pytest.mark.parametrize(
    "text",
    [
        "", "req", "req_", "req_07", GOOD[:-1], GOOD + "0", GOOD.upper(), GOOD.replace("07", "7g"),
        " " + GOOD,
        GOOD[:-1] + "i", GOOD[:-1] + "l", GOOD[:-1] + "o", GOOD[:-1] + "u", GOOD[:-1] + "*", "{" + GOOD,
        GOOD[:-1] + "\u0660", GOOD.replace("_", "-"),
    ],
)  # fmt: skip
def test_what_only_looks_like_an_id_names_no_shard(text: str) -> None:
    assert ids.shard_of(text, ids.REQUEST) is None


def test_an_id_with_a_line_break_behind_it_is_no_id() -> None:
    assert ids.shard_of(GOOD, ids.REQUEST) == 7
    assert ids.shard_of(GOOD + "\n", ids.REQUEST) is None


@given(st.text())
def test_no_text_whatever_makes_the_look_at_an_id_fail(text: str) -> None:
    ids.shard_of(text, ids.REQUEST)
