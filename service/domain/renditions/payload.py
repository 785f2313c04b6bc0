"""JSON objects of somebody else's, read without trust in their shape."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_INTEGER_LIMIT = 2**63


class Payload:
    """A JSON object that may hold anything.

    What is absent or null is None or empty, as Instagram's forms differ in that. What is of another type is
    so too, and is named with its path in ``warnings``. Nothing here raises.
    """

    def __init__(self, content: object, path: str, warnings: list[str]) -> None:
        self._content: Mapping[str, Any] = content if isinstance(content, Mapping) else {}
        self._path = path
        self._warnings = warnings

    def __bool__(self) -> bool:
        return bool(self._content)

    def warn(self, key: str, problem: str) -> None:
        """Note what is wrong with the value under ``key``."""
        self._warnings.append(f"{self._at(key)}: {problem}")

    def value(self, key: str) -> Any:
        """Return what stands under ``key``, whatever it is."""
        return self._content.get(key)

    def text(self, key: str) -> str | None:
        return self._read(key, lambda value: value if isinstance(value, str) else None, "a text")

    def number(self, key: str) -> float | None:
        """Return a finite number; older answers write numbers as text."""
        return self._read(key, _number, "a number")

    def integer(self, key: str) -> int | None:
        """Return a whole number of at most 63 bits."""
        return self._read(key, _integer, "a whole number")

    def flag(self, key: str) -> bool | None:
        """Return true or false, also where they are written 1 and 0."""
        return self._read(key, _flag, "true or false")

    def identifier(self, *keys: str) -> str | None:
        """Return the first id that stands under one of ``keys``, as text."""
        found = (self._read(key, _identifier, "an id") for key in keys)
        return next((identifier for identifier in found if identifier), None)

    def identifiers(self, key: str) -> list[str]:
        """Return the ids in the list under ``key``, as text."""
        found = []
        for index, value in enumerate(self.values(key)):
            if identifier := _identifier(value):
                found.append(identifier)
            else:
                self.warn(f"{key}[{index}]", "not an id")
        return found

    def mapping(self, key: str) -> dict[str, Any]:
        """Return a copy of the object under ``key``, its values as they are."""
        return dict(self.part(key)._content)

    def part(self, key: str) -> Payload:
        """Return the object under ``key``, or an empty one."""
        found = self._read(key, lambda value: value if isinstance(value, Mapping) else None, "an object")
        return Payload(found, self._at(key), self._warnings)

    def values(self, key: str) -> list[Any]:
        """Return the list under ``key``, or an empty one."""
        return self._read(key, lambda value: value if isinstance(value, list) else None, "a list") or []

    def parts(self, key: str) -> list[Payload]:
        """Return the objects in the list under ``key``."""
        found = []
        for index, value in enumerate(self.values(key)):
            place = f"{key}[{index}]"
            if isinstance(value, Mapping):
                found.append(Payload(value, self._at(place), self._warnings))
            else:
                self.warn(place, "not an object")
        return found

    def rewritten(self, content: Mapping[str, Any]) -> Payload:
        """Return the same object in another form: what is wrong with it is named as before."""
        return Payload(content, self._path, self._warnings)

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _read(self, key: str, convert: Callable[[Any], T | None], expected: str) -> T | None:
        value = self._content.get(key)
        if value is None:
            return None
        read = convert(value)
        if read is None:
            self.warn(key, f"not {expected}")
        return read


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = int(value) if _INTEGER.fullmatch(value) else None
    elif isinstance(value, float):
        value = int(value) if value.is_integer() else None
    return value if isinstance(value, int) and abs(value) < _INTEGER_LIMIT else None


def _flag(value: Any) -> bool | None:
    return bool(value) if isinstance(value, bool | int) and value in {0, 1} else None


def _identifier(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    integer = None if isinstance(value, float) else _integer(value)
    return None if integer is None else str(integer)
