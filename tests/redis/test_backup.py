"""Backups: what is in them, of which moment they are, and what is refused before anything is written."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import os
import random
import re
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from click.testing import CliRunner, Result
from redis import Redis
from redis.client import NEVER_DECODE
from redis.exceptions import ConnectionError as StoreGone

from service import bootstrap
from service.actions import backup as actions
from service.actions.audit import audit
from service.actions.backup import back_up
from service.actions.batch import cancel_batch
from service.actions.tidy import tidy_ledger
from service.auth.api_keys import ApiKeys
from service.cli.main import main
from service.config import Settings
from service.domain import ids
from service.domain.backups import Kept, Tally
from service.domain.batches import BatchRecord
from service.domain.credits import Balance
from service.domain.deliveries import Attempt, Plan
from service.domain.errors import (
    ConfigurationError,
    Conflict,
    IdempotencyKeyReuse,
    LeaseLost,
    StoreUnavailable,
    ValidationFailed,
)
from service.domain.instagram import Leased, SessionState, settings_from_sessionid
from service.domain.options import PLAIN, Options
from service.domain.ports import Services
from service.domain.requests import Claim, RequestRecord, Run
from service.domain.targets import HIGHLIGHT_ID, STORY_ID, USER_ID, Target, named
from service.domain.watches import Watch
from service.sealing import Sealing
from service.secrets import derive
from service.stores import keys, meta
from service.stores.connection import open_store
from tests.conftest import ELSEWHERE, SECRET, SHARDS, RecordingQueue, await_true, finish_one, make_services
from tests.redis.kit import CANCEL, batch_of, ending, items_of, snapshot, submission
from workers.schedule import mend_schedule

HOST = "example.com:443"
HOOK = "https://example.com/hook"
OTHER_DATABASE = 5
CHOSEN = Options(amount=3, shape="story", archive=True, force=True)
SESSION = settings_from_sessionid("90000000001%3Asimulated00000001%3A1")


# As the settings of these tests have it.
SEALING = Sealing(derive(SECRET, "backups"), bytes.fromhex(derive(SECRET, "backup-check").hex()[:32]))
OF_VERSION_3 = Path(__file__).parent / "version3_backup.gz"


def sealed(text: bytes) -> bytes:
    """A file with this in it."""
    file = io.BytesIO()
    with SEALING.seal(file) as writer:
        writer.write(text)
    return file.getvalue()


def unsealed(data: bytes) -> bytes:
    inner = SEALING.open(io.BytesIO(data))
    assert inner is not None
    return inner.read()


def restore(services: Services, path: Path) -> Tally:
    """Restore a backup as they are made now, of which there is nothing to warn."""
    return actions.restore(services, path, pytest.fail)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "storyhook.backup"


@dataclass(frozen=True)
class There:
    """Another store of the same kind, empty, and services over it."""

    redis: Redis
    services: Services


@pytest.fixture
def there(redis: Redis, settings: Settings) -> Iterator[There]:
    other = fake_store() if isinstance(redis, fakeredis.FakeRedis) else second_database(redis)
    yield There(other, make_services(settings, other, RecordingQueue()))
    other.close()


def fake_store() -> Redis:
    return fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=True, protocol=2)


def second_database(redis: Redis) -> Redis:
    if ELSEWHERE:
        other = open_store(os.environ["TEST_OTHER_STORE_URL"])
        other.flushall()
        return other
    given = redis.connection_pool.connection_kwargs
    return open_store(f"redis://{given['host']}:{given['port']}/{OTHER_DATABASE}")


# --- a store in which something of everything happened -------------------------------------------


class Life:
    """Anna's account and others; makes requests and webhooks of every state."""

    def __init__(self, services: Services, redis: Redis) -> None:
        meta.fix_shards(redis, SHARDS)
        meta.fix_key(redis, services.backups.key_check)
        self.services = services
        self.redis = redis
        self.account_id = self.account("anna@example.com", 50)

    def account(self, email: str, credits: int = 0) -> str:
        made = self.services.accounts.create(email, f"hash of {email}")
        if credits:
            self.services.credits.add(made.account_id, credits, entry_type="topup", note="invoice 17 – ü")
        return made.account_id

    def submit(self, **changes: Any) -> RequestRecord:
        return self.services.requests.submit(submission(self.account_id, **changes))

    def claim(self, **changes: Any) -> Claim:
        claim = self.services.requests.claim(self.submit(**changes).request_id)
        assert claim is not None
        return claim

    def finish(self, claim: Claim | None = None, charge: int = 1, **changes: Any) -> RequestRecord:
        claim = claim or self.claim(**changes)
        given = {"source": "instagrapi", "owner": "7", "owner_name": "anna"}
        finish_one(self.services.requests, claim, ending(charge=charge, **given))
        return claim.request

    def attempt(self, record: RequestRecord, *statuses: str) -> str:
        """Let attempts end with these states; return the delivery's id."""
        delivery_id = ids.delivery_of(record.request_id)
        for number, status in enumerate(statuses):
            self.redis.hset(keys.delivery(delivery_id), "next_at", 1)
            claim = self.services.deliveries.claim(delivery_id, HOST)
            assert claim is not None
            tried = Attempt(number, 0.1, status=500, snippet="ü")
            self.services.deliveries.record(claim, tried, Plan(status, wait=60))
        return delivery_id

    def live(self) -> None:
        """Do everything once."""
        services = self.services
        services.credits.add(self.account_id, -2, entry_type="adjustment", note="")
        for name in ("laptop", "server", "revoked"):
            services.accounts.add_key(ApiKeys(b"k" * 32).mint(self.account_id, name)[1])
        [revoked] = [key for key in services.accounts.keys(self.account_id) if key.name == "revoked"]
        services.accounts.remove_key(self.account_id, revoked.key_id)
        services.accounts.rotate_webhook_secret(self.account_id)
        services.accounts.set_disabled(self.account("ben@example.com", 3), True)
        self.account("carl@example.com")
        self._requests()
        self._batches()
        self._deliveries()
        self._watches()
        self._sessions()
        services.optouts.add("zoe", None, "by letter, ü")
        services.optouts.learn("zoe", "42")
        # What is not kept:
        services.limits.hit(self.account_id)
        services.limits.login_attempt("anna@example.com", "127.0.0.1")
        services.hosts.enter(HOST, "msg_none")
        test = ids.new_id(ids.DELIVERY, ids.shard_in(self.account_id), services.clock())
        services.deliveries.create_single(self.account_id, test, HOOK, HOST, b"{}")

    def _requests(self) -> None:
        self.submit()
        self.submit(webhook_url=HOOK, idempotency_key="open", target=Target(USER_ID, "7"), options=CHOSEN)
        self.services.requests.release(self.claim(hold=0), 30)  # waits for a session
        self.finish(hold=0, charge=0)
        self.finish(charge=0, idempotency_key="ended")
        self.finish(hold=3, charge=2, operation="story", target=Target(STORY_ID, "9"), options=CHOSEN)
        self.services.requests.cancel(self.submit(), CANCEL)
        self.claim(webhook_url=HOOK)
        taken_over = self.claim()
        self.redis.hset(keys.request(taken_over.request.request_id), "lease_until", 1)
        assert self.services.requests.claim(taken_over.request.request_id)
        lost = self.submit()
        self.redis.delete(keys.request(lost.request_id))
        self.redis.zrem(keys.open_requests(ids.shard_in(lost.request_id)), lost.request_id)
        assert self.services.books.void_hold(self.account_id, lost.request_id, 1)

    def batch(self, finished: int, **changes: Any) -> BatchRecord:
        """Make a batch and end so many of its items."""
        batch = self.services.batches.submit(
            batch_of(self.account_id, **{"webhook_url": HOOK, "webhook_mode": "summary", **changes})
        )
        for request_id in items_of(batch)[:finished]:
            claim = self.services.requests.claim(request_id, batch.batch_id)
            assert claim is not None
            finish_one(self.services.requests, claim, ending())
        return batch

    def _batches(self) -> None:
        under_way = self.batch(1, webhook_mode="both", idempotency_key="batch", options=CHOSEN)
        assert self.services.requests.claim(items_of(under_way)[1], under_way.batch_id)
        self.batch(3, webhook_url=None)
        told = self.batch(3)
        delivery_id = ids.delivery_of(told.batch_id)
        claim = self.services.deliveries.claim(delivery_id, HOST)
        assert claim is not None
        self.services.deliveries.record(claim, Attempt(1, 0.1, status=200), Plan("delivered"))
        self.batch(3)

    def _deliveries(self) -> None:
        self.finish(webhook_url=HOOK)
        for statuses in (
            ["pending", "delivered"],
            ["pending"],
            ["exhausted"],
            ["gone"],
            ["blocked"],
        ):
            self.attempt(self.finish(webhook_url=HOOK), *statuses)
        under_way = self.finish(webhook_url=HOOK)
        assert self.services.deliveries.claim(ids.delivery_of(under_way.request_id), HOST)
        replayed = self.finish(webhook_url=HOOK)
        delivery = self.services.deliveries.get(self.attempt(replayed, "exhausted"))
        assert delivery is not None
        self.services.deliveries.replay(delivery)
        self.redis.delete(keys.request(replayed.request_id))  # its time was up before the webhook's

    def watch(self, options: Options = PLAIN) -> str:
        watch_id = ids.new_id(ids.WATCH, ids.shard_in(self.account_id), self.services.clock())
        made = Watch(watch_id, self.account_id, "anna", "15m", HOOK, True, False, 60, options=options)
        self.services.watches.add(made)
        return watch_id

    def run(self, watch_id: str) -> Claim:
        return self.claim(webhook_url=HOOK, watch=Run(watch_id, next_in=900_000))

    def _watches(self) -> None:
        watch_id, paused, _ = self.watch(CHOSEN), self.watch(), self.watch()
        claim = self.run(watch_id)
        finish_one(self.services.requests, claim, ending(remember={"1": 4_000_000_000, "2": 4_000_000_001}))
        self.attempt(claim.request, "delivered")
        self.services.watches.pause(paused, "by_hand")

    def _sessions(self) -> None:
        sessions = self.services.sessions
        for name in ("used", "held"):
            sessions.add(name, SESSION, "socks5://127.0.0.1:1080")
            leased = sessions.lease(60)
            assert isinstance(leased, Leased)
            assert leased.name == name
            if name == "used":
                sessions.release(leased, settings={**SESSION, "more": "ü"})
        for name in ("fresh", "resting", "out"):
            sessions.add(name, SESSION)
        sessions.rest("resting", 3_600)
        sessions.quarantine("out", "challenge")


