"""The harness itself: what it makes of figures, and that it measures. How fast anything is, is no test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import __main__ as bench
from tests.bench import load, proc, programs, report
from tests.bench.figures import VALUE, Figure, Goal, Part, number, percentile
from tests.bench.lab import in_turn
from tests.conftest import await_true
from tests.webhooks.fast_receiver import fast_receiver

HALF = Figure("CPU per request", 1.5, "ms", 1.0, Goal(1.3))
PART = Part(
    "accept: Accepting a request",
    "How it is done.",
    [HALF, Figure("jobs per second", 90, "/s", 10, Goal(3, at_least=True)), Figure("memory", 12.0, "MB")],
    {"ours": {"web": 1.0, "worker": 2.0}, "floor": {"flask": 0.5}},
)


@pytest.mark.parametrize(
    ("figure", "ratio", "met"),
    [
        (Figure("", 1.3, "ms", 1.0, Goal(1.3)), 1.3, True),
        (Figure("", 1.31, "ms", 1.0, Goal(1.3)), 1.31, False),
        (Figure("", 9.9, "ms", 3.0, Goal(10, VALUE)), 3.3, True),
        (Figure("", 10.1, "ms", None, Goal(10, VALUE)), None, False),
        (Figure("", 30, "/s", 10, Goal(3, at_least=True)), 3.0, True),
        (Figure("", 29, "/s", 10, Goal(3, at_least=True)), 2.9, False),
        (Figure("", 0, "/s", 10, Goal(3, at_least=True)), 0.0, False),
        (Figure("", 5, "ms", 0.0), None, None),
    ],
)
def test_a_figure_meets_its_goal(figure: Figure, ratio: float | None, met: bool | None) -> None:
    assert figure.ratio == pytest.approx(ratio)
    assert figure.met is met


def test_a_goal_for_a_ratio_needs_a_floor() -> None:
    with pytest.raises(ValueError, match="no floor"):
        _ = Figure("CPU", 1.0, "ms", None, Goal(1.3)).met


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234.5, "1,234"), (100.4, "100"), (45.67, "45.7"), (1.234, "1.23"), (0.01234, "0.0123"), (2.0, "2")],
)
def test_numbers_have_about_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_percentile_lies_within_what_was_measured() -> None:
    assert percentile([1.0, 2.0], 99) == pytest.approx(1.99)
    assert percentile([float(each) for each in range(1, 102)], 99) == pytest.approx(100)


def test_measures_are_taken_in_turn() -> None:
    order: list[str] = []

    def measure(name: str, values: list[float]) -> float:
        order.append(name)
        return values.pop()

    ours, floor = [1.0, 50.0, 2.0], [8.0, 9.0, 7.0]
    assert in_turn(3, lambda: measure("A", ours), lambda: measure("B", floor)) == [2.0, 8.0]
    assert "".join(order) == "ABABAB"


def test_the_page_has_every_figure_and_says_what_was_missed() -> None:
    page = report.markdown("make bench", {"cores": "2"}, [PART], "benchmarks.svg")
    assert "| CPU per request | 1.50 | ms | 1 | 1.50 | ≤ 1.30× | NO |" in page
    assert "| jobs per second | 90 | /s | 10 | 9 | ≥ 3× | yes |" in page
    assert "| memory | 12 | MB |  |  |  |  |" in page
    assert "Goals missed: accept, CPU per request." in page
    assert "(benchmarks.svg)" in page


def test_the_table_has_every_figure() -> None:
    assert report.table(PART).row_count == len(PART.figures)


def test_the_same_figures_make_the_same_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="comes with the extra bench")
    from tests.bench.plot import draw

    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    draw([PART], first)
    draw([PART], second)
    assert first.read_bytes() == second.read_bytes()
    assert "CPU per request" in first.read_text(encoding="utf-8")


def test_cpu_and_memory_are_those_of_a_whole_session(tmp_path: Path) -> None:
    child = "import itertools; any(False for _ in itertools.count())"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with programs.running(["python", "-c", parent], tmp_path / "log") as session:
        await_true(lambda: proc.cpu_seconds(session) > 0.2, 60)
        assert proc.resident_bytes(session) > 2_000_000
    await_true(lambda: proc.resident_bytes(session) == 0, 30)  # the busy child too


def test_the_load_generator_sends_each_body_once() -> None:
    with fast_receiver() as receiver:
        plan = {"address": receiver.hosts[0], "path": "/loaded/1", "bodies": ["{}"] * 50, "callers": 4}
        found = load.Load(plan).run()
        assert receiver.seen()["count"] == 50
        assert receiver.count("/loaded/") == 1
    assert found["statuses"] == {"204": 50}
    assert len(found["times"]) == len(found["answered"]) == 50
    assert all(seconds > 0 for seconds in found["times"])


def test_the_load_generator_keeps_its_pace() -> None:
    with fast_receiver() as receiver:
        plan = {"address": receiver.hosts[0], "path": "/", "bodies": ["{}"] * 5, "callers": 2, "rate": 20}
        found = load.Load(plan).run()
    assert found["seconds"] >= 4 / 20  # the fifth is not sent before its time


def test_a_program_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="KeyError"):
        programs.ask("tests.bench.load", {})


def test_accepting_is_measured_and_written_down(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    assert bench.main(["--quick", "--only", "accept", "--json", str(file)]) == 0
    [part] = json.loads(file.read_text(encoding="utf-8"))["parts"]
    figures = {figure["name"]: figure for figure in part["figures"]}
    cpu = figures["CPU per request"]
    assert cpu["goal"] == "≤ 1.30×"
    assert cpu["value"] > 0
    assert figures["requests per second from 16 callers"]["floor"] > 0
