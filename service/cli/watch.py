"""`storyhook watch`: accounts the server looks at by itself, again and again."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import orjson

from service.cli.client import CALL_LIMIT, Api
from service.cli.endings import REFUSED, Terminated, leave, sigterm_raises
from service.cli.output import server_options, show
from service.cli.servers import find_server
from service.cli.transport import NoAnswer
from service.cli.words import complain, say, say_json
from service.domain.requests import parse_username
from service.domain.sharing import MAX_AGE_MOST

COLUMNS = ("id", "name", "every", "state", "next run", "last run", "last outcome", "runs", "delivered")

# About this watch only: the others may be there.
_OF_ONE_WATCH = frozenset({404, 409, 422})

json_lines = click.option(
    "--json", "as_json", is_flag=True, help="Print the server's JSON, an object a line."
)
ids_argument = click.argument("ids", nargs=-1, required=True, metavar="ID...")


@click.group()
def watch() -> None:
    """Accounts whose new stories are delivered by webhook, as often as you say.

    \b
    Exit codes:
      0    done
      2    wrong use, or no server or key
      3    the server refused (401, 404, 409, 422 ...) or could not be reached
    """


@watch.command("add")
@click.argument("name")
@click.option(
    "--every",
    required=True,
    metavar="15m|CRON",
    help="90s, 15m, 2h or 1d, or a cron expression of 5 fields in UTC.",
)
@click.option("--webhook-url", required=True, metavar="URL", help="Where new stories are delivered.")
@click.option(
    "--all", "everything", is_flag=True, help="Deliver all stories each time, not the new ones only."
)
@click.option("--heartbeat", is_flag=True, help="Send a webhook too when there is nothing new.")
@click.option(
    "--max-age",
    type=click.IntRange(0, MAX_AGE_MOST),
    metavar="SECONDS",
    help="Take a result fetched for another call up to so long ago. [default: the server's]",
)
@json_lines
@server_options
def add(
    *,
    name: str,
    every: str,
    webhook_url: str,
    everything: bool,
    heartbeat: bool,
    max_age: int | None,
    as_json: bool,
    server: str | None,
    key: str | None,
) -> None:
    """Watch an account, and print the id of the watch."""
    fields = {
        "username": parse_username(name),
        "every": every.strip(),
        "webhookUrl": webhook_url,
        "onlyNew": not everything,
        "heartbeat": heartbeat,
        **({} if max_age is None else {"maxAge": max_age}),
    }
    with _calling(server, key) as api:
        _print(api.add_watch(fields).content, lambda said: said["watchId"], as_json=as_json)


@watch.command("list")
@json_lines
@server_options
def list_watches(*, as_json: bool, server: str | None, key: str | None) -> None:
    """List the watches."""
    with _calling(server, key) as api:
        if as_json:
            for each in api.watches():
                say_json(orjson.dumps(each))
        else:
            show("Watches", COLUMNS, [_row(each) for each in api.watches()], as_json=False)


def _row(said: dict[str, Any]) -> tuple[object, ...]:
    state = f"{said['status']}: {said['pauseReason']}" if said.get("pauseReason") else said["status"]
    names = ("nextRunAt", "lastRunAt", "lastOutcome", "runs", "itemsDelivered")
    return (said["watchId"], said["username"], said["every"], state, *(said.get(name) for name in names))


@watch.command("rm")
@ids_argument
@server_options
def remove(*, ids: tuple[str, ...], server: str | None, key: str | None) -> None:
    """Remove watches."""

    def do(watch_id: str) -> None:
        api.remove_watch(watch_id)
        say(f"{watch_id}: removed")

    with _calling(server, key) as api:
        _each(ids, do)


def _changing(verb: str, sentence: str, told: Callable[[str, dict[str, Any]], str]) -> click.Command:
    """Return a command that does the same to one or more watches."""

    @click.command(verb, help=sentence)
    @ids_argument
    @json_lines
    @server_options
    def change(*, ids: tuple[str, ...], as_json: bool, server: str | None, key: str | None) -> None:
        def do(watch_id: str) -> None:
            said = api.change_watch(watch_id, verb).content
            _print(said, lambda said: told(watch_id, said), as_json=as_json)

        with _calling(server, key) as api:
            _each(ids, do)

    return change


watch.add_command(
    _changing("pause", "Let watches rest.", lambda watch_id, said: f"{watch_id}: {said.get('status')}")
)
watch.add_command(
    _changing(
        "resume",
        "Let watches go on.",
        lambda watch_id, said: f"{watch_id}: {said.get('status')}, next run {said.get('nextRunAt')}",
    )
)
watch.add_command(
    _changing(
        "run",
        "Run watches now, besides their times.",
        lambda watch_id, said: f"{watch_id}: runs as {said.get('requestId')}",
    )
)


def _each(ids: Iterable[str], do: Callable[[str], None]) -> None:
    """Do something to each watch; one that is not there is no reason to leave out the others."""
    refused = False
    for watch_id in dict.fromkeys(ids):
        try:
            do(watch_id)
        except NoAnswer as problem:
            if problem.status not in _OF_ONE_WATCH:
                raise
            complain(f"{watch_id}: {problem}")
            refused = True
    if refused:
        sys.exit(REFUSED)


@contextmanager
def _calling(server: str | None, key: str | None) -> Iterator[Api]:
    """Lend a client; a refusal is one line and the exit code."""
    try:
        with sigterm_raises():
            yield Api(find_server(server, key), wait=CALL_LIMIT, stop=threading.Event())
    except NoAnswer as problem:
        complain(str(problem))
        sys.exit(REFUSED)
    except (KeyboardInterrupt, Terminated, BrokenPipeError) as error:
        leave(error)


def _print(said: dict[str, Any], line: Callable[[dict[str, Any]], str], *, as_json: bool) -> None:
    if as_json:
        say_json(orjson.dumps(said))
    else:
        say(line(said))
