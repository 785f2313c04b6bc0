"""Requests nobody waits for, many at a time: what is shared is served, the rest asked for in few calls."""

from __future__ import annotations

from collections.abc import Callable
from threading import BoundedSemaphore

import structlog

from service.domain.dispatch import CHUNK, hint, publish
from service.domain.errors import FetchError, LeaseLost, NoSessionFree
from service.domain.ports import Services
from service.domain.requests import Claim, RequestRecord
from service.domain.sharing import Flight
from workers import scrape
from workers.endings import Endings
from workers.shared import landing_of
from workers.sources.contract import Reel, Source

log = structlog.get_logger(__name__)


def run(services: Services, source: Source, places: BoundedSemaphore, stopping: Callable[[], bool]) -> None:
    """Take requests out of the bulk queue and work on them, if one of the ``places`` is free.

    The other threads are for callers who wait. What is left in the queue is somebody else's turn: a
    message for it is published at the end, and the pump sees to it that there are enough of them. While
    there is no session to fetch with, but will be, nothing is taken: the pump asks again each second.
    """
    if not places.acquire(blocking=False):
        return
    try:
        if _unserved(services):
            return
        _chunk(services, source, services.bulk.take(CHUNK), stopping)
        left = services.bulk.waiting()
    finally:
        places.release()
    if left and not stopping():
        hint(services, 1)


def _unserved(services: Services) -> NoSessionFree | None:
    """Return why nobody can be asked now, but soon; what cannot wait so long goes on, and ends."""
    wait = services.sessions.free_in()
    return NoSessionFree(wait) if wait and wait <= services.policy.upstream_wait else None


def _chunk(services: Services, source: Source, request_ids: list[str], stopping: Callable[[], bool]) -> None:
    if len(request_ids) == 1:
        scrape.run(services, source, request_ids[0], stopping)
        return
    flights = [boarded for each in request_ids if (boarded := _board(services, each)) is not None]
    try:
        found = source.reels([flight.username for flight, _ in flights]) if flights else {}
    except NoSessionFree as unserved:
        _put_back(services, flights, unserved)
        return
    left = [record for flight, claim in flights if (record := _land(services, flight, claim, found))]
    for number, record in enumerate(left):
        if stopping():
            for each in left[number:]:
                publish(services, each)
            return
        nobody = _unserved(services)
        if nobody is not None:
            _hold_off(services, [each.request_id for each in left[number:]], nobody)
            return
        scrape.run(services, source, record.request_id, stopping)


def _put_back(services: Services, flights: list[tuple[Flight, Claim]], unserved: NoSessionFree) -> None:
    for flight, claim in flights:
        scrape.put_back(services, claim, unserved)
        _hold_off(services, services.reels.land(flight, None), unserved)


def _hold_off(services: Services, request_ids: list[str], unserved: NoSessionFree) -> None:
    for each in request_ids:
        scrape.hold_off(services, each, unserved)


def _board(services: Services, request_id: str) -> tuple[Flight, Claim] | None:
    """Return the right to fetch for a request; None when it was served, waits for another one, or ended."""
    record = services.requests.get(request_id)
    if record is None or record.is_final:
        services.requests.claim(request_id)  # takes it out of the open ones
        return None
    if scrape.serve_shared(services, record):
        return None
    flight = services.reels.board(record.username, request_id)
    if flight is None:
        return None
    claim = services.requests.claim(request_id)
    if claim is None or claim.request.attempts > services.policy.max_attempts:
        if claim is not None:
            scrape.settle(services, claim, Endings(services, claim).not_worked_on())
        scrape.serve_waiting(services, record.username, services.reels.land(flight, None))
        return None
    return flight, claim


def _land(
    services: Services, flight: Flight, claim: Claim, found: dict[str, Reel | FetchError]
) -> RequestRecord | None:
    """Settle with what was found; return the request when it has to be asked for alone."""
    brought = found.get(flight.username)
    try:
        if brought is None:
            services.requests.release(claim)
        elif isinstance(brought, FetchError):
            scrape.settle(services, claim, Endings(services, claim).failed(brought))
        else:
            scrape.settle(services, claim, Endings(services, claim).succeeded(brought))
    except LeaseLost:
        log.warning("scrape.lease_lost", requestId=claim.request.request_id, fence=claim.fence)
    waiting = services.reels.land(flight, None if brought is None else landing_of(brought))
    if brought is not None:
        scrape.serve_waiting(services, flight.username, waiting)
        return None
    for request_id in waiting:
        record = services.requests.get(request_id)
        if record is not None and not record.is_final:
            publish(services, record)
    return claim.request
