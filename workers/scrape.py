"""One request: claim, fetch, settle, have its webhook delivered."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from service.domain import envelopes
from service.domain.credits import EMPTY, FOUND
from service.domain.errors import (
    FetchError,
    LeaseLost,
    Retry,
    StoreUnavailable,
    StoryhookError,
    UpstreamFailed,
)
from service.domain.ports import Services
from service.domain.requests import DELIVER, DELIVERIES, FAILED, SUCCEEDED, Claim, Ending, Owed
from service.domain.stories import reel_data
from workers.sources.contract import Reel, Source

# Between two tries at the same upstream, seconds; doubled each time, with jitter.
FIRST_PAUSE = 0.2
BLOCKED_RETRY_AFTER = 60

log = structlog.get_logger(__name__)


def run(services: Services, source: Source, request_id: str) -> None:
    """Work on a request if it is still to be done and nobody else does.

    A StoreUnavailable passes through: the request stays claimed, and the sweep brings it back when
    its lease is over.
    """
    claim = services.requests.claim(request_id)
    if claim is None:
        return
    started = time.monotonic()
    try:
        ending = _work(services, source, claim)
        owed = services.requests.finish(claim, ending)
    except LeaseLost:
        log.warning("scrape.lease_lost", requestId=request_id, fence=claim.fence)
        return
    _hand_over(services, owed)
    log.info(
        "scrape.done",
        requestId=request_id,
        status=ending.status,
        outcome=ending.outcome or ending.code,
        items=ending.item_count,
        charged=ending.charge,
        attempt=claim.request.attempts,
        seconds=round(time.monotonic() - started, 3),
    )


def give_up(services: Services, request_id: str) -> None:
    """End a request that nobody can be got to work on, unless somebody does after all."""
    claim = services.requests.claim(request_id)
    if claim is None:
        return
    _hand_over(services, services.requests.finish(claim, _Context(services, claim).not_worked_on()))
    log.error("scrape.given_up", requestId=request_id, attempts=claim.request.attempts)


def _hand_over(services: Services, owed: Owed | None) -> None:
    if owed:
        services.queue.enqueue(DELIVER, DELIVERIES, owed.delivery_id, owed.host)


def _work(services: Services, source: Source, claim: Claim) -> Ending:
    """Return how the request ends. Raises LeaseLost, StoreUnavailable."""
    context = _Context(services, claim)
    if claim.request.attempts > services.policy.max_attempts:
        # Whatever takes the workers down with it must not do so for ever.
        return context.not_worked_on()
    try:
        return context.succeeded(_fetch(services, source, claim))
    except FetchError as error:
        return context.failed(error)
    except (LeaseLost, StoreUnavailable):
        raise
    except Exception as error:
        log.exception("scrape.unexpected", requestId=claim.request.request_id, error=str(error))
        return context.failed(StoryhookError())


def _fetch(services: Services, source: Source, claim: Claim) -> Reel:
    """Try until an answer is final or the tries are used up. Raises FetchError."""
    tries = services.policy.fetch_tries
    for attempt in range(1, tries + 1):
        try:
            return source.stories(claim.request.username)
        except FetchError as error:
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
            if error.retry is Retry.AGAIN:
                time.sleep(FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        services.requests.renew(claim)
    raise AssertionError("the last try returns or raises")


@dataclass(frozen=True)
class _Context:
    """Builds the ending of one claimed request."""

    services: Services
    claim: Claim

    def succeeded(self, reel: Reel) -> Ending:
        data = reel_data(reel.user_id, reel.user, reel.reel)
        outcome = FOUND if data["items"] else EMPTY
        charge = self._charge(outcome)
        envelope = envelopes.success(
            self.claim.request, outcome=outcome, data=data, charged=charge, now_ms=self.services.clock()
        )
        return Ending(SUCCEEDED, _json(envelope), charge, outcome=outcome, item_count=len(data["items"]))

    def not_worked_on(self) -> Ending:
        return self.failed(UpstreamFailed("The request could not be worked on; it was tried several times."))

    def failed(self, error: StoryhookError) -> Ending:
        charge = self._charge(error.code)
        envelope = envelopes.failure(
            self.claim.request,
            code=error.code,
            message=error.message,
            charged=charge,
            now_ms=self.services.clock(),
        )
        retry_after = error.retry_after or (BLOCKED_RETRY_AFTER if error.status == 503 else 0)
        return Ending(FAILED, _json(envelope), charge, code=error.code, retry_after=retry_after)

    def _charge(self, outcome: str) -> int:
        request = self.claim.request
        return self.services.policy.prices.charge_for(request.operation, outcome, request.hold)


def _json(envelope: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(envelope)
    except TypeError:
        # Half an emoji, cut in the middle of a surrogate pair, is no Unicode text: it becomes "?".
        return json.dumps(envelope, ensure_ascii=False).encode("utf-8", "replace")
