"""What the tasks of a worker process share, made once when the worker starts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from functools import cache
from threading import BoundedSemaphore, Event

from service import config
from service.bootstrap import build
from service.domain.ports import Services
from workers.sources.accounts import SessionPool, client_factory
from workers.sources.contract import Source
from workers.sources.files import WithFiles
from workers.sources.instagrapi import InstagrapiSource
from workers.sources.verdicts import RestTimes
from workers.webhooks.sender import Sender


@dataclass(frozen=True)
class Runtime:
    """The services, the upstream, and the way out for webhooks."""

    services: Services
    source: Source
    sender: Sender
    bulk_places: BoundedSemaphore  # threads that may work for nobody who waits
    stopping: Event = field(default_factory=Event)  # set when the process was told to end


@cache
def runtime() -> Runtime:
    """Build the runtime from the environment; later calls return the same one."""
    return build_runtime(config.load())


def build_runtime(settings: config.Settings) -> Runtime:
    """Put a worker's parts together. Raises ConfigurationError."""
    services = build(settings)
    factory = client_factory(
        redirect_to=settings.simulated_instagram_url or None,
        connect_timeout=settings.upstream_connect_timeout,
        read_timeout=settings.upstream_read_timeout,
    )
    pool = SessionPool(
        services.sessions,
        factory,
        wait_seconds=settings.session_wait,
        lease_seconds=settings.policy.lease,
        rests=_rests(settings.rest_scale),
    )
    # The other half is always there for callers who wait.
    places = BoundedSemaphore(max(1, settings.worker_threads // 2))
    source = WithFiles(InstagrapiSource(pool, services.instagram_ids), services.media)
    return Runtime(services, source, Sender(services.policy), places)


def _rests(scale: float) -> RestTimes:
    """Return the table's rest times, shortened where nobody is protected by them (the simulated one)."""
    times = {name: math.ceil(seconds * scale) for name, seconds in asdict(RestTimes()).items()}
    return RestTimes(**times)
