"""Rows of the store: what is wrong with one is told, and is no reason to leave out others.

Who reads a row raises `BrokenRow` where it is not as it was written; who reads many is given a `Tell`, which
hears of each that was passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from service.domain.errors import BrokenRow

Tell = Callable[[BrokenRow], object]

MOST = 10**18 - 1  # what every reader of the store can hold, Lua aside
LAST_MS = 253_402_300_799_999  # the end of the year 9999: beyond it there is no date to show

_WHOLE = re.compile(r"-?[0-9]{1,18}")
_ENTRY_ID = re.compile(r"[0-9]{1,18}-[0-9]{1,20}")
_SHOWN = 200  # characters of what is wrong


class PassedOver:
    """A `Tell` that remembers the rows that were passed over, each once."""

    def __init__(self) -> None:
        self._rows: dict[str, BrokenRow] = {}

    def __call__(self, broken: BrokenRow) -> None:
        self._rows.setdefault(broken.where, broken)

    def __iter__(self) -> Iterator[BrokenRow]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)


@contextmanager
def reading(kind: str, name: str) -> Iterator[None]:
    """Raise BrokenRow for what goes wrong while the row of that kind and name is read."""
    try:
        yield
    except KeyError as error:
        raise BrokenRow(f"{kind} {name}", f"{error} is missing") from error
    except (AttributeError, IndexError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise BrokenRow(f"{kind} {name}", str(error)[:_SHOWN]) from error


def whole(
    fields: Mapping[str, str], name: str, default: int | None = None, *, least: int = 0, most: int = MOST
) -> int:
    """Return a whole number out of a hash; without a ``default`` it has to be there. Raises ValueError."""
    text = fields.get(name)
    if text is None and default is not None:
        return default
    if text is None or not is_whole(text) or not least <= int(text) <= most:
        raise ValueError(f"'{name}' is missing or no number it can be")
    return int(text)


def is_whole(text: str) -> bool:
    """Tell whether a text is a whole number of a size that can be kept."""
    return _WHOLE.fullmatch(text) is not None


def moment(fields: Mapping[str, str], name: str, default: int | None = None) -> int:
    """Return a time in Unix milliseconds out of a hash. Raises ValueError."""
    return whole(fields, name, default, most=LAST_MS)


def entry_id(fields: Mapping[str, str], name: str) -> str | None:
    """Return the id of a ledger entry out of a hash, None when there is none. Raises ValueError."""
    text = fields.get(name)
    if text is not None and not is_entry_id(text):
        raise ValueError(f"'{name}' is no id of a ledger entry")
    return text


def is_entry_id(text: str) -> bool:
    """Tell whether a text can be the id of a ledger entry: Unix ms, a hyphen, a number."""
    return _ENTRY_ID.fullmatch(text) is not None


def among(fields: Mapping[str, str], name: str, known: Collection[str]) -> str:
    """Return a text out of a hash, which is one of those ``known``. Raises KeyError, ValueError."""
    if fields[name] not in known:
        raise ValueError(f"'{name}' is none there is")
    return fields[name]
