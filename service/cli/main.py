"""Entry point of the `storyhook` command."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import click

from service import __version__
from service.cli.words import complain
from service.domain.errors import StoryhookError
from service.domain.texts import printable

# Where each command stands. Only that of this call is loaded: `fetch` needs no store and no Celery.
COMMANDS = {
    "up": "up:up",
    "demo": "demo:demo",
    "dev-cert": "dev_cert:dev_cert",
    "audit": "audit:audit",
    "backup": "backup:backup",
    "restore": "backup:restore",
    "fetch": "fetch:fetch",
    "batch": "batch:batch",
    "watch": "watch:watch",
    "listen": "listen:listen",
    "health": "health:health",
    "store": "store:store",
    "web": "serve:web",
    "worker": "serve:worker",
    "deliverer": "serve:deliverer",
    "beat": "serve:beat",
    "account": "admin:account",
    "credits": "admin:credits",
    "instagram": "admin:instagram",
    "archive": "archive:archive",
    "optout": "optout:optout",
}


class Group(click.Group):
    """Loads a command when it is called, and turns our errors into one clear line and exit code 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module, _, name = COMMANDS.get(cmd_name, "").partition(":")
        if not module:
            return None
        command: click.Command = getattr(import_module(f"service.cli.{module}"), name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        _replace_closed()
        try:
            return super().invoke(ctx)
        except StoryhookError as error:
            complain(_line(error))
            sys.exit(2)
        except click.ClickException as error:
            # It quotes what was typed, perhaps by a script. Click's own type says Final.
            error.message = printable(error.message)  # type: ignore[misc]
            raise


def _replace_closed() -> None:
    """Let a closed standard input be an empty one, and drop what is said on a closed standard error.

    Python has None for them, as click and getpass do not expect. A closed standard output stays one: results
    that cost something are not to be fetched for nobody, see `check_stdout`.
    """
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - open to the end, as the real one
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", errors="backslashreplace")  # noqa: SIM115 - so is this


def _line(error: StoryhookError) -> str:
    if not error.details:
        return error.message
    return "; ".join(f"{name}: {' '.join(sentences)}" for name, sentences in error.details.items())


@click.group(cls=Group)
@click.version_option(__version__, prog_name="storyhook")
def main() -> None:
    """Storyhook: Instagram stories by signed webhook."""


if __name__ == "__main__":
    main()
