"""Loads the Lua files beside this module and hands them out as scripts.

The store is sent a script's hash. One that does not know it (restarted, flushed, a new node of a cluster)
says so, and is sent the text: it heals by itself. What several do stands in ``lua/parts`` and is put in where
one says ``-- @include <part>``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from service.stores.commands import Command, alone
from service.stores.connection import Client

_INCLUDE = re.compile(r"^-- @include (\w+)\n", re.MULTILINE)


class Script:
    """A script bound to a client; nothing is sent before its first call."""

    def __init__(self, redis: Client, text: str) -> None:
        self._redis = redis
        self._text = text
        self._hash = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return alone(self._redis, self.command(keys, args))

    def command(self, keys: Sequence[str], args: Sequence[Any], *, raw: bool = False) -> Command:
        """Return the call, to be sent with others."""
        return Command(("EVALSHA", self._hash, len(keys), *keys, *args), raw, self._text)


@cache
def source(name: str) -> str:
    """Return the text of ``lua/<name>.lua``."""
    return (files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")


def _whole(name: str) -> str:
    """Return the text of a script with the parts it includes."""
    return _INCLUDE.sub(lambda line: source(f"parts/{line.group(1)}"), source(name))


def load(redis: Client, name: str) -> Script:
    """Return the script ``name`` bound to ``redis``."""
    return Script(redis, _whole(name))


def pairs(flat: list[Any]) -> dict[str, Any]:
    """Turn a Lua reply ``[field, value, ...]`` into a dict."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
