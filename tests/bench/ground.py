"""Where sieges take place: a stack of its own, what was prepared in it, its well-behaved customers.

Settings are as they come, but anybody may sign up. The web process is started anew before each phase, so
that the memory of one is not in the figures of the next.
"""

from __future__ import annotations

import os
import re
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

from rich.console import Console

from service.actions import accounts as actions
from service.actions.batch import cancel_batch
from service.domain import ids
from service.domain.batches import BatchSubmission
from service.domain.namelists import Entry
from service.domain.operations import STORIES
from service.domain.ports import Services
from service.domain.requests import INTERACTIVE, Submission
from service.domain.targets import named
from service.stores import keys
from tests.bench import programs
from tests.bench.heaviest import Known
from tests.bench.lab import wait_until
from tests.bench.proc import connections, resident_bytes
from tests.conftest import await_true
from tests.e2e.clients import Customer
from tests.e2e.stack import Stack, leaving_nothing, new_address
from tests.webhooks.fast_receiver import FastReceiver, fast_receiver

NEIGHBOURS = 30  # accounts, so that none of them reaches the limits as they come, also in an hour
SAMPLE_EVERY = 0.2
MEASURED_MOST = 300  # keys of a kind whose size is asked for; the others are taken to be like them
MEDIA_BYTES = 4 * 1024 * 1024  # of each photo and video: more than buffers take
PASSWORD = "a long enough password"
START_LIMIT = 60.0


@dataclass(frozen=True)
class Prepared:
    """How much the besieging account has."""

    items: int = 10_000  # of a batch
    huge: int = 200  # of another, of reels of some 100 items
    ledger: int = 20_000  # entries besides those


@dataclass
class Answers:
    """What one kind of call of the well-behaved customers took (ms), and the answers by status."""

    ms: list[float]
    statuses: dict[str, int]
    expected: str

    @property
    def p95(self) -> float:
        return statistics.quantiles(self.ms, n=20, method="inclusive")[-1] if len(self.ms) > 1 else 0.0

    @property
    def longest(self) -> float:
        return max(self.ms, default=0.0)

    @property
    def otherwise(self) -> int:
        """How many were not answered as expected."""
        return sum(self.statuses.values()) - self.statuses.get(self.expected, 0)

    def __str__(self) -> str:
        told = f"{self.p95:,.0f}"
        if not self.otherwise:
            return told
        return f"{told} ({self.otherwise} of {sum(self.statuses.values())} not {self.expected})"


@dataclass
class Watched:
    """The most memory (bytes) of the web process and its children, and its connections by time (s)."""

    peak: int = 0
    connections: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Census:
    """What the store holds: bytes in all, without buffers; keys, and about how many bytes, by kind."""

    used: int
    counts: dict[str, int]
    sizes: dict[str, int]

    @property
    def keys(self) -> int:
        return sum(self.counts.values())


