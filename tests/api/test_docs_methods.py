"""docs/hikerapi.md names every method, route and operation, and tests that exist."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from pathlib import Path

import hikerapi
import pytest
from instagrapi.mixins.highlight import HighlightMixin
from instagrapi.mixins.story import StoryMixin

from service.api.hiker.table import ROUTES
from service.domain.operations import OPERATIONS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "hikerapi.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")]
TABLES = "\n".join(ROWS[next(at for at, row in enumerate(ROWS) if row.startswith("| Method")) :])
TESTS = sorted(set(re.findall(r"(tests/[\w/]+\.py)::(\w+)", PAGE)))
WRITES = re.compile(
    r"(story|highlight)_(create|edit|delete|like|unlike|seen|poll_vote|(add|remove|change)_\w+)"
)


def methods(cls: type, wanted: str) -> Iterable[str]:
    found = (name for name, _ in inspect.getmembers(cls, inspect.isfunction))
    return [name for name in found if not name.startswith("_") and re.search(wanted, name)]


@pytest.mark.parametrize(("file", "test"), TESTS)
def test_a_test_that_is_named_exists(file: str, test: str) -> None:
    assert test.startswith("test_")
    assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_tests_are_named() -> None:
    assert len(TESTS) > 10


@pytest.mark.parametrize("path", [route.path for route in ROUTES])
def test_every_route_stands_in_the_table(path: str) -> None:
    assert f"| `{path}` |" in TABLES


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_stands_in_the_table(operation: str) -> None:
    assert re.search(rf"`(POST|GET) /api/instagram/{operation}\b", TABLES)


@pytest.mark.parametrize("cls", [hikerapi.Client, hikerapi.AsyncClient])
def test_every_method_of_hikerapi_about_stories_and_accounts_stands_in_the_table(cls: type) -> None:
    wanted = methods(cls, r"^(user_stories|story|user_highlights|highlight|user_by|share)_?")
    assert len(wanted) > 25
    assert [name for name in wanted if f"`{name}`" not in TABLES] == []


@pytest.mark.parametrize("mixin", [StoryMixin, HighlightMixin])
def test_every_method_of_instagrapi_that_reads_stands_in_the_table(mixin: type) -> None:
    wanted = [name for name in methods(mixin, "") if not WRITES.fullmatch(name)]
    assert len(wanted) >= 5
    assert [name for name in wanted if f"`{name}`" not in TABLES] == []


def test_what_a_route_costs_is_told() -> None:
    costs = {reqs for operation in OPERATIONS.values() for reqs in operation.reqs.values()}
    told = {int(row.split("|")[-2]) for row in ROWS if re.search(r"\| \d \|$", row)}
    assert told == costs | {0}
