"""Look a request up, wait for it, list what an account has asked for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypeVar

from service.domain import ids
from service.domain.batches import BatchRecord
from service.domain.errors import NotFound, ValidationFailed
from service.domain.ports import Services
from service.domain.ports.work import Waiter
from service.domain.requests import Page, RequestRecord

T = TypeVar("T", RequestRecord, BatchRecord)


def find_request(services: Services, account_id: str, request_id: str) -> RequestRecord:
    """Return a request of the account. Raises NotFound, also for another account's."""
    record = None
    if ids.shard_of(request_id, ids.REQUEST) == ids.shard_in(account_id):
        record = services.requests.get(request_id)
    if record is None or record.account_id != account_id:
        raise NotFound("There is no request of this id.")
    return record


# How soon a caller who waits is let go when the process ends.
WAIT_SLICE = 1.0


def wait_for(
    services: Services,
    identifier: str,
    look: Callable[[], T],
    seconds: float,
    give_up: Callable[[], bool] = lambda: False,
) -> T:
    """Return a request or batch once it has ended, or as it is after ``seconds`` or when ``give_up`` says so.

    ``look`` returns it as it is now.
    """
    with services.requests.waiter(identifier) as waiter:
        # Looked at after subscribing: an end in between is either seen here or heard below.
        current = look()
        if not current.is_final:
            hear(waiter, seconds, give_up)
            current = look()
        return current


def hear(waiter: Waiter, seconds: float, give_up: Callable[[], bool]) -> bool:
    """Wait for what ``waiter`` listens for; False after ``seconds``, or soon after ``give_up`` says so."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and not give_up():
        if waiter.wait(min(left, WAIT_SLICE)):
            return True
    return False


def list_requests(
    services: Services,
    account_id: str,
    *,
    status: str | None,
    username: str | None,
    cursor: str | None,
    limit: int,
) -> Page[RequestRecord]:
    """Return the account's requests, newest first. Raises ValidationFailed on a foreign cursor."""
    if cursor is not None and ids.shard_of(cursor, ids.REQUEST) != ids.shard_in(account_id):
        raise ValidationFailed(details={"cursor": ["Pass the nextCursor of an earlier page."]})
    name = username.lower() if username else None
    return services.requests.page(account_id, status=status, username=name, cursor=cursor, limit=limit)


def check_subject(identifier: str | None) -> str | None:
    """Return what has the shape of an id of a request or batch. Raises ValidationFailed naming requestId."""
    kinds = (ids.REQUEST, ids.BATCH)
    if identifier is not None and all(ids.shard_of(identifier, kind) is None for kind in kinds):
        raise ValidationFailed(details={"requestId": ["Pass the id of a request or batch, as it was given."]})
    return identifier


_LEDGER_CURSOR = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


def check_ledger_cursor(cursor: str | None) -> str | None:
    """Return the cursor when it has the shape of one. Raises ValidationFailed."""
    if cursor is not None and not _LEDGER_CURSOR.fullmatch(cursor):
        raise ValidationFailed(details={"cursor": ["Pass the nextCursor of an earlier page."]})
    return cursor
