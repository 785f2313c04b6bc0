"""What a command says to a person. All of it goes through here: others' words must not steer a terminal."""

from __future__ import annotations

import click

from service.domain.texts import printable, printable_json


def say(*lines: str, err: bool = False) -> None:
    """Print lines on standard output, or on standard error."""
    for line in lines:
        click.echo(printable(line), err=err)


def complain(text: str) -> None:
    """Say what went wrong, a line on standard error."""
    say(f"storyhook: {text}", err=True)


def say_json(text: str | bytes) -> None:
    """Print JSON on standard output, the same to who parses it and harmless to who reads it."""
    click.echo(printable_json(text.decode() if isinstance(text, bytes) else text))
