"""Prove the ledger: recompute balances and holds, check every request against its charge and webhook."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.domain import ids
from service.domain.audit import Difference, Fold
from service.domain.batches import BatchRecord, Tally
from service.domain.credits import CHARGE, RELEASE
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
    seen = _looked_at(services, account_id, repair=repair)
    if seen.differences:
        # The ledger is tidied while it is read, now and then: what does not add up is read once more.
        again = _looked_at(services, account_id, repair=repair)
        again.repaired += seen.repaired
        seen = again
    report.entries += seen.entries
    report.requests += seen.requests
    report.differences += seen.differences
    report.repaired += seen.repaired
    for broken in seen.passed_over:
        report.passed_over(broken)


def _looked_at(services: Services, account_id: str, *, repair: bool) -> Report:
    report = Report()
    books, tell = services.books, report.passed_over
    fold = Fold(books.tidied(account_id, tell))
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
    report.entries = fold.entries
    report.differences += fold.differences
    return report


def _request(services: Services, record: RequestRecord, fold: Fold, last: str | None, report: Report) -> None:
    if not record.is_final:
        _open(services, record, report)
        return
    if not _is_paid_for(services, record, fold, last, report):
        text = f"ended with {record.charged} charged, the ledger says {fold.settled.get(record.request_id)}"
        report.differences.append(Difference("charge", record.request_id, text))
    if record.webhook_url and not record.silent and not services.books.delivery_is_safe(record.request_id):
        report.differences.append(Difference("delivery", record.request_id, "its webhook is not scheduled"))


def _is_paid_for(
    services: Services, record: RequestRecord, fold: Fold, last: str | None, report: Report
) -> bool:
    """Tell whether the ledger says of a request that has ended what its record says."""
    charged = fold.settled.get(record.request_id)
    if charged is None and record.hold > 0:
        if record.charged == 0 and (record.released or fold.is_tidied(f"{record.finished_at}-0")):
            return True  # released with its batch, or so long ago that the entries are gone
        charged = _settled_since(services, record, last, report)
    return (charged or 0) == record.charged and not (charged is None and record.hold > 0)


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
    for holder, amount in fold.open_holds.items():
        try:
            stray = _stray(services, account_id, holder, amount, last=last, report=report)
        except BrokenRow as broken:  # what of it is open nobody can tell, so the hold stays
            report.passed_over(broken)
            continue
        if stray <= 0:
            continue
        difference = Difference("stray_hold", holder, f"{stray} held for what is not open")
        # Where a row cannot be read, that may be the one that tells of the hold's end.
        is_whole = not report.passed_over
        if repair and is_whole and services.books.void_hold(account_id, holder, stray):
            report.repaired.append(difference)
        else:
            fold.differences.append(difference)


def _stray(
    services: Services, account_id: str, holder: str, amount: int, *, last: str | None, report: Report
) -> int:
    """Return how much of a hold that was open at ``last`` belongs to nothing. Raises BrokenRow."""
    if ids.shard_of(holder, ids.BATCH) is not None:
        return _stray_of_batch(services, account_id, holder, amount, last)
    if ids.shard_of(holder, ids.REQUEST) is None:
        raise BrokenRow(f"hold of {account_id} for {holder!r}", "this is no id")
    record = services.requests.get(holder)
    if record is None:
        return amount
    if not record.is_final or _settled_since(services, record, last, report) is not None:
        return 0
    return amount


def _stray_of_batch(services: Services, account_id: str, batch_id: str, amount: int, last: str | None) -> int:
    """As `_stray`. Items end while they are read: the ledger, read after them, says which were open."""
    batch = services.batches.get(batch_id)
    if batch is None:
        return amount
    held = {
        item.request_id: item.hold
        for items in services.books.items(batch, _refuse)
        for item in items
        if not item.is_final
    }
    for page in services.books.ledger(account_id, last, "+", _refuse):
        for entry in page:
            subject = entry.request_id or ""
            if subject == batch_id:
                return 0  # released as a whole meanwhile
            if ids.batch_of(subject) == batch_id and entry.type in {CHARGE, RELEASE}:
                amount -= abs(entry.amount)
                held.pop(subject, None)
    return amount - sum(held.values())


def _refuse(broken: BrokenRow) -> None:
    raise broken
