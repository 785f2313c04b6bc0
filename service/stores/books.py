"""What an audit reads: ledgers, holds and deliveries of an account, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from service.domain import ids
from service.domain.batches import BatchRecord
from service.domain.credits import Balance, LedgerEntry
from service.domain.deliveries import PENDING
from service.domain.requests import RequestRecord
from service.stores import keys, scripts
from service.stores.batches import batch_record
from service.stores.commands import hashes
from service.stores.connection import Client, store_adapter
from service.stores.credits import ledger_entry
from service.stores.requests import request_record

PAGE = 1_000
TIDIED, TIDY_FROM = "tidied", "tidy_from"


@store_adapter
class Books:
    """BookStore over Redis. Reads in pages; safe while the service works."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._void = scripts.load(redis, "void_hold")

    def closing(self, account_id: str) -> tuple[Balance, str | None]:
        """Return the balance and the id of the ledger's last entry, both of one moment."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(keys.credits(account_id), "balance", "held")
            pipe.xrevrange(keys.ledger(account_id), count=1)
            (balance, held), last = pipe.execute()
        return Balance(int(balance or 0), int(held or 0)), last[0][0] if last else None

    def tidied(self, account_id: str) -> str | None:
        """Return the id of the entry up to which the ledger was tidied, None when it never was."""
        mark: str | None = self._redis.hget(keys.credits(account_id), TIDIED)
        return mark

    def begin_tidying(self, account_id: str) -> tuple[str | None, str | None]:
        """Return the mark, and the id of the entry from which on there were holds open at it."""
        mark, since = self._redis.hmget(keys.credits(account_id), TIDIED, TIDY_FROM)
        return mark, since

    def tidy(self, account_id: str, entry_ids: Sequence[str]) -> None:
        """Take entries of closed holds out of the ledger; those of a hold belong into one call."""
        self._redis.xdel(keys.ledger(account_id), *entry_ids)

    def end_tidying(self, account_id: str, mark: str, since: str) -> None:
        """Write down up to where entries will be taken out next time, and from where on to read then."""
        self._redis.hset(keys.credits(account_id), mapping={TIDIED: mark, TIDY_FROM: since})

    def ledger(self, account_id: str, after: str | None, until: str) -> Iterator[list[LedgerEntry]]:
        """Yield pages of the ledger, oldest first, from after ``after`` to ``until`` inclusive."""
        start = f"({after}" if after else "-"
        while True:
            rows = self._redis.xrange(keys.ledger(account_id), min=start, max=until, count=PAGE)
            if not rows:
                return
            yield [ledger_entry(entry_id, fields) for entry_id, fields in rows]
            start = f"({rows[-1][0]}"

    def requests(self, account_id: str) -> Iterator[list[RequestRecord]]:
        """Yield pages of the account's requests that are still kept, newest first."""
        for names in self._listed(keys.account_requests(account_id)):
            yield self._requests(names)

    def batches(self, account_id: str) -> Iterator[list[BatchRecord]]:
        """Yield pages of the account's batches that are still kept, newest first."""
        for names in self._listed(keys.account_batches(account_id)):
            rows = hashes(self._redis, [keys.batch(name) for name in names])
            found = [batch_record(name, row) for name, row in zip(names, rows, strict=True)]
            yield [record for record in found if record is not None]

    def items(self, batch: BatchRecord) -> Iterator[list[RequestRecord]]:
        """Yield pages of a batch's requests that are still kept."""
        names = [ids.item_of(batch.batch_id, number) for number in range(1, batch.total + 1)]
        for start in range(0, len(names), PAGE):
            yield self._requests(names[start : start + PAGE])

    def _listed(self, index: str) -> Iterator[list[str]]:
        top = "+"
        while names := self._redis.zrevrangebylex(index, top, "-", start=0, num=PAGE):
            yield names
            top = f"({names[-1]}"

    def _requests(self, names: list[str]) -> list[RequestRecord]:
        rows = hashes(self._redis, [keys.request(name) for name in names])
        found = [request_record(name, row) for name, row in zip(names, rows, strict=True)]
        return [record for record in found if record is not None]

    def is_watched(self, request_id: str) -> bool:
        """Tell whether an open request stands where the sweep looks."""
        score = self._redis.zscore(keys.open_requests(ids.shard_in(request_id)), request_id)
        return score is not None

    def delivery_is_safe(self, request_id: str) -> bool:
        """Tell whether the delivery a request owes exists and, while pending, waits to be made."""
        delivery_id = ids.delivery_of(request_id)
        status, host = self._redis.hmget(keys.delivery(delivery_id), "status", "host")
        if status is None or status != PENDING:
            return status is not None
        shard = ids.shard_in(delivery_id)
        waits = self._redis.zscore(keys.due(shard, host), delivery_id) is not None
        return waits and self._redis.zscore(keys.due_hosts(shard), host) is not None

    def void_hold(self, account_id: str, request_id: str, amount: int) -> bool:
        """Release a hold whose request is gone or has ended; False when it is open after all."""
        voided = self._void(
            keys=[
                keys.request(request_id),
                keys.credits(account_id),
                keys.ledger(account_id),
                keys.stats(ids.shard_in(request_id)),
            ],
            args=[request_id, amount],
        )
        return bool(voided)
