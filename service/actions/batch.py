"""Accept many requests at once, look how far they are, read their results, end what has not begun."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from service.actions.cancel import cancelled
from service.domain import ids
from service.domain.batches import EACH, BatchRecord, BatchSubmission
from service.domain.dispatch import hand_over, publish_bulk
from service.domain.envelopes import running
from service.domain.errors import NotFound, StoreUnavailable, StreamBroken, ValidationFailed
from service.domain.namelists import NameList
from service.domain.operations import STORIES
from service.domain.options import PLAIN, Options
from service.domain.ports import Services
from service.domain.requests import QUEUED, Page, RequestRecord
from service.domain.webhooks import check_url

DETAILS_MOST = 100
LOOKED_AT_ONCE = 200
RESULTS_AT_ONCE = 20  # results may be a megabyte each
# For how long a stream that has begun waits for a store that is out, seconds.
READ_PATIENCE = 5.0
READ_EVERY = 0.5
READ_MOST = 8 * 1024 * 1024  # bytes of results for a page, which may be shown without their data
PAGE_MOST = 2 * 1024 * 1024  # bytes; a page that is larger ends before its limit
GONE = "The result of this request has passed its lifetime, or was deleted."

_CURSOR = re.compile(r"[0-9]{1,6}")

# What is made of an envelope before it is handed out.
Shape = Callable[[bytes], bytes]


@dataclass(frozen=True)
class BatchOptions:
    """What a caller says about a batch beside the names."""

    webhook_url: str | None
    webhook_mode: str
    max_age: int
    clamp: bool = False
    strict: bool = False
    idempotency_key: str | None = None
    result: Options = PLAIN


def submit_batch(
    services: Services, account_id: str, names: NameList, options: BatchOptions
) -> tuple[BatchRecord, list[str], bool]:
    """Store a request for the stories of each name, in one step, and publish them.

    Returns the batch, the names the balance did not pay for, and whether it is an earlier batch of the same
    idempotency key. Raises ValidationFailed, WebhookForbidden, InsufficientCredits, IdempotencyKeyReuse;
    then nothing was stored or held.
    """
    if options.strict and names.invalid:
        raise ValidationFailed(details=_lines(names))
    if options.webhook_url is None and options.webhook_mode != EACH:
        sentence = f"'{options.webhook_mode}' needs a webhookUrl to send to."
        raise ValidationFailed(details={"webhookMode": [sentence]})
    if options.webhook_url is not None:
        check_url(options.webhook_url, services.policy.webhook_addresses)
    submission = BatchSubmission(
        batch_id=ids.new_batch_id(ids.shard_in(account_id), services.clock()),
        account_id=account_id,
        operation=STORIES,
        entries=names.entries,
        hold=services.policy.prices.hold_for(STORIES, options.result),
        webhook_url=options.webhook_url,
        webhook_mode=options.webhook_mode,
        max_age=options.max_age,
        clamp=options.clamp,
        idempotency_key=options.idempotency_key,
        options=options.result,
    )
    batch = services.batches.submit(submission)
    unpaid = [entry.username for entry in names.entries[batch.total :]]
    if batch.batch_id != submission.batch_id:
        return batch, unpaid, True
    publish_bulk(services, account_id, item_ids(batch))
    return batch, unpaid, False


def _lines(names: NameList) -> dict[str, list[str]]:
    """Return what is wrong, by line; where very much is, the first of it."""
    details = {f"line {each.line}": [each.error] for each in names.invalid[:DETAILS_MOST]}
    more = len(names.invalid) - DETAILS_MOST
    return {**details, "usernames": [f"There are {more} more invalid lines."]} if more > 0 else details


def item_ids(batch: BatchRecord, start: int = 0, count: int | None = None) -> list[str]:
    """Return the ids of a batch's requests in the order in which their names came."""
    end = batch.total if count is None else min(start + count, batch.total)
    return [ids.item_of(batch.batch_id, number) for number in range(start + 1, end + 1)]


def find_batch(services: Services, account_id: str, batch_id: str) -> BatchRecord:
    """Return a batch of the account. Raises NotFound, also for another account's."""
    batch = None
    if ids.shard_of(batch_id, ids.BATCH) == ids.shard_in(account_id):
        batch = services.batches.get(batch_id)
    if batch is None or batch.account_id != account_id:
        raise NotFound("There is no batch of this id.")
    return batch


def list_batches(services: Services, account_id: str, *, cursor: str | None, limit: int) -> Page[BatchRecord]:
    """Return the account's batches, newest first. Raises ValidationFailed on a foreign cursor."""
    if cursor is not None and ids.shard_of(cursor, ids.BATCH) != ids.shard_in(account_id):
        raise _bad_cursor()
    return services.batches.page(account_id, cursor=cursor, limit=limit)


