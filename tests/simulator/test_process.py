"""Starting, stopping and restarting the process."""

from __future__ import annotations

import signal

import pytest
import requests

from .conftest import start


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.com"])
def test_it_refuses_to_be_reachable_from_outside(host):
    process = start("--host", host, "--port", "0")
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 2
    assert complaint.count("\n") == 1
    assert host in complaint
    assert "loopback" in complaint


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SIMULATOR_LATENCY_MS", "soon"), ("SIMULATOR_FAILURE_RATE", "2"), ("SIMULATOR_SEED", "0.5")],
)
def test_it_refuses_a_bad_knob_at_start(variable, value):
    process = start("--port", "0", **{variable: value})
    _, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint.count("\n")) == (2, 1)
    assert variable in complaint


def test_a_taken_port_is_one_clear_line(simulator):
    process = start("--port", simulator.url.rpartition(":")[2])
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 2
    assert complaint.startswith("simulator: cannot start")
    assert complaint.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once_even_while_a_call_hangs(launch, number):
    process, simulator = launch()
    with pytest.raises(requests.ReadTimeout):
        simulator.feed("hang_anna", timeout=0.2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


def test_the_environment_sets_address_and_knobs(launch):
    _, simulator = launch(
        SIMULATOR_HOST="localhost", SIMULATOR_LATENCY_MS="1.5", SIMULATOR_FAILURE_RATE="1", SIMULATOR_SEED="7"
    )
    simulator.knobs(latency_ms=0)
    simulator.reset()
    knobs = requests.get(f"{simulator.url}/_sim/knobs", timeout=60).json()
    assert (knobs["latency_ms"], knobs["failure_rate"], knobs["seed"]) == (1.5, 1, 7)
    assert simulator.get("users/nasa/usernameinfo/").status_code == 500


def test_ids_outlive_a_restart(launch, simulator, tmp_path):
    def feed(*arguments: str) -> dict:
        _, other = launch(*arguments)
        return other.get(f"feed/user/{owner}/story/").json()["reel"]

    owner = simulator.user_id("nasa")
    _, first = launch("--data", str(tmp_path))
    assert first.user_id("nasa") == owner
    known, forgotten = feed("--data", str(tmp_path)), feed()
    assert known["user"]["username"] == "nasa"
    assert forgotten["user"]["pk"] == owner
    assert forgotten["media_ids"] == known["media_ids"]


def test_the_same_question_gets_the_same_answer(simulator):
    answers = [simulator.feed("nasa").json() for _ in range(3)]
    # One of three may fall on either side of the second in which an item expires.
    assert answers[0] == answers[1] or answers[1] == answers[2]
