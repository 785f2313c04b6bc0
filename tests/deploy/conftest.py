"""What the deployment tests share: where the files are, and which settings there are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"

NAME = re.compile(r"[A-Z][A-Z0-9_]{3,}")
# No settings of an installation: what a command sets for its children, what a client of the API reads.
NOT_OURS = {
    "PATH",
    "PYTHONUNBUFFERED",
    "RES_OPTIONS",
    "STORYHOOK_URL",
    "STORYHOOK_API_KEY",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
}


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def deploy() -> Path:
    return DEPLOY


@pytest.fixture(scope="session")
def settings_of_service() -> set[str]:
    """The names service/config.py and its part about upstreams read."""
    trees = [ast.parse((ROOT / "service" / name).read_text()) for name in ("config.py", "upstreams.py")]
    return {
        call.args[0].value
        for tree in trees
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "env"
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }


@pytest.fixture(scope="session")
def settings_of_commands() -> set[str]:
    """The names the `storyhook` commands and the simulator read besides."""
    files = [*(ROOT / "service/cli").glob("*.py"), *(ROOT / "workers/simulator").glob("*.py")]
    found = {name for file in files for name in _names(ast.parse(file.read_text()))}
    return {name for name in found - NOT_OURS if not name.endswith("_FILE")}


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        for place in _places(node):
            if isinstance(place, ast.Constant) and NAME.fullmatch(str(place.value)):
                yield str(place.value)


def _places(node: ast.AST) -> list[ast.expr | None]:
    """Where a name of the environment may stand: a key, an index, what is got, a click option's envvar."""
    if isinstance(node, ast.Dict):
        return list(node.keys)
    if isinstance(node, ast.Subscript):
        return [node.slice]
    if isinstance(node, ast.keyword) and node.arg == "envvar":
        return [node.value]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.args[:1] if node.func.attr in {"get", "setdefault", "getenv"} else []
    return []
