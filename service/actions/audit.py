"""Prove the ledger: recompute balances and holds, check every request against its charge and webhook."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.domain.audit import Difference, Fold
from service.domain.batches import BatchRecord, Tally
from service.domain.errors import BrokenRow
from service.domain.ports import Services
from service.domain.requests import RequestRecord
from service.domain.rows import PassedOver


@dataclass
class Report:
    """What an audit saw, and the rows it could not read."""

    accounts: int = 0
    entries: int = 0
    requests: int = 0
    differences: list[Difference] = field(default_factory=list)
    repaired: list[Difference] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=PassedOver)


def audit(services: Services, *, repair: bool = False) -> Report:
    """Check every account; with ``repair`` release holds that belong to nothing.

    Works while the service does: what changed between two looks is looked at again before it is
    called a difference.
    """
    report = Report()
    for account in services.accounts.all(report.passed_over):
        report.accounts += 1
        _account(services, account.account_id, report, repair=repair)
    return report


def _account(services: Services, account_id: str, report: Report, *, repair: bool) -> None:
    books, tell = services.books, report.passed_over
    fold = Fold()
    balance, last = books.closing(account_id, tell)
    if last is not None:
        for page in books.ledger(account_id, None, last, tell):
            fold.read(page)
    if balance is not None:
        fold.compare(account_id, balance)
    for records in books.requests(account_id, tell):
        report.requests += len(records)
        for record in records:
            _request(services, record, fold, last, report)
    for batches in books.batches(account_id, tell):
        for batch in batches:
            _batch(services, batch, report)
    _holds(services, account_id, fold, last, report, repair=repair)
    report.entries += fold.entries
    report.differences += fold.differences


def _request(services: Services, record: RequestRecord, fold: Fold, last: str | None, report: Report) -> None:
    if not record.is_final:
        _open(services, record, report)
        return
    charged = fold.settled.get(record.request_id)
    if charged is None and record.hold > 0:
        charged = _settled_since(services, record, last, report)
    if (charged or 0) != record.charged or (charged is None and record.hold > 0):
        text = f"ended with {record.charged} charged, the ledger says {charged}"
        report.differences.append(Difference("charge", record.request_id, text))
    if record.webhook_url and not record.silent and not services.books.delivery_is_safe(record.request_id):
        report.differences.append(Difference("delivery", record.request_id, "its webhook is not scheduled"))


def _batch(services: Services, batch: BatchRecord, report: Report) -> None:
    """Compare a batch's counts with its items; one that goes on while they are read is left for later."""
    tally = Tally()
    for items in services.books.items(batch, report.passed_over):
        for item in items:
            tally.add(item)
    if tally.fits(batch) or tally.total < batch.total:  # items that have passed their lifetime
        return
    if services.batches.get(batch.batch_id) == batch:
        report.differences.append(Difference("batch", batch.batch_id, f"shows {batch}, has {tally}"))


def _open(services: Services, record: RequestRecord, report: Report) -> None:
    if services.books.is_watched(record.request_id):
        return
    again = services.requests.get(record.request_id)
    if again is not None and not again.is_final:
        report.differences.append(Difference("unwatched", record.request_id, "open, but not swept"))


def _settled_since(services: Services, record: RequestRecord, last: str | None, report: Report) -> int | None:
    """Return what a request was charged in entries newer than ``last``, None when there are none."""
    later = Fold()
    for page in services.books.ledger(record.account_id, last, "+", report.passed_over):
        later.read(entry for entry in page if entry.request_id == record.request_id)
    return later.settled.get(record.request_id)


def _holds(
    services: Services, account_id: str, fold: Fold, last: str | None, report: Report, *, repair: bool
) -> None:
    for request_id, amount in fold.open_holds.items():
        try:
            record = services.requests.get(request_id)
        except BrokenRow as broken:  # whether it is open nobody can tell, so its hold stays
            report.passed_over(broken)
            continue
        if record is not None and not record.is_final:
            continue
        if record is not None and _settled_since(services, record, last, report) is not None:
            continue
        difference = Difference("stray_hold", request_id, f"{amount} held for a request that is not open")
        if repair and services.books.void_hold(account_id, request_id, amount):
            report.repaired.append(difference)
        else:
            fold.differences.append(difference)
