"""The processes of the Procfile. Each checks its settings first, then becomes the real program."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from service import config, log
from service.bootstrap import build
from service.domain.errors import ConfigurationError
from service.domain.requests import BULK, DELIVERIES, INTERACTIVE
from service.tls import check_certificate

CELERY_APP = "workers.app"


def _checked() -> config.Settings:
    """Return the settings once they and the store hold good. Raises ConfigurationError.

    Checked before the real program runs: Celery survives what its start-up handlers raise.
    """
    settings = config.load()
    build(settings)
    return settings


@click.command()
def web() -> None:
    """Run the HTTP front end."""
    settings = config.load()
    log.configure(settings.log_level, settings.log_format)
    if settings.tls_cert:
        check_certificate(settings.tls_cert, settings.tls_key)
    from service.web.server import run  # noqa: PLC0415 - the other roles start without Flask

    run(settings)


@click.command()
def worker() -> None:
    """Run a worker: fetches, for callers who wait before those who do not."""
    settings = _checked()
    _celery_worker("worker", settings.worker_threads, f"{INTERACTIVE},{BULK}")


@click.command()
def deliverer() -> None:
    """Run a deliverer: sends webhooks."""
    settings = _checked()
    _celery_worker("deliverer", settings.deliverer_threads, DELIVERIES)


@click.command()
def beat() -> None:
    """Run the scheduler; of several, one leads."""
    _checked()
    _become("celery", "--quiet", "-A", CELERY_APP, "beat")


def _celery_worker(kind: str, threads: int, queues: str) -> None:
    # Threads: Instagram's client uses a C transport that blocks green threads, and under those
    # Celery's redelivery on Redis does not run. Gossip, mingle and heartbeats between workers
    # serve nothing here: the store knows who is alive.
    _become(
        "celery",
        "--quiet",
        "-A",
        CELERY_APP,
        "worker",
        f"--hostname={kind}.{os.getpid()}@%h",  # several on one machine are told apart
        "--pool=threads",
        f"--concurrency={threads}",
        f"--queues={queues}",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    )


def _become(program: str, *arguments: str) -> None:
    """Replace this process by a program of the same environment."""
    path = Path(sys.executable).with_name(program)
    if not path.exists():
        raise ConfigurationError(f"{path} is missing: install Storyhook with its dependencies.")
    os.execv(str(path), [str(path), *arguments])  # noqa: S606 - our own program, no shell
