"""A bare loop of `requests.Session.post`: `python -m tests.bench.floors.webhook`.

The plan: ``url`` of the receiver, ``body`` (an envelope as Storyhook sends it), ``count``. One session, one
kept connection; not signed, not guarded, nothing written down.
"""

from __future__ import annotations

import requests

from tests.bench.floors import loop

if __name__ == "__main__":
    told = loop.plan()
    body, headers = told["body"].encode(), {"Content-Type": "application/json"}
    with requests.Session() as session:
        session.trust_env = False
        loop.measure(
            [lambda: session.post(told["url"], data=body, headers=headers, timeout=10).raise_for_status()],
            told["count"],
        )
