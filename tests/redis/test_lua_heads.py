"""The scripts' heads say what the scripts do, and no key is made up inside a script."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from service.stores import scripts
from tests.redis.kit import documented, head

NAMES = sorted(file.name.removesuffix(".lua") for file in (files("service.stores") / "lua").iterdir())
KEYLESS = {"TIME", "PUBLISH"}


@pytest.mark.parametrize("name", NAMES)
def test_a_head_tells_keys_arguments_and_what_is_returned(name: str) -> None:
    assert all(re.search(rf"^ {part}  ", head(name), re.MULTILINE) for part in ("KEYS", "ARGV", "Returns"))


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name != "rate"]
)  # takes as many as there are windows
@pytest.mark.parametrize("what", ["KEYS", "ARGV"])
def test_a_script_uses_all_it_documents_and_nothing_else(name: str, what: str) -> None:
    used = {int(number) for number in re.findall(rf"{what}\[(\d+)\]", scripts.source(name))}
    assert used == set(range(1, documented(name, what) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_a_script_names_no_key_that_it_was_not_given(name: str) -> None:
    for command, first in re.findall(r"redis\.call\('(\w+)'(?:,\s*([^,)]+))?", scripts.source(name)):
        assert command in KEYLESS or first.startswith("KEYS[") or (name == "rate" and first == "key")


@pytest.mark.parametrize("name", NAMES)
def test_a_script_asks_the_server_for_the_time_and_nobody_else(name: str) -> None:
    assert "os.time" not in scripts.source(name)
    assert ("now" not in re.sub(r"--.*", "", scripts.source(name))) or "'TIME'" in scripts.source(name)
