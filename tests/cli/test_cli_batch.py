"""`storyhook batch`: what is sent, printed and written, exit codes, and going on after an interruption."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from werkzeug import Response

from service.cli import batch, telling, work
from service.cli.demo import free_ports
from service.cli.main import main
from service.cli.runs import state_folder
from tests.cli.standin import Batches, cut, trickle
from tests.cli.support import KEY, OTHER_KEY, answer, refused
from tests.conftest import await_true

ROOT = Path(batch.__file__).parents[2]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.transport.BACKOFF_FIRST", 0.01)
    monkeypatch.setattr("service.cli.client.LOOK_LEAST", 0.0)


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """A list of three accounts that are there."""
    path = tmp_path / "names.txt"
    path.write_text("nasa\n@esa\nhttps://www.instagram.com/jaxa/\n")
    return path


def run(server: Batches, *arguments: object, stdin: str = "", key: str = KEY) -> Result:
    given = ["batch", "--server", server.url, "--key", key, *map(str, arguments)]
    return CliRunner().invoke(main, given, input=stdin)


def remembered() -> list[Path]:
    return list(state_folder().glob("*.json"))


def instead(response: Response) -> Callable[[Response], Response]:
    return lambda _: response


# --- what is sent ----------------------------------------------------------------------------------


def test_a_list_is_sent_as_it_is_and_its_id_printed(batches: Batches, names: Path) -> None:
    told = run(batches, names)
    assert (told.exit_code, told.stdout, told.stderr) == (0, "bat_070001\n", "")
    [request] = batches.submissions()
    assert request.get_data() == names.read_bytes()
    assert request.mimetype == "text/plain"
    assert request.args.to_dict() == {}
    assert len(batches.requests) == 1, "nothing is looked at unless asked for"


@pytest.mark.parametrize(
    ("name", "extra", "content_type"),
    [
        ("a.csv", (), "text/csv"),
        ("a.CSV", (), "text/csv"),
        ("a.ndjson", (), "application/x-ndjson"),
        ("a.jsonl", (), "application/x-ndjson"),
        ("a", (), "text/plain"),
        ("a.txt", ("--format", "csv"), "text/csv"),
        ("a.csv", ("--format", "text"), "text/plain"),
    ],
)
def test_what_a_file_is(
    batches: Batches, tmp_path: Path, name: str, extra: tuple[str, ...], content_type: str
) -> None:
    body = {
        "text/csv": "username,externalId\nnasa,c-1\n",
        "application/x-ndjson": '{"username":"nasa","externalId":"c-1"}\n',
    }.get(content_type, "nasa\n")
    (tmp_path / name).write_text(body)
    assert run(batches, tmp_path / name, *extra).exit_code == 0
    assert batches.submissions()[0].mimetype == content_type
    assert list(batches.batches["bat_070001"]["names"]) == ["nasa"]


def test_standard_input_is_text_unless_said(batches: Batches) -> None:
    assert run(batches, "-", stdin="nasa\n").exit_code == 0
    assert run(batches, "-", "--format", "ndjson", stdin='"esa"\n').exit_code == 0
    assert [request.mimetype for request in batches.submissions()] == ["text/plain", "application/x-ndjson"]


def test_options_go_into_the_query(batches: Batches, names: Path) -> None:
    hook = "https://example.com/hook?a=1&b=ü"
    told = run(
        batches, names, "--webhook-url", hook, "--webhook-mode", "both", "--max-age", 0, "--clamp", "--strict"
    )
    assert told.exit_code == 0
    assert batches.submissions()[0].args.to_dict() == {
        "webhookUrl": hook,
        "webhookMode": "both",
        "maxAge": "0",
        "onInsufficientCredits": "clamp",
        "strict": "true",
    }


def test_the_answer_as_json(batches: Batches, names: Path) -> None:
    said = json.loads(run(batches, names, "--json").stdout)
    assert (said["batchId"], said["accepted"], said["invalid"]) == ("bat_070001", 3, [])


# --- what is told of a list ------------------------------------------------------------------------


def test_lines_that_are_not_taken_are_told(batches: Batches) -> None:
    batches.credits = 2
    told = run(batches, "-", "--clamp", stdin="nasa\nbad name\nNASA\n# x\nesa\njaxa\nisro\n")
    assert (told.exit_code, told.stdout) == (1, "bat_070001\n")
    assert told.stderr.splitlines() == [
        "storyhook: standard input: 1 more than once: line 3 (nasa)",
        "storyhook: standard input: line 2: 'bad name': "
        "A username holds only letters, digits, dots and underscores.",
        "storyhook: standard input: 2 not paid for: jaxa, isro",
    ]


def test_duplicates_alone_are_no_failure(batches: Batches) -> None:
    told = run(batches, "-", stdin="nasa\nnasa\n")
    assert (told.exit_code, told.stderr.count("\n")) == (0, 1)


def test_a_bad_list_does_not_fill_a_mailbox(batches: Batches) -> None:
    told = run(batches, "-", stdin="nasa\n" + "bad name\n" * 500)
    assert told.exit_code == 1
    assert told.stderr.count("\n") == telling.TOLD_MOST + 1
    assert told.stderr.endswith("storyhook: ... and 480 more\n")


def test_a_strict_list_is_refused_with_its_lines(batches: Batches) -> None:
    told = run(batches, "-", "--strict", stdin="nasa\nbad name\n")
    assert (told.exit_code, told.stdout) == (3, "")
    assert told.stderr.splitlines() == [
        "storyhook: the server refused (validation_error):",
        "storyhook: standard input: line 2: A username holds only letters, digits, dots and underscores.",
    ]
    assert remembered() == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "unauthorized"), (402, "insufficient_credits"), (413, "payload_too_large"), (415, "x")],
)
def test_a_refusal_is_one_line_and_3(batches: Batches, names: Path, status: int, code: str) -> None:
    batches.trouble["submit"] = [instead(answer(refused(code, "The limit is 2 MiB."), status))]
    told = run(batches, names)
    assert (told.exit_code, told.stdout) == (3, "")
    assert told.stderr == f"storyhook: {batches.url} refused: The limit is 2 MiB. ({code})\n"
    assert len(batches.submissions()) == 1


def test_a_server_that_is_not_there_is_3(names: Path) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    command = ["batch", str(names), "--server", url, "--key", KEY, "--wait-seconds", "0"]
    told = CliRunner().invoke(main, command)
    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (3, "", 1)
    assert "could not be reached" in told.stderr
    assert len(remembered()) == 1, "it may have been accepted"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("missing.txt",),
        ("names.txt", "--format", "xml"),
        ("names.txt", "--webhook-mode", "each"),
        ("names.txt", "--json", "--out", "-"),
        ("names.txt", "--out", "nowhere/out.ndjson"),
        ("names.txt", "--out", "/dev/null"),
        ("names.txt", "--max-age", "3601"),
        ("empty.txt",),
    ],
    ids=str,
)
def test_wrong_use_is_2_and_nothing_is_sent(
    batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("nasa\n")
    Path("empty.txt").write_text(" \n\n")
    told = run(batches, *arguments)
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr.strip()
    assert batches.requests == []


def test_words_of_a_server_do_not_steer_a_terminal(batches: Batches, names: Path) -> None:
    body = {
        "success": True,
        "batchId": "bat_\x1b[2J",
        "invalid": [{"line": 1, "value": "x", "error": "\x1b[2J"}],
    }
    batches.trouble["submit"] = [instead(answer(body, 202))]
    told = run(batches, names)
    assert "\x1b" not in told.stdout + told.stderr


# --- waiting and results ---------------------------------------------------------------------------


def test_waiting_ends_with_one_line(batches: Batches, names: Path) -> None:
    batches.looks = 3
    told = run(batches, names, "--wait")
    assert (told.exit_code, told.stderr) == (0, "")
    assert told.stdout == "bat_070001: completed: 3 names, 3 empty; 3 items, 3 credits\n"
    assert [float(request.args["wait"]) for request in batches.requests[1:]] == [25.0] * 4


def test_names_that_ended_otherwise_are_1_and_counted(batches: Batches) -> None:
    told = run(batches, "-", "--wait", "--json", stdin="nasa\nprivate_a\nmissing_b\nmissing_c\n")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["states"]["failed"] == 3
    assert told.stderr == (
        "storyhook: bat_070001: 3 of 4 ended otherwise: 2 user_not_found, 1 account_private, 1 empty\n"
    )


def test_what_has_not_ended_in_time_is_4_and_gone_on_with(
    batches: Batches, names: Path, tmp_path: Path
) -> None:
    batches.looks = 2
    out = tmp_path / "out.ndjson"
    late = run(batches, names, "--out", out, "--wait-seconds", 0)
    assert (late.exit_code, out.exists()) == (4, False)
    assert late.stdout.startswith("bat_070001: processing: 0 of 3 names, none ended")
    assert late.stderr == "storyhook: bat_070001: not ended in time; the same command goes on with it\n"
    again = run(batches, names, "--out", out)
    assert again.exit_code == 0
    assert again.stderr.startswith("storyhook: going on with bat_070001 of 20")
    assert len(batches.batches) == len(batches.submissions()) == 1
    assert len(out.read_text().splitlines()) == 3


def test_results_are_lines_in_the_order_of_the_list(batches: Batches, tmp_path: Path) -> None:
    wanted = [f"n{number}" for number in range(60)]
    (tmp_path / "l.csv").write_text(
        "username,externalId\n" + "".join(f"{name},c-{name}\n" for name in wanted)
    )
    out = tmp_path / "out.ndjson"
    told = run(batches, tmp_path / "l.csv", "--out", out)
    assert (told.exit_code, told.stderr) == (0, "")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [each["username"] for each in lines] == wanted
    assert {each["batchId"] for each in lines} == {"bat_070001"}
    assert lines[7]["externalId"] == "c-n7"
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_results_on_standard_output_are_nothing_but_results(batches: Batches) -> None:
    told = run(batches, "-", "--out", "-", stdin="nasa\nprivate_a\n")
    assert [json.loads(line)["username"] for line in told.stdout.splitlines()] == ["nasa", "private_a"]
    assert (told.exit_code, told.stderr.count("\n")) == (1, 1)


def test_an_older_file_is_replaced_only_by_a_whole_one(batches: Batches, names: Path, tmp_path: Path) -> None:
    real, link = tmp_path / "real.ndjson", tmp_path / "out.ndjson"
    real.write_text("yesterday's")
    link.symlink_to(real)
    batches.trouble["results"] = [instead(answer(refused("forbidden"), 403))]
    assert run(batches, names, "--out", link).exit_code == 3
    assert real.read_text() == "yesterday's"
    assert run(batches, names, "--out", link).exit_code == 0
    assert link.is_symlink()
    assert len(real.read_text().splitlines()) == 3
    assert len(batches.batches) == 1


def test_results_that_are_gone_are_told(batches: Batches, names: Path, tmp_path: Path) -> None:
    batches.erased = {"nasa", "jaxa"}
    out = tmp_path / "out.ndjson"
    told = run(batches, names, "--out", out)
    assert told.exit_code == 1
    assert told.stderr == "storyhook: bat_070001: 2 of 3 results are not there any more\n"
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [each.get("code") for each in lines] == ["not_found", None, "not_found"]


def test_results_that_the_server_leaves_out_are_told(batches: Batches, names: Path, tmp_path: Path) -> None:
    batches.trouble["results"] = [instead(answer({"results": [], "nextCursor": None}))]
    told = run(batches, names, "--out", tmp_path / "out.ndjson")
    assert told.exit_code == 1
    assert "3 of 3 results are not there any more" in told.stderr


def test_results_that_are_gone_do_not_hide_names_that_ended_otherwise(batches: Batches) -> None:
    batches.erased = {"nasa"}
    told = run(batches, "-", "--out", "-", stdin="nasa\nesa\nprivate_a\n")
    assert told.exit_code == 1
    assert told.stderr.splitlines() == [
        "storyhook: bat_070001: 1 of 3 results are not there any more",
        "storyhook: bat_070001: 1 of 3 ended otherwise: 2 empty, 1 account_private",
    ]


def read_until(descriptor: int, text: str) -> str:
    """Return what comes until ``text`` was among it."""
    shown = ""
    while text not in shown:
        assert select.select([descriptor], [], [], 20)[0], shown
        shown += os.read(descriptor, 65_536).decode(errors="replace")
    return shown


def test_on_a_terminal_a_bar_and_a_table(batches: Batches, names: Path) -> None:
    held = Held()
    batches.trouble["look"] = [held]
    keeper, terminal = pty.openpty()
    try:
        process = started(batches, names, "--wait", stdout=terminal, stderr=terminal)
        assert held.reached.wait(60)
        shown = read_until(keeper, "0/")
        held.let_go.set()
        assert process.wait(60) == 0
        shown += os.read(keeper, 65_536).decode()
    finally:
        held.let_go.set()
        os.close(keeper)
        os.close(terminal)
    assert "0/3" in shown
    assert "0/?" not in shown
    assert "outcome" in shown
    assert {float(request.args["wait"]) for request in batches.requests[1:]} == {work.GLANCE}


def test_a_server_that_does_not_hold_calls_is_not_flooded(
    batches: Batches, names: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.client.LOOK_LEAST", 0.2)
    batches.looks = 10_000
    assert run(batches, names, "--wait", "--wait-seconds", 1).exit_code == 4
    assert 3 <= len(batches.requests) <= 8


# --- trouble on the way ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [cut, instead(answer(refused("service_unavailable"), 503)), instead(Response("<h1>", 502))],
    ids=["a lost answer", "503", "a proxy's 502"],
)
@pytest.mark.parametrize("where", ["submit", "look", "results"])
def test_what_passes_is_outlasted_as_one_batch(
    batches: Batches, names: Path, tmp_path: Path, where: str, trouble: Callable[[Response], Response]
) -> None:
    batches.trouble[where] = [trouble, trouble]
    out = tmp_path / "out.ndjson"
    told = run(batches, names, "--out", out)
    assert (told.exit_code, told.stderr) == (0, "")
    assert len(out.read_text().splitlines()) == 3
    assert len(batches.batches) == 1
    assert len({request.headers["Idempotency-Key"] for request in batches.submissions()}) == 1
    assert len(batches.submissions()) == (3 if where == "submit" else 1)


def test_a_page_that_breaks_off_is_asked_for_again_by_its_cursor(batches: Batches, tmp_path: Path) -> None:
    batches.trouble["results"] = [lambda response: response, cut, cut]
    out = tmp_path / "out.ndjson"
    wanted = [f"n{number}" for number in range(60)]
    assert run(batches, "-", "--out", out, stdin="\n".join(wanted)).exit_code == 0
    assert [json.loads(line)["username"] for line in out.read_text().splitlines()] == wanted
    pages = [request.args.get("cursor") for request in batches.requests if request.path.endswith("/results")]
    assert pages == [None, "25", "25", "25", "50"]


def test_a_server_that_goes_in_circles_is_left(batches: Batches, names: Path, tmp_path: Path) -> None:
    page = answer({"results": [], "nextCursor": "0"})
    batches.trouble["results"] = [instead(page)] * 9
    told = run(batches, names, "--out", tmp_path / "out.ndjson")
    assert told.exit_code == 3
    assert "goes in circles" in told.stderr


# --- the next run ----------------------------------------------------------------------------------


def test_a_run_that_came_to_its_end_is_followed_by_a_new_batch(batches: Batches, names: Path) -> None:
    assert run(batches, names).stdout == "bat_070001\n"
    assert run(batches, names).stdout == "bat_070002\n"
    assert run(batches, names, "--wait").stdout.startswith("bat_070003: completed")
    assert run(batches, names).stdout == "bat_070004\n"
    assert remembered() == []


def late(batches: Batches, names: Path, *more: object) -> Result:
    """A run that ends before its batch does, so that it is remembered."""
    batches.looks = 5
    return run(batches, names, "--wait", "--wait-seconds", 0, *more)


def test_another_list_or_option_is_another_batch(batches: Batches, names: Path) -> None:
    late(batches, names)
    late(batches, names, "--max-age", 5)
    names.write_text("nasa\n")
    late(batches, names)
    assert len(batches.batches) == len(remembered()) == 3


def test_another_command_is_another_batch(batches: Batches, names: Path, tmp_path: Path) -> None:
    """What was piped to `head` is not what a cron job writes into its file."""
    other = tmp_path / "others.txt"
    other.write_bytes(names.read_bytes())
    out = tmp_path / "out.ndjson"
    commands = [
        (names,),
        (names, "--out", "-"),
        (names, "--out", out),
        (names, "--out", tmp_path / "2"),
        (other,),
    ]
    for number, command in enumerate(commands, 1):
        late(batches, *command)
        assert len(batches.batches) == len(remembered()) == number, command
    assert run(batches, names).stdout == "bat_070006\n"


def test_the_same_command_of_another_account_is_a_run_of_its_own(batches: Batches, names: Path) -> None:
    late(batches, names)
    other = run(batches, names, "--wait", key=OTHER_KEY)
    assert (other.exit_code, other.stdout.partition(":")[0]) == (0, "bat_070002")
    assert len(remembered()) == 1, "the other account's run was forgotten"
    assert run(batches, names, "--wait").stdout.startswith("bat_070001: completed")
    assert len(batches.batches) == 2


def test_a_key_is_not_on_the_disk(batches: Batches, names: Path) -> None:
    late(batches, names)
    [path] = remembered()
    assert KEY.encode() not in path.read_bytes()
    assert KEY not in path.name


def test_the_same_command_may_wait_longer_and_be_in_another_folder(
    batches: Batches, names: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late(batches, names, "--out", names.parent / "out.ndjson")
    monkeypatch.chdir(names.parent)
    told = run(batches, names.name, "--out", "out.ndjson", "--wait-seconds", 60, "--json")
    assert (told.exit_code, len(batches.batches)) == (0, 1)


def test_beginning_anew_on_demand(batches: Batches, names: Path) -> None:
    late(batches, names)
    late(batches, names, "--resume-within", 0)
    assert len(batches.batches) == 2
    assert run(batches, names, "--wait").stderr.startswith("storyhook: going on with bat_070002 ")


def test_what_was_interrupted_long_ago_is_not_gone_on_with(batches: Batches, names: Path) -> None:
    late(batches, names)
    [path] = remembered()
    state = json.loads(path.read_bytes())
    path.write_text(json.dumps({**state, "begun": state["begun"] - 12 * 3_600 + 60}))
    late(batches, names)
    assert len(batches.batches) == 1
    path.write_text(json.dumps({**state, "begun": state["begun"] - 12 * 3_600 - 60}))
    late(batches, names)
    assert len(batches.batches) == 2


def test_a_key_the_server_has_forgotten_is_not_used_again(batches: Batches, names: Path) -> None:
    """Without an answer a run is as old as its key; with one it is as old as its results."""
    late(batches, names)
    [path] = remembered()
    state = json.loads(path.read_bytes())
    old = {**state, "begun": state["begun"] - 24 * 3_600}
    path.write_text(json.dumps(old))
    late(batches, names, "--resume-within", 48)
    assert len(batches.batches) == 1
    path.write_text(json.dumps({**old, "answer": None}))
    late(batches, names, "--resume-within", 48)
    assert len(batches.batches) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "x"}'])
def test_a_memory_that_is_damaged_is_none(batches: Batches, names: Path, text: str) -> None:
    late(batches, names)
    [path] = remembered()
    path.write_text(text)
    late(batches, names)
    assert len(batches.batches) == 2


def test_a_batch_that_is_gone_is_told_and_forgotten(batches: Batches, names: Path) -> None:
    late(batches, names)
    batches.batches.clear()
    told = run(batches, names, "--wait")
    assert told.exit_code == 3
    assert "(not_found)" in told.stderr
    assert remembered() == []


def test_memories_nobody_came_back_to_are_removed(batches: Batches, names: Path) -> None:
    late(batches, names)
    [path] = remembered()
    os.utime(path, (0, 0))
    run(batches, "-", stdin="esa\n")
    assert remembered() == []


def test_nothing_is_sent_that_could_not_be_remembered(batches: Batches, names: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    told = run(batches, names)
    assert (told.exit_code, batches.requests) == (2, [])
    assert "give --idempotency-key" in told.stderr
    named = run(batches, names, "--idempotency-key", "monday")
    assert (named.exit_code, named.stdout) == (0, "bat_070001\n")


def test_a_run_that_is_named_is_the_same_batch_each_time(batches: Batches, names: Path) -> None:
    for key, batch_id in (("monday", "bat_070001"), ("monday", "bat_070001"), ("tuesday", "bat_070002")):
        assert run(batches, names, "--idempotency-key", key).stdout == f"{batch_id}\n"
    assert not state_folder().exists()


@pytest.mark.parametrize(
    "key", ["ключ", "café", "two\nlines", "tab\t", "", " ", "x" * 256, "\udcff"], ids=ascii
)
def test_a_name_for_a_run_that_cannot_be_sent_is_wrong_use(batches: Batches, names: Path, key: str) -> None:
    told = run(batches, names, "--idempotency-key", key)
    assert (told.exit_code, told.stdout, batches.requests) == (2, "", [])
    assert "Invalid value for '--idempotency-key': An idempotency key is 1 to 255 printable" in told.stderr


@pytest.mark.parametrize(("key", "sent"), [("x" * 255, "x" * 255), (" run 1 ", "run 1"), ("~!#", "~!#")])
def test_a_name_for_a_run_is_sent_as_the_server_reads_it(
    batches: Batches, names: Path, key: str, sent: str
) -> None:
    assert run(batches, names, "--idempotency-key", key).exit_code == 0
    assert batches.submissions()[0].headers["Idempotency-Key"] == sent


def test_others_do_not_see_what_is_remembered(batches: Batches, names: Path) -> None:
    late(batches, names)
    [path] = remembered()
    assert (path.stat().st_mode & 0o777, state_folder().stat().st_mode & 0o777) == (0o600, 0o700)


# --- interruptions, as processes -------------------------------------------------------------------


def environment(server: Batches) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "STORYHOOK_URL": server.url,
        "STORYHOOK_API_KEY": KEY,
    }


def started(server: Batches, *arguments: object, **streams: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "service.cli.main", "batch", *map(str, arguments)]
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen(command, env=environment(server), **given)  # type: ignore[call-overload,no-any-return]


class Held:
    """Holds an answer back until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, response: Response) -> Response:
        self.reached.set()
        self.let_go.wait(60)
        return response