class Ground:
    """A running stack, a receiver that answers at one port and hangs at another, who besieges it."""

    def __init__(self, stack: Stack, receiver: FastReceiver) -> None:
        self.stack = stack
        self.receiver = receiver
        self.neighbours = [self._neighbour() for _ in range(NEIGHBOURS)]
        account = actions.create_account(self.services, email=new_address(), password=PASSWORD)
        self.account_id, self.email = account.account_id, account.email
        api_key, _ = actions.create_key(self.services, self.account_id, name="siege")
        self.customer = Customer(stack.base_url, api_key, stack.ca_file)
        self._first = 0

    def _neighbour(self) -> str:
        """Return the API key of a new customer with credits, who has no password: hashing takes its time."""
        account = self.services.accounts.create(new_address(), "none")
        actions.add_credits(self.services, account.account_id, 100_000, note="for the siege")
        return actions.create_key(self.services, account.account_id, name="neighbour")[0]

    @property
    def services(self) -> Services:
        return self.stack.services

    @property
    def address(self) -> str:
        return urlsplit(self.stack.base_url).netloc

    def next_numbers(self, count: int = 1_000_000) -> int:
        """Return the first of so many numbers nobody else is given."""
        self._first += count
        return self._first - count

    # --- what is prepared ------------------------------------------------------------------------------

    def prepare(self, sizes: Prepared) -> Known:
        """Let the besieging account have much to look at."""
        self.stack.simulator.knobs(media_bytes=MEDIA_BYTES)
        self.have_credits(sizes.items + sizes.huge + 1_000)
        batch_id = self._batch(f"siege{number:05d}" for number in range(sizes.items))
        huge_batch_id = self._batch(f"huge_siege{number:05d}" for number in range(sizes.huge))
        huge = self._stories("huge_siege00000")
        items = huge["data"]["items"]
        # The last one is the newest, and there for long.
        film = [item for item in items if item.get("video_versions")][-1]
        kept = self._stories("instagram", archive=True)["data"]["items"]
        archived = urlsplit(next(item["archiveUrl"] for item in kept if "archiveUrl" in item))
        hook = f"http://{self.receiver.hosts[0]}/hook"
        for _ in range(sizes.ledger):
            actions.add_credits(self.services, self.account_id, 1, note="n" * 100)
        open_request_id, open_batch_id = self.open_ones()
        return Known(
            request_id=huge["requestId"],
            open_request_id=open_request_id,
            batch_id=batch_id,
            huge_batch_id=huge_batch_id,
            open_batch_id=open_batch_id,
            delivery_id=self._delivery(hook),
            watch_id=self._watch(hook),
            story_id=str(film["pk"]),
            media_url=film["video_versions"][0]["url"],
            archive_path=f"{archived.path}?{archived.query}",
            hook=hook,
            hanging_hook=f"http://{self.receiver.silent[0]}/hook",
            email=self.email,
        )

    def have_credits(self, amount: int) -> None:
        """Let the besieging account have exactly so many available."""
        change = amount - self.services.credits.balance(self.account_id).available
        if change:
            actions.add_credits(self.services, self.account_id, change, note="siege")

    def open_ones(self) -> tuple[str, str]:
        """Return a request and a batch which somebody, who never ends, has begun to work on."""
        shard, now = ids.shard_in(self.account_id), self.services.clock()
        request_id, batch_id = ids.new_id(ids.REQUEST, shard, now), ids.new_batch_id(shard, now)
        self.services.requests.submit(
            Submission(
                request_id=request_id,
                account_id=self.account_id,
                operation=STORIES,
                target=named("siege"),
                queue=INTERACTIVE,
                hold=0,
            )
        )
        self.services.batches.submit(
            BatchSubmission(
                batch_id=batch_id,
                account_id=self.account_id,
                operation=STORIES,
                entries=[Entry(1, "siege")],
                hold=0,
            )
        )
        self.services.requests.claim(request_id)
        self.services.requests.claim(ids.item_of(batch_id, 1), batch_id)
        return request_id, batch_id

    def _batch(self, names: Iterator[str]) -> str:
        answer = self.customer.call("POST", "/api/instagram/stories/batch", json={"usernames": list(names)})
        assert answer.status_code == 202, answer.text
        path = f"/api/batches/{answer.json()['batchId']}"
        ended = {"wait": 30}
        wait_until(lambda: self.customer.call("GET", path, params=ended).json().get("status") != "processing")
        return str(answer.json()["batchId"])

    def _stories(self, username: str, **fields: Any) -> dict[str, Any]:
        answer = self.customer.stories(username, **fields)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def _delivery(self, hook: str) -> str:
        request_id = self.customer.queue("nasa", webhook=hook)
        path = f"/api/webhooks/deliveries?requestId={request_id}"
        await_true(lambda: self.customer.call("GET", path).json()["deliveries"], 60)
        return str(self.customer.call("GET", path).json()["deliveries"][0]["id"])

    def _watch(self, hook: str) -> str:
        body = {"username": "nasa", "every": "1d", "webhookUrl": hook}
        answer = self.customer.call("POST", "/api/watches", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["watchId"])

    # --- phases ----------------------------------------------------------------------------------------

    def fresh_web(self) -> None:
        """Start the web process anew, killing the one there is."""
        self.stack.restart("web")
        self.stack.await_ready()

    def settle(self, seconds: float) -> None:
        """Take back what the besieging account still has open, and let the workers come to an end."""
        deadline = time.monotonic() + seconds
        page = self.services.batches.page(self.account_id, cursor=None, limit=100)
        for batch in page.items:
            if not batch.is_final and time.monotonic() < deadline:
                cancel_batch(self.services, self.account_id, batch.batch_id)
        while self.stack.redis.zcard(keys.BULK_QUEUE) and time.monotonic() < deadline:
            time.sleep(0.2)  # between two looks

    def well_behaved(self, seconds: float, *kinds: str) -> dict[str, Answers]:
        """Be a well-behaved customer; return what came of each kind of call."""
        stories = "/api/instagram/stories"
        calls: dict[str, dict[str, Any]] = {
            "healthz": {"per_second": 10, "method": "GET", "path": "/healthz", "body": None, "status": "200"},
            "credits": {
                "per_second": 5, "method": "GET", "path": "/api/credits", "body": None, "status": "200",
            },
            "accept": {
                "per_second": 5, "method": "POST", "path": stories, "status": "202",
                "body": {"username": "well{}", "webhookUrl": f"http://{self.receiver.hosts[0]}/well"},
            },
            "sync": {
                "per_second": 2, "method": "POST", "path": stories, "status": "200",
                "body": {"username": "wait{}", "maxAge": 0},
            },
        }  # fmt: skip
        plan = {
            "address": self.address,
            "seconds": seconds,
            "keys": self.neighbours,
            "first": self.next_numbers(10_000) % 10_000_000,
            "calls": {name: calls[name] for name in kinds},
        }
        found = programs.ask("tests.bench.healthy", plan)
        return {name: Answers(**each, expected=calls[name]["status"]) for name, each in found.items()}

    @contextmanager
    def watched(self) -> Iterator[Watched]:
        """Watch the web process for as long as the block runs."""
        seen, over, begun = Watched(), threading.Event(), time.monotonic()
        session, port = self.stack.pid("web"), int(self.address.rpartition(":")[2])

        def watch() -> None:
            while not over.wait(SAMPLE_EVERY):
                seen.peak = max(seen.peak, resident_bytes(session))
                seen.connections.append((time.monotonic() - begun, connections(port)))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield seen
        finally:
            over.set()
            watcher.join()

    def census(self) -> Census:
        """Count what the store holds; of each kind of key some are asked for their size."""
        redis = self.stack.redis
        told = redis.info("memory")
        used = told["used_memory"] - told["mem_clients_normal"] - told["mem_aof_buffer"]
        counts: Counter[str] = Counter()
        sizes: dict[str, int] = {}
        some: dict[str, list[str]] = {}
        for key in redis.scan_iter(count=1_000):
            name = kind(key)
            counts[name] += 1
            if counts[name] <= MEASURED_MOST:
                some.setdefault(name, []).append(key)
        for name, chosen in some.items():
            pipe = redis.pipeline(transaction=False)
            for key in chosen:
                pipe.memory_usage(key)
            known = [size for size in pipe.execute() if size]
            sizes[name] = int(sum(known) / max(len(known), 1) * counts[name])
        return Census(used, dict(counts), sizes)


