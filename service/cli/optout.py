"""`storyhook optout`: accounts the operator does not serve."""

from __future__ import annotations

import sys

import click

from service.actions import optouts as actions
from service.cli.admin import open_services
from service.cli.output import json_option, show, tell_passed_over
from service.cli.words import complain, say
from service.domain.envelopes import timestamp
from service.domain.rows import PassedOver


@click.group()
def optout() -> None:
    """Instagram accounts this service does not serve."""


@optout.command("add")
@click.argument("accounts", nargs=-1, required=True, metavar="NAME_OR_ID...")
@click.option("--note", default="", help="Kept with the account: who asked for it, when.")
def add(accounts: tuple[str, ...], note: str) -> None:
    """Serve these accounts no more, and erase what is kept of them.

    Digits are an id, all else is a name; a name of digits only is given with its @. Requests for them end
    opted_out and cost nothing. What is kept of them in all accounts goes at once; the ledgers stay. Safe to
    run again.
    """
    report = actions.opt_out(open_services(), accounts, note)
    known = [*sorted(report.subjects.names), *(f"id {each}" for each in sorted(report.subjects.user_ids))]
    say(f"{', '.join(known)}: opted out; erased {erased(report)}")
    if report.under_way:
        complain(
            f"{report.under_way} request(s) that may bring something of them are still worked on; "
            "run this again when they have ended"
        )


def erased(report: actions.Report) -> str:
    """Say what went."""
    ids = f"{report.remembered} remembered id(s)"
    return f"{report.requests} request(s), {report.shared} shared result(s), {report.media} file(s), {ids}"


@optout.command("remove")
@click.argument("accounts", nargs=-1, required=True, metavar="NAME_OR_ID...")
def remove(accounts: tuple[str, ...]) -> None:
    """Serve these accounts again, by all names and ids that were linked to them."""
    services = open_services()
    for account in accounts:
        removed = ", ".join(each.value for each in actions.opt_in(services, account))
        say(f"{removed}: served again")


@optout.command("list")
@json_option
def list_accounts(as_json: bool) -> None:
    """List the accounts that are not served, by name and by id."""
    passed_over = PassedOver()
    rows = [
        (each.account.value, each.account.kind, each.linked, timestamp(each.added_at), each.note)
        for each in open_services().optouts.list(passed_over)
    ]
    show("Opted out", ("account", "kind", "linked to", "added", "note"), rows, as_json=as_json)
    sys.exit(tell_passed_over(passed_over))
