"""Requests nobody waits for, many at a time: what is shared is served, the rest asked for in few calls."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import structlog

from service.domain.dispatch import hint, publish_all
from service.domain.errors import FetchError, LeaseLost, NoSessionFree, StoreUnavailable
from service.domain.operations import STORIES
from service.domain.ports import Services
from service.domain.requests import Claim, Ending, RequestRecord
from service.domain.sharing import Flight
from workers import scrape
from workers.optouts import fetch_served
from workers.places import Places
from workers.scrape import Stopping
from workers.sources.contract import Found, Source

Boarded = tuple[Flight, Claim]
Brought = dict[str, Found | FetchError]

# A claim lasts LEASE seconds, which is longer than one call upstream with all its waits.
RENEW_EVERY = 1.0  # seconds

log = structlog.get_logger(__name__)


def run(services: Services, source: Source, places: Places, stopping: Stopping) -> None:
    """Take requests out of the bulk queue and work on them, if one of the ``places`` is free.

    What is left in the queue is somebody else's turn: a message for it is published at the end, and the
    pump sees to it that there are enough of them. While there is no session to fetch with, but will be,
    nothing is taken: the pump asks again each second.
    """
    if stopping() or not places.take():
        return
    try:
        if _unserved(services, source):
            return
        linger = places.linger()
        if linger > 0 and services.bulk.waiting() < services.policy.reels_at_once:
            time.sleep(linger)
        places.taken_out()
        _chunk(services, source, services.bulk.take(services.policy.reels_at_once), stopping)
        left = services.bulk.waiting()
    finally:
        places.leave()
    if left and not stopping():
        hint(services, 1)


def _unserved(services: Services, source: Source) -> bool:
    """Tell whether nobody can be asked now, but soon; what cannot wait so long goes on, and ends.

    For the end of a budget's window there is no too long: it comes for sure.
    """
    why = source.unserved()
    if why is None or why.retry_in is None:
        return False
    return why.paced or why.retry_in <= services.policy.upstream_wait


def _chunk(services: Services, source: Source, request_ids: list[str], stopping: Stopping) -> None:
    if len(request_ids) == 1:
        scrape.run(services, source, request_ids[0], stopping)
        return
    records = _open(services, request_ids)
    # One that takes its workers down must not take the others with it until all are given up.
    grouped = [record for record in records if not _goes_alone(services, record)]
    together, to_archive = _not_shared(services, grouped)
    # In the order of their turns, or who is last would be handed on again and again.
    alone = [record for record in records if record in to_archive or record not in grouped]
    # In this thread they wait for each other: half of them are for others who have a place.
    mine = -(-len(alone) // 2)
    publish_all(services, alone[mine:])
    left = _together(services, source, together, stopping) + alone[:mine]
    for number, record in enumerate(left):
        if stopping() or _unserved(services, source):
            publish_all(services, left[number:])
            return
        scrape.run(services, source, record.request_id, stopping)


def _goes_alone(services: Services, record: RequestRecord) -> bool:
    in_a_group = record.operation == STORIES and record.username is not None and not record.options.force
    return not in_a_group or 2 * record.attempts >= services.policy.max_attempts


def _open(services: Services, request_ids: list[str]) -> list[RequestRecord]:
    found: list[RequestRecord] = []
    for request_id, record in zip(request_ids, services.requests.get_many(request_ids), strict=True):
        if record is None or record.is_final:
            services.requests.claim(request_id)  # takes it out of the open ones
        else:
            found.append(record)
    return found


def _together(
    services: Services, source: Source, records: list[RequestRecord], stopping: Stopping
) -> list[RequestRecord]:
    """End what can be ended with few calls; return the requests that have to be asked for alone."""
    flights = services.reels.board_many(records)
    flying = [(record, flight) for record, flight in zip(records, flights, strict=True) if flight is not None]
    try:
        return _flown(services, source, flying, stopping)
    except BaseException:
        scrape.abandon(services, [flight for _, flight in flying])
        raise


def _flown(
    services: Services, source: Source, flying: list[tuple[RequestRecord, Flight]], stopping: Stopping
) -> list[RequestRecord]:
    """End those whom this worker is to fetch for; return the requests that have to be asked for alone."""
    boarded = _board(services, flying)
    if not boarded:
        return []
    try:
        found = _ask(services, source, boarded, stopping)
    except NoSessionFree as unserved:
        _put_back(services, boarded, unserved)
        return []
    return _land(services, boarded, found, stopping)


def _put_back(services: Services, boarded: list[Boarded], unserved: NoSessionFree) -> None:
    for waiting in services.reels.land_many([(flight, None) for flight, _ in boarded]):
        for each in waiting:
            scrape.hold_off(services, each, unserved)
    for _, claim in boarded:
        scrape.put_back(services, claim, unserved)


def _board(services: Services, flying: list[tuple[RequestRecord, Flight]]) -> list[Boarded]:
    """Return the claims to fetch for; who has none is in other hands."""
    claims = services.requests.claim_many([record for record, _ in flying])
    boarded: list[Boarded] = []
    for (_, flight), claim in zip(flying, claims, strict=True):
        if claim is not None:
            boarded.append((flight, claim))
        else:
            scrape.land(services, [(flight, None)])
    return boarded


def _not_shared(
    services: Services, records: list[RequestRecord]
) -> tuple[list[RequestRecord], list[RequestRecord]]:
    """End those requests for which there is a shared reel; return those to fetch, and those to archive.

    The latter have one, and want its media archived.
    """
    to_fetch, to_archive = [], []
    reels, now = services.reels.get_many([record.ask.key for record in records])
    for record, shared in zip(records, reels, strict=True):
        served = shared is not None and shared.serves(record, now)
        if served and record.options.archive:
            to_archive.append(record)
        elif not (shared and served and scrape.serve(services, record, shared, now)):
            to_fetch.append(record)
    return to_fetch, to_archive


def _ask(services: Services, source: Source, boarded: list[Boarded], stopping: Stopping) -> Brought:
    """Return what one call finds; what goes wrong with it is found out with each request alone.

    Raises NoSessionFree.
    """
    go_on = _Watch(services, [claim for _, claim in boarded], stopping)
    names = [flight.key for flight, _ in boarded]
    try:
        return fetch_served(services, names, lambda served: source.reels(served, go_on))
    except NoSessionFree:
        raise
    except StoreUnavailable:
        return {}
    except Exception as error:
        log.exception("gather.unexpected", error=str(error))
        return {}


class _Watch:
    """Tells a source whether to go on, and holds the claims meanwhile: a group may take long."""

    def __init__(self, services: Services, claims: list[Claim], stopping: Stopping) -> None:
        self._services = services
        self._claims = claims
        self._stopping = stopping
        self._renewed = time.monotonic()

    def __call__(self) -> bool:
        if self._stopping():
            return False
        if time.monotonic() - self._renewed > RENEW_EVERY:
            with suppress(StoreUnavailable):  # whether a claim still holds shows at the end
                self._services.requests.renew_many(self._claims)
            self._renewed = time.monotonic()
        return True


def _land(
    services: Services, boarded: list[Boarded], found: Brought, stopping: Stopping
) -> list[RequestRecord]:
    """Settle with what was found; return the requests that have to be asked for alone.

    Media that are archived take their time: nobody waits for those of another request.
    """
    left = _settled(services, [each for each in boarded if not each[1].request.options.archive], found)
    archived = [each for each in boarded if each[1].request.options.archive]
    scrape.land(
        services,
        [(flight, scrape.shareable(services, claim, found.get(flight.key))) for flight, claim in boarded],
    )
    for number, each in enumerate(archived):
        there = {} if stopping() else found  # who takes it up again is served with what has landed
        left += _settled(services, [each], there, holding=archived[number:])
    return left


def _settled(
    services: Services, boarded: list[Boarded], found: Brought, holding: Sequence[Boarded] = ()
) -> list[RequestRecord]:
    """Settle these, and hold the claims of those that come after; return what was not found."""
    endings: list[tuple[Claim, Ending]] = []
    renew = partial(services.requests.renew_many, [claim for _, claim in holding or boarded])
    try:
        for flight, claim in boarded:
            if flight.key in found:
                endings.append((claim, scrape.judge(services, claim, found[flight.key], renew)))
    finally:  # a store that is out for a moment must not take along what was fetched
        scrape.settle_many(services, endings)
    not_found = [claim for flight, claim in boarded if flight.key not in found]
    return [record for claim in not_found for record in _released(services, claim)]


def _released(services: Services, claim: Claim) -> list[RequestRecord]:
    """Give a claim back; return its request, nothing when it has ended with its batch."""
    try:
        return [claim.request] if scrape.give_back(services, claim) else []
    except LeaseLost:
        log.warning("scrape.lease_lost", requestId=claim.request.request_id, fence=claim.fence)
        return [claim.request]
    except StoreUnavailable:  # it is taken up again when its lease is over; the others go on
        log.warning("scrape.not_released", requestId=claim.request.request_id, fence=claim.fence)
        return []
