"""`storyhook audit`: does every credit add up?"""

from __future__ import annotations

import sys

import click

from service.actions import audit as actions
from service.cli.admin import open_services
from service.cli.output import json_option, show, tell_passed_over
from service.cli.words import say


@click.command()
@click.option("--repair", is_flag=True, help="Release holds that belong to nothing.")
@json_option
def audit(repair: bool, as_json: bool) -> None:
    """Recompute every balance from its ledger, check every request against charge and webhook.

    Works while the service does. Exits with 1 when something does not add up or cannot be read.
    """
    report = actions.audit(open_services(), repair=repair)
    columns = ("what", "where", "difference")
    for title, found in (("Repaired", report.repaired), ("Differences", report.differences)):
        if found or (as_json and title == "Differences"):
            show(title, columns, [(each.kind, each.where, each.text) for each in found], as_json=as_json)
    if not as_json:
        say(_summary(report))
    sys.exit(tell_passed_over(report.passed_over) or (1 if report.differences else 0))


def _summary(report: actions.Report) -> str:
    if not report.accounts and not report.passed_over:
        return "the store is empty: there are no accounts"
    verdict = f"{len(report.differences)} difference(s)" if report.differences else "everything adds up"
    if report.passed_over:
        verdict = f"{len(report.differences)} difference(s), {len(report.passed_over)} row(s) passed over"
    read = f"{report.accounts} account(s), {report.entries} ledger entries, {report.requests} request(s)"
    return f"{read}: {verdict}"