def results(
    services: Services,
    batch: BatchRecord,
    cursor: str | None,
    limit: int,
    shape: Shape = lambda envelope: envelope,
) -> Page[bytes]:
    """Return envelopes (JSON) of a batch's items in the order of their names, ended or not.

    ``shape`` is applied to each. A page of `PAGE_MOST` bytes, or for which `READ_MOST` bytes were read, ends
    there; its cursor goes on. Raises ValidationFailed on a cursor that is none, StoreUnavailable.
    """
    start = read_cursor(cursor)
    page: list[bytes] = []
    size = was_read = 0
    for envelope in _read(services, batch, start, start + limit):
        page.append(shape(envelope))
        size += len(page[-1])
        was_read += len(envelope)
        if size >= PAGE_MOST or was_read >= READ_MOST:
            break
    following = start + len(page)
    return Page(page, str(following) if page and following < batch.total else None)


def all_results(
    services: Services, batch: BatchRecord, start: int, give_up: Callable[[], bool] = lambda: False
) -> Iterator[bytes]:
    """Return the envelopes (JSON) from item ``start`` (from 0) on; few are held in memory at a time.

    The first are read before it returns: raises StoreUnavailable. For the others a store that is out is
    tried again for `READ_PATIENCE`, unless ``give_up`` says to stop; then the iterator raises StreamBroken.
    """
    return _following(services, batch, start, _chunk(services, batch, start), give_up)


def _following(
    services: Services, batch: BatchRecord, start: int, chunk: Iterator[bytes], give_up: Callable[[], bool]
) -> Iterator[bytes]:
    while True:
        yield from chunk
        start += RESULTS_AT_ONCE
        if start >= batch.total:
            return
        chunk = _patiently(services, batch, start, give_up)


def _patiently(
    services: Services, batch: BatchRecord, start: int, give_up: Callable[[], bool]
) -> Iterator[bytes]:
    """Read through a short outage of the store: who has half of a stream would have to begin anew."""
    deadline = time.monotonic() + READ_PATIENCE
    while True:
        try:
            return _chunk(services, batch, start)
        except StoreUnavailable as error:
            if time.monotonic() > deadline or give_up():
                raise StreamBroken from error
            time.sleep(READ_EVERY)


def _chunk(services: Services, batch: BatchRecord, start: int) -> Iterator[bytes]:
    return _envelopes(services, batch, start, RESULTS_AT_ONCE)


def _read(services: Services, batch: BatchRecord, start: int, end: int) -> Iterator[bytes]:
    """Yield the envelopes from item ``start`` to before ``end``, or the last one; read a few at a time."""
    end = min(end, batch.total)
    for first in range(start, end, RESULTS_AT_ONCE):
        yield from _envelopes(services, batch, first, min(RESULTS_AT_ONCE, end - first))


def read_cursor(cursor: str | None) -> int:
    """Return the number of the item a cursor stands for, from 0. Raises ValidationFailed."""
    if cursor is None:
        return 0
    if not _CURSOR.fullmatch(cursor):
        raise _bad_cursor()
    return int(cursor)


def _envelopes(services: Services, batch: BatchRecord, start: int, count: int) -> Iterator[bytes]:
    """Read so many items, and return their envelopes; each is unpacked when it is asked for."""
    names = item_ids(batch, start, count)
    records = services.requests.get_many(names)
    ended = [record.request_id for record in records if record is not None and record.is_final]
    return _unpacked(batch, names, records, zip(ended, services.requests.envelopes(ended), strict=True))


def _unpacked(
    batch: BatchRecord,
    names: Sequence[str],
    records: Sequence[RequestRecord | None],
    bodies: Iterator[tuple[str, bytes | None]],
) -> Iterator[bytes]:
    for name, record in zip(names, records, strict=True):
        has_ended = record is not None and record.is_final
        body = next(bodies)[1] if has_ended else None
        yield body if body is not None else _without_result(batch, name, record)


def _without_result(batch: BatchRecord, request_id: str, record: RequestRecord | None) -> bytes:
    if record is not None and not record.is_final:
        return _json(running(record))
    gone = {"success": False, "requestId": request_id, "batchId": batch.batch_id}
    return _json({**gone, "error": GONE, "code": NotFound.code})


def cancel_batch(services: Services, account_id: str, batch_id: str) -> BatchRecord:
    """End what has not begun of a batch and release its holds; what is under way goes on to its end.

    Cancelling twice is cancelling once. Raises NotFound.
    """
    batch = find_batch(services, account_id, batch_id)
    if batch.left == 0 or (batch.cancelled_at and batch.left == batch.processing):
        return batch  # to look at all of its items would be for nothing
    envelopes = _envelopes_of_queued(services, batch)
    owed = services.batches.cancel(batch, envelopes)
    services.bulk.remove(list(envelopes))
    hand_over(services, owed)
    return find_batch(services, account_id, batch_id)


def _envelopes_of_queued(services: Services, batch: BatchRecord) -> dict[str, bytes]:
    """Return the envelopes (JSON) with which what is queued of a batch would end now, by request ids."""
    found: dict[str, bytes] = {}
    for start in range(0, batch.total, LOOKED_AT_ONCE):
        for record in services.requests.get_many(item_ids(batch, start, LOOKED_AT_ONCE)):
            if record is not None and record.status == QUEUED:
                found[record.request_id] = cancelled(services, record).envelope
    return found


def _bad_cursor() -> ValidationFailed:
    return ValidationFailed(details={"cursor": ["Pass the nextCursor of an earlier page."]})


def _json(envelope: dict[str, object]) -> bytes:
    return json.dumps(envelope, separators=(",", ":")).encode()
