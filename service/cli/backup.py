"""`storyhook backup FILE` and `storyhook restore FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from service import config
from service.actions import backup as actions
from service.actions.audit import audit
from service.actions.optouts import purge
from service.bootstrap import build_for_restore
from service.cli.admin import open_services
from service.cli.optout import erased
from service.cli.output import show, tell_passed_over
from service.cli.words import complain, say
from service.domain.audit import Difference
from service.domain.backups import Tally
from service.domain.rows import PassedOver

file_argument = click.argument("file", type=click.Path(path_type=Path))


@click.command()
@file_argument
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def backup(file: Path, force: bool) -> None:
    """Write accounts, API keys, credits, requests and sessions to FILE, encrypted under SECRET_KEY.

    Works while the service does. Keep FILE and SECRET_KEY apart. Exits with 1 when a ledger does not add
    up, or a row cannot be read and is passed over; FILE is written all the same.
    """
    report = actions.back_up(open_services(), file, force=force)
    say(f"{file}: {_held_in(report.tally)}, {report.size} bytes")
    _tell("the backup was made of books that do not add up", report.differences, report.passed_over)


@click.command()
@file_argument
def restore(file: Path) -> None:
    """Write the backup FILE into an empty store, while nothing else runs, and audit it.

    FILE is checked first, and nothing is written when it was changed or is damaged. Nobody can tell that of
    one of an older version: that it is restored is a warning. A restore that was interrupted is finished by
    running it again. Exits with 1 when the audit finds a difference.
    """
    services = build_for_restore(config.load(local=True), wait=2.0)
    tally = actions.restore(services, file, lambda text: complain(f"WARNING: {text}"))
    say(f"{file} of {tally.made_at} restored: {_held_in(tally)}")
    services = open_services()
    if listed := services.optouts.list():
        # What was made before they opted out may be in the backup all the same.
        again = purge(services, [each.account for each in listed])
        say(f"of those who opted out: erased {erased(again)}")
    report = audit(services)
    _tell("the audit found differences", report.differences, report.passed_over)
    say(f"audited {report.accounts} account(s), {report.requests} request(s): everything adds up")


def _held_in(tally: Tally) -> str:
    return (
        f"{tally.accounts} account(s), {tally.requests} request(s), {tally.open} of them open, "
        f"{tally.owed} webhook(s) to be sent, {tally.entries} ledger entries, {tally.sessions} session(s), "
        f"{tally.watches} watch(es), {tally.opt_outs} name(s) and id(s) opted out"
    )


def _tell(what: str, differences: list[Difference], passed_over: PassedOver) -> None:
    """Show differences and rows that were passed over, and exit with 1, if there are any."""
    code = tell_passed_over(passed_over)
    if differences:
        rows = [(each.kind, each.where, each.text) for each in differences]
        show("Differences", ("what", "where", "difference"), rows, as_json=False)
        complain(f"{what}: {len(differences)}; see `storyhook audit`")
    if differences or code:
        sys.exit(1)
