"""The Celery object: what its connections are told."""

from __future__ import annotations

import socket
import ssl
from types import SimpleNamespace

import pytest
from kombu.transport import redis as redis_transport

from service.broker import LONGEST_PAUSE, PromptConnection, QoS, make_celery
from service.domain.requests import BULK
from service.queue import CeleryQueue


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("rediss://broker.example:6379/1", ssl.CERT_REQUIRED),
        ("rediss://broker.example:6379/1?ssl_cert_reqs=required", ssl.CERT_REQUIRED),
        ("rediss://broker.example:6379/1?ssl_cert_reqs=none", ssl.CERT_NONE),
    ],
)
def test_certificates_are_verified_unless_the_url_says_otherwise(url: str, told: ssl.VerifyMode) -> None:
    assert make_celery(url).connection_for_write().ssl["ssl_cert_reqs"] == told


def test_without_tls_there_is_nothing_to_verify() -> None:
    assert not make_celery("redis://127.0.0.1:6379/1").connection_for_write().ssl


def test_a_broker_that_is_out_is_tried_often(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = make_celery("redis://127.0.0.1:1/1").connection_for_read()
    assert isinstance(connection, PromptConnection)
    told: dict[str, object] = {}
    monkeypatch.setattr(
        "kombu.Connection.ensure_connection", lambda _self, *_args, **options: told.update(options)
    )
    connection.ensure_connection(max_retries=None)
    assert told == {"interval_max": LONGEST_PAUSE, "max_retries": None}


@pytest.mark.parametrize("how", ["ack", "reject"])
def test_a_message_whose_acknowledgement_fails_frees_its_place(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert redis_transport.Channel.QoS is QoS

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(redis_transport.QoS, how, fail)
    qos = QoS(channel=SimpleNamespace(do_restore=False), prefetch_count=1)
    qos._delivered["tag"] = object()
    assert not qos.can_consume()
    with pytest.raises(ConnectionError):
        getattr(qos, how)("tag")
    qos._flush()
    assert qos.can_consume()


def test_a_publisher_tries_a_silent_broker_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        queue = CeleryQueue(make_celery(f"redis://127.0.0.1:{silent.getsockname()[1]}/1"))
        assert not queue.enqueue("a.task", BULK)
        silent.accept()[0].close()
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
