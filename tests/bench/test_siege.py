"""The measuring programs of sieges and slow clients: that they measure. What they find is no test."""

from __future__ import annotations

import json
import re
import shlex
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fakeredis
import pytest

from service.app import create_app
from service.bootstrap import assemble
from service.config import Settings
from tests.bench import drip, healthy, siege, slow_clients
from tests.bench.besiege import Siege
from tests.bench.ground import Ground, Prepared, by_class, ground, kind, table
from tests.bench.heaviest import BATCH_MOST, BODY_MOST, NUMBER, Call, Known, heaviest, names, routes
from tests.bench.proc import connections
from tests.webhooks.fast_receiver import fast_receiver
from tests.webhooks.support import Server, answering

KNOWN = Known(
    request_id="req_1",
    open_request_id="req_2",
    batch_id="bat_1",
    huge_batch_id="bat_2",
    open_batch_id="bat_3",
    delivery_id="msg_1",
    watch_id="wat_1",
    story_id="3411111111111111111",
    media_url="https://scontent.cdninstagram.com/v/film.mp4",
    archive_path="/archive/name.mp4?expires=1&signature=x",
    hook="http://127.0.0.1:1/hook",
    hanging_hook="http://127.0.0.1:2/hook",
    email="me@example.com",
)
CALLS = heaviest(KNOWN)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + b'{"id":"somebody"'


# --- the table of calls -----------------------------------------------------------------------------


def test_every_route_has_a_heaviest_call(settings: Settings) -> None:
    store = fakeredis.FakeRedis(decode_responses=True, protocol=2)
    app = create_app(settings, assemble(settings, store, settings.shards))
    served = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    documented = {
        (method.upper(), path)
        for path, operations in app.test_client().get("/openapi.json").get_json()["paths"].items()
        for method in operations
        if method != "parameters"
    }
    assert documented <= served
    assert served - set(routes(CALLS)) == set(), "add its heaviest calls to tests/bench/heaviest.py"
    assert set(routes(CALLS)) - served == set(), "there is no such route"


def test_bodies_are_as_long_as_they_may_be() -> None:
    longest = {"batch": 0, "others": 0}
    for call in CALLS:
        which = "batch" if call.route.endswith("/batch") else "others"
        longest[which] = max(longest[which], len(call.body.encode("latin-1")))
    assert BATCH_MOST - 8 <= longest["batch"] <= BATCH_MOST
    assert BODY_MOST - 8 <= longest["others"] <= BODY_MOST


def test_ten_thousand_names_are_ten_thousand() -> None:
    lines = names().replace(NUMBER, "00000001").split()
    assert len(set(lines)) == 10_000
    assert all(re.fullmatch(r"[a-z0-9_]{1,30}", line) for line in lines)


def test_a_number_is_as_long_as_its_place() -> None:
    assert len(NUMBER) == 8


# --- the programs -------------------------------------------------------------------------------------


def besieged(address: str, *calls: Call, **changes: object) -> dict[str, dict[str, int]]:
    plan = {
        "address": address,
        "seconds": 0.5,
        "callers": 3,
        "holding": 1,
        "first": 0,
        "credentials": ["", "Bearer x"],
        "calls": [vars(call) for call in calls],
        **changes,
    }
    return Siege(plan).run()


def test_whoever_besieges_counts_the_answers_and_goes_on_with_what_follows() -> None:
    call = Call("POST", "/x", f"/x/{NUMBER}", "all", f"{NUMBER}!", then=("id", "DELETE", "/x/{}"))
    answer = b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"id":"somebody"}'
    with Server(answering(answer)) as server:
        found = besieged(f"127.0.0.1:{server.port}", call)
    assert set(found) == {"POST /x: all", "DELETE /x/{}: afterwards"}
    assert set(found["POST /x: all"]) <= {"200", "unfinished"}
    assert found["POST /x: all"]["200"] > 0


def test_whoever_besieges_ends_although_nobody_answers() -> None:
    with fast_receiver(1, silent=1) as receiver:
        found = besieged(
            receiver.silent[0], Call("GET", "/", "/", "", holds=True), Call("GET", "/x", "/x", "")
        )
        assert receiver.seen()["held"] >= 0
    answers = by_class(sum_of(found))
    assert answers.keys() == {"unfinished"}
    assert answers["unfinished"] == 3
    assert found.get("GET /: ", {"unfinished": 0})["unfinished"] <= 1  # of three callers one may hold


