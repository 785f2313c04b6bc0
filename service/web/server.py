"""Runs the front end on its port: uvicorn, the front door, and the app behind it once the store is there."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Mapping
from threading import Event
from types import FrameType
from typing import Any
from urllib.parse import parse_qs

import uvicorn

from service import log
from service.api.addresses import caller_address, network_of
from service.api.context import credential_in
from service.api.costs import cost_of, is_public
from service.api.hiker.errors import is_hiker_path
from service.app import BATCH_PATH, create_app
from service.bootstrap import build
from service.config import Settings, load
from service.domain.admission import Admission
from service.domain.errors import ConfigurationError
from service.lifecycle import end_with_parent, run_children, settle_in
from service.web.connections import KEEP_ALIVE, Connection
from service.web.front import Front, House

BACKLOG = 1_024
DRAIN_SECONDS = 30  # for calls under way when the process is told to end


class Server(uvicorn.Server):
    """Uvicorn's server; those who wait hear of the end at once."""

    def __init__(self, config: uvicorn.Config, stopping: Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stopping.set()
        super().handle_exit(sig, frame)


def run(settings: Settings) -> None:
    """Serve until told to end. Raises ConfigurationError when the port or the store cannot be used."""
    listener = listen(settings.host, settings.port)
    if settings.web_workers == 1:
        serve(listener, settings)
    else:
        run_children(settings.web_workers, _serve_as_child, listener)


def _serve_as_child(listener: socket.socket) -> None:
    end_with_parent()
    settings = load()
    log.configure(settings.log_level, settings.log_format)
    serve(listener, settings)


def serve(listener: socket.socket, settings: Settings) -> None:
    """Serve on a socket; answers that it is starting until the store is there. Raises ConfigurationError."""
    stopping = Event()
    admission = Admission(settings.sync_waiters)
    front = Front(admission, _house(settings))
    server = Server(configured(front, settings.tls_cert, settings.tls_key), stopping)
    failures: list[BaseException] = []

    def start() -> None:
        try:
            front.app = create_app(settings, build(settings), stopping, admission)
            settle_in()
        except BaseException as error:  # noqa: BLE001 - raised again below, in the main thread
            failures.append(error)
            server.should_exit = True

    threading.Thread(target=start, name="start", daemon=True).start()
    server.run(sockets=[listener])
    if failures:
        raise failures[0]


def configured(front: Front, certificate: str = "", key: str = "") -> uvicorn.Config:
    """Return uvicorn's settings."""
    return uvicorn.Config(
        front,
        interface="asgi3",
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        backlog=BACKLOG,
        ssl_certfile=certificate or None,
        ssl_keyfile=key or None,
    )


def _house(settings: Settings) -> House:
    return House(
        cost_of=cost_of,
        is_public=is_public,
        credential_of=_credential,
        address_of=lambda environ: network_of(caller_address(environ, settings.trusted_proxies)),
        body_most=lambda path: settings.max_batch_body if path == BATCH_PATH else settings.max_body,
    )


def _credential(environ: Mapping[str, Any]) -> str:
    """Return the key or token of a call; that of HikerAPI's routes may stand in the query."""
    if "access_key=" in environ["QUERY_STRING"] and is_hiker_path(environ["PATH_INFO"]):
        return parse_qs(environ["QUERY_STRING"]).get("access_key", [""])[0]
    return credential_in(environ)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; no other process shares the port. Raises ConfigurationError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigurationError(f"Cannot listen on {host}:{port}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "HOST is no address or name of this machine."
    if error.errno == errno.EADDRINUSE:
        return "it is in use. End the process that has it, or set another PORT."
    return f"{error.strerror or error}. Set another HOST or PORT."
