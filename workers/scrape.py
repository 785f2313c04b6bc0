"""One request: take what is shared, or claim, fetch, settle, and share; have its webhook delivered."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import structlog

from service.actions.cancel import cancelled
from service.domain.dispatch import hand_over, publish
from service.domain.errors import (
    Conflict,
    FetchError,
    LeaseLost,
    NoSessionFree,
    Retry,
    StoreUnavailable,
    StoryhookError,
)
from service.domain.ports import Services
from service.domain.requests import BULK, QUEUED, Claim, Ending, Owed, RequestRecord
from service.domain.sharing import Flight, Landing, Shared
from workers import optouts
from workers.endings import Endings, Renew
from workers.shared import brought_by, landing_of
from workers.sources.contract import Found, Source

# Between two tries at the same upstream, seconds; doubled each time, with jitter.
FIRST_PAUSE = 0.2
# For how long what was fetched is kept for a store that is out, seconds.
SETTLE_PATIENCE = 20.0
SETTLE_EVERY = 0.5
# Over how long those come back that are put off for the same time, seconds.
PARKED_APART = 1.0

Stopping = Callable[[], bool]
T = TypeVar("T")

log = structlog.get_logger(__name__)


def _never() -> bool:
    return False


def run(services: Services, source: Source, request_id: str, stopping: Stopping = _never) -> None:
    """Work on a request if it is still to be done and nobody else does.

    Of all who ask for the same reel at a time one fetches, and then serves the others. A StoreUnavailable
    passes through: what is open is swept, when the lease of who held it is over. Once ``stopping`` says
    so no further try is made; the request is given back.
    """
    record = services.requests.get(request_id)
    if record is None or record.is_final:
        services.requests.claim(request_id)  # takes it out of the open ones
        return
    if serve_shared(services, record):
        return
    flight = services.reels.board(record.ask.key, request_id)
    if flight is None:
        return
    try:
        _fly(services, source, flight, record, stopping)
    except NoSessionFree as unserved:
        for each in services.reels.land(flight, None):
            hold_off(services, each, unserved)
    except BaseException:
        abandon(services, [flight])
        raise


def land(services: Services, landings: Sequence[tuple[Flight, Landing | None]]) -> None:
    """End fetches with what may be shared of them (None: nothing), and serve who waited.

    What goes wrong with the latter, whom the sweep finds, is not the affair of whom it was fetched for.
    """
    try:
        _serve(services, landings, _through_an_outage(lambda: services.reels.land_many(landings)))
    except StoreUnavailable as error:
        log.warning("scrape.waiting_unserved", error=str(error.__cause__))


def _serve(
    services: Services, landings: Sequence[tuple[Flight, Landing | None]], waiting: Sequence[list[str]]
) -> None:
    for (flight, _), request_ids in zip(landings, waiting, strict=True):
        serve_waiting(services, flight.key, request_ids)


def abandon(services: Services, flights: Sequence[Flight]) -> None:
    """Let nobody wait for a fetch that nobody makes any more; those that have landed stay as they are."""
    landings = [(flight, None) for flight in flights]
    with suppress(StoreUnavailable):  # they end by themselves
        _serve(services, landings, services.reels.land_many(landings))


def give_up(services: Services, record: RequestRecord) -> None:
    """End a request that nobody can be got to work on, unless somebody does after all."""
    claim = services.requests.claim(record.request_id, record.batch_id)
    if claim is None:
        return
    settle(services, claim, Endings(services, claim).not_worked_on())


def serve_shared(services: Services, record: RequestRecord) -> bool:
    """End a request with a shared reel, if there is one for it; tell whether there was."""
    shared, now = services.reels.get(record.ask.key)
    if shared is None or not shared.serves(record, now):
        return False
    return serve(services, record, shared, now)


def serve_waiting(services: Services, key: str, waiting: list[str]) -> None:
    """Give those who waited what was fetched, or let them have a fetch of their own."""
    if not waiting:
        return
    shared, now = services.reels.get(key)
    for request_id in waiting:
        record = services.requests.get(request_id)
        if record is None or record.is_final:
            continue
        # Media that are archived take their time, which is not that of the others who wait.
        served = shared is not None and shared.serves(record, now) and not record.options.archive
        if not (shared and served and serve(services, record, shared, now)):
            publish(services, record)


def hold_off(services: Services, request_id: str, unserved: NoSessionFree) -> None:
    """Put off a queued request for which no session was free, or end it when it has waited long enough."""
    record = services.requests.get(request_id)
    if record is None or record.status != QUEUED:
        return
    delay = _delay(services, record, unserved)
    if delay is not None:
        services.requests.park(record, delay)
        return
    claim = services.requests.claim(request_id, record.batch_id)
    if claim is not None:
        settle(services, claim, Endings(services, claim).failed(unserved))


def put_back(services: Services, claim: Claim, unserved: NoSessionFree) -> None:
    """Do the same with a claimed request."""
    delay = _delay(services, claim.request, unserved)
    if delay is None:
        settle(services, claim, Endings(services, claim).failed(unserved))
        return
    try:
        give_back(services, claim, delay)
    except LeaseLost:
        log.warning("scrape.lease_lost", requestId=claim.request.request_id, fence=claim.fence)
        return
    log.info("scrape.parked", requestId=claim.request.request_id, seconds=round(delay, 3))


def give_back(services: Services, claim: Claim, delay: float | None = None) -> bool:
    """Release a claimed request; an item of a batch that was cancelled ends. Tell whether it goes on.

    Raises LeaseLost.
    """
    services.requests.release(claim, delay)
    if claim.request.batch_id is None:
        return True
    batch = services.batches.get(claim.request.batch_id)
    if batch is None or not batch.cancelled_at:
        return True
    with suppress(Conflict):  # somebody has taken it up again
        hand_over(services, [services.requests.cancel(claim.request, cancelled(services, claim.request))])
    return False


def _delay(services: Services, record: RequestRecord, unserved: NoSessionFree) -> float | None:
    """Return for how long a request is put off, seconds; None when it would wait longer than it may."""
    wait = unserved.retry_in
    if wait is None:
        return None
    patient = unserved.paced and record.queue == BULK  # nobody waits, and the window ends for sure
    if not patient and record.parked / 1000 + wait > services.policy.upstream_wait:
        return None
    # Those who are put off together must not all come back at once.
    return wait * random.uniform(1, 1.1) + random.uniform(0, PARKED_APART)  # noqa: S311


def serve(services: Services, record: RequestRecord, shared: Shared, now: int) -> bool:
    """End a request with what was fetched for another one; False when it has to be fetched anew for it."""
    claim = services.requests.claim(record.request_id, record.batch_id)
    if claim is None:
        return True
    endings = Endings(services, claim)
    try:
        brought = brought_by(shared)
        if isinstance(brought, FetchError):
            raise brought
        if not optouts.may_be_shown(services, record.operation, brought):
            return not give_back(services, claim)
        optouts.refuse(services, record.target, brought)
        ending = endings.succeeded(brought, age=shared.age(now))
    except FetchError as error:
        ending = endings.failed(error)
    except LeaseLost:
        log.warning("scrape.lease_lost", requestId=record.request_id, fence=claim.fence)
        return True
    except StoreUnavailable:
        raise
    except Exception as error:
        log.exception("scrape.unexpected", requestId=record.request_id, error=str(error))
        ending = endings.failed(StoryhookError())  # left open it would happen again, and again
    settle(services, claim, ending)
    return True


def _fly(
    services: Services, source: Source, flight: Flight, record: RequestRecord, stopping: Stopping
) -> None:
    """Fetch for a request, end it, and land what was fetched; raises as `_fetched`.

    With media to archive it lands first: they take their time, which is not that of the others who wait.
    """
    fetched = _fetched(services, source, record, stopping)
    landing = shareable(services, *fetched) if fetched else None
    if fetched and not record.options.archive:
        _end(services, *fetched)
    land(services, [(flight, landing)])
    if fetched and record.options.archive:
        _end(services, *fetched)


def _end(services: Services, claim: Claim, brought: Found | FetchError) -> None:
    try:
        ending = judge(services, claim, brought)
    except LeaseLost:
        log.warning("scrape.lease_lost", requestId=claim.request.request_id, fence=claim.fence)
        return
    settle(services, claim, ending)


def settle(services: Services, claim: Claim, ending: Ending) -> None:
    """End a claimed request and have its webhook delivered, unless somebody else holds it by now."""
    settle_many(services, [(claim, ending)])


def settle_many(services: Services, endings: Sequence[tuple[Claim, Ending]]) -> None:
    """Do so with several."""
    if not endings:
        return
    ended = _through_an_outage(lambda: services.requests.finish_many(endings))
    hand_over(services, [owed for owed in ended if isinstance(owed, Owed)])
    for (claim, ending), owed in zip(endings, ended, strict=True):
        if isinstance(owed, LeaseLost):
            log.warning("scrape.lease_lost", requestId=claim.request.request_id, fence=claim.fence)
        else:
            _tell(services, claim.request, ending)


def _tell(services: Services, request: RequestRecord, ending: Ending) -> None:
    """Write the one wide line of a request."""
    log.info(
        "scrape.done",
        requestId=request.request_id,
        status=ending.status,
        outcome=ending.outcome or ending.code,
        items=ending.item_count,
        charged=ending.charge,
        cached=ending.cached,
        attempt=request.attempts,
        seconds=round((services.clock() - request.created_at) / 1000, 3),
    )


def _through_an_outage(ask: Callable[[], T]) -> T:
    """Return what the store answers, after a short outage too: nothing need be fetched again for it."""
    deadline = time.monotonic() + SETTLE_PATIENCE
    while True:
        try:
            return ask()
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(SETTLE_EVERY)


class _Stopped(Exception):
    """The process is told to end before the request could be."""


def judge(
    services: Services, claim: Claim, brought: Found | FetchError, renew: Renew | None = None
) -> Ending:
    """Return how the request ends with what was fetched for it; its media are archived if it wants that.

    ``renew`` is that of `Endings`. Passes on LeaseLost and StoreUnavailable.
    """
    endings = Endings(services, claim, renew)
    try:
        return endings.succeeded(brought) if isinstance(brought, Found) else endings.failed(brought)
    except (LeaseLost, StoreUnavailable):
        raise
    except Exception as error:
        log.exception("scrape.unexpected", requestId=claim.request.request_id, error=str(error))
        return endings.failed(StoryhookError())


def shareable(services: Services, claim: Claim, brought: Found | FetchError | None) -> Landing | None:
    """Return what others may have of what was fetched, nothing when it cannot be used."""
    try:
        return landing_of(brought, services.clock()) if brought else None
    except Exception as error:
        log.exception("scrape.unexpected", requestId=claim.request.request_id, error=str(error))
        return None


def _fetched(
    services: Services, source: Source, record: RequestRecord, stopping: Stopping
) -> tuple[Claim, Found | FetchError] | None:
    """Claim a request and fetch for it; None when it has ended, or is somebody else's or the next one's.

    Raises StoreUnavailable, and NoSessionFree when nothing was asked; then the request is put back.
    """
    claim = services.requests.claim(record.request_id, record.batch_id)
    if claim is None:
        return None
    if claim.request.attempts > services.policy.max_attempts:
        # Whatever takes the workers down with it must not do so for ever.
        settle(services, claim, Endings(services, claim).not_worked_on())
        return None
    try:
        return claim, _served(services, source, claim, stopping)
    except LeaseLost:
        log.warning("scrape.lease_lost", requestId=record.request_id, fence=claim.fence)
    except NoSessionFree as unserved:
        put_back(services, claim, unserved)
        raise
    except _Stopped:
        with suppress(LeaseLost):
            if give_back(services, claim):
                publish(services, claim.request)
        log.info("scrape.given_back", requestId=record.request_id)
    except StoreUnavailable:
        raise
    except FetchError as error:
        return claim, error
    except Exception as error:
        log.exception("scrape.unexpected", requestId=record.request_id, error=str(error))
        settle(services, claim, Endings(services, claim).failed(StoryhookError()))
    return None


def _served(services: Services, source: Source, claim: Claim, stopping: Stopping) -> Found:
    """Fetch, unless the operator does not serve the account. Raises OptedOut, and as `_fetch`."""
    asked = claim.request.target
    optouts.refuse(services, asked)
    found = _fetch(services, source, claim, stopping)
    optouts.refuse(services, asked, found)
    return found


def _fetch(services: Services, source: Source, claim: Claim, stopping: Stopping) -> Found:
    """Try until an answer is final or the tries are used up.

    Raises FetchError; NoSessionFree only when there was not even one try.
    """
    tries = services.policy.fetch_tries
    failed: FetchError | None = None
    for attempt in range(1, tries + 1):
        try:
            return source.fetch(claim.request.ask)
        except NoSessionFree:
            if failed is None:
                raise
            raise failed from failed.__cause__
        except FetchError as error:
            failed = error
            log.info(
                "scrape.try_failed",
                requestId=claim.request.request_id,
                source=source.name,
                attempt=attempt,
                code=error.code,
                cause=type(error.__cause__ or error).__name__,
            )
            if error.retry is Retry.NEVER or attempt == tries:
                raise
            if stopping():
                raise _Stopped from error
            if error.retry is Retry.AGAIN:
                time.sleep(FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        services.requests.renew(claim)
    raise AssertionError("the last try returns or raises")
