"""`storyhook fetch`: names, order, what is printed where, exit codes, the ways to end early."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from service.cli import fetch
from service.cli.client import Answer
from service.cli.demo import free_ports
from service.cli.main import main
from service.domain.errors import ValidationFailed
from tests.cli.support import KEY, Service, answer, failed, found, photo, refused, running, video
from tests.conftest import await_true

NOW = 1_795_222_811.0


def run(service: Service | None, *arguments: str, stdin: str | bytes = "") -> Result:
    server = ["--server", service.url, "--key", KEY] if service else []
    return CliRunner().invoke(main, ["fetch", *server, *arguments], input=stdin)


def lines(text: str) -> list[str]:
    return text.splitlines()


# --- names -----------------------------------------------------------------------------------------


def nothing() -> bytes:
    """Standard input that holds nothing."""
    return b""


def test_names_are_asked_once_in_the_order_given() -> None:
    given = ["@Nasa", "esa", "https://www.instagram.com/nasa/?hl=en", "instagram.com/esa", "jaxa"]
    assert fetch.parse_names(given, nothing) == ["nasa", "esa", "jaxa"]


def test_a_dash_stands_for_the_lines_of_standard_input() -> None:
    stdin = "\ufeff@esa\n\n  # those of Monday – früh\n jaxa \r\nnasa\r\ufeffcsa\n".encode()
    assert fetch.parse_names(["nasa", "-", "isro"], lambda: stdin) == ["nasa", "esa", "jaxa", "csa", "isro"]


@pytest.mark.parametrize(
    "name", ["n asa", "", "x" * 31, "https://evil.example/nasa", "https://instagram.com/p/x"]
)
def test_a_name_that_is_none_is_named(name: str) -> None:
    with pytest.raises(ValidationFailed) as told:
        fetch.parse_names(["nasa", name], nothing)
    assert repr(name) in told.value.message


def test_a_wrong_name_is_told_before_anything_is_asked(service: Service) -> None:
    told = run(service, "nasa", "-", stdin="esa\nn asa\n")
    assert (told.exit_code, told.stdout, len(lines(told.stderr))) == (2, "", 1)
    assert service.requests == []


@pytest.mark.parametrize(
    ("stdin", "sentence"),
    [
        (b"nasa\n\nM\xfcller\n", "Line 3 holds bytes that are no UTF-8. Save the list as UTF-8."),
        ("nasa\n".encode("utf-16"), "The list is in UTF-16. Save it as UTF-8."),
    ],
    ids=["Latin-1", "UTF-16"],
)
@pytest.mark.parametrize("encoding", ["utf-8:strict", "utf-8:surrogateescape", "latin-1"])
def test_a_list_in_another_encoding_is_wrong_use(
    service: Service, stdin: bytes, sentence: str, encoding: str
) -> None:
    process = started(service, "esa", "-", stdin=subprocess.PIPE, encoding=encoding)
    stdout, stderr = process.communicate(stdin, timeout=60)
    assert (process.returncode, stdout) == (2, b"")
    assert stderr.decode() == f"storyhook: Standard input: {sentence}\n"
    assert service.requests == []


def test_a_list_is_utf_8_whatever_the_locale(service: Service) -> None:
    process = started(service, "-", stdin=subprocess.PIPE, encoding="ascii:strict")
    stdout, stderr = process.communicate("# früh\nnasa\n".encode(), timeout=60)
    assert (process.returncode, stderr) == (0, b"")
    assert json.loads(stdout)["username"] == "nasa"


def test_an_empty_list_is_wrong_use(service: Service) -> None:
    told = run(service, "-", stdin="# nobody\n")
    assert (told.exit_code, told.stderr) == (2, "storyhook: Standard input holds no names.\n")


# --- order -----------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_names_and_not_too_far_ahead() -> None:
    first = threading.Event()
    begun: list[str] = []

    def work(name: str) -> fetch.Result:
        begun.append(name)
        if name == "0":
            first.wait(60)
        return fetch.Result(name)

    names = [str(number) for number in range(100)]
    results = fetch.in_order(work, names, jobs=2)
    done: list[str] = []
    reader = threading.Thread(target=lambda: done.extend(each.name for each in results))
    reader.start()
    await_true(lambda: len(begun) == 2 * fetch.AHEAD)
    assert done == []
    first.set()
    reader.join(60)
    assert done == names


def test_several_names_are_under_way_at_a_time(service: Service) -> None:
    together = threading.Barrier(3)

    def wait(request: Request) -> Response:
        together.wait(60)
        return answer(found(request.get_json()["username"]))

    service.server.clear()
    service.server.expect_request("/api/instagram/stories").respond_with_handler(wait)
    told = run(service, "a", "b", "c", "--jobs", "3")
    assert [json.loads(line)["username"] for line in lines(told.stdout)] == ["a", "b", "c"]


# --- what is printed -------------------------------------------------------------------------------


def test_envelopes_are_lines_exactly_as_they_were_sent(service: Service) -> None:
    odd = '{"requestId":"req_1","success":true,  "finishedAt":"x","odd":1.50}'
    service.will("esa", answer(odd))
    service.will("nobody", answer(failed("nobody", "user_not_found"), 404))
    told = run(service, "nasa", "esa", "nobody")
    assert lines(told.stdout) == [
        json.dumps(found("nasa")),
        odd,
        json.dumps(failed("nobody", "user_not_found")),
    ]
    assert told.stderr == "storyhook: nobody: user_not_found: This is user_not_found.\n"
    assert told.exit_code == 1


def test_a_table_on_demand(service: Service) -> None:
    service.will("nasa", answer(found("nasa", photo(1, (1, 1)), video(2, (1, 1)), cached=True, age=90)))
    service.will("nobody", answer(failed("nobody", "user_not_found"), 404))
    told = run(service, "nasa", "nobody", "--table")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines(told.stdout) if "│" in line]
    assert rows[0][:4] == ["nasa", "found", "2", "1/1"]
    assert rows[0][5:] == ["1", "2 min"]
    assert rows[1] == ["nobody", "user_not_found", "", "", "", "0", ""]


def test_a_row_tells_the_age_of_the_newest_story() -> None:
    envelope = found("nasa", photo(1, (1, 1), taken_at=int(NOW) - 7_300), photo(2, (1, 1), taken_at=5))
    row = fetch.row(fetch.Result("nasa", Answer(b"", envelope)), NOW)
    assert row == ("nasa", "found", 2, "2/0", "2 h", 1, "")


@pytest.mark.parametrize(
    ("seconds", "told"), [(-5, "0 s"), (59.4, "59 s"), (90, "2 min"), (3_500, "58 min"), (3_590, "1 h")]
)
def test_durations(seconds: float, told: str) -> None:
    assert fetch.duration(seconds) == told


def test_new_stories_are_told_by_their_paths(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMULATED_INSTAGRAM_URL", service.url)
    service.server.expect_request("/i/1_1x1.jpg").respond_with_data(b"\xff\xd8", content_type="image/jpeg")
    service.will("nasa", answer(found("nasa", photo(1, (1, 1)), {"pk": "2", "taken_at": 5})))
    out = tmp_path / "out"
    told = run(service, "nasa", "esa", "--save", str(out))
    assert lines(told.stdout) == [str(out / "nasa" / "20261121T010011Z_1.jpg")]
    assert told.stderr == "storyhook: nasa: story 2 not saved: it has neither video nor image\n"
    assert told.exit_code == 1
    assert (out / "esa" / "req_esa.json").exists()
    assert all(request.get_json()["archive"] is True for request in service.requests)
    again = run(service, "nasa", "esa", "--save", str(out), "--json")
    assert len(lines(again.stdout)) == 2


def test_media_that_nobody_saves_are_not_archived(service: Service) -> None:
    run(service, "nasa")
    assert service.requests[0].get_json() == {"username": "nasa"}


def test_words_of_a_server_do_not_steer_a_terminal(service: Service) -> None:
    service.will("nasa", answer({**failed("nasa", "upstream_error"), "error": "a\x1b[2Jb\nc"}, 502))
    assert run(service, "nasa").stderr == r"storyhook: nasa: upstream_error: a\x1b[2Jb\nc" + "\n"


@pytest.mark.parametrize("form", ["--table", "--json"])
def test_on_a_terminal(service: Service, form: str) -> None:
    """A table and no half-written lines; the bar is taken away again."""
    keeper, terminal = pty.openpty()
    try:
        process = started(service, "nasa", form, stdout=terminal, stderr=terminal)
        assert process.wait(60) == 0
        shown = os.read(keeper, 65_536).decode()
    finally:
        os.close(keeper)
        os.close(terminal)
    assert ("Stories" in shown) is (form == "--table")
    assert "nasa" in shown


# --- exit codes ------------------------------------------------------------------------------------


def test_nothing_known_is_one_line_and_2() -> None:
    told = run(None, "nasa")
    assert (told.exit_code, told.stdout, len(lines(told.stderr))) == (2, "", 1)
    assert told.stderr.startswith("storyhook: No server is known: give --server and --key, set")


@pytest.mark.parametrize(
    "arguments", [(), ("nasa", "--jobs", "0"), ("nasa", "--max-age", "3601"), ("--all",)]
)
def test_wrong_use_is_2(service: Service, arguments: tuple[str, ...]) -> None:
    told = run(service, *arguments)
    assert (told.exit_code, told.stdout) == (2, "")


def test_server_and_key_come_from_the_environment_too(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORYHOOK_URL", service.url)
    monkeypatch.setenv("STORYHOOK_API_KEY", KEY)
    assert run(None, "nasa").exit_code == 0
    monkeypatch.setenv("STORYHOOK_URL", "http://127.0.0.1:1")
    assert run(None, "nasa", "--server", service.url).exit_code == 0


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_ends_the_run_with_one_line_and_3(service: Service, status: int) -> None:
    for name in "abcde":
        service.will(name, answer(refused("unauthorized", "Send a valid key."), status))
    told = run(service, *"abcde", "--jobs", "1")
    assert (told.exit_code, told.stdout) == (3, "")
    assert lines(told.stderr) == [
        f"storyhook: {service.url} refused: Send a valid key. (unauthorized)",
        "storyhook: left without an answer: b, c, d, e",
    ]
    assert len(service.requests) == 1


def test_credits_that_do_not_suffice_are_3_and_the_others_are_asked(service: Service) -> None:
    service.will("nasa", answer(refused("insufficient_credits", "1 needed."), 402))
    told = run(service, "nasa", "esa")
    assert (told.exit_code, len(lines(told.stdout))) == (3, 1)
    assert "storyhook: nasa: " in told.stderr
    assert "(insufficient_credits)" in told.stderr


def test_a_request_that_is_erased_while_polled_is_3_and_the_others_are_asked(service: Service) -> None:
    service.will("nasa", answer(running("nasa"), 202))
    service.looks("req_nasa", answer(refused("not_found", "There is no request of this id."), 404))
    told = run(service, "nasa", "esa", "jaxa", "--jobs", "1")
    assert (told.exit_code, len(lines(told.stdout))) == (3, 2)
    sentence = "There is no request of this id. (not_found)"
    assert told.stderr == f"storyhook: nasa: {service.url} refused: {sentence}\n"


def test_a_server_that_is_not_there_is_3_and_one_line() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    told = run(None, "nasa", "esa", "--server", url, "--key", KEY, "--wait", "0", "--jobs", "2")
    assert (told.exit_code, told.stdout) == (3, "")
    assert "could not be reached" in lines(told.stderr)[0]


def test_what_has_not_ended_is_1_and_can_be_found_again(service: Service) -> None:
    service.will("nasa", answer(running("nasa"), 202))
    told = run(service, "nasa", "--wait", "0")
    assert (told.exit_code, lines(told.stdout)) == (1, [json.dumps(running("nasa"))])
    assert told.stderr == "storyhook: nasa: not ended in time; it goes on as req_nasa\n"


def test_a_refusal_counts_more_than_another_end(service: Service) -> None:
    service.will("nasa", answer(refused("insufficient_credits"), 402))
    service.will("esa", answer(failed("esa", "account_private"), 403))
    assert run(service, "nasa", "esa").exit_code == 3


def test_the_help_tells_the_exit_codes() -> None:
    told = run(None, "--help")
    assert told.exit_code == 0
    for code in ("0 ", "1 ", "2 ", "3 ", "130 "):
        assert f"\n    {code}" in told.stdout


# --- ending early, as processes --------------------------------------------------------------------


def started(
    service: Service, *arguments: str, encoding: str = "utf-8", **streams: object
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "service.cli.main", "fetch", *arguments]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(fetch.__file__).parents[2]),
        "STORYHOOK_URL": service.url,
        "STORYHOOK_API_KEY": KEY,
        "SIMULATED_INSTAGRAM_URL": service.url,
        "PYTHONIOENCODING": encoding,
    }
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen(command, env=environment, **given)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def hanging(httpserver: HTTPServer) -> Callable[[], None]:
    """A release for answers that hang until then."""
    release = threading.Event()

    def hang(_: Request) -> Response:
        release.wait(60)
        return Response("late", 500)

    httpserver.expect_request("/api/requests/req_hangs").respond_with_handler(hang)
    return release.set


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_once_and_leaves_nothing_half_written(
    service: Service, hanging: Callable[[], None], tmp_path: Path, number: int, status: int
) -> None:
    release = threading.Event()

    def body() -> object:
        yield b"x" * 70_000
        release.wait(60)

    service.server.expect_request("/i/1_1x1.jpg").respond_with_handler(
        lambda _: Response(body(), content_type="image/jpeg", headers={"Content-Length": "90000"})
    )
    service.will("saves", answer(found("saves", photo(1, (1, 1)))))
    service.will("hangs", answer(running("hangs"), 202))
    out = tmp_path / "out"
    process = started(service, "saves", "hangs", "--save", str(out))
    try:
        await_true(lambda: list(out.rglob("*.part")), 20)
        asked = time.monotonic()
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
        assert time.monotonic() - asked < 30, "it waited for the end of what it saves"
    finally:
        release.set()
        hanging()
        process.kill()
    assert (process.returncode, stdout, stderr) == (status, b"", b"")
    assert [path for path in out.rglob("*") if path.is_file()] == []


def test_a_reader_that_goes_away_is_no_news(service: Service) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = started(service, "nasa", stdout=writer)
    finally:
        os.close(writer)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (141, b"")
