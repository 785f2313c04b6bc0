"""URLs of stores of one and of several machines, and what Celery is told of a broker."""

from __future__ import annotations

import ssl

import pytest

from service.broker import broker_of
from service.stores.connection import open_store
from service.stores.topology import CLUSTER, SENTINEL, SINGLE, parse

WATCHED = "redis+sentinel://me:p%40ss@one:26380,two,[::1]:26382/main/2"


def test_one_server() -> None:
    where = parse("rediss://me:pw@store/3?ssl_ca_certs=/ca.pem")
    assert (where.kind, where.tls, where.nodes, where.database) == (SINGLE, True, (("store", 6379),), 3)
    assert where.server(("other", 1)) == "rediss://me:pw@other:1/3?ssl_ca_certs=%2Fca.pem"


def test_a_set_behind_sentinels() -> None:
    where = parse(WATCHED)
    assert (where.kind, where.service, where.database) == (SENTINEL, "main", 2)
    assert where.nodes == (("one", 26_380), ("two", 26_379), ("::1", 26_382))
    assert where.server(where.nodes[2]) == "redis://me:p%40ss@[::1]:26382/2"
    assert parse(where.next_database()) == parse(WATCHED.replace("/2", "/3"))


def test_the_login_of_the_sentinels_is_another_than_that_of_the_servers() -> None:
    where = parse("redis+sentinel://me:pw@one/main?sentinel_password=s&health_check_interval=5")
    assert where.sentinel_login == {"password": "s"}
    assert where.server(("x", 1)) == "redis://me:pw@x:1/0?health_check_interval=5"
    assert parse(where.next_database()).sentinel_login == {"password": "s"}


def test_a_cluster() -> None:
    where = parse("rediss+cluster://:pw@one,two:7001")
    assert (where.kind, where.tls, where.nodes) == (CLUSTER, True, (("one", 6379), ("two", 7001)))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://one,two/0", "redis[+]sentinel://"),
        ("redis+sentinel://one,two", "Name the set"),
        ("redis+sentinel://one,two/main/x", "number of a database"),
        ("redis+cluster://one,two/1", "one database, 0"),
        ("redis+cluster://", "host:port"),
        ("redis+cluster://one,,two", "host:port"),
        ("redis://one:port/0", "host:port"),
        ("redis+cluster://user:secret@one:99999", "host:port"),
        ("rabbit://one", "Give a URL such as"),
    ],
)
def test_a_wrong_url_is_told_with_what_to_write(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        parse(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:1/0", "redis+sentinel://127.0.0.1:1/x", "redis+cluster://127.0.0.1:1"]
)
def test_nothing_is_sent_when_a_store_is_opened(url: str) -> None:
    open_store(url).close()


def test_a_broker_behind_sentinels_is_told_as_kombu_wants_it() -> None:
    broker = broker_of("rediss+sentinel://me:pw@one,two/main/1?sentinel_password=s")
    assert broker.url == "sentinel://me:pw@one:26379/1;sentinel://me:pw@two:26379/1"
    assert broker.options["master_name"] == "main"
    assert broker.options["sentinel_kwargs"]["password"] == "s"
    assert broker.options["sentinel_kwargs"]["ssl"] is True
    assert broker.tls == {"ssl_cert_reqs": ssl.CERT_REQUIRED}


def test_rabbitmq_gets_quorum_queues_and_nothing_that_is_of_redis() -> None:
    broker = broker_of("amqp://me:pw@one//;amqp://me:pw@two//")
    assert broker.queue_arguments == {"x-queue-type": "quorum"}
    assert broker.options["confirm_publish"] is True
    assert broker.options["max_retries"] == 1, "each of its nodes once"
    assert "queue_order_strategy" not in broker.options


def test_one_redis_keeps_its_queues() -> None:
    assert broker_of("redis://one/1").queue_arguments is None
    assert broker_of("rediss://one/1").tls == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    assert broker_of("rediss://one/1?ssl_cert_reqs=none").tls is None
