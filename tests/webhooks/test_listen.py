"""`storyhook listen`: verifies, shows, passes on, and fails on request."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from pytest_httpserver import HTTPServer

from service.cli.demo import free_ports
from tests.conftest import await_true
from tests.texts import HOSTILE, MARKUP, is_harmless
from workers.webhooks.signing import signature_headers

SECRET = "whsec_" + base64.b64encode(b"a secret of at least 24 bytes").decode()
BODY = json.dumps(
    {"requestId": "req_1", "username": "anna", "outcome": "found", "itemCount": 2, "creditsCharged": 1,
     "data": {"items": [{"pk": "1"}, {"pk": "2"}]}}
).encode()  # fmt: skip


@contextmanager
def listening(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    [port] = free_ports(1)
    command = [
        sys.executable,
        "-u",
        "-m",
        "service.cli.main",
        "listen",
        f"--port={port}",
        f"--secret={SECRET}",
    ]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening on")
        try:
            yield f"http://127.0.0.1:{port}/", process
        finally:
            process.terminate()
            assert process.wait(60) == 0


def send(url: str, body: bytes = BODY, *, secret: str = SECRET, at: int | None = None) -> int:
    headers = signature_headers("msg_1", at or int(time.time()), body, [secret])
    return requests.post(url, data=body, headers=headers, timeout=60).status_code


def shown(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_valid_webhook_is_told_in_one_line() -> None:
    with listening("--quiet") as (url, process):
        assert send(url) == 204
        line = shown(process)
    assert "msg_1 signature valid, answered 204: anna found, 2 item(s), 1 credit(s), req_1" in line


def test_a_batch_s_summary_is_told_in_one_line() -> None:
    summary = {"batchId": "bat_1", "status": "completed", "total": 3, "states": {"succeeded": 3},
               "itemCount": 9, "creditsCharged": 2}  # fmt: skip
    with listening("--quiet") as (url, process):
        assert send(url, json.dumps(summary).encode()) == 204
        line = shown(process)
    assert line.endswith("answered 204: batch bat_1 completed: 3 names, 9 item(s), 2 credit(s)\n")


@pytest.mark.parametrize("text", [*HOSTILE, *MARKUP])
def test_what_a_webhook_says_is_shown_as_text(text: str) -> None:
    bodies = [
        json.dumps({"username": text, "outcome": text, "requestId": text, "data": {text: text}}),
        json.dumps({"batchId": text, "status": text, "total": text, "states": {}}, ensure_ascii=False),
        json.dumps({"data": text}),
        json.dumps(text),
        "7",
        "[" * 100_000,
        text,
    ]
    with listening() as (url, process):
        for body in bodies:
            assert send(url, body.encode()) == 204
        assert process.stdout is not None
        told = ""
        while told.count("webhook msg_1 signature valid") < len(bodies):  # it answers before it prints
            line = process.stdout.readline()
            assert line, "it ended before it had told all"
            told += line
        process.terminate()
        told += process.stdout.read()
    assert is_harmless(told)


def test_the_body_is_shown_with_the_first_item_only() -> None:
    with listening() as (url, process):
        send(url)
        assert process.stdout is not None
        text = ""
        while "}\n}" not in text and '"... and 1 more"' not in text:
            text += process.stdout.readline()
    assert '"username": "anna"' in text


def test_a_foreign_signature_is_refused_and_said_so() -> None:
    with listening("--quiet") as (url, process):
        assert send(url, secret="whsec_" + base64.b64encode(b"x" * 24).decode()) == 400
        assert "SIGNATURE INVALID" in shown(process)


def test_an_old_one_is_refused() -> None:
    with listening("--quiet") as (url, _):
        assert send(url, at=int(time.time()) - 600) == 400


def test_it_fails_as_often_as_told_and_then_works() -> None:
    with listening("--quiet", "--fail", "503:2") as (url, _):
        assert [send(url) for _ in range(3)] == [503, 503, 204]


def test_it_takes_its_time() -> None:
    with listening("--quiet", "--delay", "0.3") as (url, _):
        started = time.monotonic()
        send(url)
        assert time.monotonic() - started >= 0.3


def test_it_passes_on_and_answers_what_it_is_answered(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hook", method="POST").respond_with_data(status=418)
    with listening("--quiet", "--forward", httpserver.url_for("/hook")) as (url, _):
        assert send(url) == 418
    await_true(lambda: len(httpserver.log) == 1)
    passed_on = httpserver.log[0][0]
    assert passed_on.get_data() == BODY
    assert passed_on.headers["webhook-id"] == "msg_1"


@pytest.mark.parametrize("fail", ["abc", "99", "503:x", ":3"])
def test_a_wish_to_fail_that_is_unreadable_is_refused(fail: str) -> None:
    command = [sys.executable, "-m", "service.cli.main", "listen", "--fail", fail]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "503:3" in done.stderr
