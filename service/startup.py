"""How a process of the service starts: its log before anything can fail, one line where it cannot go on."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog

from service import __version__, config, log, masking
from service.domain.errors import ConfigurationError
from service.domain.texts import printable
from service.stores import topology
from service.tls import check_authorities, check_certificate

T = TypeVar("T")

# What a supervisor is told by: it starts a process again that failed, and not one whose settings are wrong.
FAILED = 1
WRONG_SETTING = 2

_log = structlog.get_logger(__name__)


@contextmanager
def starting(role: str) -> Iterator[None]:
    """Set up the log, and end the process with one line where what is done inside fails.

    Exits with 2 for a wrong setting, with 1 for anything else, with 0 when told to end meanwhile. A traceback
    is logged at DEBUG only.
    """
    log.configure(*config.log_form())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        yield
    except ConfigurationError as error:
        sys.stderr.write(f"storyhook: {printable(masking.masked(str(error)))}\n")
        sys.exit(WRONG_SETTING)
    except Exception as error:  # noqa: BLE001 - whatever it is, nobody is to see a traceback of it
        told = f"{type(error).__name__}: {error}"
        _log.error("start.failed", role=role, error=told)
        _log.debug("start.failed", role=role, exc_info=error)
        sys.exit(FAILED)


def _end(*_: object) -> None:
    """End at once: nothing is begun that would have to be finished.

    The first process of a container is not ended by a signal it has no handler for, and an exception that is
    raised by one may be lost, in a finalizer for instance.
    """
    os._exit(0)


def settings() -> config.Settings:
    """Return the settings, with the log in their form and the files they name looked at.

    Every role looks at what any of them needs. Raises ConfigurationError.
    """
    found = config.load()
    log.configure(found.log_level, found.log_format)
    if found.tls_cert:
        check_certificate(found.tls_cert, found.tls_key)
    check_authorities(found.policy.webhook_ca_file)
    return found


def tell_waiting(what: str, seconds: float) -> None:
    """Log what a start waits for."""
    _log.warning("start.waiting", waits_for=what, seconds=round(seconds, 1))


def while_heard(build: Callable[[], T]) -> T:
    """Return what ``build`` makes on a thread of its own, so that this one hears when it is told to end.

    Looking up a host may take a minute, in which Python runs no handler of a signal.
    """
    made: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            made.put((build(), None))
        except BaseException as error:  # noqa: BLE001 - raised again below, in the main thread
            made.put((None, error))

    threading.Thread(target=run, name="start", daemon=True).start()
    result, error = made.get()
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def announce(role: str, settings: config.Settings) -> None:
    """Log that a process is up: what it is, and what it works with."""
    simulated = bool(settings.simulated_instagram_url)
    _log.info(
        "process.ready",
        role=role,
        version=__version__,
        store=topology.parse(settings.redis_url).shown,
        sources=list(settings.upstreams.sources),
        instagram="simulated" if simulated else "real",
        archive=bool(settings.archive_url),
    )
    if simulated and settings.is_production:
        _log.warning(
            "process.simulated", role=role, advice="unset SIMULATED_INSTAGRAM_URL to ask the real Instagram"
        )
