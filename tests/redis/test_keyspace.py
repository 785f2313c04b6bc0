"""The map of the keyspace is true: every key is on it, of the type and with the lifetime it says."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from hashlib import sha256

import pytest
from redis import Redis
from redis.crc import key_slot

from service.auth.api_keys import ApiKeys
from service.config import Settings
from service.domain import ids
from service.domain.accounts import network_of
from service.domain.archive import Kept, Owner
from service.domain.deliveries import Attempt, Plan
from service.domain.ports import Services
from service.domain.requests import Run
from service.domain.sharing import Landing
from service.domain.watches import Watch
from service.stores import keys, meta
from service.stores.archive import ArchiveEntries
from tests.conftest import SHARDS, RecordingQueue, finish_one, make_services
from tests.redis.kit import batch_of, ending, submission

ROW = re.compile(r"^``(?P<key>[^`]+)``\s+(?P<type>\w+)\s{2,}(?P<lifetime>\S.*?)\s{2,}", re.MULTILINE)


def rows() -> dict[str, tuple[str, str]]:
    """The documented keys as patterns: type and lifetime of each."""
    found = {}
    for match in ROW.finditer(keys.__doc__ or ""):
        pattern = re.sub(r"<[^>]+>", "*", match["key"].replace("{s07}", "{s??}"))
        found[pattern] = (match["type"], match["lifetime"])
    return found


def row_of(key: str) -> tuple[str, str] | None:
    """The most telling row a key is on."""
    fitting = [pattern for pattern in rows() if fnmatchcase(key, pattern)]
    return rows()[max(fitting, key=lambda pattern: pattern.count(":"))] if fitting else None


@pytest.fixture
def services(settings: Settings, valkey: Redis, queue: RecordingQueue) -> Services:
    return make_services(settings, valkey, queue)


@pytest.fixture
def lived(valkey: Redis, services: Services) -> Redis:
    """A store in which something of everything happened."""
    meta.fix_shards(valkey, SHARDS)
    account_id = services.accounts.create("anna@example.com", "hash").account_id
    services.accounts.add_key(ApiKeys(b"k" * 32).mint(account_id, "laptop")[1])
    services.credits.add(account_id, 10, entry_type="topup", note="")
    services.limits.hit(account_id)
    services.limits.login_attempt("anna@example.com", "127.0.0.1")
    services.limits.sign_up("127.0.0.1")
    services.stats.beat("worker")
    for status in ("delivered", "pending"):
        made = services.requests.submit(submission(account_id, webhook_url="https://example.com/hook"))
        claim = services.requests.claim(made.request_id)
        assert claim is not None
        owed = finish_one(services.requests, claim, ending())
        assert owed is not None
        services.hosts.enter(owed.host, owed.delivery_id)
        delivery = services.deliveries.claim(owed.delivery_id, owed.host)
        assert delivery is not None
        services.deliveries.record(delivery, Attempt(1, 0.1, status=500), Plan(status, wait=60))
    for _ in range(10):
        services.hosts.leave("example.com:443", "msg_none", Attempt(1, 0.1, status=500))
    services.requests.submit(submission(account_id, idempotency_key="once"))
    watched(services, account_id)
    nobody = services.requests.claim(services.requests.submit(submission(account_id)).request_id)
    assert nobody is not None
    missing = ending(status="failed", outcome="", code="user_not_found", charge=0, burdens=True)
    finish_one(services.requests, nobody, missing)
    archived(valkey)
    services.batches.submit(batch_of(account_id, idempotency_key="twice"))
    services.bulk.push(account_id, ["req_1", "req_2", "req_3"])
    services.bulk.take(1)
    services.bulk.push(account_id, ["req_4"])
    services.optouts.add("zoe", "42")
    for name in ("anna", "bert"):
        flight = services.reels.board(name, "req_1")
        assert flight is not None
        assert services.reels.board(name, "req_2") is None
        if name == "anna":
            services.reels.land(flight, Landing(b"{}"))
    return valkey


def archived(valkey: Redis) -> None:
    """Keep a file, and let somebody hold it."""
    entries = ArchiveEntries(valkey, 60)
    token = entries.lock("a")
    assert token is not None
    reservation = entries.reserve("acc_1", 1, 60)
    assert entries.announce("a", "jpg", 1, reservation) == "jpg"
    assert entries.record(Kept("a", "jpg", 1, 0), token, Owner("17", ("anna",)), "3411", reservation)
    entries.reserve("acc_1", 1, 60)
    assert entries.lock("a")


def watched(services: Services, account_id: str) -> None:
    """Let a watch run once and bring something."""
    watch_id = ids.new_id(ids.WATCH, ids.shard_in(account_id), services.clock())
    hook = "https://example.com/hook"
    services.watches.add(Watch(watch_id, account_id, "anna", "15m", hook, True, False, 60))
    run = submission(account_id, webhook_url=hook, watch=Run(watch_id, next_in=1))
    claim = services.requests.claim(services.requests.submit(run).request_id)
    assert claim is not None
    finish_one(services.requests, claim, ending(remember={"1": 4_000_000_000}))


def test_every_key_in_the_store_is_on_the_map_and_of_its_type(lived: Redis) -> None:
    found = {key: lived.type(key) for key in lived.scan_iter()}
    documented = {key: (row_of(key) or ("nothing",))[0] for key in found}
    assert documented == found


def test_every_key_on_the_map_is_in_the_store(lived: Redis) -> None:
    in_store = list(lived.scan_iter())
    missing = [
        pattern
        for pattern, (kind, _) in rows().items()
        if kind != "channel" and not any(fnmatchcase(key, pattern) for key in in_store)
    ]
    assert missing == []


def test_what_lives_for_good_has_no_lifetime(lived: Redis) -> None:
    kept = [key for key in lived.scan_iter() if (row_of(key) or ("", ""))[1].startswith("for good")]
    assert kept
    assert [key for key in kept if lived.ttl(key) != -1] == []


def test_all_keys_of_an_account_and_its_shard_share_a_slot(lived: Redis) -> None:
    by_tag: dict[str, set[int]] = {}
    for key in lived.scan_iter("{s*"):
        by_tag.setdefault(key[: key.index("}")], set()).add(key_slot(key.encode()))
    assert by_tag
    assert all(len(slots) == 1 for slots in by_tag.values())


def test_a_wildcard_in_a_callers_address_or_name_reads_no_other_key(
    services: Services, valkey: Redis
) -> None:
    services.accounts.create("anna@example.com", "hash")
    assert services.accounts.by_email("*@example.com") is None
    assert services.limits.login_attempt("*", network_of("*")) == 0
    assert sorted(valkey.hkeys("{login}:from:unknown")) == sorted(["all", sha256(b"*").hexdigest()[:16]])
