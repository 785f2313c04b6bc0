"""Bare instagrapi: `private_request` for known ids' stories: `python -m tests.bench.floors.instagram`.

The plan: ``url`` of the simulated Instagram, ``ids`` (of users), ``callers`` (threads, each with a client and
a session of its own that nobody else uses; the ids are dealt out among them), ``each`` (calls of a caller).
No lease, no pool, no check of the answer but that stories are in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle

from service.domain.instagram import settings_from_sessionid
from tests.bench.floors import loop
from workers.sources.accounts import client_factory
from workers.sources.calls import CAPABILITIES


def caller(url: str, number: int, ids: Sequence[str]) -> Callable[[], None]:
    """Return a function that makes one call."""
    settings = settings_from_sessionid(f"70000000{number:03d}%3Abarefloor{number:08d}%3A1")
    client = client_factory(redirect_to=url)(settings, None)
    turns = cycle(ids)

    def call() -> None:
        answer = client.private_request(f"feed/user/{next(turns)}/story/", params=CAPABILITIES)
        if not answer["reel"]["items"]:
            raise AssertionError("answered without stories")

    return call


if __name__ == "__main__":
    told = loop.plan()
    loop.measure(
        [
            caller(told["url"], number, told["ids"][number :: told["callers"]])
            for number in range(told["callers"])
        ],
        told["each"],
    )
