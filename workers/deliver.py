"""Deliver webhooks: claim, ask for a place at the host, sign, POST, record, plan the next attempt."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial

import structlog

from service.actions import watches
from service.domain.accounts import WebhookSecrets
from service.domain.deliveries import (
    GONE,
    LOOKUPS_BUSY,
    LOOKUPS_BUSY_WAIT,
    RESULT_EXPIRED,
    Attempt,
    Delivery,
    DeliveryClaim,
    plan,
    spread,
)
from service.domain.dispatch import hand_over
from service.domain.errors import LeaseLost, StoreUnavailable
from service.domain.ports import Services
from service.domain.requests import Owed
from service.egress.alarms import Alarms
from workers.webhooks.sender import Sender

# A host with a backlog keeps its place for this many deliveries, or this many seconds, before others
# get a turn. A process that is told to stop waits for it.
IN_A_ROW = 50
IN_A_ROW_SECONDS = 2.0
# When an attempt takes longer, what else is to be delivered is published for other threads, seconds.
PROMPT_SECONDS = 0.2

SecretsOf = Callable[[str], WebhookSecrets]

# Not those of the deadlines: publishing waits for a broker that hangs.
_alarms = Alarms()

log = structlog.get_logger(__name__)


def run(services: Services, sender: Sender, owed: Sequence[Owed]) -> None:
    """Make the attempts that are due, one after the other, then go on with what waits at the same hosts.

    Whatever is to be done later waits in the store's due sets and not in this process. A host that takes
    its time keeps nobody else: meanwhile the others are published.
    """
    left = deque(owed)
    try:
        _in_a_row(services, sender, left)
    finally:
        _hand_on(services, left)


def _in_a_row(services: Services, sender: Sender, left: deque[Owed]) -> None:
    """Make attempts until none is left or others are to share them; what waits for a host joins."""
    until = time.monotonic() + IN_A_ROW_SECONDS
    # Most are of one account. One that was replaced meanwhile holds for a day more.
    secrets_of = cache(services.accounts.webhook_secrets)
    for _ in range(IN_A_ROW):
        each = _next_of(left)
        if each is None:
            return
        with _watched(services, left):
            waiting = _attempt(services, sender, secrets_of, each)
        if waiting is not None:
            left.append(Owed(waiting, each.host))
        if time.monotonic() > until:
            return


@contextmanager
def _watched(services: Services, left: deque[Owed]) -> Iterator[None]:
    """Publish what is left when the block takes its time."""
    alarm = _alarms.set(PROMPT_SECONDS, partial(_hand_on, services, left)) if left else None
    try:
        yield
    finally:
        if alarm is not None:
            alarm.cancel()  # it may be ringing already: then it takes what this thread does not


def _hand_on(services: Services, left: deque[Owed]) -> None:
    """Publish what is left in two messages, which are split again if need be: soon many threads share it."""
    waiting = list(iter(partial(_next_of, left), None))
    hand_over(services, waiting, together=max(-(-len(waiting) // 2), 1))


def _next_of(left: deque[Owed]) -> Owed | None:
    """Take the next one; two threads never get the same."""
    with suppress(IndexError):
        return left.popleft()
    return None


def _attempt(services: Services, sender: Sender, secrets_of: SecretsOf, owed: Owed) -> str | None:
    """Make one attempt; return the id of another delivery that waits for this host's place."""
    delivery_id, host = owed.delivery_id, owed.host
    claim = services.deliveries.claim(delivery_id, host)
    if claim is None:
        return None
    place = f"{delivery_id}/{claim.fence}"  # one that outlived its lease gives back its own and no other's
    wait = services.hosts.enter(host, place)
    if wait > 0:
        _put_off(services, claim, wait)
        return None
    attempt = None
    try:
        attempt = _send(sender, secrets_of, claim)
        if attempt.error == LOOKUPS_BUSY:
            _put_off(services, claim, LOOKUPS_BUSY_WAIT)
            return None
        return _record(services, claim, attempt)
    except LeaseLost:
        log.warning("delivery.lease_lost", deliveryId=delivery_id, fence=claim.fence)
        attempt = None  # its time was our own, the host has no part in it
        return None
    finally:
        with suppress(StoreUnavailable):  # the place ends with its lease
            services.hosts.leave(host, place, attempt)


def _put_off(services: Services, claim: DeliveryClaim, seconds: float) -> None:
    services.deliveries.defer(claim, spread(seconds, random.random()))  # noqa: S311 - jitter


def _send(sender: Sender, secrets_of: SecretsOf, claim: DeliveryClaim) -> Attempt:
    delivery = claim.delivery
    if claim.body is None:
        return sender.nothing(RESULT_EXPIRED)
    secrets = secrets_of(delivery.account_id).active
    return sender.post(delivery.url, delivery.delivery_id, claim.body, secrets, owner=delivery.account_id)


def _record(services: Services, claim: DeliveryClaim, attempt: Attempt) -> str | None:
    delivery = claim.delivery
    then = plan(
        attempt,
        delivery.tries + 1,
        services.policy.webhook_schedule if delivery.repeats else (),
        random.random(),  # noqa: S311 - jitter
        spared=delivery.spared,
    )
    waiting = services.deliveries.record(claim, attempt, then)
    _tell(delivery, attempt, then.status, then.wait)
    if then.status == GONE:
        _gone(services, delivery)
    return waiting


def _gone(services: Services, delivery: Delivery) -> None:
    """Pause the watch that sent to a receiver that is gone; its next run would do it, but that may be far."""
    record = services.requests.get(delivery.request_id) if delivery.request_id else None
    if record is not None and record.watch_id is not None:
        watches.pause_for_good(services, record.watch_id)


def _tell(delivery: Delivery, attempt: Attempt, result: str, wait: float) -> None:
    """Write the one wide line of an attempt."""
    log.info(
        "delivery.attempted",
        deliveryId=delivery.delivery_id,
        requestId=delivery.request_id,
        accountId=delivery.account_id,
        host=delivery.host,
        attempt=delivery.attempts + 1,
        status=attempt.status,
        error=attempt.error,
        seconds=round(attempt.duration, 3),
        result=result,
        next_in=round(wait, 1),
    )
