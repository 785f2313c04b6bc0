"""What a look costs the store: every GET over a big account, counted by the store itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from service.config import Settings
from service.domain import ids
from service.domain.requests import RequestRecord
from service.domain.targets import named
from service.stores import credits as ledgers
from service.stores import deliveries, keys, requests
from tests.api.conftest import Front, make_front
from tests.api.support import assert_error
from tests.conftest import RecordingQueue, finish_one
from tests.redis.kit import ON_ONE_SERVER, batch_of, ending, submission

MANY = 3_000  # more than any look may read
HOOK = "https://example.com/hook"
# One command a row, and one for each page of rows.
SCANNED = max(requests.SCAN_MOST, deliveries.SCAN_MOST) * 21 // 20 + 20
LISTED = 200 + 20
LOOK = 20

# What each route may cost at the most, in commands: with the queries that make it look longest.
LOOKS: dict[str, tuple[int, list[str]]] = {
    "/api/batches": (LISTED, ["limit=200"]),
    "/api/batches/<batch_id>": (LOOK, [""]),
    "/api/batches/<batch_id>/results": (2 * LISTED, ["limit=200"]),
    "/api/credits": (LOOK, [""]),
    "/api/credits/ledger": (
        LOOK,
        [
            "limit=200",
            "requestId={gone}&limit=1",
            "requestId={first}",
            "requestId={batch}",
            "requestId={last}",
        ],
    ),
    "/api/prices": (LOOK, [""]),
    "/api/requests": (
        SCANNED,
        ["limit=200", "status=cancelled&limit=1", "username=nobody&limit=1", "username=nobody&limit=200"],
    ),
    "/api/requests/<request_id>": (LOOK, ["", "data=false"]),
    "/api/watches": (LISTED, ["limit=200"]),
    "/api/watches/<watch_id>": (LOOK, [""]),
    "/api/webhooks/deliveries": (
        SCANNED,
        ["limit=200", "status=delivered&limit=1", "status=gone&limit=200", "requestId={first}"],
    ),
    "/api/webhooks/deliveries/<delivery_id>": (LOOK, [""]),
    "/api/webhooks/secret": (LOOK, [""]),
    "/healthz": (LOOK, [""]),
    "/keys": (LISTED, [""]),
    "/readyz": (LOOK, [""]),
    "/sys/balance": (LOOK, [""]),
}
# Not looks: they hand in work; they are the operator's own; or they touch no account.
OTHER = (
    "/v1/",
    "/v2/",
    "/api/instagram/",
    "/docs",
    "/openapi",
    "/metrics",
    "/archive/",
    "/static",
    "/media/",
)


class Big:
    """An account with much of everything."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.account_id = front.me.account.account_id
        services = front.services
        services.credits.add(self.account_id, 10 * MANY, entry_type="topup", note="")
        self.first = self._ended(0)
        for number in range(1, MANY):
            self._ended(number)
        self.last = self._ended(MANY)
        self.batches = [
            services.batches.submit(batch_of(self.account_id, 200, at=services.clock() + number))
            for number in range(20)
        ]
        for number in range(20):
            front.call(
                "POST",
                "/api/watches",
                json={"username": f"name{number}", "every": "1h", "webhookUrl": HOOK},
            )

    def _ended(self, number: int) -> RequestRecord:
        """A request that was paid for, and whose webhook is owed."""
        services = self.front.services
        asked = submission(
            self.account_id, at=services.clock(), webhook_url=HOOK, target=named(f"name{number}")
        )
        record = services.requests.submit(asked)
        claim = services.requests.claim(record.request_id)
        assert claim is not None
        finish_one(services.requests, claim, ending())
        return record

    def url(self, path: str, query: str) -> str:
        shard = ids.shard_in(self.account_id)
        watch = self.front.get("/api/watches").json["watches"][0]["watchId"]
        filled = (
            path.replace("<batch_id>", self.batches[0].batch_id)
            .replace("<request_id>", self.first.request_id)
            .replace("<delivery_id>", ids.delivery_of(self.first.request_id))
            .replace("<watch_id>", watch)
        )
        # Accepted before all others, and forgotten since: only its id tells when that was.
        gone = ids.new_id(ids.REQUEST, shard, ids.born_ms(self.first.request_id))
        names = {
            "gone": gone,
            "first": self.first.request_id,
            "last": self.last.request_id,
            "batch": self.batches[0].batch_id,
        }
        return f"{filled}?{query.format(**names)}" if query else filled


@pytest.fixture
def big(settings: Settings, valkey: Redis, queue: RecordingQueue) -> Big:
    return Big(make_front(settings, valkey, queue, free_limit=None))


def cost(redis: Redis, call: Callable[[], object]) -> int:
    """How many commands the store did for a call, those of scripts counted one by one."""
    redis.config_resetstat()
    call()
    found: dict[str, dict[str, int]] = redis.info("commandstats")
    ours = ("config|resetstat", "info")
    return sum(each["calls"] for name, each in found.items() if not name.endswith(ours))


@ON_ONE_SERVER
def test_every_look_is_bounded_however_much_there_is(big: Big) -> None:
    front = big.front
    routes = {
        rule.rule
        for rule in front.app.url_map.iter_rules()
        if "GET" in (rule.methods or ()) and not rule.rule.startswith(OTHER)
    }
    assert routes - {"/", "/favicon.ico"} == set(LOOKS), "each look says here what it may cost"
    dear = {}
    for path, (most, queries) in LOOKS.items():
        for query in queries:
            url = big.url(path, query)
            taken = cost(front.redis, lambda url=url: front.get(url))  # type: ignore[misc]
            if taken > most:
                dear[url] = (taken, most)
    assert dear == {}


@ON_ONE_SERVER
def test_the_entries_of_one_request_are_found_wherever_it_stands(big: Big) -> None:
    for record in (big.first, big.last):
        found = big.front.get(f"/api/credits/ledger?requestId={record.request_id}").json["entries"]
        assert [entry["type"] for entry in found] == ["charge", "hold"]
    [held] = big.front.get(f"/api/credits/ledger?requestId={big.batches[3].batch_id}").json["entries"]
    assert (held["type"], held["amount"], held["requestId"]) == ("hold", -200, None)
    assert held["batchId"] == big.batches[3].batch_id


@ON_ONE_SERVER
def test_a_look_for_what_never_was_reads_no_more_than_it_may(
    big: Big, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "SCAN_CHUNK", 100)
    monkeypatch.setattr(ledgers, "SCAN_MOST", 500)
    url = big.url("/api/credits/ledger", "requestId={gone}")
    assert big.front.get(url).json == {"entries": [], "nextCursor": None}
    assert big.front.redis.xlen(keys.ledger(big.account_id)) > 2 * MANY
    assert cost(big.front.redis, lambda: big.front.get(url)) <= LOOK


@pytest.mark.parametrize(
    "identifier",
    [
        "x",
        "",
        "req_",
        "msg_0001m7xt6136bt5vc71920hsxsgv",
        "acc_0001m7xt6136bt5vc71920hsxsgv",
        "%00",
        "req_zz" + "0" * 26,
    ],
)
def test_what_is_no_id_is_refused_before_anything_is_read(table: Front, identifier: str) -> None:
    response = table.get(f"/api/credits/ledger?requestId={identifier}")
    assert_error(response, 422, "validation_error", {"requestId"})
