"""What processes have used, from /proc: CPU seconds, resident memory and sockets of all in a session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Where `man 5 proc_pid_stat` counts from 1: 6 session, 14 to 17 CPU, own and of children that ended, 24 rss.
_SESSION, _CPU, _RSS = 3, slice(11, 15), 21
_OWN_CPU = slice(11, 13)


def cpu_seconds(session: int) -> float:
    """Return the CPU a session's processes have used, user and system, with those that ended."""
    return sum(sum(map(int, fields[_CPU])) for fields in _members(session)) / _TICKS


def cpu_seconds_of(pid: int) -> float:
    """Return the CPU one process has used itself, user and system."""
    fields = (
        Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    )
    return sum(map(int, fields[_OWN_CPU])) / _TICKS


def resident_bytes(session: int) -> int:
    """Return the resident memory of a session's processes; what they share is counted in each."""
    return sum(int(fields[_RSS]) for fields in _members(session)) * _PAGE


def open_sockets(session: int) -> int:
    """Return how many sockets a session's processes have open."""
    found = set()
    for folder, _ in _members_in(session):
        with suppress(OSError):  # it ended meanwhile, or a file was closed
            found.update(os.readlink(each) for each in (folder / "fd").iterdir())
    return sum(link.startswith("socket:") for link in found)


def _members(session: int) -> Iterator[list[str]]:
    return (fields for _, fields in _members_in(session))


def _members_in(session: int) -> Iterator[tuple[Path, list[str]]]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (
                (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            )
        except OSError:
            continue  # it ended meanwhile
        if int(fields[_SESSION]) == session:
            yield folder, fields
