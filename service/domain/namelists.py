"""Lists of usernames as callers send them: JSON, plain text, CSV, NDJSON. Pure functions.

Each name counts once, the first time it comes. What is no name is told by its line; lines count from 1, and
so do the places in a JSON list.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from service.domain.errors import ValidationFailed
from service.domain.requests import parse_username

NAMES_MOST = 10_000
LINES_MOST = 2 * NAMES_MOST  # blank ones and comments included
EXTERNAL_ID_MOST = 128
SHOWN_MOST = 100  # characters of what is no name
HEADER_MOST = 65_536  # characters; well below what the csv module takes for a cell
USERNAME_COLUMN = "username"
EXTERNAL_ID_COLUMN = "externalid"
# Alone in the first row of CSV these are no account's name but what the column is called.
LIKELY_HEADERS = frozenset(
    {
        "account",
        "accounts",
        "handle",
        "handles",
        "name",
        "names",
        "profile",
        "url",
        "user",
        "users",
        "usernames",
    }
)
DELIMITERS = ",;\t"
# Not what str.splitlines takes for one: a text in JSON or a cell may hold U+2028 and its like.
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Entry:
    """A name, and the caller's own id of it."""

    line: int
    username: str
    external_id: str | None = None


@dataclass(frozen=True)
class Invalid:
    """What is no name, and why."""

    line: int
    value: str
    error: str


@dataclass
class NameList:
    """What a list holds: the names, each once; further occurrences of them; and what is none."""

    entries: list[Entry] = field(default_factory=list)
    duplicates: list[Entry] = field(default_factory=list)
    invalid: list[Invalid] = field(default_factory=list)


# What stands in a line: a name and an external id.
Line = tuple[Any, Any]
# Where the names stand in a row, and the external ids if there are any; from 0.
Columns = tuple[int, int | None]


def from_json(usernames: list[Any]) -> NameList:
    """Read the JSON list ``usernames``. Raises ValidationFailed; so do the others."""
    return _collected((number, (name, None)) for number, name in enumerate(usernames, 1))


def from_text(body: bytes) -> NameList:
    """Read one name a line; blank lines and # comments are none."""
    return _collected((number, (line, None)) for number, line in _numbered(body) if _is_said(line))


def from_csv(body: bytes) -> NameList:
    """Read a column ``username`` and, if there is one, ``externalId``; or one name a line."""
    text = _decoded(body)
    lines = islice(io.StringIO(text, newline=""), LINES_MOST)
    first = next((line for line in lines if line.strip()), "")
    # Strict, or a quote that is never closed makes one cell of all the names behind it.
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=_delimiter(first), skipinitialspace=True, strict=True
    )
    return _collected(_csv_lines(reader))


def from_ndjson(body: bytes) -> NameList:
    """Read a JSON object a line, ``{"username": ..., "externalId": ...}``, or a JSON text: the name."""
    return _collected((number, _ndjson_line(line)) for number, line in _numbered(body) if line.strip())


def text_lines(body: bytes) -> Iterator[str]:
    """Return a text's lines, one at a time. Raises ValidationFailed naming the first that is no UTF-8."""
    return _split(_decoded(body))


def _split(text: str) -> Iterator[str]:
    start = 0
    for end in _LINE_END.finditer(text):
        yield text[start : end.start()]
        start = end.end()
    yield text[start:]


def _numbered(body: bytes) -> Iterator[tuple[int, str]]:
    """Yield the lines with their numbers, from 1. Raises ValidationFailed where there are too many."""
    for number, line in enumerate(text_lines(body), 1):
        _check_line(number)
        yield number, line


def _check_line(number: int) -> None:
    if number > LINES_MOST:
        raise _bad(f"At most {LINES_MOST:,} lines at a time, blank ones included.")


def _delimiter(first: str) -> str:
    """Return what parts cells: with what the first line names our column, or what is in it most often."""

    def fits(delimiter: str) -> tuple[bool, int]:
        [cells] = csv.reader([first], delimiter=delimiter, skipinitialspace=True)
        return USERNAME_COLUMN in _lowered(cells), first.count(delimiter)

    return max(DELIMITERS, key=fits) if len(first) <= HEADER_MOST else ","


