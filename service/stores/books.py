"""What an audit reads: ledgers, holds and deliveries of an account, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from service.domain import ids
from service.domain.batches import BatchRecord
from service.domain.credits import TIDIED, TIDY_FROM, Balance, LedgerEntry
from service.domain.deliveries import PENDING
from service.domain.errors import BrokenRow
from service.domain.requests import RequestRecord
from service.domain.rows import Tell, entry_id, reading
from service.stores import keys, scripts
from service.stores.batches import batch_record
from service.stores.commands import OF_ANOTHER_TYPE, answers_of, hashes
from service.stores.connection import Client, store_adapter
from service.stores.credits import balance_of, ledger_pages
from service.stores.requests import request_record
from service.stores.rows import log_broken, look_up, read, readable

PAGE = 1_000


@store_adapter
class Books:
    """BookStore over Redis. Reads in pages; safe while the service works."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._void = scripts.load(redis, "void_hold")

    def closing(self, account_id: str, tell: Tell) -> tuple[Balance | None, str | None]:
        """Return the balance and the id of the ledger's last entry, both of one moment."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(keys.credits(account_id), "balance", "held")
            pipe.xrevrange(keys.ledger(account_id), count=1)
            values, last = answers_of(pipe)
        if last is OF_ANOTHER_TYPE:
            tell(BrokenRow(f"ledger of {account_id}", "its key holds another type"))
            last = []
        return read(balance_of, account_id, values, tell), last[0][0] if last else None

    def tidied(self, account_id: str, tell: Tell) -> str | None:
        """Return the id of the entry up to which the ledger was tidied, None when it never was."""
        [mark] = self._marks(account_id, tell, TIDIED)
        return mark

    def begin_tidying(self, account_id: str) -> tuple[str | None, str | None]:
        """Return the mark, and the id of the entry from which on there were holds open at it."""
        mark, since = self._marks(account_id, log_broken, TIDIED, TIDY_FROM)
        return mark, since

    def _marks(self, account_id: str, tell: Tell, *names: str) -> list[str | None]:
        """Return ids of entries; what is none counts as not there. `end_tidying` writes it anew."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hmget(keys.credits(account_id), *names)
            [values] = answers_of(pipe)
        if values is OF_ANOTHER_TYPE:  # whoever reads the balance tells of it
            return [None] * len(names)
        fields = {name: value for name, value in zip(names, values, strict=True) if value is not None}

        def mark(name: str, _: object) -> str | None:
            with reading("credits of", account_id):
                return entry_id(fields, name)

        return readable(mark, names, names, tell)

    def tidy(self, account_id: str, entry_ids: Sequence[str]) -> None:
        """Take entries of closed holds out of the ledger; those of a hold belong into one call."""
        self._redis.xdel(keys.ledger(account_id), *entry_ids)

    def end_tidying(self, account_id: str, mark: str, since: str) -> None:
        """Write down up to where entries will be taken out next time, and from where on to read then."""
        self._redis.hset(keys.credits(account_id), mapping={TIDIED: mark, TIDY_FROM: since})

    def ledger(
        self, account_id: str, after: str | None, until: str, tell: Tell = log_broken
    ) -> Iterator[list[LedgerEntry]]:
        """Yield pages of the ledger, oldest first, from after ``after`` to ``until`` inclusive."""
        yield from ledger_pages(self._redis, account_id, after, until, count=PAGE, tell=tell)

    def requests(self, account_id: str, tell: Tell) -> Iterator[list[RequestRecord]]:
        """Yield pages of the account's requests that are still kept, newest first."""
        for names in self._listed(keys.account_requests(account_id)):
            yield self._requests(names, tell)

    def batches(self, account_id: str, tell: Tell) -> Iterator[list[BatchRecord]]:
        """Yield pages of the account's batches that are still kept, newest first."""
        for names in self._listed(keys.account_batches(account_id)):
            found = look_up(self._redis, keys.batch, batch_record, names, tell)
            yield [record for record in found if record is not None]

    def items(self, batch: BatchRecord, tell: Tell) -> Iterator[list[RequestRecord]]:
        """Yield pages of a batch's requests that are still kept."""
        names = [ids.item_of(batch.batch_id, number) for number in range(1, batch.total + 1)]
        for start in range(0, len(names), PAGE):
            yield self._requests(names[start : start + PAGE], tell)

    def _listed(self, index: str) -> Iterator[list[str]]:
        top = "+"
        while names := self._redis.zrevrangebylex(index, top, "-", start=0, num=PAGE):
            yield names
            top = f"({names[-1]}"

    def _requests(self, names: list[str], tell: Tell) -> list[RequestRecord]:
        found = look_up(self._redis, keys.request, request_record, names, tell)
        return [record for record in found if record is not None]

    def is_watched(self, request_id: str) -> bool:
        """Tell whether an open request stands where the sweep looks."""
        score = self._redis.zscore(keys.open_requests(ids.shard_in(request_id)), request_id)
        return score is not None

    def delivery_is_safe(self, request_id: str) -> bool:
        """Tell whether the delivery a request owes exists and, while pending, waits to be made."""
        delivery_id = ids.delivery_of(request_id)
        [fields] = hashes(self._redis, [keys.delivery(delivery_id)])
        status, host = fields.get("status"), fields.get("host", "")
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
