"""`storyhook archive`: how much it holds, and clearing out what is over."""

from __future__ import annotations

import click

from service.cli.admin import open_services
from service.cli.output import json_option, show
from service.cli.words import say


@click.group()
def archive() -> None:
    """Media that are kept for requests with "archive": true."""


@archive.command("size")
@json_option
def show_size(as_json: bool) -> None:
    """Show how many files are kept, and how large they are together."""
    totals = open_services().archive.totals()
    show("Archive", ("files", "bytes"), [(totals.files, totals.size)], as_json=as_json)


@archive.command("expire")
def expire_files() -> None:
    """Delete the files whose time is over. Beat does this every hour."""
    say(f"{open_services().archive.expire()} file(s) deleted")
