"""The port, and what is answered before the service is there."""

from __future__ import annotations

import socket

import pytest

from service.domain.errors import ConfigurationError
from service.web.server import listen
from tests.web.support import Door


def test_a_port_that_somebody_has_is_refused() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}: it is in use"):
            listen("127.0.0.1", port)


def test_a_port_that_somebody_would_share_is_refused() -> None:
    with socket.socket() as first:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.bind(("127.0.0.1", 0))
        first.listen()
        with pytest.raises(ConfigurationError, match="in use"):
            listen("127.0.0.1", first.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [("no-such-host.invalid", 0, "HOST"), ("192.0.2.1", 0, "192.0.2.1")],
)
def test_an_address_that_is_not_of_this_machine_is_told(host: str, port: int, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        listen(host, port)


def test_until_the_service_is_there_it_says_what_it_waits_for(door: Door) -> None:
    door.front.app = door.front.starting
    door.front.starting.waits_for = "the store at 127.0.0.1:6390"
    assert door.ask("/healthz").json == {"status": "ok"}
    ready = door.ask("/readyz")
    assert (ready.status, ready.json["waitingFor"]) == (503, "the store at 127.0.0.1:6390")
    refused = door.ask("/api/credits")
    assert (refused.status, refused.json["code"]) == (503, "service_unavailable")
    assert "127.0.0.1:6390" in refused.json["error"]
    assert int(refused.headers["retry-after"]) > 0