@pytest.fixture
def life(services: Services, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Life:
    """Anna lives in the first shard, the others in the next ones."""
    numbers = itertools.count()
    monkeypatch.setattr("service.stores.accounts.secrets.randbelow", lambda most: next(numbers) % most)
    return Life(services, redis)


Portrait = dict[str, Any]

COUNTED = re.compile(":rate:|:names:|:free$")
NOT_KEPT = ("{login}:", "{h:", "{ig}:leases", "{ig}:budget", "{ig}:proxies", "{bulk}:", "g:workers")


def portrait(redis: Redis) -> Portrait:
    """Everything a backup keeps, as plain values; sets of what is due without their times."""
    readers: dict[str, Callable[[str], Any]] = {
        "hash": redis.hgetall,
        "string": lambda name: redis.execute_command("GET", name, **{NEVER_DECODE: True}),
        "stream": redis.xrange,
        "set": redis.smembers,
        "zset": lambda name: set(redis.zrange(name, 0, -1)),
        "list": lambda name: redis.lrange(name, 0, -1),
    }
    names = [each for each in redis.scan_iter() if not each.startswith(NOT_KEPT) and not COUNTED.search(each)]
    return {name: readers[redis.type(name)](name) for name in names}


def as_kept(found: Portrait) -> Portrait:
    """What a portrait looks like once it was backed up and restored."""
    hashes = {name: value for name, value in found.items() if isinstance(value, dict)}
    singles = {name.partition(":msg:")[2] for name, value in hashes.items() if "single" in value}
    dropped = singles | {ids.request_of(each) for each in singles}
    # What was cancelled is in no list, and soon forgotten.
    cancelled = {
        name.partition(":req:")[2] for name, value in hashes.items() if value.get("code") == "cancelled"
    }
    dropped |= cancelled | {ids.delivery_of(each) for each in cancelled if each}
    kept = {name: value for name, value in found.items() if name.rpartition(":")[2] not in dropped}
    for name, value in kept.items():
        if name.endswith(":requests"):  # what has passed its lifetime is still listed
            kept[name] = {each for each in value if keys.request(each) in found}
        elif isinstance(value, set):
            kept[name] = value - singles
        elif ":batch:" in name and value["left"] != "0":
            kept[name] = {"charged": "0", "items": "0", "cached": "0", **value, "processing": "0"}
        elif name in hashes and value.get("status") in ("queued", "processing", "pending"):
            gone = ("lease_until", "looks", "parked")
            kept[name] = {field: each for field, each in value.items() if field not in gone}
            if ":req:" in name:
                kept[name]["status"] = "queued"
    return kept


# --- the way there and back ----------------------------------------------------------------------


def test_everything_comes_back(life: Life, there: There, file: Path) -> None:
    life.live()
    report = back_up(life.services, file)
    tally = restore(there.services, file)
    assert portrait(there.redis) == as_kept(portrait(life.redis))
    assert (tally, report.differences) == (report.tally, [])
    assert (tally.accounts, tally.open, tally.owed, tally.sessions, tally.opt_outs) == (3, 7, 6, 5, 2)
    assert report.size == file.stat().st_size
    assert audit(there.services).differences == audit(life.services).differences == []


def test_what_was_asked_for_and_how_comes_back(life: Life, there: There, file: Path) -> None:
    asked = [
        life.submit(operation=operation, target=target, options=options)
        for operation, target in (("highlight", Target(HIGHLIGHT_ID, "17")), ("stories", named("anna")))
        for options in (PLAIN, CHOSEN)
    ]
    batch = life.batch(1, options=CHOSEN)
    watch_id = life.watch(CHOSEN)
    back_up(life.services, file)
    restore(there.services, file)
    again = there.services.requests.get_many([each.request_id for each in asked])
    assert again == asked
    for item in there.services.requests.get_many(items_of(batch)):
        assert item is not None
        assert (item.options, item.batch_id) == (CHOSEN, batch.batch_id)
    watch = there.services.watches.get(watch_id)
    assert watch is not None
    assert watch.options == CHOSEN


def test_lifetimes_come_back_as_what_is_left_of_them(life: Life, there: There, file: Path) -> None:
    life.live()
    mortal = [name for name in as_kept(portrait(life.redis)) if life.redis.ttl(name) > 0]
    for number, name in enumerate(mortal):
        life.redis.expire(name, 1_000 + number)
    back_up(life.services, file)
    restore(there.services, file)
    assert [name for name in portrait(there.redis) if there.redis.ttl(name) > 0 and name not in mortal] == []
    left = {name: there.redis.ttl(name) for name in mortal}
    assert left == {name: pytest.approx(1_000 + number, abs=30) for number, name in enumerate(mortal)}
    assert {name.split(":")[1] for name in mortal} == {"req", "res", "msg", "acct", "batch"}


def test_what_is_to_be_done_is_found_again(life: Life, there: There, file: Path) -> None:
    life.live()
    back_up(life.services, file)
    restore(there.services, file)
    stranded = there.services.requests.stranded(100)
    assert len(stranded) == 7
    assert {record.status for record in stranded} == {"queued"}
    for shard, host in there.services.deliveries.due_hosts():
        due = there.services.deliveries.due_of_host(shard, host, 100, 0)
        assert len(due) == 5  # the one that waits for its next attempt is not due
        for delivery_id in due:
            claim = there.services.deliveries.claim(delivery_id, host)
            assert claim is not None
            assert claim.body is not None
            assert claim.body.startswith(b'{"success":true')
            there.services.deliveries.record(claim, Attempt(1, 0.1, status=200), Plan("delivered"))


def test_an_open_request_is_worked_on_again_and_charged_once(life: Life, there: There, file: Path) -> None:
    before = life.claim(webhook_url=HOOK)
    back_up(life.services, file)
    finish_one(
        life.services.requests, before, ending()
    )  # after the backup, and before what it stood on was lost
    restore(there.services, file)
    assert there.services.credits.balance(life.account_id) == Balance(50, 1)
    again = there.services.requests.claim(before.request.request_id)
    assert again is not None
    assert again.fence > before.fence
    with pytest.raises(LeaseLost):
        finish_one(there.services.requests, before, ending())
    assert finish_one(there.services.requests, again, ending()) is not None
    assert there.services.credits.balance(life.account_id) == Balance(49, 0)
    assert there.services.stats.counters()["held"] == 0
    assert audit(there.services).differences == []


def test_an_idempotency_key_still_finds_its_request(life: Life, there: There, file: Path) -> None:
    opened, ended = life.submit(idempotency_key="open"), life.finish(idempotency_key="ended")
    back_up(life.services, file)
    restore(there.services, file)
    for key, record in (("open", opened), ("ended", ended)):
        again = there.services.requests.submit(submission(life.account_id, idempotency_key=key))
        assert again.request_id == record.request_id
        with pytest.raises(IdempotencyKeyReuse):
            there.services.requests.submit(submission(life.account_id, idempotency_key=key, username="ben"))
    assert there.services.credits.balance(life.account_id) == Balance(49, 1)


def test_sessions_come_back_free_and_as_they_were(life: Life, there: There, file: Path) -> None:
    life.live()
    back_up(life.services, file)
    restore(there.services, file)
    shown = {record.name: record for record in there.services.sessions.list()}
    free = {"leased": False, "calls_minute": 0, "calls_hour": 0}
    assert shown == {record.name: replace(record, **free) for record in life.services.sessions.list()}
    assert shown["out"].state is SessionState.QUARANTINED
    leased = [there.services.sessions.lease(60) for _ in range(4)]
    names = [each.name for each in leased if isinstance(each, Leased)]
    assert set(names) == {"fresh", "used", "held"}
    assert names[-1] == "used", "what was never used comes first"
    versions = [each.version for each in leased if isinstance(each, Leased)]
    assert there.services.sessions.add("new", SESSION) > max(versions)


def test_a_run_that_was_open_is_run_again_and_skips_nothing(life: Life, there: There, file: Path) -> None:
    watch_id = life.watch()
    first = life.run(watch_id)
    finish_one(life.services.requests, first, ending(remember={"1": 4_000_000_000}))
    second = life.run(watch_id)
    back_up(life.services, file)
    finish_one(life.services.requests, second, ending(remember={"2": 4_000_000_000}))  # after the backup
    restore(there.services, file)
    watches = there.services.watches
    known = watches.get(watch_id)
    assert known is not None
    assert (known.running, known.runs) == (second.request.request_id, 1)
    assert watches.seen(watch_id, ["1", "2"]) == {"1"}, "what the open run will bring was not seen"
    again = submission(life.account_id, webhook_url=HOOK, watch=Run(watch_id))
    assert there.services.requests.submit(again).request_id == second.request.request_id
    claim = there.services.requests.claim(second.request.request_id)
    assert claim is not None
    assert claim.request.watch_id == watch_id
    assert finish_one(there.services.requests, claim, ending(remember={"2": 4_000_000_000})) is not None
    known = watches.get(watch_id)
    assert known is not None
    assert (known.running, known.runs) == (None, 2)
    assert audit(there.services).differences == []


def test_a_run_that_ended_in_silence_after_the_backup_may_speak_after_a_restore(
    life: Life, there: There, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_run = life.run(life.watch())
    read = life.services.backups.requests

    def later(*args: Any) -> Any:
        finish_one(life.services.requests, open_run, ending(silent=True, charge=0, item_count=0))
        monkeypatch.undo()
        return read(*args)

    monkeypatch.setattr(life.services.backups, "requests", later)
    back_up(life.services, file)
    restore(there.services, file)
    claim = there.services.requests.claim(open_run.request.request_id)
    assert claim is not None
    assert not claim.request.silent
    assert finish_one(there.services.requests, claim, ending(remember={"1": 4_000_000_000})) is not None


def test_after_a_restore_the_watches_run(life: Life, there: There, file: Path) -> None:
    watch_id, paused = life.watch(), life.watch()
    life.services.watches.pause(paused, "by_hand")
    back_up(life.services, file)
    restore(there.services, file)
    assert there.services.schedules.entries() == frozenset()
    mend_schedule(there.services)
    assert there.services.schedules.entries() == {watch_id}
    shard = keys.watching(ids.shard_in(watch_id))
    assert there.redis.zrange(shard, 0, -1) == [watch_id]


def test_a_watch_that_is_added_while_its_account_is_read_is_in_the_backup(
    life: Life, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction, added = life.redis.transaction, []

    def interrupted(read: Callable[[Any], None], *watched: str) -> Any:
        def and_added(pipe: Any) -> None:
            read(pipe)
            if not added:
                added.append(life.watch())

        return transaction(and_added, *watched)

    monkeypatch.setattr(life.redis, "transaction", interrupted)
    found = life.services.backups.account(life.account_id)
    assert found is not None
    assert [each.watch_id for each in found[1]] == added


@pytest.mark.parametrize(("version", "unknown"), [(1, {"watch", "optouts"}), (2, {"optouts"}), (3, set())])
def test_a_backup_of_an_older_version_is_read(
    packed: Packed, empty: Empty, version: int, unknown: set[str]
) -> None:
    rows = [json.loads(line) for line in packed.lines[:-1]]
    old = [row for row in rows if row.get("type") not in unknown]
    assert (len(old) < len(rows)) == bool(unknown)
    lines = [json.dumps(row).encode() + b"\n" for row in [{**old[0], "version": version}, *old[1:]]]
    data = packed.of_lines(*lines)
    assert empty.refuses(data) == ""
    warned: list[str] = []
    empty.file.write_bytes(data)
    actions.restore(empty.services, empty.file, warned.append)
    assert len(warned) == 1
    assert "can have changed anything in it, password hashes and credits too" in warned[0]


def test_more_than_a_page_of_everything_comes_back(
    life: Life,
    there: There,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, size in (("PAGE", 4), ("REQUEST_PAGE", 3), ("COMMANDS_AT_ONCE", 5), ("SCAN_COUNT", 2)):
        monkeypatch.setattr(f"service.stores.backups.{name}", size)
    monkeypatch.setattr(actions, "REQUESTS_AT_ONCE", 2)
    life.live()
    back_up(life.services, file)
    restore(there.services, file)
    assert portrait(there.redis) == as_kept(portrait(life.redis))


def test_a_request_that_waited_itself_off_the_list_comes_back(life: Life, there: There, file: Path) -> None:
    waiting = life.submit()
    life.redis.zrem(keys.account_requests(life.account_id), waiting.request_id)
    back_up(life.services, file)
    restore(there.services, file)
    assert [record.request_id for record in there.services.requests.stranded(9)] == [waiting.request_id]
    assert audit(there.services).differences == []


def test_an_empty_store_makes_a_backup_too(
    services: Services, redis: Redis, there: There, file: Path
) -> None:
    meta.fix_shards(redis, SHARDS)
    back_up(services, file)
    assert restore(there.services, file).accounts == 0


def test_the_number_of_shards_comes_with_the_backup(life: Life, there: There, file: Path) -> None:
    meta.fix_shards(there.redis, 64)
    back_up(life.services, file)
    restore(there.services, file)
    assert meta.fix_shards(there.redis, 64) == SHARDS


# --- one moment ----------------------------------------------------------------------------------


class Meanwhile:
    """A BackupStore during whose work something happens: after a method's answer was read."""

    def __init__(self, store: Any, method: str, happens: Callable[[], object]) -> None:
        self._store, self._method, self._happens = store, method, happens

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name != self._method:
            return found

        def call(*args: Any) -> Any:
            answer = found(*args)
            self._happens()
            self._happens = lambda: None
            return answer

        return call


def test_what_happens_after_the_ledger_was_read_is_not_in_it(life: Life, there: There, file: Path) -> None:
    under_way = life.claim(webhook_url=HOOK)
    batch = life.batch(1, webhook_mode="both")
    begun = [life.services.requests.claim(each, batch.batch_id) for each in items_of(batch)[1:]]
    waiting = [life.submit(webhook_url=HOOK, idempotency_key=f"old {number}") for number in range(2)]
    before = as_kept(portrait(life.redis))

    def happens() -> None:
        life.finish(under_way)
        for claim in begun:
            life.finish(claim)
        life.batch(2)
        life.attempt(under_way.request, "delivered")
        life.services.requests.cancel(waiting[0], CANCEL)
        life.submit(idempotency_key="new")
        life.finish(webhook_url=HOOK)
        life.services.credits.add(life.account_id, 7, entry_type="topup", note="")

    meanwhile: Any = Meanwhile(life.services.backups, "account", happens)
    report = back_up(replace(life.services, backups=meanwhile), file)
    restore(there.services, file)
    after = portrait(there.redis)
    counted = {name for name in before if name.endswith(":stats")}
    assert {**after, **{name: before[name] for name in counted}} == before
    assert there.services.stats.counters()["held"] == 5
    assert report.differences == []
    assert audit(there.services).differences == audit(life.services).differences == []


def test_a_batch_that_was_open_then_goes_on_and_is_told_of_once(life: Life, there: There, file: Path) -> None:
    batch = life.batch(2)
    back_up(life.services, file)
    restore(there.services, file)
    restored = there.services.batches.get(batch.batch_id)
    assert restored == life.services.batches.get(batch.batch_id)
    assert (restored.left, restored.charged, dict(restored.statuses)) == (1, 2, {"succeeded": 2})
    assert there.services.deliveries.get(ids.delivery_of(batch.batch_id)) is None
    claim = there.services.requests.claim(items_of(batch)[2], batch.batch_id)
    assert claim is not None
    finish_one(there.services.requests, claim, ending())
    assert there.services.batches.get(batch.batch_id).is_final
    assert there.services.deliveries.get(ids.delivery_of(batch.batch_id)) is not None
    again = there.services.batches.submit(batch_of(life.account_id))
    listed = there.services.batches.page(life.account_id, cursor=None, limit=9).items
    assert {each.batch_id for each in listed} == {again.batch_id, batch.batch_id}
    assert audit(there.services).differences == []


def test_an_account_made_meanwhile_is_not_in_it(life: Life, there: There, file: Path) -> None:
    def late() -> str:
        return life.account("late@example.com", 5)

    meanwhile: Any = Meanwhile(life.services.backups, "account_ids", late)
    back_up(replace(life.services, backups=meanwhile), file)
    restore(there.services, file)
    assert [account.email for account in there.services.accounts.all()] == ["anna@example.com"]


def test_a_hold_voided_meanwhile_can_still_be_voided(life: Life, there: There, file: Path) -> None:
    lost = life.submit()
    life.redis.delete(keys.request(lost.request_id))
    meanwhile: Any = Meanwhile(life.services.backups, "account", lambda: audit(life.services, repair=True))
    back_up(replace(life.services, backups=meanwhile), file)
    restore(there.services, file)
    assert [each.kind for each in audit(there.services).differences] == ["stray_hold"]
    assert audit(there.services, repair=True).differences == []
    assert there.services.credits.balance(life.account_id) == Balance(50, 0)


def test_books_that_do_not_add_up_are_told_and_copied_as_they_are(
    life: Life, there: There, file: Path
) -> None:
    record = life.finish(webhook_url=HOOK)
    ledger = keys.ledger(life.account_id)
    life.redis.xdel(ledger, *[entry_id for entry_id, _ in life.redis.xrange(ledger)[1:]])
    report = back_up(life.services, file)
    assert [each.kind for each in report.differences] == ["balance"]
    restore(there.services, file)
    assert there.services.requests.get(record.request_id) == life.services.requests.get(record.request_id)
    kinds = sorted(each.kind for each in audit(there.services).differences)
    assert kinds == sorted(each.kind for each in audit(life.services).differences) == ["balance", "charge"]


REQUESTS_A_BACKUP, FIRST = 120, 20


class Traffic:
    """Callers and workers at work on several accounts, a request for each ticket, until they are stopped."""

    def __init__(self, services: Services, accounts: list[str]) -> None:
        self.services = services
        self.accounts = accounts
        self.tickets = threading.Semaphore(0)
        self.stopping = False
        self.accepted: list[str] = []
        self.cancelled: set[str] = set()
        self.ended: list[str] = []

    def work(self, number: int) -> None:
        chance = random.Random(number)
        while self.tickets.acquire(timeout=60) and not self.stopping:
            account_id = chance.choice(self.accounts)
            changes = {
                "hold": chance.choice([0, 1, 3]),
                "webhook_url": chance.choice([None, HOOK]),
                "idempotency_key": chance.choice([None, str(chance.random())]),
            }
            record = self.services.requests.submit(submission(account_id, **changes))
            self.accepted.append(record.request_id)
            self._go_on(record, chance)

    def _go_on(self, record: RequestRecord, chance: random.Random) -> None:
        fate = chance.random()
        if fate < 0.15:
            return  # nobody takes it up
        if fate < 0.3:
            self.services.requests.cancel(record, CANCEL)
            self.cancelled.add(record.request_id)
            return
        claim = self.services.requests.claim(record.request_id)
        assert claim is not None
        if fate < 0.4:
            return  # its worker died
        owed = finish_one(self.services.requests, claim, ending(charge=chance.randint(0, record.hold)))
        self.ended.append(record.request_id)
        if owed and chance.random() < 0.5:
            delivery = self.services.deliveries.claim(owed.delivery_id, owed.host)
            if delivery:
                status = chance.choice(["pending", "delivered", "exhausted"])
                self.services.deliveries.record(delivery, Attempt(1, 0.1, status=500), Plan(status, wait=1))


def test_backups_taken_under_load_add_up(
    settings: Settings, valkey: Redis, queue: RecordingQueue, file: Path
) -> None:
    services = make_services(settings, valkey, queue)
    accounts = [Life(services, valkey).account_id]
    accounts += [services.accounts.create(f"{number}@example.com", "hash").account_id for number in range(5)]
    for account_id in accounts:
        services.credits.add(account_id, 1_000_000, entry_type="topup", note="")
    traffic = Traffic(services, accounts)
    with ThreadPoolExecutor(3) as pool, second_database(valkey) as other:
        working = [pool.submit(traffic.work, number) for number in range(3)]
        try:
            for _ in range(8):
                _back_up_and_look(traffic, make_services(settings, other, queue), other, file)
        finally:
            traffic.stopping = True
            traffic.tickets.release(len(working))
        for each in working:
            each.result()
    assert len(traffic.ended) > 200
    assert audit(services).differences == []


def _back_up_and_look(traffic: Traffic, target: Services, other: Redis, file: Path) -> None:
    """Back up under load, and look at what it is worth."""
    before = len(traffic.accepted)
    traffic.tickets.release(FIRST)
    await_true(lambda: len(traffic.accepted) == before + FIRST)
    accepted, ended = list(traffic.accepted), list(traffic.ended)
    # Not before, or those who are quicker than this thread would be through with all of them.
    traffic.tickets.release(REQUESTS_A_BACKUP - FIRST)
    report = back_up(traffic.services, file, force=True)
    assert len(traffic.accepted) > len(accepted), "nothing happened meanwhile"
    await_true(lambda: len(traffic.accepted) == before + REQUESTS_A_BACKUP)
    other.flushdb()
    restore(target, file)
    assert (report.differences, audit(target).differences) == ([], [])
    for request_id in accepted:
        record = target.requests.get(request_id)
        assert record is not None or request_id in traffic.cancelled
    states = {request_id: target.requests.get(request_id) for request_id in ended}
    assert [request_id for request_id, record in states.items() if not (record and record.is_final)] == []
    missing = [request_id for request_id in ended if target.requests.envelope(request_id) is None]
    assert missing == []
    held = sum(target.credits.balance(account_id).held for account_id in traffic.accounts)
    assert target.stats.counters()["held"] == held
    keyed = [other.hget(name, "request") for name in other.scan_iter("*:idem:*")]
    assert keyed
    assert all(other.exists(keys.request(str(request_id))) for request_id in keyed)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_batch_that_is_cancelled_adds_up_whenever_it_is_copied(
    life: Life, there: There, file: Path, when: str
) -> None:
    """Its price is held and released as a whole: which items that was about, these say themselves."""
    batch = life.batch(1)
    names = items_of(batch)
    working = life.services.requests.claim(names[1], batch.batch_id)
    assert working is not None

    def cancelled() -> None:
        cancel_batch(life.services, life.account_id, batch.batch_id)

    if when == "before":
        cancelled()
        report = back_up(life.services, file)
    else:
        meanwhile: Any = Meanwhile(life.services.backups, "account", cancelled)
        report = back_up(replace(life.services, backups=meanwhile), file)
    restore(there.services, file)
    assert report.differences == []
    assert audit(there.services).differences == audit(life.services).differences == []
    still_held = 1 if when == "before" else 2
    assert there.services.credits.balance(life.account_id).held == still_held
    for name in names[1:]:
        record = there.services.requests.get(name)
        if record is None or record.is_final:
            assert when == "before"
            continue
        claim = there.services.requests.claim(name, batch.batch_id)
        assert claim is not None
        finish_one(there.services.requests, claim, ending())
    assert there.services.credits.balance(life.account_id).held == 0
    assert audit(there.services).differences == []


def test_a_ledger_that_was_tidied_comes_back_as_it_is(life: Life, there: There, file: Path) -> None:
    life.live()
    now = life.services.clock() + (life.services.policy.result_ttl + 60) * 1000
    late = replace(life.services, clock=lambda: now)
    assert tidy_ledger(late, life.account_id) == 0
    assert tidy_ledger(late, life.account_id) > 0
    assert audit(life.services).differences == []
    assert back_up(life.services, file).differences == []
    restore(there.services, file)
    assert audit(there.services).differences == []


# --- the file ------------------------------------------------------------------------------------


def test_a_backup_is_private_and_replaces_nothing_unasked(life: Life, file: Path) -> None:
    back_up(life.services, file)
    assert file.stat().st_mode & 0o777 == 0o600
    first = file.read_bytes()
    with pytest.raises(Conflict, match="--force"):
        back_up(life.services, file)
    assert file.read_bytes() == first
    life.submit()
    back_up(life.services, file, force=True)
    assert file.read_bytes() != first
    assert list(file.parent.iterdir()) == [file]


def test_a_backup_that_fails_leaves_nothing_behind(life: Life, file: Path) -> None:
    def fail() -> None:
        raise StoreUnavailable

    broken: Any = Meanwhile(life.services.backups, "counters", fail)
    with pytest.raises(StoreUnavailable):
        back_up(replace(life.services, backups=broken), file)
    assert list(file.parent.iterdir()) == []
    with pytest.raises(ValidationFailed, match="cannot be written: No such file"):
        back_up(life.services, file.parent / "missing" / "file")


def test_all_secrets_that_sign_come_back(life: Life, there: There, file: Path) -> None:
    for key in ("once", None, "twice"):
        life.services.accounts.rotate_webhook_secret(life.account_id, key)
    before = life.services.accounts.webhook_secrets(life.account_id)
    assert len(before.active) == 4
    back_up(life.services, file)
    restore(there.services, file)
    assert there.services.accounts.webhook_secrets(life.account_id) == before


def test_secrets_are_in_a_backup_as_they_are_at_rest(life: Life, file: Path) -> None:
    secret, key = ApiKeys(b"k" * 32).mint(life.account_id, "laptop")
    life.services.accounts.add_key(key)
    life.services.sessions.add("main", SESSION, "socks5://user:pass@127.0.0.1:1080")
    webhook = life.services.accounts.webhook_secrets(life.account_id).current
    back_up(life.services, file)
    text = gzip.decompress(unsealed(file.read_bytes())).decode()
    for each in (secret, webhook, webhook.removeprefix("whsec_"), "simulated00000001", "user:pass"):
        assert each not in text


# --- what is refused -----------------------------------------------------------------------------


class Packed:
    """A backup taken apart, to be put together wrongly."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.packed = unsealed(data)
        self.lines = gzip.decompress(self.packed).splitlines(keepends=True)

    def of_lines(self, *lines: bytes) -> bytes:
        """Put these lines, without an end, together with an end that fits, as versions before 4 did."""
        digest = hashlib.sha256(b"".join(lines)).hexdigest()
        last = {"end": True, "records": len(lines) - 1, "sha256": digest}
        return gzip.compress(b"".join(lines) + json.dumps(last).encode() + b"\n", 1)

    def sealed(self, *lines: bytes) -> bytes:
        return sealed(self.of_lines(*lines))

    def header(self, **changes: Any) -> bytes:
        """The backup with another header, and an end that fits."""
        header = {**json.loads(self.lines[0]), **changes}
        return self.sealed(json.dumps(header).encode() + b"\n", *self.lines[1:-1])

    def altered(self, kind: str, change: Callable[[dict[str, Any]], object]) -> bytes:
        """The backup with the longest record of a type changed, and an end that fits."""
        rows = [json.loads(line) for line in self.lines[:-1]]
        change(max((row for row in rows if row.get("type") == kind), key=lambda row: len(str(row))))
        return self.sealed(*(json.dumps(row).encode() + b"\n" for row in rows))


@pytest.fixture
def packed(settings: Settings, file: Path) -> Packed:
    redis = fake_store()
    services = make_services(settings, redis, RecordingQueue())
    Life(services, redis).live()
    back_up(services, file)
    redis.close()
    return Packed(file.read_bytes())


class Empty:
    """An empty store into which nothing may come but a whole backup."""

    def __init__(self, settings: Settings, file: Path) -> None:
        self.redis = fake_store()
        self.services = make_services(settings, self.redis, RecordingQueue())
        self.file = file

    def refuses(self, data: bytes) -> str:
        """Return why a restore of ``data`` is refused, or "" when it is not."""
        self.file.write_bytes(data)
        try:
            actions.check(self.services, self.file)
        except (ValidationFailed, ConfigurationError):
            with pytest.raises((ValidationFailed, ConfigurationError)) as caught:
                actions.restore(self.services, self.file, pytest.fail)
            assert self.redis.dbsize() == 0
            assert "\n" not in str(caught.value)
            return str(caught.value)
        return ""


@pytest.fixture
def empty(settings: Settings, file: Path) -> Empty:
    return Empty(settings, file)


def test_a_backup_cut_short_is_refused_wherever_it_was_cut(packed: Packed, empty: Empty) -> None:
    whole = len(packed.data)
    for length in {*range(0, whole, 13), *range(whole - 40, whole)}:
        assert empty.refuses(packed.data[:length]), length
    plain = gzip.decompress(packed.packed)
    for length in {*range(0, len(plain), 97), *range(len(plain) - 100, len(plain))}:
        assert empty.refuses(sealed(gzip.compress(plain[:length], 1))), length
    assert empty.refuses(packed.data) == ""


def test_a_changed_byte_is_refused_wherever_it_is(packed: Packed, empty: Empty) -> None:
    chance = random.Random(1)
    for place in {*range(130), *range(130, len(packed.data), 17)}:
        data = bytearray(packed.data)
        data[place] ^= chance.randint(1, 255)
        assert empty.refuses(bytes(data)), place


def test_a_changed_byte_of_what_is_sealed_is_refused(packed: Packed, empty: Empty) -> None:
    """The checksum is for mistakes of our own: who could seal it could make that too."""
    plain = gzip.decompress(packed.packed)
    chance = random.Random(1)
    for place in range(0, len(plain), 53):
        text = bytearray(plain)
        text[place] ^= chance.randint(1, 255)
        assert empty.refuses(sealed(gzip.compress(bytes(text), 1))), place


def test_a_password_hash_that_was_changed_does_not_come_back(packed: Packed, empty: Empty) -> None:
    """With its checksum made anew it is an older version's file, and that is what is said of it."""

    def change(row: dict[str, Any]) -> None:
        row["fields"]["password"] = "the thief's"

    rows = [json.loads(line) for line in packed.lines[:-1]]
    change(next(row for row in rows if row.get("type") == "account"))
    forged = packed.of_lines(*(json.dumps(row).encode() + b"\n" for row in rows))
    assert "version 4 is sealed, and this is not" in empty.refuses(forged)
    rows[0]["version"] = 3
    empty.file.write_bytes(packed.of_lines(*(json.dumps(row).encode() + b"\n" for row in rows)))
    with pytest.raises(pytest.fail.Exception, match="whoever could write to it can have changed anything"):
        restore(empty.services, empty.file)
    assert empty.redis.dbsize() == 0, "it is said before anything is written"


def test_a_file_that_version_3_made_is_restored_with_a_warning(empty: Empty) -> None:
    warned: list[str] = []
    tally = actions.restore(empty.services, OF_VERSION_3, warned.append)
    assert (tally.accounts, tally.requests, tally.owed, tally.opt_outs) == (3, 29, 6, 2)
    assert len(warned) == 1
    assert "neither encrypted nor signed" in warned[0]
    assert audit(empty.services).differences == []


def test_nothing_can_be_read_in_a_backup(life: Life, file: Path) -> None:
    life.live()
    life.finish(webhook_url="https://receiver.example/a-secret-token", target=named("somebody"))
    webhook = life.services.accounts.webhook_secrets(life.account_id).current
    back_up(life.services, file)
    data = file.read_bytes()
    inside = gzip.decompress(unsealed(data))
    for told in (b"anna@example.com", b"a-secret-token", b"somebody", b"hash of anna", b'"type":"account"'):
        assert told in inside
        assert told not in data
    assert webhook.encode() not in data
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(data)
    assert not any(data.startswith(b"\x1f\x8b", place) for place in range(100)), "nothing is packed in clear"
    back_up(life.services, file, force=True)
    assert file.read_bytes()[65:] != data[65:], "the same content is other bytes each time"


class Growing:
    """A BackupStore whose first account has so many requests with results of a size nothing packs."""

    def __init__(self, life: Life, count: int, size: int) -> None:
        self._store = life.services.backups
        record = life.finish()
        [self._copy] = self._store.requests(life.account_id, [record.request_id])
        shard = ids.shard_in(life.account_id)
        self._names = [ids.new_id(ids.REQUEST, shard, 1 + number) for number in range(count)]
        self._size = size
        self.account_id = life.account_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def request_ids(self, account_id: str, below: str | None) -> list[str]:
        if account_id != self.account_id:
            return []
        start = 0 if below is None else self._names.index(below) + 1
        return self._names[start : start + 2]

    def requests(self, account_id: str, request_ids: list[str]) -> list[Any]:
        return [replace(self._copy, request_id=name) for name in request_ids]

    def with_results(self, copies: list[Any], tell: object) -> list[Any]:
        return [replace(copy, result=Kept(random.randbytes(self._size), None)) for copy in copies]


def test_a_large_backup_is_written_and_read_in_little_memory(settings: Settings, file: Path) -> None:
    """Measured in what Python allocates; the file is many times as large."""
    redis = fake_store()
    life = Life(make_services(settings, redis, RecordingQueue()), redis)
    growing: Any = Growing(life, count=80, size=500_000)
    tracemalloc.start()
    try:
        report = back_up(replace(life.services, backups=growing), file)
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        actions.check(life.services, file)
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert report.size > 40_000_000
    assert max(written, read) < 12_000_000
    redis.close()


def test_lines_that_are_gone_doubled_or_moved_are_refused(packed: Packed, empty: Empty) -> None:
    lines = packed.lines
    for place in range(len(lines)):
        assert empty.refuses(sealed(gzip.compress(b"".join(lines[:place] + lines[place + 1 :]), 1))), place
        assert empty.refuses(sealed(gzip.compress(b"".join([*lines[: place + 1], *lines[place:]]), 1))), place
    for place in range(len(lines) - 1):
        moved = [*lines[:place], lines[place + 1], lines[place], *lines[place + 2 :]]
        assert empty.refuses(sealed(gzip.compress(b"".join(moved), 1))), place


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        (b"x", "damaged"),
        (gzip.compress(b"x", mtime=0), "something follows the end"),
        (gzip.compress(b"\n", mtime=0), "something follows the end"),
        (gzip.compress(b"{}\n", mtime=0)[:-4], "damaged|ends too early|follows"),
    ],
    ids=["letter", "gzip", "gzip of an empty line", "gzip cut short"],
)
def test_what_follows_the_end_is_refused(packed: Packed, empty: Empty, rest: bytes, told: str) -> None:
    assert "is damaged" in empty.refuses(packed.data + rest)
    assert re.search(told, empty.refuses(sealed(packed.packed + rest)))


def test_what_is_no_backup_is_refused(empty: Empty, tmp_path: Path) -> None:
    assert "ends too early" in empty.refuses(b"")
    for data in (b"hello\n", b"\0" * 100, b"\x1f\x8b"):
        assert "damaged" in empty.refuses(data)
    for text in (b"", b"hello\n", b"[]\n", b"1\n", b"[" * 100_000 + b"\n", b"\xff\n"):
        assert "damaged: line 1" in empty.refuses(gzip.compress(text))
    for text in (b"{}\n", b'{"kind": "other"}\n', b'{"kind": null, "version": 1}\n'):
        assert "no backup that Storyhook made" in empty.refuses(gzip.compress(text))
    for path, told in ((tmp_path / "missing", "No such file"), (tmp_path, "directory")):
        with pytest.raises(ValidationFailed, match=told):
            restore(empty.services, path)
    assert empty.redis.dbsize() == 0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 5}, "version 5, this Storyhook reads up to 4. Update"),
        ({"dataFormat": 2}, "format 2, this version reads up to 1. Update"),
        ({"keyCheck": "0" * 32}, "SECRET_KEY"),
        ({"version": 0}, "'version'"),
        ({"version": True}, "'version'"),
        ({"shards": 0}, "'shards'"),
        ({"shards": 257}, "'shards'"),
        ({"shards": None}, "'shards'"),
        ({"madeAt": 1}, "'madeAt'"),
    ],
)
def test_a_header_of_another_world_is_refused(
    packed: Packed, empty: Empty, changes: dict[str, Any], told: str
) -> None:
    assert told in empty.refuses(packed.header(**changes))


