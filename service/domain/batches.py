"""Batches: many requests accepted in one step, counted together until the last of them has ended."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.domain.envelopes import timestamp
from service.domain.namelists import Entry
from service.domain.options import PLAIN, Options
from service.domain.requests import CANCELLED, FAILED, PROCESSING, QUEUED, SUCCEEDED, RequestRecord
from service.domain.rows import LAST_MS

COMPLETED = "completed"
# A batch is over when its items are; "cancelled" tells that it was told to end before.
BATCH_STATES = (PROCESSING, COMPLETED, CANCELLED)

EACH = "each"
SUMMARY = "summary"
BOTH = "both"
WEBHOOK_MODES = (EACH, SUMMARY, BOTH)

REJECT = "reject"
CLAMP = "clamp"
ON_INSUFFICIENT_CREDITS = (REJECT, CLAMP)


@dataclass(frozen=True)
class BatchSubmission:
    """A batch as asked for, before it is stored. ``entries`` are valid and each name comes once."""

    batch_id: str
    account_id: str
    operation: str
    entries: list[Entry]
    hold: int
    webhook_url: str | None = None
    webhook_mode: str = EACH
    max_age: int = 0
    clamp: bool = False
    idempotency_key: str | None = None
    options: Options = PLAIN

    @property
    def owes_each(self) -> bool:
        return self.webhook_url is not None and self.webhook_mode != SUMMARY

    @property
    def owes_summary(self) -> bool:
        return self.webhook_url is not None and self.webhook_mode != EACH

    @property
    def fingerprint(self) -> str:
        """What is asked, in a form that compares: the same key must ask the same."""
        names = [[entry.username, entry.external_id] for entry in self.entries]
        options = [self.webhook_url, self.webhook_mode, self.max_age, self.clamp]
        if self.options != PLAIN:
            options.append(self.options.text)
        return hashlib.sha256(json.dumps([self.operation, names, *options]).encode()).hexdigest()


@dataclass(frozen=True)
class BatchRecord:
    """A batch as stored. Times are Unix milliseconds; 0 means not yet.

    ``total`` counts its items and ``left`` those that have not ended; of these ``processing`` are being
    worked on. ``statuses`` and ``outcomes`` count those that have.
    """

    batch_id: str
    account_id: str
    operation: str
    total: int
    left: int
    processing: int
    hold: int
    charged: int
    item_count: int
    cached: int
    created_at: int
    webhook_url: str | None
    webhook_mode: str
    max_age: int
    started_at: int = 0
    finished_at: int = 0
    cancelled_at: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        return self.left == 0

    @property
    def status(self) -> str:
        if not self.is_final:
            return PROCESSING
        return CANCELLED if self.cancelled_at else COMPLETED

    def ends_at(self, now_ms: int) -> int | None:
        """Return when it ends if it goes on as it has so far (Unix ms); None while nothing tells."""
        done = sum(self.statuses.get(state, 0) for state in (SUCCEEDED, FAILED))  # cancelling is no speed
        if self.is_final or not done or not self.started_at or now_ms <= self.started_at:
            return None
        ends_at = now_ms + (now_ms - self.started_at) * self.left // done
        return ends_at if ends_at <= LAST_MS else None


@dataclass
class Tally:
    """What the items of a batch add up to: the counts its record has to show."""

    left: int = 0
    processing: int = 0
    charged: int = 0
    items: int = 0
    cached: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)

    def add(self, item: RequestRecord) -> None:
        """Count an item."""
        if not item.is_final:
            self.left += 1
            self.processing += item.status == PROCESSING
            return
        self.charged += item.charged
        self.items += item.item_count
        self.cached += item.cached
        self.statuses[item.status] += 1
        self.outcomes[item.outcome or item.code or ""] += 1

    @property
    def total(self) -> int:
        return self.left + self.statuses.total()

    def fits(self, batch: BatchRecord) -> bool:
        """Tell whether a batch shows these counts."""
        shown = (batch.left, batch.processing, batch.charged, batch.item_count, batch.cached)
        counted = (self.left, self.processing, self.charged, self.items, self.cached)
        same = dict(batch.statuses) == dict(self.statuses) and dict(batch.outcomes) == dict(self.outcomes)
        return shown == counted and same


def view(batch: BatchRecord, now_ms: int | None = None) -> dict[str, Any]:
    """Return what callers see of a batch: how far it is, what came of it, where its results are.

    Without a clock it tells only what does not change after the end: the body of the summary's webhook.
    """
    ends_at = batch.ends_at(now_ms) if now_ms is not None else None
    return {
        "success": True,
        "batchId": batch.batch_id,
        "status": batch.status,
        "total": batch.total,
        "states": {
            QUEUED: batch.left - batch.processing,
            PROCESSING: batch.processing,
            **{state: batch.statuses.get(state, 0) for state in (SUCCEEDED, FAILED, CANCELLED)},
        },
        "outcomes": dict(sorted(batch.outcomes.items())),
        "cached": batch.cached,
        "progress": round((batch.total - batch.left) / batch.total, 4),
        "itemCount": batch.item_count,
        "creditsHeld": batch.left * batch.hold,
        "creditsCharged": batch.charged,
        "webhookUrl": batch.webhook_url,
        "webhookMode": batch.webhook_mode,
        "maxAge": batch.max_age,
        "createdAt": timestamp(batch.created_at),
        "startedAt": timestamp(batch.started_at) if batch.started_at else None,
        "finishedAt": timestamp(batch.finished_at) if batch.finished_at else None,
        "eta": timestamp(ends_at) if ends_at else None,
        "results": results_path(batch.batch_id),
    }


def summary(batch: BatchRecord) -> bytes:
    """Return the body of the summary's webhook, the same bytes however often it is sent."""
    return json.dumps(view(batch), separators=(",", ":")).encode()


def results_path(batch_id: str) -> str:
    return f"/api/batches/{batch_id}/results"
