"""Tables for people, JSON for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, as_json: bool) -> None:
    """Print rows as a table, or as a JSON array of objects with the columns as keys."""
    if as_json:
        click.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=2))
        return
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")  # an id that is cut cannot be copied
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    # Into a pipe a table is as wide as it needs to be.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