@pytest.mark.parametrize("where", ["submit", "look", "results"])
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name
)
def test_an_interrupted_run_is_gone_on_with_and_no_second_batch_is_made(
    batches: Batches, names: Path, tmp_path: Path, where: str, number: signal.Signals
) -> None:
    held = Held()
    batches.trouble[where] = [held]
    out = tmp_path / "out.ndjson"
    process = started(batches, names, "--out", out)
    try:
        assert held.reached.wait(60)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        held.let_go.set()
        process.kill()
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert (stdout, out.exists()) == (b"", False)
    if number != signal.SIGKILL:
        assert [path.name for path in tmp_path.iterdir() if ".part" in path.name] == []
        assert (b"bat_070001 goes on" in stderr) is (where != "submit")
    again = started(batches, names, "--out", out)
    _, stderr = again.communicate(timeout=60)
    assert again.returncode == 0, stderr
    assert len(batches.batches) == 1
    assert len({request.headers["Idempotency-Key"] for request in batches.submissions()}) == 1
    assert [json.loads(line)["username"] for line in out.read_text().splitlines()] == ["nasa", "esa", "jaxa"]
    assert remembered() == []
    started(batches, names, "--out", out).communicate(timeout=60)
    assert len(batches.batches) == 2


def test_two_that_start_at_once_make_one_batch(batches: Batches, names: Path, tmp_path: Path) -> None:
    """As when cron starts the next run while the last one still waits."""
    held = Held()
    batches.looks = 2
    batches.trouble["look"] = [held]
    out = tmp_path / "out.ndjson"
    first = started(batches, names, "--out", out)
    try:
        assert held.reached.wait(60)
        second = started(batches, names, "--out", out)
        assert second.wait(60) == 0
    finally:
        held.let_go.set()
    assert first.wait(60) == 0
    assert len(batches.batches) == 1
    assert len(out.read_text().splitlines()) == 3
    for process in (first, second):
        process.communicate()


