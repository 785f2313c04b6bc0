"""`storyhook fetch` against the real processes: what cron and people get."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.clients import Customer
from tests.e2e.stack import Stack

JPEG, MP4 = b"\xff\xd8\xff", b"ftyp"


@pytest.fixture
def fetch(stack: Stack, customer: Customer) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`storyhook fetch` on a machine that knows the server and a key, and has no store."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        known = {
            "STORYHOOK_URL": stack.base_url,
            "STORYHOOK_API_KEY": customer.api_key,
            "SIMULATED_INSTAGRAM_URL": stack.simulator.url,
            "REDIS_URL": "redis://127.0.0.1:1/0",
        }
        return stack.storyhook("fetch", *arguments, **{**known, **settings})

    return run


def test_several_names_with_all_kinds_of_ends(fetch: Callable, customer: Customer) -> None:
    told = fetch("nasa", "private_x", "@empty_x", "missing_x", "https://instagram.com/nasa/", "--jobs", "3")
    envelopes = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(each["username"], each.get("outcome") or each["code"]) for each in envelopes] == [
        ("nasa", "found"),
        ("private_x", "account_private"),
        ("empty_x", "empty"),
        ("missing_x", "user_not_found"),
    ]
    assert told.returncode == 1
    assert [line.split(": ")[:3] for line in told.stderr.splitlines()] == [
        ["storyhook", "private_x", "account_private"],
        ["storyhook", "missing_x", "user_not_found"],
    ]
    assert customer.credits()["balance"] == 98
    for line, each in zip(told.stdout.splitlines(), envelopes, strict=True):
        assert customer.look(each["requestId"]).text == line, "not as the server sent it"


def test_found_and_empty_are_success(fetch: Callable) -> None:
    told = fetch("nasa", "empty_x", "--table")
    assert (told.returncode, told.stderr) == (0, "")
    assert "found" in told.stdout
    assert "empty" in told.stdout


def test_a_slow_account_is_polled_until_it_has_ended(fetch: Callable, customer: Customer) -> None:
    told = fetch("slow_3_fetched", "--wait", "1")
    assert told.returncode == 1
    assert "not ended in time; it goes on as req_" in told.stderr
    customer.outcome(json.loads(told.stdout)["requestId"])
    patient = fetch("slow_3_patient", "--wait", "20")
    assert (patient.returncode, patient.stderr) == (0, "")
    assert customer.credits()["balance"] == 98


def test_media_are_saved_once(fetch: Callable, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = fetch("nasa", "stickers_x", "empty_x", "--max-age", "0", "--save", str(out))
    assert (told.returncode, told.stderr) == (0, "")
    files = [Path(line) for line in told.stdout.splitlines()]
    assert len(files) == 7
    for file in files:
        body = file.read_bytes()
        assert len(body) > 1000
        assert body.startswith(JPEG) if file.suffix == ".jpg" else body[4:8] == MP4
    assert {file.suffix for file in files} == {".jpg", ".mp4"}
    [kept] = (out / "nasa").glob("req_*.json")
    items = json.loads(kept.read_bytes())["data"]["items"]
    assert {file.stem.split("_")[1] for file in files if file.parent.name == "nasa"} == {
        item["pk"] for item in items
    }
    # The same reels: nasa may have posted meanwhile.
    again = fetch("nasa", "stickers_x", "--max-age", "3600", "--save", str(out))
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_what_is_saved_comes_from_the_archive(stack: Stack, fetch: Callable, tmp_path: Path) -> None:
    told = fetch("stickers_kept", "--max-age", "0", "--save", str(tmp_path))
    assert (told.returncode, told.stderr) == (0, "")
    files = [Path(line) for line in told.stdout.splitlines()]
    [envelope] = tmp_path.rglob("req_*.json")
    items = {item["pk"]: item for item in json.loads(envelope.read_bytes())["data"]["items"]}
    assert len(files) == len(items) > 0
    for file in files:
        kept = items[file.stem.partition("_")[2]]["archive"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == kept["sha256"]
    asked = stack.simulator.calls()["by_endpoint"]
    of_the_cdn = sum(count for endpoint, count in asked.items() if endpoint.startswith("cdn"))
    assert of_the_cdn == len(items), "the CDN is asked by the worker, and by nobody else"


def test_a_crontab_line_needs_a_home_and_a_config_file_only(
    stack: Stack, customer: Customer, tmp_path: Path
) -> None:
    (tmp_path / "names").write_text("# those of Monday\nnasa\n\n@empty_x\n")
    line = 'storyhook fetch - --max-age 0 <"$HOME"/names >"$HOME"/out.ndjson'
    run = stack.from_cron(line, tmp_path, customer.api_key)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    lines = (tmp_path / "out.ndjson").read_text().splitlines()
    assert [json.loads(line)["username"] for line in lines] == ["nasa", "empty_x"]
    (tmp_path / ".config" / "storyhook" / "config.toml").chmod(0o644)
    refused = stack.storyhook("fetch", "nasa", HOME=str(tmp_path))
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "chmod 600" in refused.stderr


def test_a_key_that_holds_no_more_and_credits_that_are_gone(stack: Stack, fetch: Callable) -> None:
    wrong = fetch("nasa", "esa", STORYHOOK_API_KEY="sk_live_wrong")
    assert (wrong.returncode, wrong.stdout) == (3, "")
    assert "(unauthorized)" in wrong.stderr
    poor = fetch("nasa", STORYHOOK_API_KEY=stack.customer(0).api_key)
    assert (poor.returncode, poor.stdout) == (3, "")
    assert "(insufficient_credits)" in poor.stderr


def test_a_killed_server_is_waited_for_and_then_given_up(impatient: Stack) -> None:
    known = {"STORYHOOK_URL": impatient.base_url, "STORYHOOK_API_KEY": impatient.api_key}
    impatient.kill("web")
    told = impatient.storyhook("fetch", "nasa", "esa", "--wait", "1", **known)
    assert (told.returncode, told.stdout) == (3, "")
    assert "could not be reached" in told.stderr.splitlines()[0]
    with subprocess.Popen(
        ["storyhook", "fetch", "nasa", "--wait", "60"],
        env=impatient.shell_environment(**known),
        cwd=impatient.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        impatient.start("web")
        stdout, stderr = waiting.communicate(timeout=60)
    assert (waiting.returncode, stderr) == (0, "")
    assert json.loads(stdout)["outcome"] == "found"
