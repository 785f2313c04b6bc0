"""Take out of the ledgers what was held and is closed, when its requests have passed their lifetime."""

from __future__ import annotations

from service.domain.ports import Services
from service.domain.tidying import Tidying


def tidy_ledger(services: Services, account_id: str) -> int:
    """Take closed holds out of a ledger, up to the mark that was made the last time; make the next one.

    So whoever reads a ledger, for an audit or a backup, learns before they go which entries may go.
    """
    books = services.books
    mark, since = books.begin_tidying(account_id)
    tidying = Tidying()
    if mark is not None:
        for page in books.ledger(account_id, None if since is None else _before(since), mark):
            tidying.read(page)
    for entry_ids in tidying.closed:
        books.tidy(account_id, entry_ids)
    horizon = services.clock() - services.policy.result_ttl * 1000
    books.end_tidying(account_id, f"{max(horizon, 0)}-0", tidying.since(mark or "0-0"))
    return sum(len(entry_ids) for entry_ids in tidying.closed)


def _before(entry_id: str) -> str:
    """Return an id that stands right before that of an entry."""
    at, _, number = entry_id.partition("-")
    return f"{at}-{int(number) - 1}" if int(number) else f"{max(int(at) - 1, 0)}-{2**63}"