def kind(key: str) -> str:
    """Return what kind of key it is: its words, with a star for what tells one of a kind from another.

    >>> kind("{s07}:acct:acc_09x:ledger"), kind("g:login:email:a@example.com")
    ('acct:*:ledger', 'g:login:email:*')
    """
    tag, _, rest = key.rpartition("}")
    words = [word if re.fullmatch(r"[a-z]{1,12}", word) else "*" for word in rest.lstrip(":").split(":")]
    told = re.sub(r"\*(:\*)+", "*", ":".join(words))
    shared = re.fullmatch(r"\{(ig|archive|bulk|beat)", tag)
    return f"{shared[1]}:{told}" if shared else told


@contextmanager
def ground(**settings: str) -> Iterator[Ground]:
    """Lend one; afterwards nothing is left of it."""
    with (
        tempfile.TemporaryDirectory(prefix="storyhook-siege-") as folder,
        fast_receiver(1, silent=1) as receiver,
        leaving_nothing(
            Stack(Path(folder) / "home", **{"RATE_LIMITS": "", "ALLOW_SIGNUP": "true", **settings})
        ) as stack,
    ):
        yield Ground(stack.start(), receiver)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def tell(text: str, to: TextIO | None = None) -> None:
    """Print something as it is, by default to the standard output."""
    Console(file=to, highlight=False, soft_wrap=True).print(text, markup=False)


def load() -> str:
    """Say how busy the machine is: figures from one that others use as well are rough."""
    return f"Load average (1, 5, 15 minutes): {' '.join(f'{each:.1f}' for each in os.getloadavg())}"


def by_class(statuses: Mapping[str, int]) -> Counter[str]:
    """Sum up answers by what the first digit says; 429 and what is no status stand for themselves."""
    counts: Counter[str] = Counter()
    for status, count in statuses.items():
        counts[f"{status[0]}xx" if status.isdigit() and status != "429" else status] += count
    return counts
