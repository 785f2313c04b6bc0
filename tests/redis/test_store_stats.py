"""Counters and living workers over the fake store and over a real one."""

from __future__ import annotations

import pytest
import time_machine
from redis import Redis

from service.domain import ids
from service.domain.policy import Policy
from service.stores.requests import Requests
from service.stores.stats import BEAT_LIFETIME, FORGET_AFTER, Stats
from tests.conftest import SHARDS, finish_one
from tests.redis.kit import NOW, ending, submission


@pytest.fixture
def stats(redis: Redis) -> Stats:
    return Stats(redis, SHARDS)


def test_an_empty_store_counts_nothing(stats: Stats) -> None:
    stats.ping()
    assert not any(stats.counters().values())
    assert stats.workers() == []


def test_counters_are_summed_over_the_shards(redis: Redis, stats: Stats) -> None:
    requests = Requests(redis, Policy(), SHARDS)
    made = [
        requests.submit(submission(ids.new_id(ids.ACCOUNT, shard, NOW), hold=0)) for shard in range(SHARDS)
    ]
    claim = requests.claim(made[0].request_id)
    assert claim is not None
    finish_one(requests, claim, ending(charge=0))
    counters = stats.counters()
    assert (counters["accepted"], counters["open"], counters["outcome:found"]) == (SHARDS, SHARDS - 1, 1)
    assert counters["job_seconds_sum"] >= 0


def test_a_worker_lives_as_long_as_it_beats(stats: Stats) -> None:
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        stats.beat("one")
        clock.shift(BEAT_LIFETIME - 1)
        stats.beat("two")
        assert sorted(stats.workers()) == ["one", "two"]
        clock.shift(2)
        assert stats.workers() == ["two"]
        stats.beat("one")
        assert sorted(stats.workers()) == ["one", "two"]


def test_a_worker_that_says_good_bye_is_gone_at_once(stats: Stats) -> None:
    stats.beat("one")
    stats.gone("one")
    assert stats.workers() == []


def test_workers_of_long_ago_are_forgotten(redis: Redis, stats: Stats) -> None:
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        stats.beat("one")
        clock.shift(FORGET_AFTER + 1)
        stats.beat("two")
    assert redis.zrange("g:workers", 0, -1) == ["two"]
