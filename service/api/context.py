"""What a view needs to know: the services, the caller, the id of this exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from threading import Event
from typing import Any, cast
from urllib.parse import parse_qs

from flask import Flask, current_app, g, request

from service.actions.authenticate import authenticate
from service.actions.lookup import T, wait_for
from service.api.hiker.errors import is_hiker_path
from service.domain import ids
from service.domain.accounts import Account
from service.domain.admission import PLACE, REFUSAL, Admission, Place
from service.domain.batches import BatchRecord
from service.domain.errors import StoreUnavailable, StoryhookError, Unauthorized
from service.domain.ports import Services
from service.domain.requests import RequestRecord

_EXTENSION = "storyhook"


class AppContext:
    """What `create_app` hands to the views."""

    def __init__(self, services: Services, admission: Admission, metrics_token: str, stopping: Event) -> None:
        self.services = services
        self.admission = admission
        self.metrics_token = metrics_token
        self.stopping = stopping


def install(app: Flask, context: AppContext) -> None:
    """Make the context reachable from views."""
    app.extensions[_EXTENSION] = context


def context() -> AppContext:
    return cast(AppContext, current_app.extensions[_EXTENSION])


def wait(record: RequestRecord, seconds: float) -> RequestRecord:
    """Return the request once it has ended, or as it is when there is no more waiting.

    That is after ``seconds``, at once when too many wait already, and soon when the process ends.
    """
    look = partial(services().requests.look, account_id=record.account_id)
    return _wait(record, record.request_id, look, seconds)


def wait_for_batch(batch: BatchRecord, seconds: float) -> BatchRecord:
    """As `wait`, for a batch."""
    return _wait(batch, batch.batch_id, services().batches.get, seconds)


def _wait(record: T, identifier: str, look: Callable[[str], T | None], seconds: float) -> T:
    if record.is_final or seconds <= 0:
        return record
    with place_to_wait() as granted:
        if not granted:
            return record
        try:
            return wait_for(services(), identifier, lambda: look(identifier) or record, seconds, process_ends)
        except StoreUnavailable:
            return record  # it was accepted; the caller has to learn its id


@contextmanager
def place_to_wait() -> Iterator[bool]:
    """Take one of the places of those who wait; yields False when the caller gets none.

    An exchange that has one needs no other. The place it was admitted to is free for others meanwhile.
    """
    if g.get("has_place"):
        yield True
        return
    waits, holder, exchange = context().admission.waits, account().account_id, g._get_current_object()
    exchange.has_place = granted = waits.take(holder)
    try:
        if granted:
            _leave_front_place()
        yield granted
    finally:
        exchange.has_place = False
        if granted:
            waits.give(holder)


def _leave_front_place() -> None:
    place: Place | None = request.environ.get(PLACE)
    if place is not None:
        place.leave()


@contextmanager
def place_needed() -> Iterator[None]:
    """As `place_to_wait`, for a call that cannot turn 202. Raises RateLimited, TooBusy without a place."""
    with place_to_wait() as granted:
        if not granted:
            raise context().admission.waits.refusal(account().account_id)
        yield


def process_ends() -> bool:
    """Tell whether this process was told to end."""
    return context().stopping.is_set()


def services() -> Services:
    return context().services


def exchange_id() -> str:
    """Return the id of this HTTP exchange, the `requestId` of answers that created no request."""
    if "exchange_id" not in g:
        g.exchange_id = ids.new_id(ids.EXCHANGE, 0, services().clock())
    return cast(str, g.exchange_id)


def refuse() -> None:
    """Raise what the front door has to say of a call that it does not admit; before anything else."""
    refusal: StoryhookError | None = request.environ.get(REFUSAL)
    if refusal is not None:
        raise refusal


def require_account() -> None:
    """Authenticate the caller; a blueprint's `before_request`. Raises Unauthorized, Forbidden."""
    g.account = identified(services(), context().admission, request.environ, request.remote_addr or "")


def identified(services: Services, admission: Admission, environ: Mapping[str, Any], address: str) -> Account:
    """Return whose key or token a call has, and remember it for the front door.

    Raises Unauthorized, Forbidden, StoreUnavailable.
    """
    credential = credential_in(environ)
    if not credential:
        raise Unauthorized
    account = authenticate(services, credential, address)
    admission.callers.remember(credential, account.account_id)
    return account


def account() -> Account:
    """Return the authenticated caller."""
    return cast(Account, g.account)


def credential_in(environ: Mapping[str, Any]) -> str:
    """Return the token or key of a call, "" for none; that of HikerAPI's routes may stand in the query."""
    if "access_key=" in environ["QUERY_STRING"] and is_hiker_path(environ["PATH_INFO"]):
        in_query = parse_qs(environ["QUERY_STRING"]).get("access_key")
        if in_query:
            return in_query[0]
    scheme, _, value = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else environ.get("HTTP_X_ACCESS_KEY", "")
