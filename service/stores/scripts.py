"""Loads the Lua files beside this module and hands them out as redis-py scripts.

redis-py sends EVALSHA and falls back to loading the text again (NOSCRIPT), so a restarted or
flushed store heals by itself.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.commands.core import Script


@cache
def source(name: str) -> str:
    """Return the text of ``lua/<name>.lua``."""
    return (files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")


def load(redis: Redis, name: str) -> Script:
    """Return the script ``name`` bound to ``redis``; nothing is sent before its first call."""
    return redis.register_script(source(name))


def pairs(flat: list[Any]) -> dict[str, Any]:
    """Turn a Lua reply ``[field, value, ...]`` into a dict."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
