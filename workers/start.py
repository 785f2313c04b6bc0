"""`python -m workers.start ROLE`: a worker, a deliverer or a beat, from its settings to Celery's own start.

All of it is done in this one process, so that whatever fails ends in one line (see `service.startup`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from service import startup
from service.domain.requests import BULK, DELIVERIES, INTERACTIVE

WORKER, DELIVERER, BEAT = "worker", "deliverer", "beat"


def main(role: str) -> None:
    """Run a role until it is told to end."""
    with startup.starting(role):
        code = _run(role)
    sys.exit(code)


def _run(role: str) -> int:
    # Loaded here, so that what fails while it is loaded is told as all else is.
    from workers.runtime import runtime  # noqa: PLC0415

    settings = startup.while_heard(runtime).settings
    if role == BEAT:
        startup.announce(role, settings)
        return _celery("beat")
    threads = {WORKER: settings.worker_threads, DELIVERER: settings.deliverer_threads}[role]
    return _celery(*_as_worker(role, threads))


def _as_worker(role: str, threads: int) -> Sequence[str]:
    # Threads: Instagram's client uses a C transport that blocks green threads, and under those
    # Celery's redelivery on Redis does not run. Gossip, mingle and heartbeats between workers
    # serve nothing here: the store knows who is alive.
    queues = {WORKER: f"{INTERACTIVE},{BULK}", DELIVERER: DELIVERIES}[role]
    return (
        "worker",
        f"--hostname={role}.{os.getpid()}@%h",  # several on one machine are told apart
        "--pool=threads",
        f"--concurrency={threads}",
        f"--queues={queues}",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    )


def _celery(*arguments: str) -> int:
    from workers.app import app  # noqa: PLC0415

    code: int | None = app.start(["--quiet", *arguments])
    return code or 0


if __name__ == "__main__":
    main(sys.argv[1])
