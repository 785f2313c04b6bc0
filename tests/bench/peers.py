"""The same work by a plain Celery tutorial.

Jobs per second from the first POST to the last webhook, for accounts with known ids, at 100 and 300 ms
upstream, in turn. The peer (`tests/bench/peer_tutorial/`): the same WSGI server, Celery with 32 prefork
processes (of 8, 16, 32 and 64 the fastest over both latencies), a Redis result backend, ``requests.get``
and ``requests.post`` without sessions, retries by countdown; one task fetches and sends. Ours: the default
settings, one worker with 16 threads.
"""

from __future__ import annotations

import time
from functools import partial

from tests.bench import job
from tests.bench.accept import CALLERS, bodies
from tests.bench.figures import Figure, Goal
from tests.bench.lab import FLOOR_DATABASE, RESULT_DATABASE, Front, Lab, in_turn

LATENCIES_MS = (100.0, 300.0)
PROCESSES = 32
PEER = "tests.bench.peer_tutorial"


def measure(lab: Lab, processes: int = PROCESSES) -> list[Figure]:
    """Measure both in turn at each latency."""
    with lab.service() as service:
        environment = {
            "BROKER_URL": service.store_url(FLOOR_DATABASE),
            "RESULT_URL": service.store_url(RESULT_DATABASE),
            "INSTAGRAM_URL": service.simulator.url,
        }
        service.have_sessions(64)
        known = service.know(lab.sizes.jobs)
        with (
            lab.serving(f"{PEER}.front:app", "/stories", **environment) as front,
            lab.celery(f"{PEER}.tasks:celery", f"--concurrency={processes}", **environment),
        ):
            user_ids = list(known.values())[: max(lab.sizes.jobs // 3, 2)]
            theirs = partial(_jobs_per_second, lab, front, user_ids)
            theirs()  # until every process has started
            figures = []
            for latency_ms in LATENCIES_MS:
                service.simulator.knobs(latency_ms=latency_ms)
                ours, peer = in_turn(
                    max(lab.sizes.rounds - 1, 1),
                    lambda: job.run(lab, service, list(known))["per second"],
                    theirs,
                )
                figures.append(
                    Figure(
                        f"jobs per second, {latency_ms:.0f} ms upstream",
                        ours,
                        "/s",
                        peer,
                        Goal(3, at_least=True),
                    )
                )
    return figures


def _jobs_per_second(lab: Lab, front: Front, user_ids: list[str]) -> float:
    asked = [
        {"userId": user_id, "webhookUrl": body["webhookUrl"]}
        for user_id, body in zip(user_ids, bodies(lab, len(user_ids)), strict=True)
    ]
    started = time.time()
    front.post(asked, CALLERS)
    return len(asked) / (max(lab.received([body["webhookUrl"] for body in asked])) - started)
