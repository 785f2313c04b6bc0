"""Ticks inside every worker process: a sign of life, the sweep, the delivery pump.

Every worker does all three, so no single process can stop them. They run on a thread of their own
and not on Celery's timer: a store that hangs must not hold up the consumer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from celery import bootsteps

from service.domain.errors import StoreUnavailable
from service.domain.ports import Services
from workers import sweep
from workers.runtime import runtime

INTERVAL = 1.0
# A process that is told to end while the store is out ends all the same.
STOP_SECONDS = 2.0

log = structlog.get_logger(__name__)


class Pulse(bootsteps.StartStopStep):
    """Starts and stops the thread with the worker."""

    def __init__(self, parent: Any, **_: Any) -> None:
        self._name = parent.hostname
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, parent: Any) -> None:
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._thread.start()

    def stop(self, parent: Any) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=STOP_SECONDS)

    def _run(self) -> None:
        services = runtime().services  # made before the worker started, or it would not have
        while not self._stopping.is_set():
            tick(services, self._name, self._stopping.is_set)
            self._stopping.wait(INTERVAL)
        with suppress(StoreUnavailable):  # it is forgotten in seconds anyway
            services.stats.gone(self._name)


def tick(services: Services, name: str, stopping: Callable[[], bool] = lambda: False) -> None:
    """Do one round, or what fits until ``stopping`` says so.

    An outage of the store is waited out, a mistake of ours is told and survived.

    What one part meets is not the others' affair: of a cluster only one node may be out.
    """
    parts: tuple[Callable[[Services], object], ...] = (
        lambda services: services.stats.beat(name),
        sweep.sweep_requests,
        sweep.run_overdue_watches,
        sweep.pump_bulk,
        sweep.pump_deliveries,
    )
    for part in parts:
        if stopping():
            return
        try:
            part(services)
        except StoreUnavailable as error:
            log.warning("pulse.store_unavailable", error=str(error.__cause__))
        except Exception as error:
            log.exception("pulse.unexpected", error=str(error))
