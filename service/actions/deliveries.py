"""Look deliveries up, send them again, try a receiver out."""

from __future__ import annotations

import json
from collections.abc import Callable

from service.actions.lookup import hear
from service.domain import ids
from service.domain.deliveries import FAILED_STATES, STATES, Attempt, Delivery
from service.domain.dispatch import hand_over
from service.domain.envelopes import timestamp
from service.domain.errors import Conflict, NotFound, ValidationFailed
from service.domain.ports import Services
from service.domain.requests import Owed, Page
from service.domain.webhooks import check_url

REPLAY_MOST = 1_000
PAGE = 200
EXPIRED = "The body of this delivery has passed its lifetime; it cannot be sent any more."


def find_delivery(services: Services, account_id: str, delivery_id: str) -> Delivery:
    """Return a delivery of the account. Raises NotFound, also for another account's."""
    delivery = None
    if ids.shard_of(delivery_id, ids.DELIVERY) == ids.shard_in(account_id):
        delivery = services.deliveries.get(delivery_id)
    if delivery is None or delivery.account_id != account_id:
        raise NotFound("There is no delivery of this id.")
    return delivery


def list_deliveries(
    services: Services,
    account_id: str,
    *,
    request_id: str | None,
    status: str | None,
    cursor: str | None,
    limit: int,
) -> Page[Delivery]:
    """Return the account's deliveries, newest first; of a request there is at most one."""
    if request_id is not None:
        return _of_request(services, account_id, request_id, status)
    if cursor is not None and ids.shard_of(cursor, ids.DELIVERY) != ids.shard_in(account_id):
        raise ValidationFailed(details={"cursor": ["Pass the nextCursor of an earlier page."]})
    statuses = frozenset({status}) if status else None
    return services.deliveries.page(account_id, statuses=statuses, since_ms=0, cursor=cursor, limit=limit)


def _of_request(services: Services, account_id: str, request_id: str, status: str | None) -> Page[Delivery]:
    if all(ids.shard_of(request_id, kind) is None for kind in (ids.REQUEST, ids.BATCH)):
        return Page([])
    try:
        delivery = find_delivery(services, account_id, ids.delivery_of(request_id))
    except NotFound:
        return Page([])
    return Page([delivery] if status in (None, delivery.status) else [])


def replay(services: Services, account_id: str, delivery_id: str) -> str:
    """Send a delivery again, under its own id and with a fresh schedule; return the state it had.

    Raises NotFound, and Conflict while an attempt is under way or when its body is gone.
    """
    delivery = find_delivery(services, account_id, delivery_id)
    before = services.deliveries.replay(delivery)
    if before == "running":
        raise Conflict("An attempt is under way. Try again when it has ended.", retry_after=5)
    if before == "expired":
        raise Conflict(EXPIRED)
    _publish(services, delivery)
    return before


def replay_failed(services: Services, account_id: str, since_ms: int) -> tuple[int, bool]:
    """Send again what has failed for good since ``since_ms`` (Unix ms), oldest last.

    Returns how many, and whether there are more than the 1,000 done at a time.
    """
    replayed, cursor = 0, None
    while True:
        page = services.deliveries.page(
            account_id, statuses=FAILED_STATES, since_ms=since_ms, cursor=cursor, limit=PAGE
        )
        for delivery in page.items:
            if replayed == REPLAY_MOST:
                return replayed, True
            # What was sent to try a receiver out is owed to nobody.
            if delivery.repeats and services.deliveries.replay(delivery) in STATES:
                _publish(services, delivery)
                replayed += 1
        cursor = page.next_cursor
        if cursor is None:
            return replayed, False


def send_test(
    services: Services, account_id: str, url: str, *, seconds: float, give_up: Callable[[], bool]
) -> tuple[Delivery, Attempt | None]:
    """Send a signed sample to ``url``, once, the way everything else is sent.

    Returns the delivery and its attempt, None when that has not ended after ``seconds`` or when
    ``give_up`` says so. Raises ValidationFailed, WebhookForbidden.
    """
    target = check_url(url, services.policy.webhook_addresses, field="url")
    now = services.clock()
    delivery_id = ids.new_id(ids.DELIVERY, ids.shard_in(account_id), now)
    body = json.dumps({"success": True, "status": "test", "message": SAMPLE, "createdAt": timestamp(now)})
    services.deliveries.create_single(account_id, delivery_id, url, str(target), body.encode())
    with services.requests.waiter(delivery_id) as waiter:
        hand_over(services, [Owed(delivery_id, str(target))])
        hear(waiter, seconds, give_up)
    attempts = services.deliveries.attempts(delivery_id)
    return find_delivery(services, account_id, delivery_id), attempts[-1] if attempts else None


SAMPLE = "This is a test of your receiver by Storyhook. Verify its signature as you would a real one."


def _publish(services: Services, delivery: Delivery) -> None:
    hand_over(services, [Owed(delivery.delivery_id, delivery.host)])
