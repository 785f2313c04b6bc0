"""What is done to the stack, one fault after the other, while customers call it.

Each fault undoes itself; what it leaves behind on the way is for the service to put right. ``cases`` are
the numbers of the twenty failures a queue like this one must survive, as docs/chaos.md lists them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from redis.exceptions import RedisError

from service.domain.requests import DELIVER, DELIVERIES, SCRAPE
from service.stores import keys
from tests.chaos.lab import BEATS, DELIVERERS, LEASE, PYTHONS, WORKERS, Lab
from tests.chaos.load import FAILED, OK, Line, Load
from tests.chaos.operations import WEBHOOK, Operation
from tests.chaos.proxy import DEAF, HELD

QUEUES = ("interactive", "bulk", "deliver")


@dataclass(frozen=True)
class Scene:
    """What a fault has at hand."""

    lab: Lab
    load: Load
    rng: random.Random
    number: int  # of the injection


Injection = Callable[[Scene], None]


@dataclass(frozen=True)
class Fault:
    """A fault by name, about how many seconds it takes, and the numbered cases it stands for."""

    name: str
    inject: Injection
    cases: str
    seconds: float
    long_only: bool = False


FAULTS: list[Fault] = []


def fault(cases: str, seconds: float, *, long_only: bool = False) -> Callable[[Injection], Injection]:
    """Register a fault under its function's name."""

    def register(inject: Injection) -> Injection:
        FAULTS.append(Fault(inject.__name__.replace("_", " "), inject, cases, seconds, long_only))
        return inject

    return register


def hold(seconds: float) -> None:
    """Let a fault last."""
    time.sleep(seconds)  # it is to last so long, whatever happens meanwhile


@contextmanager
def slow_instagram(scene: Scene) -> Iterator[None]:
    """Let every worker have work in its hands: what is fetched takes longer than what is done to it."""
    scene.lab.simulator.knobs(latency_ms=900)
    hold(0.7)
    try:
        yield
    finally:
        scene.lab.simulator.reset()


# --- processes ---------------------------------------------------------------------------------------


@fault("1", 3)
def worker_killed(scene: Scene) -> None:
    name = scene.rng.choice(WORKERS)
    with slow_instagram(scene):
        scene.lab.down(name)
    hold(scene.rng.uniform(0, 2))
    scene.lab.up(name)


@fault("2", 3)
def worker_killed_before_settling(scene: Scene) -> None:
    """What it fetched is in its hands; what it says to the store does not arrive any more."""
    name = scene.rng.choice(WORKERS)
    with slow_instagram(scene):
        scene.lab.proxy.set_mode(HELD, [f"{name}-store"])
        hold(1.0)
    scene.lab.down(name)
    scene.lab.proxy.heal()
    scene.lab.up(name)


@fault("3", 3)
def deliverer_killed_after_the_post(scene: Scene) -> None:
    """Receivers have it; nobody wrote that down."""
    name = scene.rng.choice(DELIVERERS)
    scene.lab.proxy.set_mode(HELD, [f"{name}-store"])
    hold(1.0)
    scene.lab.down(name)
    scene.lab.proxy.heal()
    scene.lab.up(name)


@fault("4", LEASE + 3)
def worker_frozen_past_its_lease(scene: Scene) -> None:
    name = scene.rng.choice(WORKERS)
    with slow_instagram(scene):
        scene.lab.freeze(name)
    hold(LEASE + 2)
    scene.lab.thaw(name)


@fault("4", 20, long_only=True)
def deliverer_frozen_past_its_lease(scene: Scene) -> None:
    name = scene.rng.choice(DELIVERERS)
    scene.lab.freeze(name)
    hold(scene.lab.services.policy.delivery_lease_ms / 1000 + 2)
    scene.lab.thaw(name)


@fault("5", 3)
def worker_frozen_then_killed(scene: Scene) -> None:
    """The broker hands messages to a process that will never see them."""
    name = scene.rng.choice(WORKERS)
    scene.lab.freeze(name)
    hold(1.5)
    scene.lab.down(name)
    scene.lab.up(name)


@fault("6", 3)
def web_killed_between_accepting_and_publishing(scene: Scene) -> None:
    scene.lab.proxy.set_mode(HELD, ["web-broker"])
    hold(0.7)
    scene.lab.down("web")
    scene.lab.proxy.heal()
    scene.lab.up("web")


