"""The store or the broker is out: callers are told so soon, and all is well again after."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from service.app import create_app
from service.broker import make_celery
from service.cli.demo import free_ports
from service.config import Settings
from service.queue import CeleryQueue
from service.stores.connection import open_store
from tests.api.support import BODIES, JSON, PROTECTED, STORIES, Front, Timer, assert_error, make_front
from tests.conftest import RecordingQueue, await_true, running_valkey

# The promise is 2 seconds; the rest is for a machine that does much else, and may stand still for a while.
SECONDS = 15.0
ROUTES = [*PROTECTED, ("POST", "/auth/login"), ("GET", "/metrics")]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[running_valkey]:
    [port] = free_ports(1)
    server = running_valkey(tmp_path, port)
    with server:
        yield server
        if server.process is not None:
            server.process.send_signal(signal.SIGCONT)


@pytest.fixture
def front(server: running_valkey, settings: Settings) -> Iterator[Front]:
    redis = open_store(server.url)
    yield make_front(replace(settings, redis_url=server.url), redis, RecordingQueue())
    redis.close()


def call(front: Front, route: tuple[str, str]) -> tuple[TestResponse, float]:
    method, path = route
    with Timer() as timer:
        response = front.call(method, path, json=BODIES.get(route))
    return response, timer.seconds


def assert_all_503(front: Front) -> None:
    with ThreadPoolExecutor(len(ROUTES)) as pool:
        answers = list(pool.map(lambda route: call(front, route), ROUTES))
    for route, (response, seconds) in zip(ROUTES, answers, strict=True):
        assert response.status_code == 503, (route, response.text)
        assert_error(response, 503, "service_unavailable")
        assert seconds < SECONDS, route


def assert_works(front: Front) -> None:
    # A pooled connection may have died with the server; that is no matter of the caller's.
    assert front.get("/api/credits").status_code == 200
    with front.working():
        assert front.stories().status_code == 200
    assert front.client.post("/auth/login", json=BODIES["POST", "/auth/login"]).status_code == 200


def test_a_store_that_is_down_is_503_everywhere_until_it_is_back(
    front: Front, server: running_valkey
) -> None:
    assert_works(front)
    server.stop()
    assert_all_503(front)
    assert front.client.get("/healthz").status_code == 200
    ready = front.client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json["checks"]["store"] == "down"
    assert front.client.get("/openapi.json").status_code == 200
    assert front.queue.published[1:] == []

    server.start()
    assert_works(front)
    assert front.available() == 98


def test_a_store_that_is_frozen_is_503_everywhere_until_it_goes_on(
    front: Front, server: running_valkey
) -> None:
    assert_works(front)
    server.process.send_signal(signal.SIGSTOP)
    assert_all_503(front)
    with Timer() as timer:
        ready = front.client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json["checks"]["store"] == "down"
    assert timer.seconds < SECONDS

    server.process.send_signal(signal.SIGCONT)
    assert_works(front)


def test_a_store_that_was_never_there_is_503(
    settings: Settings, server: running_valkey, front: Front
) -> None:
    server.stop()
    redis = open_store(server.url)
    services = replace(front.services, accounts=type(front.services.accounts)(redis, None, 4))
    response = replace(front, app=create_app(settings, services)).get("/api/credits")
    redis.close()

    assert_error(response, 503, "service_unavailable")


def test_a_restart_forgets_no_request(front: Front, server: running_valkey) -> None:
    done = front.ended()
    envelope = front.get(f"/api/requests/{done}").data
    queued = front.accept()
    server.stop()
    server.start()

    assert front.get(f"/api/requests/{done}").data == envelope
    assert front.get(f"/api/requests/{queued}").json["status"] == "queued"
    front.work(queued)
    assert front.get(f"/api/requests/{queued}").json["status"] == "succeeded"


def test_who_waits_while_the_store_goes_down_is_told_soon(front: Front, server: running_valkey) -> None:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(front.stories()))
    thread.start()
    await_true(lambda: front.redis.pubsub_channels("*:done:*"))
    with Timer() as timer:
        server.stop()
        thread.join(60)

    assert timer.seconds < SECONDS
    [response] = answers
    # The request is stored and open: either is honest, and both say when to look again.
    assert response.status_code in (202, 503)
    assert response.content_type == JSON
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize("frozen", [False, True], ids=["down", "frozen"])
def test_a_broker_that_is_out_delays_nobody_and_fails_no_request(
    front: Front, tmp_path_factory: pytest.TempPathFactory, frozen: bool
) -> None:
    [port] = free_ports(1)
    broker = running_valkey(tmp_path_factory.mktemp("broker"), port)
    with broker:
        queue = CeleryQueue(make_celery(broker.url))
        services = replace(front.services, queue=queue)
        there = replace(front, services=services, app=create_app(front.settings, services))
        assert there.stories(prefer="respond-async").status_code == 202
        if frozen:
            broker.process.send_signal(signal.SIGSTOP)
        else:
            broker.stop()
        with Timer() as timer:
            response = there.stories(prefer="respond-async")
        if frozen:
            broker.process.send_signal(signal.SIGCONT)

    assert response.status_code == 202, response.text
    assert timer.seconds < SECONDS
    request_id = response.json["requestId"]
    assert front.get(f"/api/requests/{request_id}").json["status"] == "queued"
    [line] = front.redis.zrange(f"{{s{request_id[4:6]}}}:open", -1, -1)
    assert line == request_id


def test_a_store_that_is_full_is_503(front: Front) -> None:
    front.redis.config_set("maxmemory-policy", "noeviction")
    front.redis.config_set("maxmemory", 1)
    try:
        response = front.call("POST", STORIES, json={"username": "nasa"})
        assert_error(response, 503, "service_unavailable")
        assert front.get("/api/prices").status_code in (200, 503)
    finally:
        front.redis.config_set("maxmemory", 0)
    assert_works(front)