def test_a_backup_of_another_secret_key_is_refused(packed: Packed, settings: Settings, file: Path) -> None:
    stranger = replace(settings, secret_key="another secret for tests only, long enough as well")
    empty = Empty(stranger, file)
    assert empty.refuses(packed.data).startswith("SECRET_KEY: ")
    assert empty.refuses(OF_VERSION_3.read_bytes()).startswith("SECRET_KEY: ")


def _set(*path: str | int, to: Any) -> Callable[[dict[str, Any]], object]:
    def change(row: dict[str, Any]) -> None:
        inner: Any = row
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = to

    return change


SOMEBODY = ids.new_id(ids.ACCOUNT, 0, 1)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("account", _set("type", to="acount")),
        ("account", _set("id", to="acc_00")),
        ("account", _set("id", to=ids.new_id(ids.REQUEST, 0, 1))),
        ("account", _set("id", to=ids.new_id(ids.ACCOUNT, SHARDS, 1))),
        ("account", _set("fields", "created_at", to="soon")),
        ("account", _set("fields", "disabled", to=0)),
        ("account", lambda row: row["fields"].pop("email")),
        ("account", _set("credits", "balance", to="1.5")),
        ("account", _set("keys", to=[])),
        ("account", _set("keys", to={"abc": {}})),
        ("watch", _set("account", to=SOMEBODY)),
        ("watch", _set("id", to=ids.new_id(ids.WATCH, 255, 1))),
        ("watch", _set("fields", "status", to="asleep")),
        ("watch", _set("fields", "created_at", to="soon")),
        ("watch", lambda row: row["fields"].pop("every")),
        ("watch", _set("seen", to={"1": "soon"})),
        ("watch", _set("seen", to=None)),
        ("watch", _set("owed", to={"1": 1})),
        ("ledger", _set("account", to=SOMEBODY)),
        ("ledger", _set("entries", 0, 0, to="1")),
        ("ledger", _set("entries", 0, 1, to="gift")),
        ("ledger", _set("entries", 0, 2, to="1")),
        ("ledger", lambda row: row["entries"].reverse()),
        ("ledger", lambda row: row["entries"][0].pop()),
        ("request", _set("account", to=SOMEBODY)),
        ("request", _set("id", to="req_")),
        ("request", lambda row: row.pop("result")),
        ("request", lambda row: row.update(request=None, delivery=None)),
        ("request", _set("request", "lifetime", to=0)),
        ("request", lambda row: row["request"].pop("lifetime")),
        ("request", _set("request", "value", "status", to="processing")),
        ("request", _set("request", "value", "hold", to="")),
        ("request", _set("request", "value", "fence", to="x")),
        ("request", lambda row: row["request"]["value"].pop("username")),
        ("request", _set("request", "value", "options", to="{")),
        ("request", _set("request", "value", "options", to='{"colour":1}')),
        ("request", _set("request", "value", "options", to="[]")),
        ("watch", _set("fields", "options", to='{"colour":1}')),
        ("request", _set("result", to={"value": "?", "lifetime": 1})),
        ("request", _set("delivery", to={"value": {}, "lifetime": 1})),
        ("request", _set("log", to={"value": [1], "lifetime": 1})),
        ("idempotency", _set("hash", to="a:b")),
        ("idempotency", _set("value", "request", to="")),
        ("idempotency", lambda row: row["value"].pop("fingerprint")),
        ("counters", _set("shard", to=SHARDS)),
        ("counters", _set("fields", "held", to="many")),
        ("session", _set("name", to="a b")),
        ("session", _set("fields", "state", to="happy")),
        ("session", lambda row: row["fields"].pop("settings")),
        ("pool", _set("counter", to=-1)),
        ("optouts", _set("ids", to=None)),
        ("optouts", _set("names", "zoe", to="no JSON")),
        ("optouts", _set("names", "zoe", to="{}")),
        ("optouts", _set("names", "zoe", to='{"at": 1, "note": 2, "linked": ""}')),
    ],
)
def test_a_record_that_is_not_as_it_should_be_is_refused(
    packed: Packed, empty: Empty, kind: str, change: Callable[[dict[str, Any]], object]
) -> None:
    assert empty.refuses(packed.altered(kind, lambda row: None)) == ""
    assert "damaged: line " in empty.refuses(packed.altered(kind, change))


