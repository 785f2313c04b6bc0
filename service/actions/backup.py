"""Back up and restore: accounts, API keys, credits, requests, webhooks and sessions, in one file.

A backup is taken while the service works and shows each account at one moment: when the end of its ledger
was read. A ledger is only added to, but for what is tidied (`domain.tidying`), so it tells afterwards
which requests there were at that moment and which of them had ended.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TypeVar

from service import __version__
from service.domain import ids
from service.domain.audit import Difference, Fold
from service.domain.backup_files import LINE_MOST, Sealer, Unsealer
from service.domain.backup_moments import as_of, is_summary, is_unknown, recounted
from service.domain.backup_rows import is_readable
from service.domain.backups import (
    AccountCopy,
    BatchCopy,
    CountersCopy,
    Header,
    LedgerCopy,
    OptOutsCopy,
    PoolCopy,
    Record,
    RequestCopy,
    Tally,
)
from service.domain.batches import Tally as BatchTally
from service.domain.credits import HOLD, TIDIED, TIDYING, LedgerEntry
from service.domain.envelopes import timestamp
from service.domain.errors import BrokenRow, ConfigurationError, Conflict, ValidationFailed
from service.domain.namelists import NAMES_MOST
from service.domain.ports import Services
from service.domain.ports.books import BackupStore, Sealing
from service.domain.rows import PassedOver, Tell, is_entry_id

REQUESTS_AT_ONCE = 50
# Idempotency keys live for a day; the rest is for clocks that differ.
RECENT_MS = 25 * 3_600 * 1_000
NOTHING_KNOWN = '{"at": 0, "note": "", "linked": ""}'  # of somebody who opted out

R = TypeVar("R", bound=Record)


@dataclass
class Report:
    """What a backup holds, its size in bytes, what did not add up in the store it was made of, and what of it
    could not be read and is not in the backup."""

    tally: Tally
    size: int = 0
    differences: list[Difference] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=PassedOver)


# --- backing up ----------------------------------------------------------------------------------


def back_up(services: Services, path: Path, *, force: bool = False) -> Report:
    """Write a backup to ``path``, which only its owner may read; it is there whole or not at all.

    Raises Conflict when there is such a file already, unless ``force``; ValidationFailed when it cannot
    be written; StoreUnavailable.
    """
    if path.name == "-" or (path.exists() and not path.is_file()):
        raise ValidationFailed(f"{path} is no file a backup can be written to. Give the name of a new file.")
    if path.exists() and not force:
        raise Conflict(f"{path} is there already. Give another name, or --force to replace it.")
    try:
        with _replacing(path) as file:
            return _pack(services, file)
    except OSError as error:
        raise ValidationFailed(f"{path} cannot be written: {error.strerror or error}.") from error


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Lend a file that takes the place of ``path`` at the end, and is gone when something fails."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pack(services: Services, file: IO[bytes]) -> Report:
    copier = _Copier(services.backups, services.clock())
    report = Report(Tally(copier.header.made_at), 0, copier.differences, copier.tell)
    sealer = Sealer()
    with (
        services.sealing.seal(file) as sealed,
        gzip.GzipFile(filename="", mode="wb", fileobj=sealed, compresslevel=6, mtime=0) as packed,
    ):
        packed.write(sealer.header(copier.header))
        for record in copier.records():
            report.tally.add(record)
            packed.write(sealer.record(record))
        packed.write(sealer.end())
    report.size = file.tell()
    return report


class _Copier:
    """Reads the store into records; passes over rows that a restore would refuse, and tells of them."""

    def __init__(self, store: BackupStore, now_ms: int) -> None:
        self._store = store
        self._recent_since = now_ms - RECENT_MS
        self._recent: set[str] = set()  # requests in the backup that a key may still stand for
        self._held: Counter[int] = Counter()  # credits by shard
        self.differences: list[Difference] = []
        self.tell = PassedOver()
        data_format, shards = store.kind()
        self.header = Header(data_format, shards, timestamp(now_ms), __version__, store.key_check)

    def records(self) -> Iterator[Record]:
        for account_id in self._store.account_ids():
            yield from self._account(account_id)
        # After the requests, so that none of them is in the backup without its key.
        yield from self._idempotency_keys()
        for counters in self._store.counters(self.header.shards):
            yield from self._counters(counters)
        yield from self._sessions()
        # Last, so that whoever opted out while the rest was read is on it.
        opt_outs = self._store.opt_outs()
        if opt_outs.names or opt_outs.user_ids:
            yield self._opt_outs(opt_outs)

    def _is_readable(self, record: Record, part: str = "") -> bool:
        return is_readable(record, self.tell, part)

    def _readable(self, records: Iterable[R]) -> list[R]:
        return [record for record in records if self._is_readable(record)]

    def _account(self, account_id: str) -> Iterator[Record]:
        """Yield an account and all that belongs to it; nothing when it cannot be read itself."""
        try:
            found = self._store.account(account_id)
        except BrokenRow as broken:
            self.tell(broken)
            return
        if found is None or not self._is_readable(replace(found[0], credits={}, keys={})):
            return
        account, watches, last = self._parts(found[0], found[2]), self._readable(found[1]), found[2]
        yield account
        yield from watches
        self._recent.update(watch.watch_id for watch in watches)
        fold = Fold(account.credits.get(TIDIED))
        for entries in self._ledger(account_id, last):
            fold.read(entries)
            yield LedgerCopy(account_id, entries)
        fold.compare(account_id, account.balance)
        self.differences += fold.differences
        self._held[ids.shard_in(account_id)] += account.balance.held
        yield from self._requests(account_id, fold, last)

    def _parts(self, account: AccountCopy, last: str | None) -> AccountCopy:
        """Return an account with the keys that can be read.

        Credits that cannot be read are what the ledger adds up to.
        """
        bare = replace(account, credits={}, keys={})
        named = account.keys.items()
        keys = {
            key_id: each for key_id, each in named if self._is_readable(replace(bare, keys={key_id: each}))
        }
        credits = account.credits
        if not self._is_readable(replace(bare, credits=credits)):
            marks = {name: credits[name] for name in TIDYING if is_entry_id(credits.get(name, ""))}
            fold = Fold(marks.get(TIDIED))
            for entries in self._ledger(account.account_id, last):
                fold.read(entries)
            credits = {"balance": str(fold.balance), "held": str(fold.held), **marks}
        return replace(account, credits=credits, keys=keys)

    def _ledger(self, account_id: str, last: str | None) -> Iterator[list[LedgerEntry]]:
        if last is not None:
            yield from self._store.ledger(account_id, None, last, self.tell)

    def _both(self, copy: RequestCopy) -> Iterator[RequestCopy]:
        """Yield what can be read of a request and its delivery, if anything."""
        request, delivery = replace(copy, delivery=None, log=None), replace(copy, request=None)
        if copy.request is None or not self._is_readable(request):
            copy = delivery
        if copy.delivery is None or not self._is_readable(delivery):
            copy = replace(copy, delivery=None, log=None)
        if copy.request or copy.delivery:
            yield copy

    def _requests(self, account_id: str, fold: Fold, last: str | None) -> Iterator[Record]:
        later = _Later(self._store, account_id, last, self.tell)
        batches = _Batches(self._store, account_id, self._readable)
        for request_ids in self._ids(account_id, fold):
            found = self._store.requests(account_id, request_ids)
            copies = [part for copy in found for part in self._both(copy)]
            if any(is_unknown(copy, fold) for copy in copies):
                later.read_on()
            then = [copy for copy in (as_of(copy, fold, later.held) for copy in copies) if copy]
            then = batches.without_summaries(then)
            yield from (copy for copy in then if copy.is_open)
            yield from self._store.with_results([copy for copy in then if not copy.is_open], self.tell)
            self._recent.update(copy.request_id for copy in then if self._is_recent(copy))
        yield from batches.records()
        self._recent.update(batches.tallies)

    def _ids(self, account_id: str, fold: Fold) -> Iterator[list[str]]:
        """Yield the ids of all requests of which something may be kept, each once.

        The list of deliveries reaches further back than that of requests, and a request that waits for
        long has left both.
        """
        seen: set[str] = set()
        for page in self._listed(account_id):
            fresh = [each for each in page if each not in seen and self._is_id(each)]
            seen.update(fresh)
            if fresh:
                yield fresh
        unseen = [each for each in fold.open_holds if each not in seen]
        rest = [each for each in unseen if ids.shard_of(each, ids.REQUEST) is not None]
        rest += [each for each in self._items_held(account_id, fold) if each not in seen]
        for start in range(0, len(rest), REQUESTS_AT_ONCE):
            yield rest[start : start + REQUESTS_AT_ONCE]

    def _items_held(self, account_id: str, fold: Fold) -> Iterator[str]:
        """Yield the items of batches of which something was held; what is cancelled leaves the list."""
        batch_ids = [each for each in fold.open_holds if ids.shard_of(each, ids.BATCH) is not None]
        for start in range(0, len(batch_ids), REQUESTS_AT_ONCE):
            found = self._store.batches(account_id, batch_ids[start : start + REQUESTS_AT_ONCE])
            for copy in self._readable(found):
                for number in range(1, min(int(copy.kept.value["total"]), NAMES_MOST) + 1):
                    yield ids.item_of(copy.batch_id, number)

    def _is_id(self, request_id: str) -> bool:
        known = ids.shard_of(request_id, ids.REQUEST) is not None
        if not known:
            self.tell(BrokenRow(f"list of requests at {request_id!r}", "this is no id"))
        return known

    def _listed(self, account_id: str) -> Iterator[list[str]]:
        below: str | None = None
        while page := self._store.request_ids(account_id, below):
            below = page[-1]
            yield page
        below = None
        while page := self._store.delivery_ids(account_id, below):
            below = page[-1]
            yield [ids.request_of(delivery_id) for delivery_id in page]

    def _is_recent(self, copy: RequestCopy) -> bool:
        return copy.request is not None and int(copy.request.value["created_at"]) >= self._recent_since

    def _idempotency_keys(self) -> Iterator[Record]:
        for found in self._store.idempotency_keys():
            yield from (key for key in self._readable(found) if key.request_id in self._recent)

    def _counters(self, counters: CountersCopy) -> Iterator[Record]:
        """They count on while they are read, except for what is held: that is what the accounts have."""
        held = self._held[counters.shard]
        each = counters.fields.items()
        fields = {
            name: count
            for name, count in each
            if self._is_readable(replace(counters, fields={name: count}), name)
        }
        if fields or held:
            yield CountersCopy(counters.shard, {**fields, "held": str(held)})

    def _sessions(self) -> Iterator[Record]:
        found, pool = self._store.sessions()
        sessions = self._readable(found)
        if not self._is_readable(pool):  # no version may be given twice
            pool = PoolCopy(max((int(each.fields["version"]) for each in sessions), default=0))
        yield from sessions
        if pool.counter:
            yield pool

    def _opt_outs(self, copy: OptOutsCopy) -> OptOutsCopy:
        """Return the list; whoever stands in an entry that cannot be read stays on it by that alone."""
        names = {
            name: entry if self._is_readable(OptOutsCopy({name: entry}, {}), name) else NOTHING_KNOWN
            for name, entry in copy.names.items()
        }
        user_ids = {
            each: entry if self._is_readable(OptOutsCopy({}, {each: entry}), each) else NOTHING_KNOWN
            for each, entry in copy.user_ids.items()
        }
        return OptOutsCopy(names, user_ids)


class _Batches:
    """An account's batches as their requests in the backup have it."""

    def __init__(
        self,
        store: BackupStore,
        account_id: str,
        readable: Callable[[Iterable[BatchCopy]], Iterable[BatchCopy]],
    ) -> None:
        self._store = store
        self._account_id = account_id
        self._readable = readable
        self._summaries: list[RequestCopy] = []
        self.tallies: dict[str, BatchTally] = {}

    def without_summaries(self, copies: Iterable[RequestCopy]) -> list[RequestCopy]:
        """Count requests that are items; keep back what tells of whole batches until these are known."""
        rest = []
        for copy in copies:
            if is_summary(copy):
                self._summaries.append(copy)
                continue
            rest.append(copy)
            item = copy.record
            if item is not None and item.batch_id is not None:
                self.tallies.setdefault(item.batch_id, BatchTally()).add(item)
        return rest

    def records(self) -> Iterator[Record]:
        """Yield the batches, and the summaries of those that are over."""
        names = list(self.tallies)
        for start in range(0, len(names), REQUESTS_AT_ONCE):
            found = self._store.batches(self._account_id, names[start : start + REQUESTS_AT_ONCE])
            for copy in self._readable(found):
                yield recounted(copy, self.tallies[copy.batch_id])
        for summary in self._summaries:
            assert summary.delivery is not None  # noqa: S101 - or it were none
            tally = self.tallies.get(summary.delivery.value["request"])
            if tally is not None and not tally.left:
                yield summary


