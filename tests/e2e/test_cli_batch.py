"""`storyhook batch` and `watch` against the real processes: what cron and people get."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import await_true
from tests.e2e.clients import Customer
from tests.e2e.receiver import Receiver
from tests.e2e.stack import Stack

Run = Callable[..., subprocess.CompletedProcess[str]]


def known(stack: Stack, customer: Customer, home: Path) -> dict[str, str]:
    """Return the environment of a machine that knows the server and a key, and has no store."""
    return {
        "STORYHOOK_URL": stack.base_url,
        "STORYHOOK_API_KEY": customer.api_key,
        "XDG_STATE_HOME": str(home / "state"),
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }


@pytest.fixture
def run(stack: Stack, customer: Customer, tmp_path: Path) -> Run:
    def run(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
        return stack.storyhook(*map(str, arguments), **{**known(stack, customer, tmp_path), **settings})

    return run


def begun(stack: Stack, customer: Customer, home: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start a `storyhook batch` that goes on while the test does something."""
    return subprocess.Popen(
        ["storyhook", "batch", *map(str, arguments)],
        env=stack.shell_environment(**known(stack, customer, home)),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def batches_of(customer: Customer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = customer.call("GET", "/api/batches").json()["batches"]
    return found


def envelopes(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def ends(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["username"], each.get("outcome") or each["code"]) for each in found]


def test_a_list_becomes_a_file_in_its_order(run: Run, customer: Customer, tmp_path: Path) -> None:
    given, out = tmp_path / "names.csv", tmp_path / "out.ndjson"
    given.write_text("username,externalId\nnasa,c-1\nprivate_x,c-2\n@empty_x,c-3\nmissing_x,c-4\nNASA,c-5\n")
    told = run("batch", given, "--out", out)
    assert told.returncode == 1, told.stderr
    found = envelopes(out)
    assert ends(found) == [
        ("nasa", "found"),
        ("private_x", "account_private"),
        ("empty_x", "empty"),
        ("missing_x", "user_not_found"),
    ]
    assert [each["externalId"] for each in found] == ["c-1", "c-2", "c-3", "c-4"]
    assert "names.csv: 1 more than once: line 6 (nasa)" in told.stderr
    assert "2 of 4 ended otherwise" in told.stderr
    [batch] = batches_of(customer)
    assert told.stdout.startswith(f"{batch['batchId']}: completed: 4 names")
    assert customer.credits()["balance"] == 98
    for each in found:
        assert customer.look(each["requestId"]).json() == each


def test_a_result_that_was_erased_is_missed(run: Run, customer: Customer, tmp_path: Path) -> None:
    given, out = tmp_path / "names", tmp_path / "out.ndjson"
    given.write_text("nasa\nempty_x\n")
    named = ("batch", given, "--out", out, "--idempotency-key", "monday")
    assert run(*named).returncode == 0
    assert customer.call("DELETE", f"/api/requests/{envelopes(out)[0]['requestId']}").status_code == 204
    told = run(*named)
    [batch] = batches_of(customer)
    assert told.returncode == 1, told.stderr
    assert told.stderr == f"storyhook: {batch['batchId']}: 1 of 2 results are not there any more\n"
    assert [each.get("outcome") or each["code"] for each in envelopes(out)] == ["not_found", "empty"]


def test_an_id_at_once_and_webhooks(run: Run, customer: Customer, tmp_path: Path, receiver: Receiver) -> None:
    (tmp_path / "names").write_text("nasa\nempty_x\n")
    told = run("batch", tmp_path / "names", "--webhook-url", receiver.url, "--webhook-mode", "both")
    assert (told.returncode, told.stderr) == (0, "")
    await_true(lambda: len(receiver.arrivals) >= 3, 30)
    bodies = [each.verified(customer.secret()) for each in receiver.arrivals]
    assert {each["batchId"] for each in bodies} == {told.stdout.strip()}
    [summary] = [each for each in bodies if "states" in each]
    assert (summary["status"], summary["states"]["succeeded"]) == ("completed", 2)
    assert {each["username"] for each in bodies if "username" in each} == {"nasa", "empty_x"}


def test_lines_that_are_no_names_and_credits_that_do_not_suffice(
    stack: Stack, run: Run, tmp_path: Path
) -> None:
    poor = {"STORYHOOK_API_KEY": stack.customer(1).api_key}
    (tmp_path / "names").write_text("nasa\nbad name\nempty_x\n")
    refused = run("batch", tmp_path / "names", **poor)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "(insufficient_credits)" in refused.stderr
    strict = run("batch", tmp_path / "names", "--strict")
    assert (strict.returncode, strict.stdout) == (3, "")
    assert "line 2" in strict.stderr
    clamped = run("batch", tmp_path / "names", "--clamp", "--wait", **poor)
    assert clamped.returncode == 1
    assert "line 2: 'bad name'" in clamped.stderr
    assert "1 not paid for: empty_x" in clamped.stderr
    assert "completed: 1 names, 1 found" in clamped.stdout


def test_a_run_that_was_killed_is_gone_on_with_by_the_same_command(
    stack: Stack, run: Run, customer: Customer, tmp_path: Path
) -> None:
    given, out = tmp_path / "names", tmp_path / "out.ndjson"
    given.write_text("slow_3_one\nnasa\nslow_3_two\n")
    with begun(stack, customer, tmp_path, given, "--out", out) as process:
        await_true(lambda: batches_of(customer), 20)
        process.kill()
    assert not out.exists()
    told = run("batch", given, "--out", out)
    assert told.returncode == 0, told.stderr
    assert [each["username"] for each in envelopes(out)] == ["slow_3_one", "nasa", "slow_3_two"]
    assert len(batches_of(customer)) == 1
    assert customer.credits()["balance"] == 97
    assert run("batch", given).returncode == 0
    assert len(batches_of(customer)) == 2


def test_what_is_not_ended_in_time_is_gone_on_with(run: Run, customer: Customer, tmp_path: Path) -> None:
    (tmp_path / "names").write_text("slow_3_late\n")
    late = run("batch", tmp_path / "names", "--wait", "--wait-seconds", 1)
    assert late.returncode == 4
    assert "not ended in time" in late.stderr
    patient = run("batch", tmp_path / "names", "--wait", "--wait-seconds", 60)
    assert patient.returncode == 0, patient.stderr
    assert len(batches_of(customer)) == 1


def test_a_server_that_is_killed_meanwhile_is_waited_for(impatient: Stack, tmp_path: Path) -> None:
    customer = impatient.customer()
    given, out = tmp_path / "names", tmp_path / "out.ndjson"
    given.write_text("slow_2_one\nslow_2_two\nnasa\n")
    with begun(impatient, customer, tmp_path, given, "--out", out) as process:
        await_true(lambda: batches_of(customer), 20)
        impatient.kill("web")
        impatient.start("web")
        _, stderr = process.communicate(timeout=80)
    assert process.returncode == 0, stderr
    assert len(envelopes(out)) == 3
    assert len(batches_of(customer)) == 1
    assert customer.credits()["balance"] == 97


def test_a_list_from_a_crontab_line(stack: Stack, customer: Customer, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("# those of Monday\nnasa\n\n@empty_x\n")
    line = 'storyhook batch "$HOME"/names.txt --out "$HOME"/stories.ndjson >/dev/null'
    told = stack.from_cron(line, tmp_path, customer.api_key)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    assert ends(envelopes(tmp_path / "stories.ndjson")) == [("nasa", "found"), ("empty_x", "empty")]


def test_watches(run: Run, customer: Customer, receiver: Receiver) -> None:
    added = run("watch", "add", "@nasa", "--every", "1h", "--webhook-url", receiver.url)
    assert (added.returncode, added.stderr) == (0, "")
    watch_id = added.stdout.strip()
    [listed] = map(json.loads, run("watch", "list", "--json").stdout.splitlines())
    assert (listed["watchId"], listed["username"], listed["status"]) == (watch_id, "nasa", "active")
    assert watch_id in run("watch", "list").stdout
    await_true(lambda: receiver.arrivals, 20)  # the first run is at once
    [arrived] = receiver.arrivals
    assert arrived.verified(customer.secret())["watchId"] == watch_id
    ran = json.loads(run("watch", "run", watch_id, "--json").stdout)
    assert customer.outcome(ran["requestId"])["outcome"] == "nothing_new"
    assert run("watch", "pause", watch_id).stdout == f"{watch_id}: paused\n"
    assert run("watch", "resume", watch_id).stdout.startswith(f"{watch_id}: active")
    refused = run("watch", "add", "nasa", "--every", "1s", "--webhook-url", receiver.url)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "every: " in refused.stderr
    assert run("watch", "rm", watch_id).returncode == 0
    assert run("watch", "list", "--json").stdout == ""
    gone = run("watch", "rm", watch_id)
    assert (gone.returncode, gone.stderr.count("\n")) == (3, 1)
