"""What an audit, a backup and a restore read and write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import IO, Protocol

from service.domain.backups import (
    AccountCopy,
    BatchCopy,
    CountersCopy,
    IdempotencyCopy,
    OptOutsCopy,
    PoolCopy,
    Record,
    RequestCopy,
    SessionCopy,
    WatchCopy,
)
from service.domain.batches import BatchRecord
from service.domain.credits import Balance, LedgerEntry
from service.domain.requests import RequestRecord
from service.domain.rows import Tell


class BookStore(Protocol):
    """What an audit reads, and the one thing it may repair. ``tell`` hears of rows that cannot be read."""

    def closing(self, account_id: str, tell: Tell) -> tuple[Balance | None, str | None]:
        """Return the balance and the id of the ledger's last entry, both of one moment.

        None for a balance that cannot be read.
        """
        ...

    def tidied(self, account_id: str, tell: Tell) -> str | None:
        """Return the id of the entry up to which holds that are closed may be gone from the ledger."""
        ...

    def begin_tidying(self, account_id: str) -> tuple[str | None, str | None]: ...
    def tidy(self, account_id: str, entry_ids: Sequence[str]) -> None: ...
    def end_tidying(self, account_id: str, mark: str, since: str) -> None: ...
    def ledger(
        self, account_id: str, after: str | None, until: str, tell: Tell = ...
    ) -> Iterator[list[LedgerEntry]]: ...
    def requests(self, account_id: str, tell: Tell) -> Iterator[list[RequestRecord]]: ...
    def batches(self, account_id: str, tell: Tell) -> Iterator[list[BatchRecord]]: ...
    def items(self, batch: BatchRecord, tell: Tell) -> Iterator[list[RequestRecord]]:
        """Yield pages of a batch's requests that are still kept."""
        ...

    def is_watched(self, request_id: str) -> bool: ...
    def delivery_is_safe(self, request_id: str) -> bool: ...
    def void_hold(self, account_id: str, request_id: str, amount: int) -> bool: ...


class BackupStore(Protocol):
    """What a backup reads, page by page, and what a restore writes.

    Rows are returned as they are: whether one can be read, `service.domain.backup_rows.check` tells. ``tell``
    hears of what cannot be returned at all.
    ``key_check`` tells the SECRET_KEY of this installation from others, without telling the key;
    ``newest_format`` is the newest format of data this version reads.
    """

    key_check: str
    newest_format: int

    def kind(self) -> tuple[int, int]:
        """Return the format of the data and the number of shards."""
        ...

    def account_ids(self) -> list[str]: ...
    def account(self, account_id: str) -> tuple[AccountCopy, list[WatchCopy], str | None] | None:
        """Return an account, its watches and the id of its ledger's last entry, all of one moment.

        Raises BrokenRow when there is something else under its names.
        """
        ...

    def ledger(
        self, account_id: str, after: str | None, until: str, tell: Tell
    ) -> Iterator[list[LedgerEntry]]:
        """Yield pages of the ledger, oldest first, from after ``after`` to ``until`` inclusive."""
        ...

    def request_ids(self, account_id: str, below: str | None) -> list[str]:
        """Return the next ids of the account's list, newest first; the last page is empty."""
        ...

    def delivery_ids(self, account_id: str, below: str | None) -> list[str]: ...
    def requests(self, account_id: str, request_ids: Sequence[str]) -> list[RequestCopy]:
        """Return what there is of these requests, each of one moment, without the results."""
        ...

    def batches(self, account_id: str, batch_ids: Sequence[str]) -> list[BatchCopy]:
        """Return what there is of these batches."""
        ...

    def with_results(self, copies: Sequence[RequestCopy], tell: Tell) -> list[RequestCopy]:
        """Return the same with the results that are kept."""
        ...

    def idempotency_keys(self) -> Iterator[list[IdempotencyCopy]]:
        """Yield pages of all keys there are; one may come twice."""
        ...

    def counters(self, shards: int) -> list[CountersCopy]: ...
    def sessions(self) -> tuple[list[SessionCopy], PoolCopy]: ...
    def opt_outs(self) -> OptOutsCopy: ...
    def target(self) -> tuple[int, str | None]:
        """Return how many accounts there are, and the checksum of the backup being restored, if any."""
        ...

    def begin(self, digest: str) -> None:
        """Mark the store: until `complete` no process starts over it."""
        ...

    def write(self, records: Iterator[Record]) -> None:
        """Write records, replacing what is there under the same names."""
        ...

    def complete(self, data_format: int, shards: int) -> None:
        """Take the mark away."""
        ...


class Written(Protocol):
    def write(self, data: bytes, /) -> int: ...
    def flush(self) -> None: ...


class Sealing(Protocol):
    """Files that tell nothing and cannot be changed without SECRET_KEY."""

    def seal(self, file: IO[bytes]) -> AbstractContextManager[Written]:
        """Lend something to write to, which goes sealed into ``file``; that is whole at the end."""
        ...

    def open(self, file: IO[bytes]) -> IO[bytes] | None:
        """Return what stands in a sealed file; None when it is none, with ``file`` at its begin.

        Raises ConfigurationError for one of another SECRET_KEY, and ValidationFailed, also while it is
        read, for one that was changed or is not whole.
        """
        ...
