"""Runs the front end on its port: uvicorn, the front door, and the app behind it once the store is there."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import sys
import threading
from functools import partial
from threading import Event
from types import FrameType

import uvicorn

from service import startup
from service.api.addresses import caller_address
from service.api.context import credential_in, identified
from service.api.costs import cost_of, is_public
from service.app import BATCH_PATH, create_app
from service.bootstrap import ENDLESS, build, check_broker
from service.config import Settings
from service.domain.accounts import network_of
from service.domain.admission import Admission
from service.domain.errors import ConfigurationError
from service.lifecycle import end_with_parent, return_memory, run_children, settle_in
from service.web.connections import KEEP_ALIVE, Connection
from service.web.front import Front, House

ROLE = "web"
BACKLOG = 1_024
# How long a thread may keep the interpreter while others want it. The default, 5 ms, is for each of the
# half dozen times that a call needs it: beside heavy ones that is felt.
SWITCH_SECONDS = 0.001
START_PATIENCE = 10.0  # seconds in which callers are kept waiting for the start
DRAIN_SECONDS = 30  # for calls under way when the process is told to end


class Server(uvicorn.Server):
    """Uvicorn's server; those who wait hear of the end at once."""

    def __init__(self, config: uvicorn.Config, stopping: Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Uvicorn's own raises the signal again at the end; being told to end is no failure here.
        self._stopping.set()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):  # of who still does not read
            connection.transport.abort()
        await asyncio.sleep(0)


def run(settings: Settings) -> None:
    """Serve until told to end. Raises ConfigurationError when the port or the store cannot be used."""
    listener = listen(settings.host, settings.port)
    if settings.web_workers == 1:
        serve(listener, settings)
    else:
        run_children(settings.web_workers, _serve_as_child, listener)


def _serve_as_child(listener: socket.socket) -> None:
    with startup.starting(ROLE):
        end_with_parent()
        serve(listener, startup.settings())


def serve(listener: socket.socket, settings: Settings) -> None:
    """Serve on a socket; answers that it is starting until the store is there. Raises ConfigurationError.

    A start that goes wrong ends it, whatever it is by then that was waited for.
    """
    return_memory()
    sys.setswitchinterval(SWITCH_SECONDS)
    stopping = Event()
    admission = Admission(settings.sync_waiters)
    address_of = partial(caller_address, proxies=settings.trusted_proxies)
    front = Front(admission, _house(settings))
    server = Server(configured(front, settings.tls_cert, settings.tls_key), stopping)
    failures: list[BaseException] = []
    opens = Event()

    def waiting(what: str, seconds: float) -> None:
        startup.tell_waiting(what, seconds)
        front.starting.waits_for = what
        opens.set()

    def start() -> None:
        try:
            services = build(settings, wait=ENDLESS, waiting=waiting, stop=stopping)
            check_broker(settings, needed=False, waiting=waiting, stop=stopping)
            app = create_app(settings, services, stopping, admission)
            front.authenticate = lambda environ: identified(services, admission, environ, address_of(environ))
            front.app = app
            settle_in()
            startup.announce(ROLE, settings)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the main thread
            failures.append(error)
            server.should_exit = True
        opens.set()

    def end(number: int, frame: FrameType | None) -> None:
        server.handle_exit(number, frame)
        opens.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)  # until uvicorn takes them itself
    threading.Thread(target=start, name="start", daemon=True).start()
    opens.wait(START_PATIENCE)  # calls are not answered by "starting" where that is a matter of seconds
    if not failures:
        server.run(sockets=[listener])
    if failures and not isinstance(failures[0], SystemExit):
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
        credential_of=credential_in,
        address_of=lambda environ: network_of(caller_address(environ, settings.trusted_proxies)),
        body_most=lambda path: settings.max_batch_body if path == BATCH_PATH else settings.max_body,
    )


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