def test_a_slow_page_is_waited_for(batches: Batches, names: Path, tmp_path: Path) -> None:
    step = threading.Event()
    batches.big = 100_000
    batches.trouble["results"] = [lambda response: trickle(response, step)]
    out = tmp_path / "out.ndjson"
    process = started(batches, names, "--out", out)
    try:
        await_true(lambda: list(tmp_path.glob(".out.ndjson.*.part")), 20)
        assert not out.exists()
    finally:
        step.set()
    assert process.communicate(timeout=60)[1] == b""
    assert (process.returncode, len(out.read_text().splitlines())) == (0, 3)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from Linux's /proc")
def test_memory_is_bounded_while_much_is_written(batches: Batches, tmp_path: Path) -> None:
    batches.big = 200_000
    # Not ru_maxrss: that begins with what the parent had.
    script = (
        "import sys; from pathlib import Path; from service.cli.main import main\n"
        "try:\n    main()\n"
        "finally:\n    print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    peaks = []
    for count in (50, 500):
        given, out = tmp_path / f"{count}.txt", tmp_path / f"{count}.ndjson"
        given.write_text("".join(f"n{number}\n" for number in range(count)))
        process = subprocess.run(
            [sys.executable, "-c", script, "batch", str(given), "--out", str(out)],
            env=environment(batches),
            capture_output=True,
            timeout=60,
            check=True,
        )
        assert out.stat().st_size > count * batches.big
        peaks.append(int(process.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 20_000, "kilobytes, of 100 MB"


def test_a_reader_that_goes_away_is_no_news(batches: Batches, names: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = started(batches, names, "--out", "-", stdout=writer)
    finally:
        os.close(writer)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 141
    assert b"Traceback" not in stderr
    assert len(remembered()) == 1


def test_a_disk_that_is_full_leaves_nothing_half_written(
    batches: Batches, names: Path, tmp_path: Path
) -> None:
    """By the limit of a process, so that no disk has to be filled."""
    batches.big = 1_000_000
    out = tmp_path / "out.ndjson"
    limited = 'ulimit -f 1000; trap "" XFSZ; exec "$@"'
    command = [sys.executable, "-m", "service.cli.main", "batch", str(names), "--out", str(out)]
    process = subprocess.run(
        ["sh", "-c", limited, "sh", *command],
        env=environment(batches),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert process.returncode == 4
    assert "File too large; bat_070001 goes on" in process.stderr
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []
    assert run(batches, names, "--out", out).exit_code == 0
    assert len(batches.batches) == 1
