"""What the sources over httpx share: clients with time limits, what goes wrong on the wire, seldom alarms."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import structlog

from service.domain.errors import FetchError, Retry, UpstreamFailed, UpstreamTimeout
from service.egress.patience import within
from service.upstreams import is_loopback
from workers.sources import bounds
from workers.sources.verdicts import drifted

log = structlog.get_logger(__name__)

ALARM_SECONDS = 60.0
REFUSED = "The upstream refuses this service; the operator has to see to it."
# Where an upstream does not say when to come back, seconds.
RETRY_AFTER = 60


def open_client(
    base_url: str,
    *,
    connect_timeout: float,
    read_timeout: float,
    headers: httpx.Headers | dict[str, str] | None = None,
    on_response: Callable[[httpx.Response], None] | None = None,
) -> httpx.Client:
    """Return a client that threads may share; timeouts in seconds. Proxies are not asked about loopback.

    What it gets is bounded in size and time, see `bounds`.
    """
    client = _Client(
        base_url=base_url,
        timeout=httpx.Timeout(read_timeout, connect=connect_timeout),
        headers=headers,
        event_hooks={"response": [bounds.read_response, *([on_response] if on_response else [])]},
        trust_env=not is_loopback(base_url),
        # As many as there are threads; a thread that waits for another's connection would time out.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
    )
    bounds.keep_time(client)
    return client


class _Client(httpx.Client):
    """A client whose every call, the body of its answer included, takes as long as both timeouts together."""

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        with within((self.timeout.connect or 0) + (self.timeout.read or 0)):
            return super().send(request, **options)


def translate(error: Exception) -> FetchError:
    """Return what an exception of httpx, or of reading an answer, means."""
    if isinstance(error, FetchError):
        return error
    if isinstance(error, httpx.TransportError):  # timeouts, no connection, a body cut short
        return UpstreamTimeout()
    if isinstance(error, httpx.HTTPError):
        return UpstreamFailed(retry=Retry.NEVER)
    if isinstance(error, ValueError):  # no JSON: a page of something in between, usually
        return UpstreamFailed()
    return drifted()


def retry_after(response: httpx.Response) -> int | None:
    """Return for how many seconds an upstream asks to be left alone, None when it does not say."""
    said = response.headers.get("retry-after", "").strip()
    return max(int(said), 1) if said.isdecimal() and len(said) < 7 else None


class Alarm:
    """Tells the operator what only they can put right, each reason once a minute."""

    def __init__(self, event: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._event = event
        self._clock = clock
        self._last: dict[str, float] = {}
        self._lock = threading.Lock()

    def raise_for(self, reason: str) -> None:
        """Log an error, unless it was logged less than a minute ago."""
        now = self._clock()
        with self._lock:
            last = self._last.get(reason)
            if last is not None and now - last < ALARM_SECONDS:
                return
            self._last[reason] = now
        log.error(self._event, reason=reason)
