"""What strangers write, in an operator's terminal: to be seen, and nothing else."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from service.auth.api_keys import ApiKeys
from service.bootstrap import build
from service.cli.main import main
from service.config import Settings
from service.domain.accounts import Account
from service.domain.credits import AMOUNT_MOST
from service.domain.instagram import settings_from_sessionid
from service.domain.ports import Services
from service.stores import keys
from service.stores.instagram_sessions import NAMES
from tests.api.support import QuickPasswords
from tests.cli.standin import Batches
from tests.cli.support import KEY, Service, answer, failed, found, refused
from tests.texts import HOSTILE, MARKUP, is_harmless

HOOK = "https://example.com/hook"
EVERY = [*HOSTILE, *MARKUP]

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.bootstrap.Passwords", QuickPasswords)


@pytest.fixture
def services(settings: Settings, valkey: Redis) -> Services:
    return build(settings)


@pytest.fixture
def run(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command beside the store, in a folder without settings of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


def well(result: Result) -> str:
    assert result.exit_code == 0, result.output
    assert is_harmless(result.output)
    return result.stdout


def ill(result: Result, *fields: str) -> None:
    """It was refused, and said why in a line that names the field."""
    assert result.exit_code == 2, result.output
    assert is_harmless(result.output)
    assert not result.stdout
    for field in fields:
        assert f"{field}: " in result.stderr


@pytest.fixture
def strangers(services: Services) -> list[Account]:
    """Accounts that an earlier version let in, with keys named as badly."""
    mint = ApiKeys(b"k" * 32)
    made = [services.accounts.create(f"{text}@x.org", "hash") for text in EVERY]
    for account, text in zip(made, EVERY, strict=True):
        services.accounts.add_key(mint.mint(account.account_id, text)[1])
    return made


def test_accounts_of_strangers_are_listed(run: Run, strangers: list[Account]) -> None:
    told = well(run("account", "list"))
    assert all(each.account_id in told for each in strangers)
    flat = "".join(line.split("│")[2].strip() for line in told.splitlines() if "│" in line)
    assert all(text in flat for text in MARKUP)
    assert r"\x1b]0;owned" in flat
    rows = json.loads(well(run("account", "list", "--json")))
    assert {row["email"] for row in rows} == {each.email for each in strangers}


def test_an_operator_does_everything_to_an_account_of_a_stranger_by_its_id_or_its_address(
    run: Run, services: Services, strangers: list[Account]
) -> None:
    for number, each in enumerate(strangers):
        name = each.account_id if number % 2 else each.email
        assert "prefix" in well(run("account", "keys", name))
        [key] = json.loads(well(run("account", "keys", name, "--json")))
        assert key["name"] == EVERY[number]
        well(run("account", "revoke-key", name, key["id"]))
        assert json.loads(well(run("account", "keys", name, "--json"))) == []
        well(run("account", "sign-out", name))
        well(run("account", "disable", name))
        well(run("account", "enable", name))
        well(run("credits", "add", name, "5", "--note", "a gift"))
        assert services.credits.balance(each.account_id).balance == 5
    well(run("audit"))


@pytest.mark.parametrize("text", HOSTILE)
def test_what_cannot_be_printed_is_refused_wherever_an_operator_gives_it(
    run: Run, services: Services, text: str
) -> None:
    services.accounts.create("anna@example.com", "hash")
    before = services.accounts.all()
    ill(run("account", "create", f"{text}@x.org", "--password", "long enough"), "email")
    ill(run("account", "key", "anna@example.com", "--name", text), "name")
    ill(run("credits", "add", "anna@example.com", "1", "--note", text), "note")
    ill(run("optout", "add", "anna", "--note", text), "note")
    ill(run("instagram", "add", text, "--sessionid", "42%3Aabcdefghijklmno%3A7"), "name")
    ill(run("account", "disable", text))
    ill(
        run(
            "watch",
            "add",
            text,
            "--every",
            "15m",
            "--webhook-url",
            HOOK,
            "--server",
            "http://x",
            "--key",
            "k",
        )
    )
    ill(run("fetch", text, "--server", "http://x", "--key", "k"))
    ill(run("account", "revoke-key", "anna@example.com", text))
    assert run("credits", "add", "anna@example.com", text).exit_code == 2
    assert is_harmless(run("credits", "add", "anna@example.com", text).output)
    assert is_harmless(run("account", "list", f"--{text}").output)
    assert is_harmless(run("account", text).output)
    assert services.accounts.all() == before
    assert services.optouts.list() == []
    assert services.sessions.list() == []


@pytest.mark.parametrize(
    "command",
    [
        "account create {}@x.org --password long-enough",
        "account key anna@example.com --name {}",
        "account keys {}",
        "account password {} --password long-enough",
        "account sign-out {}",
        "account disable {}@x.org",
        "account revoke-key anna@example.com {}",
        "credits add {} 5",
        "credits add anna@example.com 5 --note {}",
        "optout add {}",
        "optout add anna --note {}",
        "optout remove {}",
        "instagram add {} --sessionid 42%3Aabcdefghijklmno%3A7",
        "instagram rest {}",
        "instagram resume {}",
        "instagram remove {}",
        "listen --account {} --port 0 --fail {}",
        "fetch {} --server http://127.0.0.1:1 --key k",
        "watch add {} --every 15m --webhook-url https://example.com --server http://127.0.0.1:1 --key k",
    ],
)
def test_bytes_that_are_no_text_are_refused_in_a_line(run: Run, services: Services, command: str) -> None:
    """As an argument in another encoding comes."""
    services.accounts.create("anna@example.com", "hash")
    told = run(*command.replace("{}", "caf\udce9").split())
    assert told.exit_code == 2, told.output
    assert not isinstance(told.exception, UnicodeError)
    assert is_harmless(told.output)


def test_what_stands_in_other_lists_is_printed_as_text(run: Run, services: Services) -> None:
    services.sessions.add("main", settings_from_sessionid("42%3Aabcdefghijklmno%3A7"))
    for number, text in enumerate(EVERY):
        services.optouts.add(f"name{number}", None, text)
    rows = json.loads(well(run("optout", "list", "--json")))
    assert {row["note"] for row in rows} == set(EVERY)
    assert all(text.split("[")[0] in well(run("optout", "list")) for text in MARKUP)
    well(run("instagram", "list"))


def test_an_account_that_is_broken_keeps_nobody_from_the_list(
    run: Run, services: Services, valkey: Redis
) -> None:
    names = ("anna", "bert", "carl")
    anna, bert, carl = (services.accounts.create(f"{name}@example.com", "hash") for name in names)
    services.credits.add(anna.account_id, 7, entry_type="topup", note="")
    valkey.hset(keys.credits(bert.account_id), "balance", "1e+30")
    valkey.hset(keys.account(carl.account_id), "created_at", "yesterday")
    told = run("account", "list", "--json")
    rows = {row["id"]: row for row in json.loads(told.stdout)}
    assert rows[anna.account_id]["balance"] == 7
    assert rows[bert.account_id]["balance"] == "broken"
    assert carl.account_id not in rows
    for each in (told, run("account", "list")):
        assert each.exit_code == 1
        assert f"passed over: The store's account {carl.account_id} cannot be read" in each.stderr
        assert f"passed over: The store's credits of {bert.account_id} cannot be read" in each.stderr
        assert "broken" in each.stdout


@pytest.mark.parametrize("text", EVERY)
def test_rows_that_are_passed_over_are_named_as_text(
    run: Run, services: Services, valkey: Redis, text: str
) -> None:
    account = services.accounts.create("anna@example.com", "hash")
    valkey.sadd(keys.ACCOUNTS, text)
    valkey.zadd(keys.account_requests(account.account_id), {text: 0})
    valkey.hset(keys.OPTOUT_NAMES, text, "no JSON")
    valkey.sadd(NAMES, text)
    valkey.hset(f"{{ig}}:session:{text}", "state", text)
    for command in ("account list", "audit", "backup file", "instagram list", "optout list"):
        told = run(*command.split())
        assert told.exit_code == 1, (command, told.output)
        assert is_harmless(told.output), command
        assert "passed over" in told.stderr, command


@pytest.mark.parametrize("text", HOSTILE)
def test_differences_and_files_are_named_as_text(
    run: Run, services: Services, valkey: Redis, text: str
) -> None:
    account = services.accounts.create("anna@example.com", "hash")
    entry = {"type": "hold", "amount": "-1", "balance": "0", "held": "1", "request": text, "at": "1"}
    for _ in range(2):
        valkey.xadd(keys.ledger(account.account_id), entry)
    for command in (["audit"], ["audit", "--json"], ["backup", f"x{text}".replace("\x00", "")]):
        told = run(*command)
        assert told.exit_code == 1, told.output
        assert not told.exception or isinstance(told.exception, SystemExit)
        assert is_harmless(told.output), command


@pytest.mark.parametrize("amount", [AMOUNT_MOST + 1, -AMOUNT_MOST - 1, 10**30, -(10**30)])
def test_an_amount_the_store_cannot_hold_is_refused_by_name(
    run: Run, services: Services, amount: int
) -> None:
    account = services.accounts.create("anna@example.com", "hash")
    ill(run("credits", "add", "anna@example.com", str(amount)), "amount")
    assert services.credits.balance(account.account_id).balance == 0
    opening = run(
        "account", "create", "bert@example.com", "--password", "long enough", f"--credits={abs(amount)}"
    )
    assert opening.exit_code == 2
    assert services.accounts.by_email("bert@example.com") is None
    assert run("instagram", "rest", "main", "--minutes", str(abs(amount))).exit_code == 2


def test_a_new_password_tells_of_keys_and_revokes_them_when_asked_to(run: Run, services: Services) -> None:
    account = services.accounts.create("anna@example.com", "hash")
    well(run("account", "key", "anna@example.com"))
    told = well(run("account", "password", "anna@example.com", "--password", "long enough"))
    assert "1 API key(s) go on; --revoke-keys ends them too" in told
    assert len(services.accounts.keys(account.account_id)) == 1
    told = well(run("account", "password", "anna@example.com", "--password", "long enough", "--revoke-keys"))
    assert "it has no API key" in told
    assert services.accounts.keys(account.account_id) == []


def test_a_key_that_is_not_there_is_told(run: Run, services: Services) -> None:
    services.accounts.create("anna@example.com", "hash")
    ill(run("account", "revoke-key", "anna@example.com", "abcdefghijkl"))


# --- a server's words ----------------------------------------------------------------------------


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("service.cli.transport.BACKOFF_FIRST", 0.01)
    return ["--key", KEY]


@pytest.mark.parametrize("text", EVERY)
def test_fetch_prints_a_servers_words_as_text(service: Service, given: list[str], text: str) -> None:
    server = ["--server", service.url, *given]
    service.will("anna", answer({**failed("anna", "account_private"), "code": text, "error": text}, 403))
    service.will("bert", answer({**found("bert"), "outcome": text}))
    service.will("carl", answer(refused(text, text), 422))
    told = CliRunner().invoke(main, ["fetch", *server, "--table", "anna", "bert", "carl"])
    assert told.exit_code in {1, 3}, told.output
    assert is_harmless(told.output)
    if text in MARKUP:
        assert text in told.stderr


@pytest.mark.parametrize("text", EVERY)
def test_watch_prints_a_servers_words_as_text(batches: Batches, given: list[str], text: str) -> None:
    server = ["--server", batches.url, *given]
    add = ["--every", "15m", "--webhook-url", HOOK]
    assert CliRunner().invoke(main, ["watch", "add", *server, *add, "anna"]).exit_code == 0
    [watch] = batches.watches.values()
    watch.update(username=text, pauseReason=text, lastOutcome=text, status=text)
    assert is_harmless(CliRunner().invoke(main, ["watch", "list", *server]).output)
    as_json = CliRunner().invoke(main, ["watch", "list", *server, "--json"])
    assert is_harmless(as_json.output)
    assert json.loads(as_json.stdout)["username"] == text
    batches.trouble["watches"] = [lambda _: answer(refused(text, text), 409)]
    refusal = CliRunner().invoke(main, ["watch", "add", *server, *add, "bert"])
    assert refusal.exit_code == 3
    assert is_harmless(refusal.output)


@pytest.mark.parametrize("text", EVERY)
def test_batch_prints_a_servers_words_as_text(
    batches: Batches, given: list[str], tmp_path: Path, text: str
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("anna\n")
    said = {
        "success": True,
        "batchId": f"bat_{text}",
        "status": text,
        "accepted": 1,
        "invalid": [{"line": text, "value": text, "error": text}],
        "duplicates": [{"line": 1, "username": text}],
        "unpaid": [text],
    }
    for more in ([], ["--json"]):
        batches.trouble["submit"] = [lambda _: answer(said, 202)]
        command = ["batch", "--server", batches.url, *given, "--resume-within", "0", *more, str(names)]
        told = CliRunner().invoke(main, command)
        assert told.exit_code == 1, told.output
        assert is_harmless(told.output)
    assert json.loads(told.stdout) == said


def test_a_terminal_gets_a_body_with_its_hidden_characters_escaped(service: Service) -> None:
    """Into a pipe it goes byte by byte as it came."""
    body = {**found("anna"), "extra": "".join(HOSTILE)}
    text = json.dumps(body, ensure_ascii=False)
    service.will("anna", answer(text))
    command = [sys.executable, "-m", "service.cli.main", "fetch", "--json", "anna"]
    environment = {**os.environ, "STORYHOOK_URL": service.url, "STORYHOOK_API_KEY": KEY, "NO_PROXY": "*"}
    root = Path(__file__).parents[2]
    piped = subprocess.run(
        command, env={**environment, "PYTHONPATH": str(root)}, capture_output=True, check=True
    )
    assert piped.stdout.decode() == text + "\n"
    master, slave = pty.openpty()
    try:
        subprocess.run(
            command,
            env={**environment, "PYTHONPATH": str(root)},
            stdout=slave,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        shown = os.read(master, 65_536).decode().replace("\r\n", "\n")
    finally:
        os.close(master)
        os.close(slave)
    assert is_harmless(shown)
    assert json.loads(shown) == body


def test_the_audit_does_not_pass_a_broken_account_over_in_silence(
    run: Run, services: Services, valkey: Redis
) -> None:
    account = services.accounts.create("anna@example.com", "hash")
    valkey.hdel(keys.account(account.account_id), "password")
    told = run("audit", "--json")
    assert told.exit_code == 1
    assert f"passed over: The store's account {account.account_id} cannot be read" in told.stderr
    assert json.loads(told.stdout) == []