class _Later:
    """The ids of requests whose hold came after ``last``, read on as far as is needed."""

    def __init__(self, store: BackupStore, account_id: str, last: str | None, tell: Tell) -> None:
        self._store = store
        self._account_id = account_id
        self._last = last
        self._tell = tell
        self.held: set[str] = set()

    def read_on(self) -> None:
        for entries in self._store.ledger(self._account_id, self._last, "+", self._tell):
            self._last = entries[-1].entry_id
            self.held.update(entry.request_id or "" for entry in entries if entry.type == HOLD)


# --- restoring -----------------------------------------------------------------------------------


UNSEALED = (
    "{path} is a backup of an older version, neither encrypted nor signed: whoever could write to it can "
    "have changed anything in it, password hashes and credits too, and one that was made up looks the same. "
    "Restore it only if it was out of others' reach all the time, and make a new backup then."
)


def restore(services: Services, path: Path, warn: Callable[[str], object]) -> Tally:
    """Write a backup into an empty store; return what it holds.

    Everything is checked before anything is written. ``warn`` is told before that when the file is of an
    older version, of which nobody can tell who made it. Interrupted, it is finished by calling it again with
    the same file. Raises ValidationFailed for a file that is no whole backup, ConfigurationError for one
    of another SECRET_KEY, Conflict when the store is not empty or in use, and StoreUnavailable.
    """
    store = services.backups
    tally, digest, sealed = check(services, path)
    _check_target(services, digest)
    if not sealed:
        warn(UNSEALED.format(path=path))
    with _opened(services.sealing, path) as backup:
        store.begin(digest)
        store.write(backup.records())
        if backup.digest != digest:
            raise ValidationFailed(f"{path} was replaced while it was restored. Put the former one back.")
        store.complete(backup.header.data_format, backup.header.shards)
    return tally