def sum_of(found: dict[str, dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for statuses in found.values():
        for status, count in statuses.items():
            total[status] = total.get(status, 0) + count
    return total


def test_a_well_behaved_customer_tells_latencies_and_who_did_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(healthy, "PATIENCE", 0.3)
    call = {"per_second": 10, "method": "GET", "path": "/x", "body": None, "status": "200"}
    plan = {"seconds": 0.4, "keys": ["k"], "first": 7, "calls": {"look": call}}
    with Server(answering(OK)) as server:
        found = healthy.Healthy({**plan, "address": f"127.0.0.1:{server.port}"}).run()
    assert found["look"]["statuses"] == {"200": 4}
    assert len(found["look"]["ms"]) == 4
    with fast_receiver(1, silent=1) as receiver:
        found = healthy.Healthy({**plan, "address": receiver.silent[0]}).run()
    assert found["look"]["statuses"] == {"none": 4}
    assert found["look"]["ms"] == [300.0] * 4


@contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """Take a connection, keep what came over it, answer the first byte and hang up at the third."""
    came: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            line, _ = server.accept()
            with line:
                while len(b"".join(came)) < 3:
                    came.append(line.recv(1))
                line.sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", came
        thread.join(30)


def test_a_slow_client_drips_and_tells_when_it_was_hung_up_on() -> None:
    plan = {"clients": 1, "seconds": 20, "head": "", "ahead": 0, "pieces": ["a", "b"], "every": 0.01}
    with listening() as (address, came):
        found = drip.asyncio.run(drip._all({**plan, "address": address, "read": None, "read_every": 0.1}))
    assert b"".join(came) == b"aba"
    assert found["statuses"] == {"408": 1}
    assert len(found["cut"]) == 1


def test_connections_of_a_port_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert connections(port) == 0
        with socket.create_connection(("127.0.0.1", port)):
            assert connections(port) == 1


# --- what is made of it -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("{s07}:acct:acc_09x:ledger", "acct:*:ledger"),
        ("{s07}:acct:acc_09x:idem:0f", "acct:*:idem:*"),
        ("g:login:email:a@example.com", "g:login:email:*"),
        ("{bulk}:queue", "bulk:queue"),
        ("{s0a}:due:127.0.0.1:80", "due:*"),
    ],
)
def test_keys_are_told_by_kind(key: str, told: str) -> None:
    assert kind(key) == told


def test_answers_are_summed_up_by_class() -> None:
    found = by_class({"200": 2, "202": 1, "422": 4, "429": 3, "none": 1})
    assert found == {"2xx": 3, "4xx": 4, "429": 3, "none": 1}


def test_a_table_is_markdown() -> None:
    assert table(("a", "b"), [(1, "x")]) == "| a | b |\n| --- | --- |\n| 1 | x |"


# --- the whole way ------------------------------------------------------------------------------------

A_WHOLE_STACK = pytest.mark.timeout(360)  # a few seconds' load on it, and the web process started again


@pytest.fixture(scope="module")
def besieged_ground() -> Iterator[tuple[Ground, Known]]:
    with ground() as field:
        yield field, field.prepare(Prepared(items=3, huge=2, ledger=3))


@A_WHOLE_STACK
def test_a_small_siege_is_measured(
    besieged_ground: tuple[Ground, Known], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = shlex.split("--seconds 1 --at-once 2 --settle 0 --callers stranger with-credits")
    rows = siege.Siege(*besieged_ground, siege.options(sizes)).rows()
    siege.report(rows, tmp_path / "found.json")
    assert "| a stranger |" in capsys.readouterr().out
    nobody, stranger, customer = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert nobody["calls"] == {}
    assert stranger["calls"]
    assert customer["calls"]
    assert all(row["peak"] > 10_000_000 for row in (nobody, stranger, customer))
    assert sum(nobody["beside"]["accept"]["statuses"].values()) == 5


@A_WHOLE_STACK
def test_a_route_can_be_besieged_by_itself(besieged_ground: tuple[Ground, Known]) -> None:
    sizes = shlex.split("--seconds 1 --at-once 2 --settle 0 --callers with-credits --by-route --only /keys")
    _, *rows = siege.Siege(*besieged_ground, siege.options(sizes)).rows()
    assert [row.name for row in rows] == [
        f"a customer with credits, {method} /keys" for method in ("GET", "POST")
    ]


@A_WHOLE_STACK
def test_slow_clients_are_measured(
    besieged_ground: tuple[Ground, Known], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = slow_clients.options(shlex.split("--clients 3 --seconds 4 --only a,d1,g"))
    slow_clients.report(slow_clients.rows_of(*besieged_ground, given), tmp_path / "found.json")
    assert "| a body, a byte a second |" in capsys.readouterr().out
    nobody, body, page, silent = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert nobody["slow"] == {}
    for row in (body, page, silent):
        assert sum(row["slow"]["statuses"].values()) == 3
        assert row["beside"]["credits"]["ms"]
