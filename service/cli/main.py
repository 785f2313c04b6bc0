"""Entry point of the `storyhook` command."""

from __future__ import annotations

import sys

import click

from service import __version__
from service.cli import (
    admin,
    archive,
    audit,
    backup,
    batch,
    demo,
    dev_cert,
    fetch,
    health,
    listen,
    optout,
    serve,
    up,
    watch,
)
from service.domain.errors import StoryhookError


class Group(click.Group):
    """Turns our errors into one clear line and exit code 2."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except StoryhookError as error:
            click.echo(f"storyhook: {_line(error)}", err=True)
            sys.exit(2)


def _line(error: StoryhookError) -> str:
    if not error.details:
        return error.message
    return "; ".join(f"{name}: {' '.join(sentences)}" for name, sentences in error.details.items())


@click.group(cls=Group)
@click.version_option(__version__, prog_name="storyhook")
def main() -> None:
    """Storyhook: Instagram stories by signed webhook."""


main.add_command(up.up)
main.add_command(demo.demo)
main.add_command(dev_cert.dev_cert)
main.add_command(audit.audit)
main.add_command(backup.backup)
main.add_command(backup.restore)
main.add_command(fetch.fetch)
main.add_command(batch.batch)
main.add_command(watch.watch)
main.add_command(listen.listen)
main.add_command(health.health)
for _command in (serve.store, serve.web, serve.worker, serve.deliverer, serve.beat):
    main.add_command(_command)
for _group in (admin.account, admin.credits, admin.instagram, archive.archive, optout.optout):
    main.add_command(_group)


if __name__ == "__main__":
    main()