def check(services: Services, path: Path) -> tuple[Tally, str, bool]:
    """Read a whole backup; return what it holds, its checksum, and whether it is sealed.

    Raises as `restore` does.
    """
    store = services.backups
    with _opened(services.sealing, path) as backup:
        backup.header.check(newest_format=store.newest_format, key_check=store.key_check)
        tally = Tally(backup.header.made_at)
        for record in backup.records():
            tally.add(record)
        return tally, backup.digest, backup.sealed


@contextmanager
def _opened(sealing: Sealing, path: Path) -> Iterator[Unsealer]:
    """Lend the lines of a backup, sealed or of an older version."""
    try:
        with path.open("rb") as file:
            inner = sealing.open(file)
            with gzip.GzipFile(fileobj=inner or file, mode="rb") as lines:
                yield Unsealer(lambda: lines.readline(LINE_MOST), sealed=inner is not None)
    except EOFError:
        raise ValidationFailed(f"{path} is damaged: it ends too early.") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValidationFailed(f"{path} is damaged, or no backup: {error}.") from None
    except OSError as error:
        raise ValidationFailed(f"{path} cannot be read: {error.strerror or error}.") from error


def _check_target(services: Services, digest: str) -> None:
    accounts, unfinished = services.backups.target()
    if unfinished is not None and unfinished != digest:
        raise ConfigurationError(
            "REDIS_URL: a restore of another backup has begun in this store. "
            "Finish it with that file, or empty the store first."
        )
    if unfinished is None and accounts:
        raise Conflict(
            f"The store holds {accounts} account(s) already. Restore into an empty one: "
            "set REDIS_URL to it, or empty this one if nothing in it is needed."
        )
    running = services.stats.workers()
    if running:
        raise Conflict(
            f"Processes work over this store: {', '.join(sorted(running))}. Stop all of them, the web "
            "processes too; one that was killed is forgotten after 15 seconds."
        )
