"""How a command that calls a server ends: its exit codes, and the ways to end early."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import click

from service.cli.parts import Parts
from service.cli.words import complain

ENDED_OTHERWISE = 1
REFUSED = 3
UNFINISHED = 4  # the same command goes on with it


class Terminated(Exception):
    """The process was told to end (SIGTERM)."""


# As a shell tells of a process that a signal ended: 128 and the signal's number.
STATUSES: dict[type[BaseException], int] = {
    KeyboardInterrupt: 128 + signal.SIGINT,
    Terminated: 128 + signal.SIGTERM,
    BrokenPipeError: 128 + signal.SIGPIPE,
}


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM end the run like Ctrl-C does: no half-written file stays."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def leave(why: BaseException, parts: Parts | None = None, last_words: str = "") -> NoReturn:
    """End the process at once: its threads may be waiting for an answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parts is not None:
        parts.abandon()
    if isinstance(why, KeyboardInterrupt) and sys.stderr.isatty():
        click.echo(err=True)  # the shell's next line begins below the ^C
    if last_words:
        complain(last_words)
    os._exit(STATUSES[type(why)])
