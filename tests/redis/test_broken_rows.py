"""A row that cannot be read is told of and passed over; everything else is read, copied and audited."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from click.testing import CliRunner, Result
from redis import Redis

from service.actions import backup as actions
from service.actions.audit import audit
from service.actions.backup import back_up
from service.actions.tidy import tidy_ledger
from service.cli.main import main
from service.config import Settings
from service.domain import ids
from service.domain.credits import Balance
from service.domain.errors import BrokenRow
from service.domain.ports import Services
from service.domain.rows import PassedOver
from service.stores import keys
from tests.conftest import RecordingQueue, make_services
from tests.redis.kit import batch_of, items_of, submission
from tests.redis.test_backup import HOOK, Life
from workers.schedule import housekeep
from workers.sweep import run_overdue_watches, sweep_requests

BACKUP, AUDIT, ACCOUNTS, SESSIONS, OPTED_OUT = commands = (
    ("backup", "file"),
    ("audit",),
    ("account", "list", "--json"),
    ("instagram", "list", "--json"),
    ("optout", "list", "--json"),
)
BOOKS = (BACKUP, AUDIT)
ALL = (BACKUP, AUDIT, ACCOUNTS)


class World:
    """Anna, of whom something is broken, and Ben, who is well."""

    def __init__(self, services: Services, redis: Redis) -> None:
        self.life = Life(services, redis)
        self.services, self.redis, self.anna = services, redis, self.life.account_id
        self.life.live()
        self.ben = self.life.account("berta@example.com", 9)
        self.of_ben = services.requests.submit(submission(self.ben))
        self.request = self.life.finish(webhook_url=HOOK).request_id
        self.delivery = ids.delivery_of(self.request)

    def put(self, key: str, **fields: str) -> None:
        self.redis.hset(key, mapping=fields)

    def cut(self, key: str, *fields: str) -> None:
        self.redis.hdel(key, *fields)

    def replace(self, key: str) -> None:
        """Let something of another type stand there."""
        another = self.redis.type(key) == "string"
        self.redis.delete(key)
        self.redis.rpush(key, "x") if another else self.redis.set(key, "x")

    def one(self, pattern: str) -> str:
        return min(self.redis.scan_iter(pattern))

    def entry(self, **changes: str) -> str:
        fields = {"type": "topup", "amount": "1", "balance": "1", "held": "0", "note": "", "at": "1"}
        return str(self.redis.xadd(keys.ledger(self.anna), {**fields, **changes}))


@dataclass(frozen=True)
class Break:
    """What is broken, and which commands come across it. ``run`` returns what they have to name."""

    run: Callable[[World], str]
    commands: tuple[tuple[str, ...], ...] = BOOKS


def of_credits(**fields: str) -> Break:
    def run(world: World) -> str:
        world.put(keys.credits(world.anna), **fields)
        return world.anna

    return Break(run, ALL)


def of_account(act: Callable[[World, str], Any]) -> Break:
    def run(world: World) -> str:
        act(world, keys.account(world.anna))
        return world.anna

    return Break(run, ALL)


def of_ledger(**changes: str) -> Break:
    return Break(lambda world: world.entry(**changes))


def of_request(act: Callable[[World, str], Any]) -> Break:
    def run(world: World) -> str:
        act(world, keys.request(world.request))
        return world.request

    return Break(run)


def of_key(pattern: str, act: Callable[[World, str], Any], *told: tuple[str, ...]) -> Break:
    """Of the first key like that; its last part is named."""

    def run(world: World) -> str:
        key = world.one(pattern)
        act(world, key)
        return key.rpartition(":")[2]

    return Break(run, told or (BACKUP,))


def put(**fields: str) -> Callable[[World, str], Any]:
    return lambda world, key: world.put(key, **fields)


def cut(*fields: str) -> Callable[[World, str], Any]:
    return lambda world, key: world.cut(key, *fields)


def of_delivery(act: Callable[[World, str], Any]) -> Break:
    def run(world: World) -> str:
        act(world, keys.delivery(world.delivery))
        return world.request.partition("_")[2]

    return Break(run, (BACKUP,))


def nobody(world: World) -> str:
    world.redis.sadd(keys.ACCOUNTS, "nobody")
    return "nobody"


def listed(world: World) -> str:
    world.redis.zadd(keys.account_requests(world.anna), {"req_x": 0})
    return "req_x"


def opted_out(world: World) -> str:
    world.put(keys.OPTOUT_NAMES, zoe="no JSON")
    return "zoe"


BROKEN = {
    "a balance that fell round": of_credits(balance="-9223372036854775808"),
    "a balance of a calculator": of_credits(balance="1e30"),
    "a balance of letters": of_credits(balance="abc"),
    "held in letters": of_credits(held="abc"),
    "credits of another type": Break(
        lambda world: world.replace(keys.credits(world.anna)) or world.anna, ALL
    ),
    "a ledger of another type": Break(
        lambda world: world.replace(keys.ledger(world.anna)) or world.anna, ALL
    ),
    "an account without e-mail": of_account(cut("email")),
    "an account made at no time": of_account(put(created_at="soon")),
    "an account of another type": of_account(World.replace),
    "an account that is none": Break(nobody, ALL),
    "an API key without a time": of_key("g:key:*", cut("created_at")),
    "a ledger entry of a calculator": of_ledger(amount="1e+30", balance="-9223372036854775808"),
    "a ledger entry of letters": of_ledger(amount="abc"),
    "a ledger entry of no kind": of_ledger(type="gift"),
    "a ledger entry at no time": of_ledger(at="9" * 18),
    "a request without its price": of_request(cut("hold")),
    "a request in no state": of_request(put(status="asleep")),
    "a request about nothing": of_request(cut("username")),
    "a request at no time": of_request(put(created_at="9" * 18)),
    "a request without account": of_request(cut("account")),
    "a request with options unheard of": of_request(put(options='{"colour":1}')),
    "a request of another type": of_request(World.replace),
    "an id of a request that is none": Break(listed),
    "a result of another type": Break(
        lambda world: world.replace(keys.result(world.request)) or world.request, (BACKUP,)
    ),
    "a delivery without URL": of_delivery(cut("url")),
    "a delivery without request": of_delivery(cut("request")),
    "a delivery in no state": of_delivery(put(status="asleep")),
    "a delivery of another type": of_delivery(World.replace),
    "a watch without interval": of_key("*:watch:wat_*", cut("every")),
    "a watch in no state": of_key("*:watch:wat_*", put(status="asleep")),
    "a batch of letters": of_key("*:batch:bat_*", put(left="x"), *BOOKS),
    "a batch without end": of_key("*:batch:bat_*", put(total="9" * 17), AUDIT),
    "a batch of another type": of_key("*:batch:bat_*", World.replace, *BOOKS),
    "an idempotency key for nothing": of_key("*:idem:*", cut("request")),
    "a counter of letters": Break(lambda world: world.put("{s00}:stats", odd="many") or "odd", (BACKUP,)),
    "a session in no state": of_key("{ig}:session:*", put(state="happy"), BACKUP, SESSIONS),
    "a session of letters": of_key("{ig}:session:*", put(version="x"), BACKUP, SESSIONS),
    "a counter of versions of letters": Break(
        lambda world: "pool" if world.redis.set("{ig}:counter", "abc") else "", (BACKUP,)
    ),
    "an opt-out that is no JSON": Break(opted_out, (BACKUP, OPTED_OUT)),
}


@pytest.fixture
def world(settings: Settings, valkey: Redis, queue: RecordingQueue, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("service.stores.accounts.secrets.randbelow", lambda most: 0)
    return World(make_services(settings, valkey, queue), valkey)


def storyhook(*arguments: str) -> Result:
    done = CliRunner().invoke(main, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.mark.parametrize("kind", BROKEN)
def test_every_command_tells_of_a_broken_row_and_does_the_rest(
    world: World, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    named = BROKEN[kind].run(world)
    for command in commands:
        done = storyhook(*command)
        passed_over = [line for line in done.stderr.splitlines() if "passed over" in line]
        if command in BROKEN[kind].commands:
            assert done.exit_code == 1, (command, done.output)
            assert [line for line in passed_over if named in line], (command, done.output)
        elif kind != "a batch without end":  # a restore takes it: it is a number
            assert passed_over == [], command
    accounts = json.loads(storyhook(*ACCOUNTS).stdout)
    assert [row["email"] for row in accounts if row["balance"] == 9] == ["berta@example.com"]
    _is_restored(world, settings, tmp_path / "file")


def _is_restored(world: World, settings: Settings, file: Path) -> None:
    """Whatever a backup was made of, it is one that comes back, with everybody who is well."""
    redis = fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=True, protocol=2)
    there = make_services(settings, redis, RecordingQueue())
    actions.restore(there, file, pytest.fail)
    assert there.accounts.get(world.ben) == world.services.accounts.get(world.ben)
    assert there.credits.balance(world.ben) == Balance(9, 1)
    assert there.requests.get(world.of_ben.request_id) == world.services.requests.get(world.of_ben.request_id)
    assert there.optouts.covers(["zoe"], [])
    redis.close()


def test_a_store_without_broken_rows_is_passed_over_nowhere(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert "passed over" not in storyhook(*command).stderr


def test_credits_that_cannot_be_read_come_back_as_the_ledger_has_them(
    services: Services, redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    life = Life(services, redis)
    life.finish()
    life.submit()
    before = services.credits.balance(life.account_id)
    redis.hset(keys.credits(life.account_id), "balance", "-9223372036854775808")
    report = back_up(services, tmp_path / "file")
    assert [each.where for each in report.passed_over] == [f"account {life.account_id}"]
    assert report.differences == []
    other = fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=True, protocol=2)
    there = make_services(settings, other, RecordingQueue())
    actions.restore(there, tmp_path / "file", pytest.fail)
    assert there.credits.balance(life.account_id) == before == Balance(49, 1)
    assert audit(there).differences == []
    other.close()


def test_a_delivery_goes_on_when_its_request_cannot_be_read(
    services: Services, redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    life = Life(services, redis)
    record = life.finish(webhook_url=HOOK)
    redis.hdel(keys.request(record.request_id), "hold")
    report = back_up(services, tmp_path / "file")
    assert [each.where for each in report.passed_over] == [f"request {record.request_id}"]
    assert (report.tally.requests, report.tally.owed) == (0, 1)


def test_a_hold_is_not_released_while_nobody_can_tell_whether_its_request_is_open(
    services: Services, redis: Redis
) -> None:
    life = Life(services, redis)
    record = life.submit()
    redis.hset(keys.request(record.request_id), "created_at", "soon")
    report = audit(services, repair=True)
    assert [each.where for each in report.passed_over] == [f"request {record.request_id}"]
    assert report.repaired == []
    assert services.credits.balance(life.account_id).held == 1


@pytest.mark.parametrize("kind", [each for each in BROKEN if "request" in each or "watch" in each])
def test_the_sweep_and_the_housekeeping_pass_over_what_is_broken(world: World, kind: str) -> None:
    BROKEN[kind].run(world)
    for shard in range(4):
        for name in world.redis.zrange(keys.watching(shard), 0, -1):
            world.redis.zadd(keys.watching(shard), {name: 1})
    world.redis.zadd(keys.open_requests(0), {world.request: 1, world.of_ben.request_id: 2})
    found = {record.request_id for record in world.services.requests.stranded(99)}
    assert world.of_ben.request_id in found
    sweep_requests(world.services)
    assert run_overdue_watches(world.services) > 0
    housekeep(world.services)


def test_each_row_is_told_once() -> None:
    told = PassedOver()
    for what in ("no number", "no number", "no time"):
        told(BrokenRow("request req_1", what))
    told(BrokenRow("request req_2", "no number"))
    assert [str(each) for each in told] == [
        "The store's request req_1 cannot be read: no number.",
        "The store's request req_2 cannot be read: no number.",
    ]


def test_a_webhook_secret_that_does_not_open_is_a_broken_row_of_one_account(
    services: Services, redis: Redis, tmp_path: Path
) -> None:
    life = Life(services, redis)
    other = life.account("berta@example.com")
    redis.hset(keys.account(life.account_id), "webhook_secret", "x")
    with pytest.raises(BrokenRow, match="does not open under this SECRET_KEY"):
        services.accounts.webhook_secrets(life.account_id)
    assert services.accounts.webhook_secrets(other).current
    assert len(back_up(services, tmp_path / "file").passed_over) == 0, "it is copied as it is"


def test_one_broken_item_keeps_no_other_from_being_worked_on(services: Services, redis: Redis) -> None:
    life = Life(services, redis)
    batch = life.batch(0)
    records = [record for record in services.requests.get_many(items_of(batch)) if record]
    redis.hset(keys.request(records[1].request_id), "created_at", "soon")
    claims = services.requests.claim_many(records)
    assert [claim is not None for claim in claims] == [True, False, True]
    assert [each is not None for each in services.requests.get_many(items_of(batch))] == [True, False, True]


def test_a_result_that_is_broken_does_not_pass_for_one_that_is_gone(services: Services, redis: Redis) -> None:
    life = Life(services, redis)
    names = [life.finish().request_id for _ in range(3)]
    redis.set(keys.result(names[1]), "x")
    with pytest.raises(BrokenRow, match=names[1]):
        list(services.requests.envelopes(names))
    assert services.requests.envelope(names[2]) is not None


def test_a_batch_keeps_its_hold_while_one_of_its_items_cannot_be_read(
    services: Services, redis: Redis
) -> None:
    life = Life(services, redis)
    batch = life.batch(0)
    first, second, _ = items_of(batch)
    redis.hset(keys.request(first), "created_at", "soon")
    redis.delete(keys.request(second))
    report = audit(services, repair=True)
    assert [each.where for each in report.passed_over] == [f"request {first}"]
    assert report.repaired == []
    assert services.credits.balance(life.account_id).held == batch.hold * batch.total


def test_no_hold_is_released_while_the_entry_that_closed_it_may_be_the_one_that_is_broken(
    services: Services, redis: Redis
) -> None:
    life = Life(services, redis)
    record = life.finish()
    before = services.credits.balance(life.account_id)
    entry_id, entry = redis.xrevrange(keys.ledger(life.account_id), count=1)[0]
    redis.xdel(keys.ledger(life.account_id), entry_id)
    redis.xadd(keys.ledger(life.account_id), {**entry, "amount": "many"})
    report = audit(services, repair=True)
    assert len(report.passed_over) == 1
    assert "stray_hold" in [each.kind for each in report.differences if each.where == record.request_id]
    assert report.repaired == []
    assert services.credits.balance(life.account_id) == before


def test_a_hold_for_what_is_no_id_ends_no_audit(services: Services, redis: Redis) -> None:
    life = Life(services, redis)
    entry = {"type": "hold", "amount": "-1", "balance": "50", "held": "1", "request": "x", "at": "1"}
    redis.xadd(keys.ledger(life.account_id), entry)
    [told] = audit(services, repair=True).passed_over
    assert told.where == f"hold of {life.account_id} for 'x'"


def test_a_ledger_that_was_tidied_comes_back_though_its_credits_cannot_be_read(
    services: Services, redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    life = Life(services, redis)
    life.finish()
    life.batch(0)
    before = services.credits.balance(life.account_id)
    entries = redis.xrange(keys.ledger(life.account_id))
    [(hold, _)] = [each for each in entries if each[1]["type"] == "hold"][:1]
    redis.xdel(keys.ledger(life.account_id), hold)  # as the housekeeping does, days after its charge
    last_charge = [entry_id for entry_id, fields in entries if fields["type"] == "charge"][-1]
    redis.hset(keys.credits(life.account_id), mapping={"tidied": last_charge, "balance": "nan"})
    back_up(services, tmp_path / "file")
    other = fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=True, protocol=2)
    there = make_services(settings, other, RecordingQueue())
    actions.restore(there, tmp_path / "file", pytest.fail)
    assert there.credits.balance(life.account_id) == before
    assert audit(there).differences == []
    other.close()


def test_a_mark_of_tidying_that_is_none_is_told_and_written_anew(
    services: Services, redis: Redis, tmp_path: Path
) -> None:
    life = Life(services, redis)
    life.finish()
    redis.hset(keys.credits(life.account_id), "tidied", "yesterday")
    assert [each.where for each in audit(services).passed_over] == [f"credits of {life.account_id}"]
    assert len(back_up(services, tmp_path / "file").passed_over) == 1
    tidy_ledger(services, life.account_id)
    assert len(audit(services).passed_over) == 0


@pytest.mark.parametrize("field", ["balance", "held"])
@pytest.mark.parametrize("value", ["1e+30", "nan", "inf", "ten", "0x10", "1.5", "", "9" * 16])
def test_an_account_whose_credits_are_no_whole_numbers_begins_no_work(
    services: Services, redis: Redis, field: str, value: str
) -> None:
    life = Life(services, redis)
    redis.hset(keys.credits(life.account_id), field, value)
    before = {name: redis.type(name) for name in redis.scan_iter()}
    credits = redis.hgetall(keys.credits(life.account_id))
    for make in (life.submit, lambda: services.batches.submit(batch_of(life.account_id))):
        with pytest.raises(BrokenRow, match=life.account_id):
            make()
    assert {name: redis.type(name) for name in redis.scan_iter()} == before
    assert redis.hgetall(keys.credits(life.account_id)) == credits
