"""Tables for people, JSON for scripts, a bar for who waits; and what commands have in common."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from service.cli.words import complain, say_json
from service.domain.errors import BrokenRow, ConfigurationError
from service.domain.texts import printable


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, as_json: bool) -> None:
    """Print rows as a table, or as a JSON array of objects with the columns as keys."""
    if as_json:
        say_json(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=2))
        return
    table = Table(title=_cell(title), title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")  # an id that is cut cannot be copied
    for row in rows:
        table.add_row(*map(_cell, row))
    # Into a pipe a table is as wide as it needs to be. Where standard output is closed, it is dropped.
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    Console(width=None if on_terminal else 200).print(table)


def _cell(value: object) -> Text:
    """Return a cell as it is: "[red]" in it is no markup."""
    return Text("" if value is None else printable(str(value)))


def check_stdout() -> None:
    """Raises ConfigurationError when standard output is closed: what is fetched would come to nobody."""
    if sys.stdout is None:
        raise ConfigurationError("Standard output is closed.")


def progress_bar(*, shown: bool) -> Progress:
    """Return a bar on standard error that is taken away at the end."""
    told = TextColumn("{task.description}", markup=False)
    columns = (told, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not shown,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def tell_passed_over(rows: Iterable[BrokenRow]) -> int:
    """Say which rows of the store were left out because they cannot be read; return the exit code for it."""
    code = 0
    for each in rows:
        complain(f"passed over: {each.message}")
        code = 1
    return code


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def server_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which server, and with which key."""
    key = click.option(
        "--key",
        envvar="STORYHOOK_API_KEY",
        show_envvar=True,
        help="An API key. Others see options in the list of processes: prefer one of the other ways.",
    )
    server = click.option(
        "--server", envvar="STORYHOOK_URL", show_envvar=True, metavar="URL", help="The server."
    )
    return server(key(command))
