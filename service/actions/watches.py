"""Watches: add one, look at them, pause, resume, delete, run."""

from __future__ import annotations

import json
from contextlib import suppress

from service.domain import ids
from service.domain.deliveries import BLOCKED, DELIVERED, EXHAUSTED, GONE, STATES, Delivery
from service.domain.dispatch import hand_over, publish
from service.domain.envelopes import timestamp
from service.domain.errors import Conflict, NotFound, StoreUnavailable, ValidationFailed, WatchUnpaid
from service.domain.operations import STORIES
from service.domain.options import PLAIN, Options
from service.domain.ports import Services
from service.domain.requests import (
    BULK,
    Owed,
    Page,
    RequestRecord,
    Run,
    Submission,
    parse_username,
)
from service.domain.targets import named
from service.domain.watches import (
    BY_HAND,
    EVERY_LENGTH,
    OWED_FOR_MS,
    PAUSED,
    RECEIVER_GONE,
    UNPAID,
    Watch,
    bad_every,
)
from service.domain.webhooks import check_url, host_of

SENT_AGAIN = frozenset({EXHAUSTED, BLOCKED})


def add_watch(
    services: Services,
    account_id: str,
    *,
    username: str,
    every: str,
    webhook_url: str,
    only_new: bool,
    heartbeat: bool,
    max_age: int,
    options: Options = PLAIN,
    idempotency_key: str | None = None,
) -> tuple[Watch, bool]:
    """Store a watch and have it run, at once and from then on.

    Returns the watch, and whether it is an earlier one of the same idempotency key. Raises ValidationFailed
    naming the field, WebhookForbidden, IdempotencyKeyReuse, and Conflict when the account has too many; then
    nothing was stored.
    """
    name = parse_username(username)
    if len(every) > EVERY_LENGTH:
        raise bad_every(f"At most {EVERY_LENGTH} characters.")
    every = services.schedules.check(every, services.policy.watch_every_least)
    check_url(webhook_url, services.policy.webhook_addresses)
    watch_id = ids.new_id(ids.WATCH, ids.shard_in(account_id), services.clock())
    made = Watch(
        watch_id, account_id, name, every, webhook_url, only_new, heartbeat, max_age, options=options
    )
    watch = services.watches.add(made, idempotency_key)
    if watch.watch_id != watch_id:
        return watch, True
    _start(services, watch)
    return watch, False


def find_watch(services: Services, account_id: str, watch_id: str) -> Watch:
    """Return a watch of the account. Raises NotFound, also for another account's."""
    watch = None
    if ids.shard_of(watch_id, ids.WATCH) == ids.shard_in(account_id):
        watch = services.watches.get(watch_id)
    if watch is None or watch.account_id != account_id:
        raise NotFound("There is no watch of this id.")
    return watch


def list_watches(services: Services, account_id: str, *, cursor: str | None, limit: int) -> Page[Watch]:
    """Return the account's watches, newest first. Raises ValidationFailed on a foreign cursor."""
    if cursor is not None and ids.shard_of(cursor, ids.WATCH) != ids.shard_in(account_id):
        raise ValidationFailed(details={"cursor": ["Pass the nextCursor of an earlier page."]})
    return services.watches.page(account_id, cursor=cursor, limit=limit)


def pause_watch(services: Services, account_id: str, watch_id: str) -> Watch:
    """Stop a watch from running; a run that is under way ends as it would. Raises NotFound."""
    watch = services.watches.pause(find_watch(services, account_id, watch_id).watch_id, BY_HAND)
    _stop(services, watch_id)
    if watch is None:
        raise NotFound("There is no watch of this id.")
    return watch


def resume_watch(services: Services, account_id: str, watch_id: str) -> Watch:
    """Have a paused watch run again, at once and from then on. Raises NotFound.

    What a receiver that was gone has missed is sent again.
    """
    before = find_watch(services, account_id, watch_id)
    watch = services.watches.resume(watch_id)
    if watch is None:
        raise NotFound("There is no watch of this id.")
    if not before.is_active:
        _make_up(services, watch, SENT_AGAIN | {GONE})
        _start(services, watch)
    return watch


def delete_watch(services: Services, account_id: str, watch_id: str) -> None:
    """Forget a watch; a run that is under way ends like a single request. Raises NotFound."""
    services.watches.remove(find_watch(services, account_id, watch_id))
    _stop(services, watch_id)


def run_by_hand(services: Services, account_id: str, watch_id: str) -> RequestRecord:
    """Run a watch now, whatever its schedule says; return the request, the open one if there is one.

    Raises NotFound, InsufficientCredits, RateLimited, and Conflict for a watch that is paused.
    """
    watch = find_watch(services, account_id, watch_id)
    if not watch.is_active:
        raise Conflict("The watch is paused. Resume it first.")
    if _receiver_is_gone(services, watch):
        raise Conflict("The receiver answered 410 Gone, so the watch was paused. Resume it when it is back.")
    return _submit(services, watch, next_in=None)


