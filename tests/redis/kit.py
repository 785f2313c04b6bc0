"""What the tests of this folder share: scripts called alone and watched, and requests on their way."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from redis import Redis
from redis.client import NEVER_DECODE

from service.domain import ids
from service.domain.batches import BatchRecord, BatchSubmission
from service.domain.namelists import from_json
from service.domain.requests import BULK, Ending, RequestRecord, Submission
from service.domain.targets import named
from service.stores import scripts
from service.stores.cluster import Cluster, slot_of
from tests.conftest import ELSEWHERE

# For tests that do something to the one server there is.
ON_ONE_SERVER = pytest.mark.skipif(
    ELSEWHERE.startswith("redis+"), reason="it sets up one server: these are several"
)

T = TypeVar("T")

ACCOUNT = ids.new_id(ids.ACCOUNT, 2, 1_700_000_000_000)
NOW = 1_700_000_000_000


# --- scripts, one at a time ----------------------------------------------------------------------


def head(name: str) -> str:
    """The comment a script begins with."""
    lines = scripts.source(name).splitlines()
    first = next(number for number, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(line.removeprefix("--") for line in lines[:first])


def documented(name: str, what: str) -> int:
    """How many KEYS or ARGV the head of a script numbers; 0 when it numbers none.

    What comes once for each item, such as ``9.. request hash of each item``, is not counted.
    """
    return _numbered(name, what)[0]


def _numbered(name: str, what: str) -> tuple[int, bool]:
    """How many KEYS or ARGV the head of a script numbers, and whether any number more may follow."""
    match = re.search(rf"^ {what}  (.*?)(?=^ [A-Z]\w+  )", head(name), re.MULTILINE | re.DOTALL)
    assert match, f"{name}.lua documents no {what}"
    found = re.findall(r"(?:^|\s\s)(\d+)(\.\.)? ", match.group(1))
    numbers, more = [int(number) for number, _ in found], [dots for _, dots in found if dots]
    assert numbers == list(range(1, len(numbers) + 1)), f"{name}.lua counts its {what} {numbers}"
    assert more == [dots for _, dots in found[-1:] if dots], f"{name}.lua goes on after {what} without end"
    return len(numbers) - len(more), bool(more)


def fits(name: str, what: str, count: int) -> bool:
    """Whether a script may be given so many KEYS or ARGV."""
    fixed, more = _numbered(name, what)
    return count >= fixed if more else count == fixed


def snapshot(redis: Redis) -> dict[str, tuple[bytes, int]]:
    """Everything in the store: each key's value as the server serializes it, and when it expires."""
    options = {NEVER_DECODE: True}
    return {
        key: (redis.execute_command("DUMP", key, **options), redis.execute_command("PEXPIRETIME", key))
        for key in redis.scan_iter()
    }


class Lua:
    """Calls scripts as their heads say, and sees to it that they change the keys they were given only."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def __call__(self, name: str, keys: Sequence[str], *args: object) -> Any:
        if isinstance(self.redis, Cluster) and len({slot_of(("GET", key)) for key in keys}) > 1:
            pytest.skip("the keys are made up, and in several slots; the stores' tests give real ones")
        if documented(name, "KEYS"):
            assert fits(name, "KEYS", len(keys))
            assert fits(name, "ARGV", len(args))
        before = snapshot(self.redis)
        answer = scripts.load(self.redis, name)(keys=list(keys), args=list(args))
        after = snapshot(self.redis)
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        assert changed <= set(keys), f"{name}.lua changed {changed - set(keys)}"
        return answer


# --- requests on their way -----------------------------------------------------------------------


def submission(
    account_id: str = ACCOUNT, at: int = NOW, username: str = "anna", **changes: Any
) -> Submission:
    request_id = ids.new_id(ids.REQUEST, ids.shard_in(account_id), at)
    made = Submission(request_id, account_id, "stories", named(username), BULK, hold=1)
    return replace(made, **changes)


def batch_of(
    account_id: str = ACCOUNT, names: int | Sequence[str] = 3, at: int = NOW, **changes: Any
) -> BatchSubmission:
    """A batch of these names, or of so many."""
    if isinstance(names, int):
        names = [f"name{number}" for number in range(1, names + 1)]
    batch_id = ids.new_batch_id(ids.shard_in(account_id), at)
    made = BatchSubmission(batch_id, account_id, "stories", from_json(list(names)).entries, hold=1)
    return replace(made, **changes)


def items_of(batch: BatchRecord) -> list[str]:
    return [ids.item_of(batch.batch_id, number) for number in range(1, batch.total + 1)]


def ending(**changes: Any) -> Ending:
    return replace(
        Ending("succeeded", b'{"success":true}', charge=1, outcome="found", item_count=3), **changes
    )


CANCEL = Ending("cancelled", b'{"success":false}', charge=0, code="cancelled")


def queued(record: Submission) -> RequestRecord:
    """What a caller of ``cancel`` holds in its hands."""
    return RequestRecord(
        record.request_id,
        record.account_id,
        record.operation,
        record.target,
        record.queue,
        status="queued",
        hold=record.hold,
        created_at=NOW,
        webhook_url=record.webhook_url,
    )


def at_once(count: int, call: Callable[[int], T]) -> list[T]:
    """Call ``call(0..count-1)`` from as many threads, all let go at the same moment."""
    gate = threading.Barrier(count)

    def run(number: int) -> T:
        gate.wait()
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
