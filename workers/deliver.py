"""One attempt at one delivery: claim, sign, POST, record, plan the next."""

from __future__ import annotations

import random

import structlog

from service.domain.deliveries import plan
from service.domain.errors import LeaseLost
from service.domain.ports import Services
from workers.webhooks.sender import Sender

log = structlog.get_logger(__name__)


def run(services: Services, sender: Sender, delivery_id: str) -> None:
    """Make the next attempt if it is due and nobody else makes it.

    The next one, if it comes to that, waits in the store's due set and not in this process.
    """
    claim = services.deliveries.claim(delivery_id)
    if claim is None:
        return
    delivery = claim.delivery
    secret = services.accounts.webhook_secret(delivery.account_id)
    attempt = sender.post(delivery.url, delivery.delivery_id, claim.body, [secret])
    chance = random.random()  # noqa: S311 - jitter
    then = plan(attempt, delivery.attempts + 1, services.policy.webhook_schedule, chance)
    try:
        services.deliveries.record(claim, attempt, then)
    except LeaseLost:
        log.warning("delivery.lease_lost", deliveryId=delivery_id, fence=claim.fence)
        return
    log.info(
        "delivery.attempted",
        deliveryId=delivery_id,
        requestId=delivery.request_id,
        attempt=delivery.attempts + 1,
        status=attempt.status,
        error=attempt.error,
        seconds=round(attempt.duration, 3),
        result=then.status,
        next_in=round(then.wait, 1),
    )
