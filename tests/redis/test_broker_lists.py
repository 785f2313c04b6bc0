"""What consumers hold of a broker that is a Redis."""

from __future__ import annotations

import pytest
from redis import Redis

from service.broker import make_celery
from service.config import Settings
from service.stores.connection import open_store
from tests.redis.kit import ON_ONE_SERVER


@ON_ONE_SERVER
@pytest.mark.parametrize("line", ["}{", "7", "[1]", "null", b"\xff\xfe"])
def test_what_is_no_message_is_not_kept_among_those_that_are_put_back(
    valkey: Redis, settings: Settings, line: str | bytes
) -> None:
    with open_store(settings.broker_url) as broker, make_celery(settings.broker_url).connection() as consumer:
        broker.hset("unacked", "a-tag", line)
        broker.zadd("unacked_index", {"a-tag": 1})
        consumer.default_channel.qos.restore_by_tag("a-tag")
        assert not broker.exists("unacked", "unacked_index")
