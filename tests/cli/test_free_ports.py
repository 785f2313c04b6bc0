"""Ports for processes that are started later."""

from __future__ import annotations

import socket

from service.cli.demo import free_ports


def test_no_port_is_given_twice() -> None:
    # The system hands out a thousand of some 28,000 with about twenty twice.
    ports = [port for _ in range(200) for port in free_ports(5)]
    assert len(set(ports)) == 1_000


def test_they_are_free() -> None:
    for port in free_ports(3):
        socket.create_server(("127.0.0.1", port)).close()
