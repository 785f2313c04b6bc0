"""Tells the workers what there is to do. Hints: what gets lost is swept.

A broker that does not answer is asked once: each message more would wait for it as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from service.domain.errors import StoreUnavailable
from service.domain.ports import Services
from service.domain.requests import BULK, DELIVER, DELIVERIES, GATHER, SCRAPE, Owed, RequestRecord

# Messages for a batch: more workers than this do not make it faster, and the pump adds what is missing.
HINTS_MOST = 16
# Deliveries in one message: one after the other, as long as each receiver answers at once.
DELIVERED_TOGETHER = 10


def publish(services: Services, record: RequestRecord) -> bool:
    """Publish one request: to a worker at once when somebody waits, else into the bulk queue.

    Returns whether the broker answered, as all of these do.
    """
    if record.queue != BULK:
        return services.queue.enqueue(SCRAPE, record.queue, record.request_id)
    if record.uncalled is not None:  # it was put there when it was stored
        return hint(services, record.uncalled)
    return publish_bulk(services, record.account_id, [record.request_id])


def publish_all(services: Services, records: Iterable[RequestRecord]) -> None:
    """Publish many requests; those for the bulk queue go there account by account."""
    bulk: dict[str, list[str]] = {}
    answers = True
    for record in records:
        if record.queue == BULK:
            bulk.setdefault(record.account_id, []).append(record.request_id)
        else:
            answers = answers and publish(services, record)
    uncalled = sum(_push(services, account_id, request_ids) for account_id, request_ids in bulk.items())
    if answers:
        hint(services, uncalled)


def publish_bulk(services: Services, account_id: str, request_ids: Sequence[str]) -> bool:
    """Put an account's requests into the bulk queue, and call workers for them where none is on the way."""
    return hint(services, _push(services, account_id, request_ids))


def _push(services: Services, account_id: str, request_ids: Sequence[str]) -> int:
    """Put an account's requests into the bulk queue; return for how many nobody was called."""
    with suppress(StoreUnavailable):  # they are accepted: the sweep does it again
        return services.bulk.push(account_id, request_ids)
    return 0


def hint(services: Services, waiting: int) -> bool:
    """Call workers for requests in the bulk queue; each takes as many as it asks for in one call."""
    calls = min(-(-waiting // services.policy.reels_at_once), HINTS_MOST)
    return all(services.queue.enqueue(GATHER, BULK) for _ in range(calls))


def hand_over(services: Services, owed: Iterable[Owed | None], together: int = DELIVERED_TOGETHER) -> bool:
    """Have the webhooks delivered that are owed now, so many by one message."""
    due = [each for each in owed if each is not None]
    messages = (due[start : start + together] for start in range(0, len(due), together))
    return all(services.queue.enqueue(DELIVER, DELIVERIES, *_names(message)) for message in messages)


def _names(message: Sequence[Owed]) -> list[str]:
    return [name for each in message for name in (each.delivery_id, each.host)]
