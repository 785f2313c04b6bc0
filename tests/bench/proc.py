"""What processes have used, from /proc: CPU seconds and memory of all in a session; connections."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Where `man 5 proc_pid_stat` counts from 1: 6 session, 14 to 17 CPU, own and of children that ended, 24 rss.
_SESSION, _CPU, _RSS = 3, slice(11, 15), 21
_OWN_CPU = slice(11, 13)
_OPEN = {"01", "08"}  # ESTABLISHED, CLOSE_WAIT


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


def connections(port: int) -> int:
    """Return how many connections over IPv4 a port of this machine has that its server has not closed."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    fields = (line.split(None, 4) for line in lines)
    return sum(each[1].endswith(f":{port:04X}") and each[3] in _OPEN for each in fields)


def _members(session: int) -> Iterator[list[str]]:
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
            yield fields
