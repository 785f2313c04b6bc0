"""A loop that publishes the no-op task by ``delay``: `python -m tests.bench.floors.publish`.

The plan: ``count``, ``warm`` (messages before it counts). One process, one connection, one thread.
"""

from __future__ import annotations

from tests.bench.floors import loop
from tests.bench.floors.tasks import fetch_stories

if __name__ == "__main__":
    told = loop.plan()
    loop.measure(
        [lambda: fetch_stories.delay("instagram", "https://example.com/hook")], told["count"], told["warm"]
    )
