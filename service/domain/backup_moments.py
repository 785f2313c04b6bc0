"""Which moment a backup shows: everything as it was when the end of a ledger was read. Pure functions."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from service.domain import ids, requests
from service.domain.audit import Fold
from service.domain.backups import BatchCopy, Fields, Kept, RequestCopy
from service.domain.batches import Tally

# What work on a request, waiting in vain for it, and its end leave in its hash.
_LEASE = "lease_until"
_OF_THE_WORK = frozenset({_LEASE, "looks", "parked"})
_OF_THE_END = frozenset(
    {"outcome", "code", "charged", "item_count", "retry_after", "cached", "silent", "finished_at"}
    | {"source", "owner", "owner_name", "released"}
)


def as_of(copy: RequestCopy, fold: Fold, later: Container[str]) -> RequestCopy | None:
    """Return what a request was when its account's ledger ended as ``fold`` has read it.

    The copy was read after that moment and may be newer; the ledger is what tells. None when there was no
    such request, or nothing of it is kept. ``later`` holds the ids of requests whose hold came after the
    moment. What neither the ledger before nor after knows is no newer request but a damaged ledger, and
    copied as it is: `storyhook audit` tells of it, here as there.
    """
    if copy.request is None:
        return _without_lease(copy) if _is_kept(copy.delivery) else None
    if copy.request_id in fold.open_holds or _was_open(copy, fold):
        return reopened(copy)
    if is_unknown(copy, fold) and (copy.request_id in later or copy.request.value.get("batch") in later):
        return None
    return reopened(copy) if copy.is_open else _without_lease(copy)


def is_unknown(copy: RequestCopy, fold: Fold) -> bool:
    """Tell whether a request holds a price of which the ledger read so far knows nothing."""
    if copy.request is None or int(copy.request.value["hold"]) == 0:
        return False
    known = copy.request_id in fold.open_holds or copy.request_id in fold.settled
    return not known and copy.request.value.get("batch") not in fold.batches


def _was_open(copy: RequestCopy, fold: Fold) -> bool:
    """Tell whether this is an item of a batch with one hold for all, and had not ended."""
    assert copy.request is not None  # noqa: S101 - the caller asked
    fields = copy.request.value
    if fields.get("batch") not in fold.batches or copy.request_id in fold.settled or fields["hold"] == "0":
        return False
    return "released" not in fields or not fold.released_by(fields["released"])


def reopened(copy: RequestCopy) -> RequestCopy:
    """Return a request as one nobody has worked on yet, its price held; its fence and attempts stay.

    The fence must never fall: a worker that comes back late would be let in.
    """
    assert copy.request is not None  # noqa: S101 - the callers asked
    gone = _OF_THE_WORK | _OF_THE_END
    fields = {name: value for name, value in copy.request.value.items() if name not in gone}
    return RequestCopy(copy.account_id, copy.request_id, Kept({**fields, "status": requests.QUEUED}))


def _without_lease(copy: RequestCopy) -> RequestCopy:
    if not _is_kept(copy.delivery):
        return replace(copy, delivery=None, log=None)
    delivery = copy.delivery
    assert delivery is not None  # noqa: S101 - it is kept
    fields = {name: value for name, value in delivery.value.items() if name != _LEASE}
    return replace(copy, delivery=Kept(fields, delivery.lifetime))


def _is_kept(delivery: Kept[Fields] | None) -> bool:
    """A test webhook, which tells of no request, is tried once and has been."""
    return delivery is not None and "single" not in delivery.value


def is_summary(copy: RequestCopy) -> bool:
    """Tell whether this is no request but the delivery that tells of a whole batch."""
    return copy.delivery is not None and copy.delivery.value["request"].startswith(ids.BATCH)


def recounted(copy: BatchCopy, tally: Tally) -> BatchCopy:
    """Return a batch with the counts of its requests in the backup; one that is over stays as it is.

    Where requests have passed their lifetime while others are open, those are counted no more.
    """
    if not tally.left and copy.kept.value["left"] == "0":
        return copy
    counted = ("status:", "outcome:")
    fields = {name: value for name, value in copy.kept.value.items() if not name.startswith(counted)}
    fields.pop("finished_at", None)
    fields |= {"left": str(tally.left), "processing": "0", "charged": str(tally.charged)}
    fields |= {"items": str(tally.items), "cached": str(tally.cached)}
    fields |= {f"status:{name}": str(count) for name, count in tally.statuses.items()}
    fields |= {f"outcome:{name}": str(count) for name, count in tally.outcomes.items()}
    return replace(copy, kept=Kept(fields))
