"""`storyhook health`: the check of each container."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from celery import Celery
from click.testing import CliRunner
from redbeat.schedulers import RedBeatConfig
from redis import Redis

from service.cli.demo import free_ports
from service.cli.main import main
from service.config import Settings
from service.stores import keys
from service.stores.stats import Stats
from workers.schedule import configure_beat

HEALTHY, UNWELL, USAGE = 0, 1, 2


def health(*arguments: str) -> int:
    return CliRunner().invoke(main, ["health", *arguments]).exit_code


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A web process at PORT; the list holds the status it answers with."""
    status = [200]

    class Web(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status[0] if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("PORT", str(server.server_port))
        yield status
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("settings")
def test_web_answers(answering: list[int]) -> None:
    assert health("web") == HEALTHY
    answering[0] = 500
    assert health("web") == UNWELL


@pytest.mark.usefixtures("settings")
def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", str(free_ports(1)[0]))
    assert health("web") == UNWELL


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("role", ["worker", "deliverer"])
def test_only_ones_own_sign_of_life_counts(valkey: Redis, role: str) -> None:
    stats = Stats(valkey, 1)
    stats.beat(f"{role}.1@another-host")
    assert health(role) == UNWELL
    stats.beat(f"{role}.1@{socket.gethostname()}")
    assert health(role) == HEALTHY
    stats.gone(f"{role}.1@{socket.gethostname()}")
    assert health(role) == UNWELL


@pytest.mark.usefixtures("settings")
def test_a_beat_leads(valkey: Redis) -> None:
    assert health("beat") == UNWELL
    valkey.set(keys.BEAT_LEADER, "a token", ex=30)
    assert health("beat") == HEALTHY


def test_the_lock_is_the_one_beat_takes(settings: Settings) -> None:
    app = Celery("test", set_as_current=False)
    configure_beat(app, settings.redis_url)
    assert RedBeatConfig(app).lock_key == keys.BEAT_LEADER


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("role", ["worker", "deliverer", "beat"])
def test_a_store_that_is_down_is_no_reason_to_restart(monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_ports(1)[0]}/0")
    assert health(role) == HEALTHY


@pytest.mark.parametrize("arguments", [[], ["store"], ["web", "worker"]])
def test_wrong_use(arguments: list[str]) -> None:
    assert health(*arguments) == USAGE
