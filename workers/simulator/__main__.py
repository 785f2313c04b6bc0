"""``python -m workers.simulator``: the simulated Instagram as a process of its own."""

from __future__ import annotations

import argparse
import ipaddress
import os
import signal
import socket
import sys
from pathlib import Path
from types import FrameType

# Werkzeug's threaded server: all state is in memory, so one process is wanted, and calls hang on purpose.
from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from .app import create_app
from .knobs import KnobError, from_environment
from .state import State

DEFAULT_PORT = 3223


class _QuietHandler(WSGIRequestHandler):
    """No access log; clients that hang up on purpose are no news either."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass

    def connection_dropped(self, error: BaseException, environ: dict[str, object] | None = None) -> None:
        pass


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    options = _options(arguments)
    if not _is_loopback(options.host):
        return _refuse(
            f"{options.host} is not a loopback address, and the simulator must not be reachable from outside"
        )
    try:
        memory = State(from_environment(os.environ), options.data)
        server = _listen(options.host, options.port, create_app(memory))
    except (KnobError, OSError, OverflowError) as error:
        return _refuse(f"cannot start on {options.host}:{options.port}: {error}")
    _serve(server)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m workers.simulator", description=__doc__)
    parser.add_argument(
        "--host", default=os.environ.get("SIMULATOR_HOST") or "127.0.0.1", help="a loopback address"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=os.environ.get("SIMULATOR_PORT") or DEFAULT_PORT,
        help=f"{DEFAULT_PORT} by default; 0 takes a free one",
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="remember usernames across restarts here")
    return parser.parse_args(arguments)


def _listen(host: str, port: int, app: Flask) -> BaseWSGIServer:
    # The socket is opened here, because Werkzeug would explain a taken port at length and exit by itself.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=1024) as listener:
        return make_server(
            host, port, app, threaded=True, request_handler=_QuietHandler, fd=listener.fileno()
        )


def _serve(server: BaseWSGIServer) -> None:
    # SIGTERM ends the process the way SIGINT does: out of serve_forever, which closes the socket. Calls in
    # flight run in daemon threads and end with the process.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    host = f"[{server.host}]" if ":" in server.host else server.host
    sys.stdout.write(f"simulated Instagram on http://{host}:{server.port}\n")
    sys.stdout.flush()
    server.serve_forever()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse(reason: str) -> int:
    sys.stderr.write(f"simulator: {reason}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
