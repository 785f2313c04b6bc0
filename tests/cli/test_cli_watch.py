"""`storyhook watch`: what is sent and printed, exit codes."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from service.cli.demo import free_ports
from service.cli.main import main
from tests.cli.standin import Batches, cut
from tests.cli.support import KEY, answer, refused

HOOK = "https://example.com/hook"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.transport.BACKOFF_FIRST", 0.01)


def run(server: Batches, verb: str, *arguments: object) -> Result:
    given = ["watch", verb, "--server", server.url, "--key", KEY, *map(str, arguments)]
    return CliRunner().invoke(main, given)


def added(server: Batches, *names: str) -> list[str]:
    for name in names:
        assert run(server, "add", name, "--every", "15m", "--webhook-url", HOOK).exit_code == 0
    return list(server.watches)


def test_a_watch_is_made_of_what_is_said(batches: Batches) -> None:
    told = run(batches, "add", "@NASA", "--every", " 15m", "--webhook-url", HOOK)
    assert (told.exit_code, told.stdout, told.stderr) == (0, "wat_070001\n", "")
    assert batches.requests[0].get_json() == {
        "username": "nasa",
        "every": "15m",
        "webhookUrl": HOOK,
        "onlyNew": True,
        "heartbeat": False,
    }


def test_a_watch_with_everything(batches: Batches) -> None:
    more = ("--all", "--heartbeat", "--max-age", "0", "--json")
    told = run(batches, "add", "nasa", "--every", "*/20 5-7 * * *", "--webhook-url", HOOK, *more)
    said = json.loads(told.stdout)
    assert (said["watchId"], said["onlyNew"], said["heartbeat"], said["maxAge"]) == (
        "wat_070001",
        False,
        True,
        0,
    )
    assert said["every"] == "*/20 5-7 * * *"


def test_an_answer_that_was_lost_is_asked_for_with_the_same_key(batches: Batches) -> None:
    batches.trouble["watches"] = [cut]
    assert added(batches, "nasa")
    keys = [request.headers["Idempotency-Key"] for request in batches.requests]
    assert (len(keys), len(set(keys))) == (2, 1)


def test_all_pages_are_listed(batches: Batches) -> None:
    ids = added(batches, "nasa", "esa", "jaxa", "isro", "cnsa")
    table = run(batches, "list")
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in table.stdout.splitlines() if "│" in line
    ]
    assert [row[0] for row in rows] == ids
    assert rows[0][1:4] == ["nasa", "15m", "active"]
    lines = run(batches, "list", "--json").stdout.splitlines()
    assert [json.loads(line)["watchId"] for line in lines] == ids


def test_no_watches_are_no_error(batches: Batches) -> None:
    assert run(batches, "list").exit_code == 0
    assert run(batches, "list", "--json").stdout == ""


def test_removing_several_one_of_which_is_not_there(batches: Batches) -> None:
    ids = added(batches, "nasa", "esa", "jaxa")
    told = run(batches, "rm", ids[0], "wat_none", ids[2])
    assert (told.exit_code, told.stdout) == (3, f"{ids[0]}: removed\n{ids[2]}: removed\n")
    assert told.stderr == (
        f"storyhook: wat_none: {batches.url} refused: There is nothing here. (not_found)\n"
    )
    assert list(batches.watches) == [ids[1]]


def test_a_removal_whose_answer_was_lost_is_one(batches: Batches) -> None:
    [watch_id] = added(batches, "nasa")
    batches.trouble["watch"] = [lambda _: cut(answer(refused("service_unavailable"), 503))]
    assert run(batches, "rm", watch_id).exit_code == 0
    assert batches.watches == {}


def test_pausing_resuming_and_running(batches: Batches) -> None:
    ids = added(batches, "nasa", "esa")
    assert run(batches, "pause", *ids).stdout == "".join(f"{each}: paused\n" for each in ids)
    assert "paused: by_hand" in run(batches, "list").stdout
    assert run(batches, "resume", ids[0]).stdout.startswith(f"{ids[0]}: active, next run 20")
    assert run(batches, "run", ids[0]).stdout == f"{ids[0]}: runs as req_07\n"
    assert json.loads(run(batches, "run", ids[0], "--json").stdout)["requestId"] == "req_07"


def test_an_id_cannot_lead_elsewhere(batches: Batches) -> None:
    run(batches, "rm", "../credits?x=1")
    assert [request.path for request in batches.requests] == ["/api/watches/../credits?x=1"]
    assert batches.requests[0].query_string == b""


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "nasa"),
        ("add", "n asa", "--every", "15m", "--webhook-url", HOOK),
        ("add", "nasa", "--every", "15m", "--webhook-url", HOOK, "--max-age", "3601"),
        ("rm",),
    ],
    ids=str,
)
def test_wrong_use_is_2_and_nothing_is_sent(batches: Batches, arguments: tuple[str, ...]) -> None:
    told = run(batches, *arguments)
    assert (told.exit_code, told.stdout, batches.requests) == (2, "", [])


def test_what_the_server_refuses_is_one_line_and_3(batches: Batches) -> None:
    told = run(batches, "add", "nasa", "--every", "1s", "--webhook-url", HOOK)
    assert (told.exit_code, told.stdout) == (3, "")
    assert told.stderr == (
        f"storyhook: {batches.url} refused: every: The least is 300 seconds. (validation_error)\n"
    )


def test_a_key_that_is_refused_ends_it_at_once(batches: Batches) -> None:
    told = CliRunner().invoke(main, ["watch", "rm", "a", "b", "--server", batches.url, "--key", "wrong"])
    assert (told.exit_code, told.stderr.count("\n"), len(batches.requests)) == (3, 1, 1)


def test_a_server_that_is_not_there_is_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.client.CALL_LIMIT", 0.1)
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    told = CliRunner().invoke(main, ["watch", "list", "--server", url, "--key", KEY])
    assert told.exit_code == 3
    assert "could not be reached" in told.stderr