@fault("7", 3)
def web_killed_before_it_answers(scene: Scene) -> None:
    scene.lab.proxy.set_mode(DEAF, ["web-store"])
    hold(0.5)
    scene.lab.down("web")
    scene.lab.proxy.heal()
    scene.lab.up("web")


@fault("20", 3)
def beat_killed(scene: Scene) -> None:
    name = scene.rng.choice(BEATS)
    scene.lab.down(name)
    hold(1)
    scene.lab.up(name)


@fault("20", 8)
def everybody_who_sweeps_killed(scene: Scene) -> None:
    for name in (*WORKERS, *DELIVERERS, *BEATS):
        scene.lab.down(name)
    hold(4)
    for name in (*WORKERS, *DELIVERERS, *BEATS):
        scene.lab.up(name)


@fault("20", 16)
def rolling_deploy(scene: Scene) -> None:
    """SIGTERM, one after the other, as a deploy does it."""
    for name in PYTHONS:
        late = scene.lab.end(name)
        assert not late, f"{late} did not end on SIGTERM"
        scene.lab.up(name)


@fault("20", 4)
def clock_of_a_worker_jumps(scene: Scene) -> None:
    names = (scene.rng.choice(WORKERS), scene.rng.choice(DELIVERERS))
    for name in names:
        scene.lab.put_clock_off(name, scene.rng.choice((-3600.0, 3600.0)))
    hold(3)
    for name in names:
        scene.lab.put_clock_off(name, 0.0)


# --- the store ---------------------------------------------------------------------------------------


@fault("9", 3)
def store_killed(scene: Scene) -> None:
    scene.lab.down(scene.lab.store)
    hold(scene.rng.uniform(0, 1.5))
    scene.lab.up(scene.lab.store)
    scene.lab.await_store()


@fault("9 11", 3)
def store_killed_in_the_middle_of_a_write(scene: Scene) -> None:
    """The append-only file ends in half a command, as a crash leaves it."""
    lab = scene.lab
    lab.down(lab.store)
    newest = max(_append_only_files(lab.folder / lab.store), key=lambda file: file.stat().st_mtime)
    with newest.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$10\r\nhalf-wri")
    lab.up(lab.store)
    lab.await_store()


def _append_only_files(folder: Path) -> list[Path]:
    return list(folder.glob("appendonlydir/*.incr.aof"))


@fault("10", 5)
def store_frozen(scene: Scene) -> None:
    scene.lab.freeze(scene.lab.store)
    hold(scene.rng.uniform(2, 5))
    scene.lab.thaw(scene.lab.store)


@fault("10", 32, long_only=True)
def store_frozen_for_long(scene: Scene) -> None:
    scene.lab.freeze(scene.lab.store)
    hold(30)
    scene.lab.thaw(scene.lab.store)


@fault("12", 4)
def store_full(scene: Scene) -> None:
    with scene.lab.direct() as redis:
        redis.config_set("maxmemory", "1mb")
        hold(3)
        redis.config_set("maxmemory", "0")


@fault("16", 3)
def store_read_only(scene: Scene) -> None:
    with scene.lab.direct() as redis:
        redis.replicaof("127.0.0.1", 1)
        hold(2)
        redis.replicaof("NO", "ONE")


@fault("16", 5)
def store_fails_over(scene: Scene) -> None:
    scene.lab.fail_over()


@fault("13", 1)
def scripts_forgotten(scene: Scene) -> None:
    with scene.lab.direct() as redis:
        redis.script_flush()


@fault("14", 3)
def replies_lost(scene: Scene) -> None:
    """What was asked is done, and who asked does not hear of it; half of them hear a broken line."""
    for name in scene.rng.sample(PYTHONS[:5], 3):
        scene.lab.proxy.set_mode(DEAF, [f"{name}-store"])
    hold(0.2)
    scene.lab.proxy.heal()
    hold(1)
    for name in scene.rng.sample(PYTHONS[:5], 2):
        scene.lab.proxy.set_mode(DEAF, [f"{name}-store"])
    hold(2)
    scene.lab.proxy.heal()


@fault("14", 2)
def connections_cut(scene: Scene) -> None:
    for _ in range(4):
        scene.lab.proxy.cut()
        hold(0.3)


# --- messages ----------------------------------------------------------------------------------------


@fault("15", 2)
def broker_forgets_everything(scene: Scene) -> None:
    with scene.lab.messages() as broker:
        broker.flushdb()
        hold(0.5)
        broker.flushdb()


