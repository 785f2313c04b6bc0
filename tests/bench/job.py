"""A whole asynchronous job.

From the POST to the recorded delivery, for accounts with stories whose ids are known; 16 connections hand
the jobs in as fast as they are taken. CPU is that of all our processes (web, worker, deliverer, beat),
their idle ticking included; the store's is told apart. The floor is the sum of bare parts
(`tests/bench/floors/`): a Flask route that answers; a Celery no-op published and consumed, twice (worker
with a pool of 16 threads, as ours); one instagrapi ``private_request`` for the same reels, one after the
other; one ``requests.Session.post`` of such an envelope to the same receiver. None of these validates,
authenticates, charges, stores, signs or retries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

from redis import Redis

from tests.bench import programs
from tests.bench.accept import CALLERS, FRONT, TASKS, bodies
from tests.bench.figures import Figure, Goal
from tests.bench.lab import FLOOR_DATABASE, OURS, Front, Lab, Service, wait_until
from tests.bench.proc import cpu_seconds

THREADS = 16
Costs = dict[str, float]

# What a Celery worker with a pool of threads, and nothing to gossip about, is started with.
AS_OURS = (
    "--pool=threads", f"--concurrency={THREADS}",
    "--without-gossip", "--without-mingle", "--without-heartbeat",
)  # fmt: skip


def measure(lab: Lab) -> tuple[list[Figure], dict[str, Costs]]:
    """Measure jobs and each bare part in turn; returns figures and what both are made of."""
    with lab.service() as service, _bare(lab, service) as bare:
        known = service.know(lab.sizes.jobs)
        run(lab, service, list(known))  # until everything is warm
        body = envelope_of(service, next(iter(known)))
        rounds, calls = [], 0
        for _ in range(lab.sizes.rounds):
            service.simulator.reset()
            ours = run(lab, service, list(known))
            calls += int(service.simulator.calls()["total"])
            rounds.append((ours, bare(list(known.values()), body)))
    ours, floor = (_medians(side) for side in zip(*rounds, strict=True))
    jobs = len(known) * lab.sizes.rounds
    return _figures(ours, floor, calls / jobs), {
        "ours": {name: ours[name] for name in OURS},
        "floor": {name: floor[name] for name in floor if name != "store"},
    }


def _figures(ours: Costs, floor: Costs, calls: float) -> list[Figure]:
    total = sum(floor[name] for name in floor if name != "store")
    names = {"deliverer": floor["requests.post"], "web": floor["flask"], "store": floor["store"]}
    return [
        Figure("CPU per job, all our processes", sum(ours[name] for name in OURS), "ms", total, Goal(1.0)),
        *(
            Figure(f"of it {name}" if name in OURS else "the store's", ours[name], "ms", names.get(name))
            for name in (*OURS, "store")
        ),
        Figure("jobs per second", ours["per second"], "/s"),
        Figure("upstream calls per job", calls, "calls", 1.0),
    ]


def _medians(rounds: Sequence[Costs]) -> Costs:
    return {name: median(costs[name] for costs in rounds) for name in rounds[0]}


def run(lab: Lab, service: Service, names: Sequence[str]) -> Costs:
    """Have one job done for each name.

    Returns the milliseconds of CPU a job of each process, and how many jobs were done ``per second``.
    """
    asked = fresh(lab, names)
    before = service.cpu()
    load = service.post(asked, CALLERS, status=202)
    received = lab.received([body["webhookUrl"] for body in asked])
    wait_until(lambda: not service.services.deliveries.backlog()[0])
    after = service.cpu()
    seconds = max(received) - min(load.answered) + load.times[0]
    costs = {name: (after[name] - before[name]) / len(names) * 1_000 for name in after}
    return {**costs, "per second": len(names) / seconds}


def fresh(lab: Lab, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return bodies that ask for each name anew, with a webhook each."""
    pairs = zip(names, bodies(lab, len(names)), strict=True)
    return [{**body, "username": name, "maxAge": 0} for name, body in pairs]


def envelope_of(service: Service, name: str) -> str:
    """Return the final envelope of a request for a name: the bytes a webhook carries."""
    answer = service.customer.stories(name)
    assert answer.status_code == 200, answer.text
    return answer.text


@contextmanager
def _bare(lab: Lab, service: Service) -> Iterator[Callable[[Sequence[str], str], Costs]]:
    """Start the bare parts; lend a function that measures each, in milliseconds of CPU."""
    broker = service.store_url(FLOOR_DATABASE)
    with (
        lab.serving(FRONT, "/answer", BROKER_URL=broker) as front,
        lab.celery(TASKS, *AS_OURS, BROKER_URL=broker) as worker,
        Redis.from_url(broker) as redis,
    ):

        def measured(user_ids: Sequence[str], body: str) -> Costs:
            return {
                "flask": _flask(lab, front),
                **_celery(lab, service, worker, redis),
                **bare_calls(lab, service, user_ids, body)[0],
            }

        yield measured


def _flask(lab: Lab, front: Front) -> float:
    before = cpu_seconds(front.pid)
    front.post(bodies(lab, lab.sizes.posts), CALLERS)
    return (cpu_seconds(front.pid) - before) / lab.sizes.posts * 1_000


def _celery(lab: Lab, service: Service, worker: int, redis: Redis) -> Costs:
    """Return what two messages cost who publishes and who consumes them, and the store."""
    count, store = lab.sizes.jobs, service.stack.pid("store")
    before, store_before = cpu_seconds(worker), cpu_seconds(store)
    told = programs.ask(
        "tests.bench.floors.publish",
        {"count": count, "warm": 5},
        BROKER_URL=service.store_url(FLOOR_DATABASE),
    )
    wait_until(lambda: not redis.llen("celery") and not redis.hlen("unacked"))
    used = {
        "celery, publish": told["cpu"],
        "celery, consume": cpu_seconds(worker) - before,
        "store": cpu_seconds(store) - store_before,
    }
    return {name: 2 * seconds / count * 1_000 for name, seconds in used.items()}


def bare_calls(lab: Lab, service: Service, user_ids: Sequence[str], body: str) -> tuple[Costs, list[float]]:
    """Return the CPU of one bare upstream call and one bare POST, and their median times (all ms)."""
    count = lab.sizes.calls * 4
    plans = {
        "instagram": {"url": service.simulator.url, "ids": list(user_ids), "callers": 1, "each": count},
        "webhook": {"url": lab.hooks(1)[0], "body": body, "count": count},
    }
    told = {name: programs.ask(f"tests.bench.floors.{name}", plan) for name, plan in plans.items()}
    costs = {
        "private_request": told["instagram"]["cpu"] / count * 1_000,
        "requests.post": told["webhook"]["cpu"] / count * 1_000,
    }
    return costs, [median(told[name]["times"]) * 1_000 for name in plans]
