"""The `storyhook` command as the operator uses it beside a running service."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from service.cli.local import SIMULATED_SESSIONS
from tests.conftest import await_true
from tests.e2e.clients import Customer
from tests.e2e.stack import Stack, leaving_nothing, new_address


def test_an_account_from_its_making_to_its_end(stack: Stack) -> None:
    email = new_address()
    made = stack.storyhook("account", "create", email, "--password", "a long enough one", "--credits", "2")
    assert (made.returncode, made.stderr) == (0, "")
    key = re.search(r"API key +(sk_live_\S+)", made.stdout)
    assert key is not None
    customer = Customer(stack.base_url, key[1])
    assert customer.stories("nasa").status_code == 200

    added = stack.storyhook("credits", "add", email, "5", "--note", "thanks")
    assert added.stdout == f"{email}: balance 6, held 0, available 6\n"
    taken = stack.storyhook("credits", "add", email, "-2")
    assert "balance 4" in taken.stdout
    assert customer.ledger()[-2:] == [("topup", 5), ("adjustment", -2)]

    [row] = [row for row in listed(stack, "account", "list") if row["email"] == email]
    assert (row["state"], row["balance"], row["held"]) == ("active", 4, 0)
    assert stack.storyhook("account", "disable", email).returncode == 0
    refused = customer.stories("nasa")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert stack.storyhook("account", "enable", email).returncode == 0
    assert customer.stories("nasa").status_code == 200


def test_a_token_works_until_the_password_changes(stack: Stack) -> None:
    email = new_address()
    stack.customer(email=email)
    anybody = Customer(stack.base_url, "")
    login = {"email": email, "password": "a long enough password"}
    token = anybody.call("POST", "/auth/login", json=login).json()["token"]
    bearer = Customer(stack.base_url, token)
    assert bearer.credits()["balance"] == 100
    assert stack.storyhook("account", "password", email, "--password", "another long one").returncode == 0
    assert bearer.call("GET", "/api/credits").status_code == 401
    assert anybody.call("POST", "/auth/login", json=login).status_code == 401


def test_a_leaked_key_and_a_leaked_token_are_taken_back(stack: Stack) -> None:
    email = new_address()
    stack.customer(email=email)
    login = {"email": email, "password": "a long enough password"}
    token = Customer(stack.base_url, "").call("POST", "/auth/login", json=login).json()["token"]
    bearer = Customer(stack.base_url, token)
    leaked = Customer(stack.base_url, bearer.call("POST", "/keys", json={"name": "leaked"}).json()["key"])
    assert leaked.call("GET", "/api/credits").status_code == 200

    keys = {row["name"]: row for row in listed(stack, "account", "keys", email)}
    assert keys["leaked"]["last used"]
    assert keys["leaked"]["last used from"] == "127.0.0.1"
    assert stack.storyhook("account", "revoke-key", email, keys["leaked"]["id"]).returncode == 0
    assert leaked.call("GET", "/api/credits").status_code == 401
    assert bearer.call("GET", "/api/credits").status_code == 200
    assert stack.storyhook("account", "sign-out", email).returncode == 0
    assert bearer.call("GET", "/api/credits").status_code == 401


def test_sessions_are_listed_rested_and_resumed(stack: Stack, customer: Customer) -> None:
    names = [row["name"] for row in listed(stack, "instagram", "list")]
    assert names == [f"simulated-{number:02d}" for number in range(1, SIMULATED_SESSIONS + 1)]
    assert customer.stories("challenge_olga").status_code == 503
    out = [row for row in listed(stack, "instagram", "list") if row["state"] == "quarantined"]
    assert [row["reason"] for row in out] == ["challenge"] * 3
    assert stack.storyhook("instagram", "resume", "--all").returncode == 0
    assert {row["state"] for row in listed(stack, "instagram", "list")} == {"active"}
    assert stack.storyhook("instagram", "rest", "simulated-01").returncode == 0
    assert listed(stack, "instagram", "list")[0]["state"] == "resting"
    assert "simulated-01" in stack.storyhook("instagram", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("credits", "add", "nobody@example.com", "1"), "There is no account for nobody@example.com."),
        (("account", "create", "demo@storyhook.local", "--password", "x" * 20), "storyhook: "),
        (("account", "create", "short@example.com", "--password", "x"), "storyhook: password: "),
        (("credits", "add", "demo@storyhook.local", "-1000000"), "storyhook: "),
        (("credits", "add", "demo@storyhook.local", "1" + "0" * 30), "storyhook: amount: "),
        (("account", "create", "\x1b[31m@example.com", "--password", "x" * 20), "storyhook: email: "),
    ],
)
def test_a_mistake_is_one_clear_line(stack: Stack, arguments: tuple[str, ...], told: str) -> None:
    assert stack.api_key  # the demo account is there
    answer = stack.storyhook(*arguments)
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (2, "", 1)
    assert told in answer.stderr


@pytest.mark.parametrize("program", ["web", "worker", "deliverer", "beat"])
def test_production_without_a_secret_is_refused(stack: Stack, program: str) -> None:
    answer = stack.storyhook(program, ENVIRONMENT="production", REDIS_URL="redis://127.0.0.1:1/0")
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (2, "", 1)
    assert answer.stderr.startswith("storyhook: SECRET_KEY is not set.")


@pytest.mark.parametrize("program", ["web", "worker", "deliverer"])
def test_data_of_a_newer_version_is_refused(stack: Stack, home: Callable[[], Path], program: str) -> None:
    redis_url = stack.plan.environment["REDIS_URL"].replace("/0", "/9")
    with Redis.from_url(redis_url) as redis:
        redis.hset("g:meta", mapping={"format": 99, "shards": 16})
    with leaving_nothing(Stack(home(), REDIS_URL=redis_url)) as newer:
        newer.start(program)
        await_true(lambda: not newer.runs(program), 60)
        assert "the data is of format 99" in newer.output(program)
        assert "Traceback" not in newer.output(program)


def test_a_store_that_is_not_there_is_one_clear_line(stack: Stack) -> None:
    settings = {"REDIS_URL": "redis://127.0.0.1:1/0", "SECRET_KEY": "x" * 40}
    answer = stack.storyhook("account", "list", **settings)
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert answer.stderr.startswith("storyhook: REDIS_URL: the store does not answer")


def listed(stack: Stack, *command: str) -> list[dict]:
    answer = stack.storyhook(*command, "--json")
    assert (answer.returncode, answer.stderr) == (0, ""), answer.stderr
    return json.loads(answer.stdout)
