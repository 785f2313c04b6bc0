"""`storyhook health ROLE`: is the process of this container well?"""

from __future__ import annotations

import http.client
import socket
import ssl
import sys

import click

from service import config
from service.cli.words import say
from service.domain.errors import StoreUnavailable
from service.domain.ports import StatsStore
from service.stores.connection import open_store
from service.stores.stats import Stats


@click.command()
@click.argument("role", type=click.Choice(["web", "worker", "deliverer", "beat"]))
def health(role: str) -> None:
    """Exit with 0 when the process of ROLE on this machine is well, else with 1.

    Whoever asks may restart it on a 1, and a store that is down is no reason for that.
    """
    settings = config.load()
    if role == "web":
        sys.exit(0 if _answers(settings) else 1)
    try:
        sys.exit(0 if _lives(Stats(open_store(settings.redis_url), settings.shards), role) else 1)
    except StoreUnavailable:
        say("the store does not answer")


def _answers(settings: config.Settings) -> bool:
    connection = _connection(settings)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _connection(settings: config.Settings) -> http.client.HTTPConnection:
    if not settings.tls_cert:
        return http.client.HTTPConnection("127.0.0.1", settings.port, timeout=3)
    # Whose name the certificate has, and whether it is over, is no matter of being alive.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", settings.port, timeout=3, context=context)


def _lives(stats: StatsStore, role: str) -> bool:
    """A worker has given a sign of life itself; of several beats one leads, whichever it is."""
    if role == "beat":
        return stats.beat_leads()
    here = f"@{socket.gethostname()}"
    return any(name.startswith(f"{role}.") and name.endswith(here) for name in stats.workers())
