"""The secrets of this installation, and how text is rid of them before it is printed.

What an exception says may quote a setting, and a setting may be a password. All that is logged goes
through `masked`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

HIDDEN = "***"
# Shorter ones are hidden where they stand in a URL only: elsewhere they would hide half of every line.
LEAST = 4

# Settings that are secret as a whole; each may stand in a file that NAME_FILE names.
SECRETS = (
    "SECRET_KEY",
    "METRICS_TOKEN",
    "HIKERAPI_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
GRAPH_ACCOUNTS = "GRAPH_ACCOUNTS"

_LOGIN = re.compile(r"(://[^\s/?#'\":@]*:)[^\s/?#'\"]+@")
_PASSWORD = re.compile(r"://[^\s/?#:@]*:([^\s/?#]+)@")
_IN_QUERY = re.compile(r"(?i)[?&]\w*(?:password|token|secret|key)=([^&#\s]+)")


class _Known:
    """What is to be hidden, as one expression."""

    secrets: frozenset[str] = frozenset()
    expression: re.Pattern[str] | None = None


def learn(environment: Mapping[str, str] | None = None) -> None:
    """Remember the secrets of an environment, this process's by default; those of before stay."""
    found = {
        form
        for secret in _secrets_of(os.environ if environment is None else environment)
        for form in _forms(secret)
        if len(form) >= LEAST
    }
    if not found <= _Known.secrets:
        _Known.secrets |= found
        # The longest first: one may be a part of another.
        longest = sorted(_Known.secrets, key=len, reverse=True)
        _Known.expression = re.compile("|".join(map(re.escape, longest)))


def masked(text: str) -> str:
    """Return ``text`` without what is secret: known values, and the password of any URL."""
    if _Known.expression is not None:
        text = _Known.expression.sub(HIDDEN, text)
    return _LOGIN.sub(rf"\g<1>{HIDDEN}@", text)


def _secrets_of(environment: Mapping[str, str]) -> Iterator[str]:
    for name in SECRETS:
        yield from (text.strip() for text in _values(environment, name))
    for text in _values(environment, GRAPH_ACCOUNTS):
        yield from _tokens(text)
    for name in environment:
        # A URL that cannot be read may still hold a password: no parser is asked.
        for text in _values(environment, name.removesuffix("_FILE")) if "URL" in name else ():
            yield from _PASSWORD.findall(text)
            yield from _IN_QUERY.findall(text)


def _values(environment: Mapping[str, str], name: str) -> Iterator[str]:
    if value := environment.get(name):
        yield value
    if file := environment.get(f"{name}_FILE"):
        with suppress(OSError, ValueError):
            yield Path(file).read_text().strip()


def _tokens(text: str) -> Iterator[str]:
    with suppress(ValueError):
        accounts = json.loads(text)
        for entry in accounts.values() if isinstance(accounts, dict) else ():
            if isinstance(entry, dict) and isinstance(entry.get("token"), str):
                yield entry["token"]


def _forms(secret: str) -> set[str]:
    """Return how a secret may be written: as it is, in a URL, in JSON, as Python shows it."""
    plain = {secret, unquote(secret)}
    escaped = {json.dumps(text)[1:-1] for text in plain} | {repr(text)[1:-1] for text in plain}
    return plain | escaped | {quote(text, safe="") for text in plain}