def _csv_lines(reader: Any) -> Iterator[tuple[int, Line]]:
    """Yield what each row holds, by its first line: a cell in quotes may go over several."""
    columns: Columns | None = None
    begun, line = False, 1
    try:
        for row in reader:
            number, line = line, reader.line_num + 1
            _check_line(number)
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if not begun:
                begun, columns = True, _columns(cells, number)
                if columns is not None:
                    continue
            yield number, _picked(cells, columns)
    except csv.Error as error:
        raise _bad(f"Line {line} is no CSV: {error}.") from None


def _columns(cells: Sequence[str], line: int) -> Columns | None:
    """Return where names and external ids stand, by the first row; None when that is a name itself."""
    names = _lowered(cells)
    if USERNAME_COLUMN in names:
        external = names.index(EXTERNAL_ID_COLUMN) if EXTERNAL_ID_COLUMN in names else None
        return names.index(USERNAME_COLUMN), external
    if sum(map(bool, cells)) == 1 and not LIKELY_HEADERS.intersection(names):
        return None
    raise _bad(f"Line {line}: no column is called '{USERNAME_COLUMN}'. Name one so, or send one name a line.")


def _lowered(cells: Sequence[str]) -> list[str]:
    return [cell.strip().lower().replace("_", "") for cell in cells]


def _picked(cells: Sequence[str], columns: Columns | None) -> Line:
    if columns is None:
        return ",".join(filter(None, cells)), None  # no name where there is more than one
    name, external = columns
    return (
        cells[name] if name < len(cells) else "",
        cells[external] or None if external is not None and external < len(cells) else None,
    )


def _ndjson_line(line: str) -> Line:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return _NotJson(line), None
    if isinstance(row, dict):
        return row.get("username"), row.get("externalId")
    return row, None


class _NotJson(str):
    """A line of NDJSON that is no JSON."""

    __slots__ = ()


def _collected(lines: Iterable[tuple[int, Line]]) -> NameList:
    found, seen, count = NameList(), set(), 0
    for number, (name, external_id) in lines:
        count += 1
        if count > NAMES_MOST:
            raise _bad(f"At most {NAMES_MOST:,} names at a time. Send the rest as another batch.")
        try:
            entry = Entry(number, _name(name), _external_id(external_id))
        except ValidationFailed as error:
            [[sentence]] = (error.details or {}).values()
            found.invalid.append(Invalid(number, _shown(name), sentence))
            continue
        if entry.username in seen:
            found.duplicates.append(entry)
        else:
            seen.add(entry.username)
            found.entries.append(entry)
    if not count:
        raise _bad("Give at least one username.")
    if not found.entries:
        worst = found.invalid[0]
        raise _bad(f"None of these is a username. Line {worst.line}: {worst.error}")
    return found


def _name(value: Any) -> str:
    if isinstance(value, _NotJson):
        raise _bad('This line is no JSON. Send one object a line, such as {"username": "instagram"}.')
    if not isinstance(value, str):
        raise _bad("Give a username: a text. Objects have it in a field 'username'.")
    return parse_username(value)


def _external_id(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not 0 < len(text) <= EXTERNAL_ID_MOST or not text.isprintable():
        raise _bad(f"externalId is a text of 1 to {EXTERNAL_ID_MOST} printable characters.")
    return text


def _shown(value: Any) -> str:
    """Return what is no name as a short text that can be sent."""
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except (ValueError, RecursionError):  # more digits or brackets than the interpreter writes
        text = "..."
    short = text if len(text) <= SHOWN_MOST else f"{text[:SHOWN_MOST]}..."
    return short.encode("utf-8", "replace").decode()  # half an emoji is no Unicode text


def _is_said(line: str) -> bool:
    text = line.strip()
    return bool(text) and not text.startswith("#")


def _decoded(body: bytes) -> str:
    # Without its mark UTF-16 shows by the zero in its first letter.
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in body[:2]:
        raise _bad("The list is in UTF-16. Save it as UTF-8.")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        line = len(_LINE_END.findall(before)) + 1
        raise _bad(f"Line {line} holds bytes that are no UTF-8. Save the list as UTF-8.") from None


def _bad(sentence: str) -> ValidationFailed:
    return ValidationFailed(details={"usernames": [sentence]})
