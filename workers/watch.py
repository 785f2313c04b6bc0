"""The runs of watches, when their time has come."""

from __future__ import annotations

import structlog

from service.actions.watches import run_when_due
from service.domain.errors import BrokenRow, InsufficientCredits, RateLimited, WatchUnpaid
from service.domain.ports import Services
from service.domain.watches import UNPAID

log = structlog.get_logger(__name__)


def run(services: Services, watch_id: str) -> None:
    """Hand in the request of a run; when one of this watch is open already, that is the run."""
    try:
        record = run_when_due(services, watch_id)
    except WatchUnpaid:
        log.warning("watch.paused", watchId=watch_id, reason=UNPAID)
        return
    except RateLimited as error:
        log.info("watch.held_off", watchId=watch_id, retryIn=error.retry_after)
        return
    except InsufficientCredits:
        log.info("watch.not_paid", watchId=watch_id)
        return
    except BrokenRow as broken:  # it is told each time it is due, and keeps no other watch from its run
        log.error("store.broken_row", row=broken.where, what=broken.what)
        return
    if record is not None:
        log.info("watch.run", watchId=watch_id, requestId=record.request_id)