@fault("15", 3)
def messages_lost(scene: Scene) -> None:
    deadline = time.monotonic() + 2
    with scene.lab.messages() as broker:
        while time.monotonic() < deadline:
            for queue in QUEUES:
                broker.rpop(queue)
            hold(0.005)


@fault("3 5", 3)
def messages_doubled(scene: Scene) -> None:
    """Every open request and every delivery in flight is published twice more."""
    lab = scene.lab
    for _ in range(2):
        with lab.direct() as redis:
            for shard in range(16):
                for request_id in redis.zrange(keys.open_requests(shard), 0, 100):
                    lab.services.queue.enqueue(SCRAPE, "bulk", str(request_id))
                for host in redis.zrange(keys.due_hosts(shard), 0, 20):
                    for delivery_id in redis.zrange(keys.due(shard, str(host)), 0, 20):
                        lab.services.queue.enqueue(DELIVER, DELIVERIES, str(delivery_id), str(host))
        hold(0.5)


# --- the world outside -------------------------------------------------------------------------------


@fault("17", 4)
def receivers_down(scene: Scene) -> None:
    scene.lab.receivers.tell(open=False)
    hold(3)
    scene.lab.receivers.tell(open=True)


@fault("17", 5)
def receivers_answer_late(scene: Scene) -> None:
    """They took it; the sender hears of that too late and sends it again."""
    scene.lab.receivers.tell(manner="late")
    hold(2)
    scene.lab.receivers.tell(manner="")
    hold(2)


@fault("17 18", 4)
def receivers_misbehave(scene: Scene) -> None:
    for manner in ("429", "302", "drip", "huge"):
        scene.lab.receivers.tell(manner=manner)
        hold(0.7)
    scene.lab.receivers.tell(manner="")


@fault("19", 5)
def names_in_trouble(scene: Scene) -> None:
    """SERVFAIL, resolvers that hang, names that turn to private addresses."""
    scene.lab.trouble_dns(True)
    hold(4)
    scene.lab.trouble_dns(False)


@fault("1", 4)
def instagram_down(scene: Scene) -> None:
    scene.lab.down("instagram")
    hold(3)
    scene.lab.up("instagram")


@fault("1", 4)
def instagram_slow_and_failing(scene: Scene) -> None:
    scene.lab.simulator.knobs(failure_rate=0.4, latency_ms=300, jitter_ms=500)
    hold(3)
    scene.lab.simulator.reset()


# --- callers -----------------------------------------------------------------------------------------


@fault("8", 2)
def fifty_at_once_with_one_key(scene: Scene) -> None:
    number = 10_000_000 + scene.number
    operation = Operation(number, 0, WEBHOOK, f"user{number}", "http://127.0.0.1/fine", True)
    with ThreadPoolExecutor(50) as pool:
        found = set(pool.map(lambda _: Line(scene.load).submit(operation), range(50)))
    assert len(found) == 1, f"one key, {len(found)} requests"
    other = replace(operation, username="somebody.else")
    call = Line(scene.load).call(
        other,
        "reuse",
        "POST",
        "/api/instagram/stories",
        json={"username": other.username},
        headers={"Idempotency-Key": other.key},
    )
    assert (call.outcome, call.code) == (FAILED, "idempotency_key_reuse"), call


@fault("3", 2)
def replays_during_retries(scene: Scene) -> None:
    line = Line(scene.load)
    pending = [(account, delivery) for account in range(2) for delivery in _pending(scene, account)]
    for account, request_id in scene.rng.sample(pending, min(len(pending), 30)):
        operation = Operation(10_000_000 + scene.number, account, WEBHOOK, "user", "", False)
        assert line.replay(operation, request_id).outcome in (OK, FAILED, "unknown")


def _pending(scene: Scene, account: int) -> list[str]:
    try:
        answer = scene.load.customers[account].call(
            "GET", "/api/webhooks/deliveries", params={"status": "pending", "limit": 50}
        )
        return [line["requestId"] for line in answer.json().get("deliveries", []) if line["requestId"]]
    except (OSError, RedisError):
        return []


def deck(rng: random.Random, rounds: int, *, long: bool) -> list[Fault]:
    """Return every fault ``rounds`` times, shuffled; those that take long only in long runs, once."""
    dealt: list[Fault] = []
    for number in range(rounds):
        cards = [each for each in FAULTS if not each.long_only or (long and number == 0)]
        rng.shuffle(cards)
        dealt += cards
    return dealt
