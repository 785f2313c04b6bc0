"""Puts the upstreams together as the settings name them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict

from service.config import Settings
from service.domain.ports import Services
from service.upstreams import GRAPH, HIKERAPI, INSTAGRAPI, WEB
from workers.sources.accounts import ClientFactory, SessionPool, client_factory
from workers.sources.contract import Source
from workers.sources.fallback import Fallback
from workers.sources.graph import GraphSource
from workers.sources.hikerapi import HikerApiSource
from workers.sources.instagrapi import InstagrapiSource
from workers.sources.verdicts import RestTimes
from workers.sources.web import WebSource


def build_source(settings: Settings, services: Services) -> Source:
    """Return the one source, or all of them as one that falls back. Raises ConfigurationError."""
    makers: Mapping[str, Callable[[], Source]] = {
        INSTAGRAPI: lambda: InstagrapiSource(_pool(settings, services), services.instagram_ids),
        HIKERAPI: lambda: _hikerapi(settings),
        GRAPH: lambda: _graph(settings),
        WEB: lambda: WebSource(_factory(settings)),
    }
    sources = [makers[name]() for name in settings.upstreams.sources]
    # With one there is nothing to fall back to, so nothing to leave alone either.
    if len(sources) == 1:
        return sources[0]
    return Fallback(sources, seconds=settings.fetch_seconds / len(sources))


def _pool(settings: Settings, services: Services) -> SessionPool:
    return SessionPool(
        services.sessions,
        _factory(settings),
        wait_seconds=settings.session_wait,
        lease_seconds=settings.policy.lease,
        rests=_rests(settings.rest_scale),
    )


def _factory(settings: Settings) -> ClientFactory:
    return client_factory(
        redirect_to=settings.simulated_instagram_url or None,
        connect_timeout=settings.upstream_connect_timeout,
        read_timeout=settings.upstream_read_timeout,
    )


def _hikerapi(settings: Settings) -> Source:
    return HikerApiSource(
        settings.upstreams.hikerapi_token,
        settings.upstreams.hikerapi_url,
        connect_timeout=settings.upstream_connect_timeout,
        read_timeout=settings.upstream_read_timeout,
    )


def _graph(settings: Settings) -> Source:
    return GraphSource(
        settings.upstreams.graph_accounts,
        settings.upstreams.graph_url,
        connect_timeout=settings.upstream_connect_timeout,
        read_timeout=settings.upstream_read_timeout,
    )


def _rests(scale: float) -> RestTimes:
    """Return the table's rest times, shortened where nobody is protected by them (the simulated one)."""
    times = {name: math.ceil(seconds * scale) for name, seconds in asdict(RestTimes()).items()}
    return RestTimes(**times)
