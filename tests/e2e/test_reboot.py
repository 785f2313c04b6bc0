"""A reboot: everything starts at once, and the store loads its file for a long time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.conftest import await_true
from tests.e2e import unit
from tests.e2e.stack import SERVICE, Stack, leaving_nothing
from tests.e2e.standin import LoadingStore

# As long as a machine may take that has everything to start at once.
PATIENCE = 120


class Machine(Stack):
    """A stack whose roles are started by the commands of the shipped units."""

    def command_of(self, name: str) -> list[str]:
        return unit.command(name) if name in SERVICE else super().command_of(name)

    def lines(self, name: str, event: str) -> list[dict]:
        """Return the lines a role has logged of one event."""
        found = (self.logs / f"{name}.log").read_text().splitlines()
        told = [json.loads(line) for line in found if line.startswith("{")]
        return [line for line in told if line.get("event") == event]


@pytest.fixture
def machine(home: Callable[[], Path]) -> Iterator[tuple[Machine, LoadingStore]]:
    folder = home()
    first = Machine(folder)
    with LoadingStore(int(first.plan.environment["STORE_PORT"])) as store:
        first.plan.environment["REDIS_URL"] = store.url
        first.plan.environment["LOG_FORMAT"] = "json"
        with leaving_nothing(first) as machine:
            yield machine, store


@pytest.mark.timeout(400)
def test_after_a_reboot_all_come_up_by_themselves_and_say_what_they_wait_for(
    machine: tuple[Machine, LoadingStore],
) -> None:
    stack, store = machine
    stack.start("store", "instagram", *SERVICE)
    # Once at once, and again after ten seconds.
    for role in SERVICE:
        await_true(lambda role=role: len(stack.lines(role, "start.waiting")) >= 2, PATIENCE)
    for role in SERVICE:
        first, second = stack.lines(role, "start.waiting")[:2]
        assert f"127.0.0.1:{store.port}" in first["waits_for"]
        assert "loading" in first["waits_for"]
        assert first["seconds"] < second["seconds"]
        assert stack.runs(role), f"{role} gave up"
    assert requests.get(f"{stack.base_url}/healthz", timeout=10).status_code == 200
    ready = requests.get(f"{stack.base_url}/readyz", timeout=10)
    assert ready.status_code == 503
    assert f"127.0.0.1:{store.port}" in ready.json()["waitingFor"]

    store.loaded()
    stack._prepare()
    assert stack.call("POST", "/api/instagram/stories", json={"username": "nasa"}).status_code == 200
    for role in SERVICE:
        await_true(lambda role=role: stack.lines(role, "process.ready"), PATIENCE)
        [ready_line] = stack.lines(role, "process.ready")
        assert ready_line["role"] == role
        assert ready_line["instagram"] == "simulated"
        assert f":{store.port}" in ready_line["store"]
    assert "Traceback" not in stack.output()
