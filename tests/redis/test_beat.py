"""Beat over a store that is out when it starts, or while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from redis import Redis

from service.config import Settings
from service.stores import keys
from tests.redis.kit import ON_ONE_SERVER
from workers.schedule import HOUSEKEEP, LastingScheduler, configure_beat


@pytest.fixture
def app(settings: Settings) -> Celery:
    app = Celery("test", broker="memory://", set_as_current=False)
    app.conf.task_ignore_result = True
    configure_beat(app, settings.redis_url)
    return app


@pytest.fixture
def read_only(valkey: Redis) -> Iterator[Callable[[], None]]:
    """A store that takes no writes until the function is called."""
    valkey.replicaof("127.0.0.1", 1)

    def cure() -> None:
        valkey.replicaof("NO", "ONE")

    yield cure
    cure()


def test_a_beat_whose_lead_was_not_taken_at_the_start_takes_it_later(app: Celery, valkey: Redis) -> None:
    scheduler = LastingScheduler(app=app)
    assert scheduler.lock is None, "Celery swallowed what went wrong when it was asked for"
    scheduler.tick()
    assert valkey.exists(keys.BEAT_LEADER)
    scheduler.close()


@ON_ONE_SERVER
def test_a_schedule_that_cannot_be_written_is_written_later(
    app: Celery, valkey: Redis, read_only: Callable[[], None]
) -> None:
    made: list[LastingScheduler] = []
    thread = threading.Thread(target=lambda: made.append(LastingScheduler(app=app)), daemon=True)
    thread.start()
    read_only()
    thread.join(60)
    assert made
    assert HOUSEKEEP in valkey.smembers(app.redbeat_conf.statics_key)


@ON_ONE_SERVER
@pytest.mark.parametrize("lead_is_lost", [False, True])
def test_a_store_that_takes_no_writes_ends_no_beat(
    app: Celery, valkey: Redis, request: pytest.FixtureRequest, lead_is_lost: bool
) -> None:
    scheduler = LastingScheduler(app=app)
    scheduler.tick()
    if lead_is_lost:
        valkey.delete(keys.BEAT_LEADER)
    cure = request.getfixturevalue("read_only")
    assert scheduler.tick() == 1.0
    cure()
    if lead_is_lost:
        assert scheduler.tick() == 1.0
        assert valkey.exists(keys.BEAT_LEADER), "taken again"
    assert scheduler.tick() >= 1.0
    scheduler.close()
