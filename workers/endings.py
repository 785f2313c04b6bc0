"""How a claimed request ends: what is stored, charged and sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from service.domain import envelopes, watches
from service.domain.errors import (
    FetchError,
    NoSessionFree,
    RangeNotSatisfiable,
    StoryhookError,
    UpstreamFailed,
)
from service.domain.operations import CACHED, EMPTY, FOUND, NOTHING_NEW, OPERATIONS
from service.domain.ports import Services
from service.domain.requests import FAILED, SUCCEEDED, Claim, Ending
from service.domain.shapes import shaped
from service.domain.stories import owner_of, with_string_ids
from workers.sources.contract import Found

BLOCKED_RETRY_AFTER = 60

Renew = Callable[[], None]


class Endings:
    """Builds the endings of one claimed request.

    ``renew`` holds this claim, and whichever have to wait for it, while its media are archived.
    """

    def __init__(self, services: Services, claim: Claim, renew: Renew | None = None) -> None:
        self._services = services
        self._claim = claim
        self._renew = renew or partial(services.requests.renew, claim)
        self._operation = OPERATIONS[claim.request.operation]

    def succeeded(self, found: Found, *, age: int | None = None) -> Ending:
        """End with what was found; ``age`` in seconds when it was fetched for somebody else.

        Raises LeaseLost when that shows while media are archived.
        """
        data = with_string_ids(found.data)
        size, first_byte = data.get("size"), self._claim.request.options.first_byte
        if first_byte and size is not None and first_byte >= size:
            return self.failed(RangeNotSatisfiable(f"The file has {size} bytes."))
        brought = replace(found, data=data)
        watch = self._watch()
        if watch is None or not watch.only_new:
            return self._success(brought, self._outcome(data), age)
        shown = data["items"]
        remember = watches.remembered(shown, self._services.clock())
        seen = self._services.watches.seen(watch.watch_id, list(remember))
        data["items"] = watches.new_items(shown, seen)
        outcome = FOUND if data["items"] else NOTHING_NEW
        silent = outcome == NOTHING_NEW and watch.is_silent_about_nothing()
        return replace(self._success(brought, outcome, age), silent=silent, remember=remember)

    def _outcome(self, data: dict[str, Any]) -> str:
        return EMPTY if self._operation.listed and not data[self._operation.counted] else FOUND

    def _success(self, found: Found, outcome: str, age: int | None) -> Ending:
        charge = self._charge(CACHED if age is not None and outcome != NOTHING_NEW else outcome)
        data = self._rendered(found.data)
        counted = self._operation.counted
        item_count = len(data[counted]) if counted else 1
        owner, owner_name = owner_of(found.data)
        envelope = envelopes.success(
            self._claim.request,
            outcome=outcome,
            data=data,
            charged=charge,
            now_ms=self._services.clock(),
            item_count=item_count,
            source=found.source,
            age=age,
        )
        return Ending(
            SUCCEEDED,
            _json(envelope),
            charge,
            outcome=outcome,
            item_count=item_count,
            cached=age is not None,
            source=found.source,
            owner=owner,
            owner_name=owner_name,
        )

    def _rendered(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the result as the caller wants it: so many of it, in that shape."""
        counted, options = self._operation.counted, self._claim.request.options
        if options.amount and counted:
            data = {**data, counted: data[counted][: options.amount]}
        if options.archive:
            owner, owner_name = owner_of(data)
            # Whoever opts out by the name that was asked for means these files, too.
            names = {owner_name, self._claim.request.username or ""}
            data = self._services.archive.keep(
                data, owner, self._renew, names, self._claim.request.account_id
            )
        return shaped(data, options.shape)

    def failed(self, error: StoryhookError) -> Ending:
        """End with an error; what it costs is the price of its code."""
        charge = self._charge(error.code)
        envelope = envelopes.failure(
            self._claim.request,
            code=error.code,
            message=error.message,
            charged=charge,
            now_ms=self._services.clock(),
        )
        retry_after = error.retry_after or (BLOCKED_RETRY_AFTER if error.status == 503 else 0)
        watch = self._watch()
        silent = watch is not None and watch.is_silent_about(error.code)
        return Ending(
            FAILED,
            _json(envelope),
            charge,
            code=error.code,
            retry_after=retry_after,
            silent=silent,
            # Where nobody was asked, or the fault is ours, the caller had nothing for nothing.
            burdens=isinstance(error, FetchError) and not isinstance(error, NoSessionFree),
        )

    def not_worked_on(self) -> Ending:
        """End what nobody can be got to work on, or what takes its workers down with it."""
        error = UpstreamFailed("The request could not be worked on; it was tried several times.")
        return replace(self.failed(error), burdens=False)

    def _watch(self) -> watches.Watch | None:
        """Return the watch whose run this is; None for a single request, or when it was deleted."""
        watch_id = self._claim.request.watch_id
        return self._services.watches.get(watch_id) if watch_id else None

    def _charge(self, outcome: str) -> int:
        request = self._claim.request
        prices = self._services.policy.prices
        return prices.charge_for(request.operation, outcome, request.hold, request.options)


def _json(envelope: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(envelope)
    except TypeError:
        # Half an emoji, cut in the middle of a surrogate pair, is no Unicode text: it becomes "?".
        return json.dumps(envelope, ensure_ascii=False).encode("utf-8", "replace")
