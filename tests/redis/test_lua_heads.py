"""The scripts' heads say what the scripts do, and no key is made up inside a script."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from service.stores import scripts
from tests.redis.kit import documented, head

LUA = files("service.stores") / "lua"
NAMES = sorted(file.name.removesuffix(".lua") for file in LUA.iterdir() if file.is_file())
PARTS = sorted("parts/" + file.name.removesuffix(".lua") for file in (LUA / "parts").iterdir())
KEYLESS = {"TIME", "PUBLISH"}


@pytest.mark.parametrize("name", NAMES)
def test_a_head_tells_keys_arguments_and_what_is_returned(name: str) -> None:
    assert all(re.search(rf"^ {part}  ", head(name), re.MULTILINE) for part in ("KEYS", "ARGV", "Returns"))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "rate"])  # one for each window
@pytest.mark.parametrize("what", ["KEYS", "ARGV"])
def test_a_script_uses_all_it_documents_and_nothing_else(name: str, what: str) -> None:
    used = {int(number) for number in re.findall(rf"{what}\[(\d+)\]", scripts.source(name))}
    assert used == set(range(1, documented(name, what) + 1))


def calls(name: str) -> list[tuple[str, str]]:
    """The commands of a script, each with what its first argument is called."""
    return re.findall(r"redis\.call\('(\w+)'(?:,\s*([^,)]+))?", scripts.source(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_script_names_no_key_that_it_was_not_given(name: str) -> None:
    assert all(command in KEYLESS or first.startswith("KEYS[") for command, first in calls(name))


@pytest.mark.parametrize("name", PARTS)
def test_a_part_touches_what_it_is_given_and_says_so(name: str) -> None:
    assert calls(name)
    for _, first in calls(name):
        assert re.search(rf"^ {first}  ", head(name), re.MULTILINE) or first == "name", first
    assert re.search(r"^ Returns  ", head(name), re.MULTILINE)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_one_because_several_include_it(part: str) -> None:
    line = f"-- @include {part.removeprefix('parts/')}\n"
    assert sum(line in scripts.source(name) for name in NAMES) > 1


@pytest.mark.parametrize("name", [*NAMES, *PARTS])
def test_a_script_asks_the_server_for_the_time_and_nobody_else(name: str) -> None:
    assert "os.time" not in scripts.source(name)
    assert ("now" not in re.sub(r"--.*", "", scripts.source(name))) or "'TIME'" in scripts.source(name)