def test_a_store_that_holds_accounts_is_left_alone(life: Life, file: Path) -> None:
    back_up(life.services, file)
    before = snapshot(life.redis)
    with pytest.raises(Conflict, match=r"holds 1 account\(s\) already"):
        restore(life.services, file)
    assert snapshot(life.redis) == before


def test_a_store_that_is_worked_on_is_left_alone(life: Life, there: There, file: Path) -> None:
    back_up(life.services, file)
    there.services.stats.beat("worker@host")
    with pytest.raises(Conflict, match="worker@host"):
        restore(there.services, file)
    assert list(there.redis.scan_iter()) == [keys.WORKERS]
    there.services.stats.gone("worker@host")
    restore(there.services, file)


# --- a restore that is interrupted ---------------------------------------------------------------


def break_off(redis: Redis, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let the store be gone after so many commands of pipelines, in the middle of one."""
    left = after
    make = redis.pipeline

    def pipeline(*args: Any, **options: Any) -> Any:
        pipe = make(*args, **options)
        send = pipe.execute

        def execute(**how: Any) -> Any:
            nonlocal left
            room, left = left, left - len(pipe)
            if left >= 0:
                return send(**how)
            del pipe.command_stack[max(room, 0) :]
            send(**how)
            raise StoreGone("killed")

        pipe.execute = execute
        return pipe

    monkeypatch.setattr(redis, "pipeline", pipeline)


@pytest.mark.parametrize("after", [2, 3, 10, 30, 60, 100, 150, 200, 220])
def test_a_restore_that_was_interrupted_is_finished_with_the_same_file(
    life: Life,
    there: There,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    monkeypatch.setattr("service.stores.backups.COMMANDS_AT_ONCE", 7)
    life.live()
    back_up(life.services, file)
    other = file.with_name("other")
    life.submit()
    back_up(life.services, other)
    with monkeypatch.context() as patch:
        break_off(there.redis, patch, after)
        with pytest.raises(StoreUnavailable):
            restore(there.services, file)
    assert there.redis.hget(keys.META, meta.RESTORING)
    half = snapshot(there.redis)
    with pytest.raises(ConfigurationError, match="has not finished"):
        meta.fix_shards(there.redis, SHARDS)
    with pytest.raises(ConfigurationError, match="another backup"):
        restore(there.services, other)
    assert snapshot(there.redis) == half
    restore(there.services, file)
    assert meta.fix_shards(there.redis, SHARDS) == SHARDS
    assert audit(there.services).differences == []
    back_up(there.services, again := file.with_name("again"))
    assert records_in(again) == records_in(file)


def records_in(file: Path) -> list[str]:
    """Every line but the first and last, in any order, without what is left of lifetimes."""
    lines = gzip.decompress(unsealed(file.read_bytes())).decode().splitlines()[1:-1]
    alike = (json.dumps(json.loads(line), sort_keys=True) for line in lines)
    return sorted(re.sub(r'"lifetime": \d+', '"lifetime": 1', line) for line in alike)


def test_a_pipeline_that_is_sent_again_changes_nothing(
    life: Life,
    there: There,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.stores.backups.COMMANDS_AT_ONCE", 1)
    make = there.redis.pipeline

    def pipeline(*args: Any, **options: Any) -> Any:
        pipe = make(*args, **options)
        send = pipe.execute

        def execute(**how: Any) -> Any:
            commands = list(pipe.command_stack)
            send(**how)
            pipe.command_stack = commands
            return send(**how)

        pipe.execute = execute
        return pipe

    life.live()
    back_up(life.services, file)
    with monkeypatch.context() as patch:
        patch.setattr(there.redis, "pipeline", pipeline)
        restore(there.services, file)
    assert portrait(there.redis) == as_kept(portrait(life.redis))


def test_a_file_that_is_replaced_while_it_is_restored_is_noticed(packed: Packed, empty: Empty) -> None:
    empty.file.write_bytes(packed.data)
    another = packed.header(madeAt="2020-01-01T00:00:00.000Z")
    begun: Any = Meanwhile(empty.services.backups, "target", lambda: empty.file.write_bytes(another))
    with pytest.raises(ValidationFailed, match="was replaced while it was restored"):
        restore(replace(empty.services, backups=begun), empty.file)
    assert empty.redis.hget(keys.META, meta.RESTORING)
    empty.file.write_bytes(packed.data)
    restore(empty.services, empty.file)


def test_no_process_starts_over_a_store_that_is_half_restored(valkey: Redis, settings: Settings) -> None:
    valkey.hset(keys.META, meta.RESTORING, "abc")
    before = snapshot(valkey)
    with pytest.raises(ConfigurationError, match="storyhook restore"):
        bootstrap.build(settings, wait=5)
    assert snapshot(valkey) == before
    assert bootstrap.build_for_restore(settings).backups.target() == (0, "abc")


def test_a_restore_over_data_of_a_newer_version_is_refused(valkey: Redis, settings: Settings) -> None:
    valkey.hset(keys.META, mapping={"format": 99, "shards": 4})
    with pytest.raises(ConfigurationError, match="format 99"):
        bootstrap.build_for_restore(settings)


# --- the commands --------------------------------------------------------------------------------


@pytest.fixture
def run(
    settings: Settings, valkey: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Run `storyhook` over the real store."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, arguments)


def test_the_commands_tell_in_a_line_what_they_did(
    run: Callable[..., Result], settings: Settings, valkey: Redis, queue: RecordingQueue, file: Path
) -> None:
    life = Life(make_services(settings, valkey, queue), valkey)
    life.live()
    made = run("backup", file.name)
    held = "3 account(s), 28 request(s), 7 of them open, "
    held += (
        "6 webhook(s) to be sent, 48 ledger entries, 5 session(s), 3 watch(es), 2 name(s) and id(s) opted out"
    )
    assert (made.exit_code, made.output) == (0, f"{file.name}: {held}, {file.stat().st_size} bytes\n")
    refused = run("backup", file.name)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "--force" in refused.stderr
    assert run("backup", file.name, "--force").exit_code == 0

    refused = run("restore", file.name)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "holds 3 account(s) already" in refused.stderr
    valkey.flushdb()
    restored = run("restore", file.name)
    assert restored.exit_code == 0, restored.output
    first, erased, second = restored.output.splitlines()
    assert first.startswith(f"{file.name} of 20")
    assert first.endswith(f" restored: {held}")
    assert erased.startswith("of those who opted out: erased 0 request(s)")
    assert second == "audited 3 account(s), 28 request(s): everything adds up"


def test_a_damaged_backup_is_one_clear_line_and_nothing_is_written(
    run: Callable[..., Result], valkey: Redis, file: Path
) -> None:
    file.write_text("hello\n")
    refused = run("restore", file.name)
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert refused.stderr.startswith(f"storyhook: {file.name} is damaged, or no backup")
    assert valkey.dbsize() == 0


def test_an_older_backup_is_restored_with_a_warning_on_standard_error(
    run: Callable[..., Result], valkey: Redis, file: Path
) -> None:
    file.write_bytes(OF_VERSION_3.read_bytes())
    restored = run("restore", file.name)
    assert restored.exit_code == 0, restored.output
    assert restored.stderr.startswith(f"storyhook: WARNING: {file.name} is a backup of an older version")
    assert restored.stderr.count("\n") == 1


def test_books_that_do_not_add_up_end_both_commands_with_1(
    run: Callable[..., Result], settings: Settings, valkey: Redis, queue: RecordingQueue, file: Path
) -> None:
    life = Life(make_services(settings, valkey, queue), valkey)
    valkey.hincrby(keys.credits(life.account_id), "balance", 5)
    made = run("backup", file.name)
    assert (made.exit_code, "do not add up" in made.stderr) == (1, True)
    valkey.flushdb()
    restored = run("restore", file.name)
    assert (restored.exit_code, "the audit found differences: 1" in restored.stderr) == (1, True)
    assert life.services.credits.balance(life.account_id) == Balance(55, 0)


@pytest.mark.parametrize("name", ["-", ".", "pipe"])
def test_what_is_no_file_is_not_replaced_by_one(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(ValidationFailed, match="is no file a backup can be written to"):
        actions.back_up(services, Path(name), force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
