"""What the tasks of a worker process share, made once when the worker starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from threading import Event

from service import config, startup
from service.bootstrap import ENDLESS, build, check_broker
from service.domain.ports import Services
from workers.places import Places
from workers.sources.contract import Source
from workers.sources.files import WithFiles
from workers.webhooks.sender import Sender


@dataclass(frozen=True)
class Runtime:
    """The services, the upstream, and the way out for webhooks."""

    settings: config.Settings = field(repr=False)
    services: Services
    sender: Sender
    bulk_places: Places
    stopping: Event = field(default_factory=Event)  # set when the process was told to end

    @cached_property
    def source(self) -> Source:
        """The upstream. Raises ConfigurationError.

        Its clients are loaded with it: who delivers webhooks or keeps time asks nobody, and starts half a
        second sooner without them.
        """
        from workers.sources.build import build_source  # noqa: PLC0415

        made = build_source(self.settings, self.services)
        seconds = self.settings.fetch_seconds
        return WithFiles(made, self.services.media, self.services.optouts.anybody, seconds)


@cache
def runtime() -> Runtime:
    """Build the runtime from the environment; later calls return the same one.

    Waits without end for a store and a broker that are out. Raises ConfigurationError.
    """
    settings = startup.settings()
    made = build_runtime(settings)
    check_broker(settings, needed=True, waiting=startup.tell_waiting)
    return made


def build_runtime(settings: config.Settings) -> Runtime:
    """Put a worker's parts together, once the store answers. Raises ConfigurationError."""
    services = build(settings, wait=ENDLESS, waiting=startup.tell_waiting)
    # The other half is always there for callers who wait.
    places = Places(max(1, settings.worker_threads // 2))
    # Names that hang hold a quarter of the threads at most, whosever they are.
    sender = Sender(services.policy, lookups_each=max(1, settings.deliverer_threads // 4))
    return Runtime(settings, services, sender, places)