def run_when_due(services: Services, watch_id: str) -> RequestRecord | None:
    """Run a watch because its time has come; None when it is not to run.

    While the account is disabled no run begins, for nobody could pause the watch. The next one is planned, so
    that it goes on when the account is enabled again.

    Raises InsufficientCredits and RateLimited; the next run is planned all the same. WatchUnpaid is one
    run too many that was not paid for: the watch was paused, and its receiver is told so.
    """
    watch = services.watches.get(watch_id)
    if watch is None or not watch.is_active:
        services.watches.pause(watch_id, BY_HAND)  # takes it out of those that are looked after
        _stop(services, watch_id)
        return None
    now = services.clock()
    next_in = services.schedules.next_after(watch.every, now) - now
    # Before what failed is sent again: a disabled account's webhooks stand still as well.
    if services.watches.skip_if_disabled(watch, next_in) or _receiver_is_gone(services, watch):
        return None
    try:
        return _submit(services, watch, next_in=next_in)
    except Conflict:  # paused or deleted in this very moment
        return None
    except WatchUnpaid:
        _stop(services, watch_id)
        _tell_paused(services, watch)
        raise


def _tell_paused(services: Services, watch: Watch) -> None:
    """Send the watch's receiver, once, why nothing comes any more."""
    now = services.clock()
    told = {
        "success": False,
        "status": PAUSED,
        "watchId": watch.watch_id,
        "username": watch.username,
        "error": watch.why_paused,
        "code": UNPAID,
        "pauseReason": UNPAID,
        "createdAt": timestamp(now),
    }
    delivery_id = ids.new_id(ids.DELIVERY, ids.shard_in(watch.account_id), now)
    host = host_of(watch.webhook_url)
    body = json.dumps(told, separators=(",", ":")).encode()
    with suppress(StoreUnavailable):  # the watch's own status tells it as well
        services.deliveries.create_single(watch.account_id, delivery_id, watch.webhook_url, host, body)
        hand_over(services, [Owed(delivery_id, host)])


def _submit(services: Services, watch: Watch, next_in: int | None) -> RequestRecord:
    submission = Submission(
        request_id=ids.new_id(ids.REQUEST, ids.shard_in(watch.account_id), services.clock()),
        account_id=watch.account_id,
        operation=STORIES,
        target=named(watch.username),
        queue=BULK,
        hold=services.policy.prices.hold_for(STORIES, watch.options),
        webhook_url=watch.webhook_url,
        max_age=watch.max_age,
        watch=Run(watch.watch_id, next_in),
        options=watch.options,
    )
    record = services.requests.submit(submission)
    if record.request_id == submission.request_id:
        publish(services, record)
    return record


# --- webhooks that failed ------------------------------------------------------------------------


def _receiver_is_gone(services: Services, watch: Watch) -> bool:
    """Send again what failed; pause the watch when its receiver says that it is gone for good."""
    gone = _make_up(services, watch, SENT_AGAIN)
    if not gone and watch.last_request_id:
        last = services.deliveries.get(ids.delivery_of(watch.last_request_id))
        # A 410 from before the watch was resumed says nothing of now.
        gone = last is not None and last.status == GONE and watch.last_run_at > watch.resumed_at
    if gone:
        pause_for_good(services, watch.watch_id)
    return gone


def pause_for_good(services: Services, watch_id: str) -> None:
    """Pause a watch whose receiver answered 410 Gone."""
    services.watches.pause(watch_id, RECEIVER_GONE)
    _stop(services, watch_id)


def _make_up(services: Services, watch: Watch, sent_again: frozenset[str]) -> bool:
    """See to the webhooks whose items may not have arrived; tell whether the receiver of one is gone.

    The very same is sent again and nothing is charged. What is a day old is let go: its stories are over.
    """
    settled, gone = [], False
    for request_id, ended_at in services.watches.owed(watch.watch_id):
        delivery = services.deliveries.get(ids.delivery_of(request_id))
        if delivery is None or delivery.status == DELIVERED:
            settled.append(request_id)
        elif delivery.status in sent_again:
            if services.clock() - ended_at > OWED_FOR_MS or not _send_again(services, delivery):
                settled.append(request_id)
        elif delivery.status == GONE:
            gone = True
    services.watches.settle(watch.watch_id, settled)
    return gone


def _send_again(services: Services, delivery: Delivery) -> bool:
    """Send a failed webhook again; False when its body is gone."""
    before = services.deliveries.replay(delivery)
    if before in STATES:
        hand_over(services, [Owed(delivery.delivery_id, delivery.host)])
    return before != "expired"


# --- beat's entries ------------------------------------------------------------------------------


def _start(services: Services, watch: Watch) -> None:
    with suppress(StoreUnavailable):  # the record is there: the sweep runs it, the housekeeping mends this
        services.schedules.put(watch)


def _stop(services: Services, watch_id: str) -> None:
    with suppress(StoreUnavailable):  # an entry without an active watch runs nothing
        services.schedules.remove(watch_id)
