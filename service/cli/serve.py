"""The processes of the Procfile."""

from __future__ import annotations

import os
import sys

import click

from service import startup

# What runs Celery: the front of the house knows it by name only.
STARTS = "workers.start"


@click.command()
def web() -> None:
    """Run the HTTP front end."""
    with startup.starting("web"):
        settings = startup.settings()
        from service.web.server import run  # noqa: PLC0415 - the other roles start without Flask

        run(settings)


@click.command()
def worker() -> None:
    """Run a worker: fetches, for callers who wait before those who do not."""
    _become("worker")


@click.command()
def deliverer() -> None:
    """Run a deliverer: sends webhooks."""
    _become("deliverer")


@click.command()
def beat() -> None:
    """Run the scheduler; of several, one leads."""
    _become("beat")


def _become(role: str) -> None:
    """Replace this process by the program of a role, which checks its settings itself."""
    with startup.starting(role):
        os.execv(sys.executable, [sys.executable, "-m", STARTS, role])  # noqa: S606 - our own program, no shell
