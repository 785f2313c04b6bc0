"""`storyhook batch FILE`: a long list of names in one call, for cron and people."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from pathlib import Path

import click

from service.cli.client import Api, List
from service.cli.endings import Terminated, leave, sigterm_raises
from service.cli.output import check_stdout, server_options
from service.cli.parts import remove_old_parts
from service.cli.runs import Memory, Named
from service.cli.servers import Server, find_server
from service.cli.work import Wish, Work
from service.domain.errors import ConfigurationError, ValidationFailed
from service.domain.idempotency import KEY_RULE, is_key
from service.domain.sharing import MAX_AGE_MOST

CONTENT_TYPES = {
    "text": "text/plain; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
}
SUFFIXES = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
LIST_MOST = 64 * 1024 * 1024  # bytes; the server has its own, lower limit


def _sendable_key(_context: click.Context, _option: click.Parameter, key: str | None) -> str | None:
    """Return an idempotency key as the server reads it, without blanks around it."""
    sent = None if key is None else key.strip(" ")
    if sent is not None and not is_key(sent):
        raise click.BadParameter(KEY_RULE)
    return sent


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(list(CONTENT_TYPES)),
    help="What FILE is. [default: by its ending, .csv, .ndjson or .jsonl; text otherwise]",
)
@click.option("--webhook-url", metavar="URL", help="Where results are delivered.")
@click.option(
    "--webhook-mode",
    type=click.Choice(["each", "summary", "both"]),
    help="Deliver each result, a summary at the end, or both. [default: the server's, each]",
)
@click.option(
    "--max-age",
    type=click.IntRange(0, MAX_AGE_MOST),
    metavar="SECONDS",
    help="Take results fetched for other calls up to so long ago; 0 fetches anew. [default: the server's]",
)
@click.option("--clamp", is_flag=True, help="Take as many names as the credits pay for; not all or none.")
@click.option("--strict", is_flag=True, help="Refuse the list when a line of it is no name.")
@click.option("--wait", is_flag=True, help="Wait until all names have ended.")
@click.option(
    "--wait-seconds",
    type=click.IntRange(0, 7 * 86_400),
    default=3_600,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait at most, and to try while the server does not answer.",
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Wait, then write one envelope a line in the order of the list; FILE appears once it is whole. "
    "`-` is standard output.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what the server says of the batch as JSON.")
@click.option(
    "--resume-within",
    type=click.IntRange(0, 7 * 24),
    default=12,
    show_default=True,
    metavar="HOURS",
    help="Go on with the same command's run that was interrupted so long ago; 0 begins anew.",
)
@click.option(
    "--idempotency-key",
    metavar="KEY",
    callback=_sendable_key,
    help="Your own name for this run, instead of remembering it: with the same one it is the same batch.",
)
@server_options
def batch(
    *,
    file: Path,
    form: str | None,
    webhook_url: str | None,
    webhook_mode: str | None,
    max_age: int | None,
    clamp: bool,
    strict: bool,
    wait: bool,
    wait_seconds: int,
    out: Path | None,
    as_json: bool,
    resume_within: int,
    idempotency_key: str | None,
    server: str | None,
    key: str | None,
) -> None:
    """Fetch the stories of a list of up to 10,000 accounts, and print the id of the batch.

    FILE holds a name a line, or is CSV or NDJSON; `-` is standard input. The server fetches while you do
    something else: results come by webhook, or with --out.

    A run that was interrupted is gone on with by the same command (FILE and what is in it, options, --wait
    and --out): the list is not fetched or charged twice. It is remembered in ~/.local/state/storyhook until
    it has come to its end; the run after that is a new batch.

    Server and key come from the options, the environment, ~/.config/storyhook/config.toml (url = "...",
    api_key = "..."), or a `make run` in this folder.

    \b
    Exit codes:
      0    the list was accepted; with --wait: all names succeeded, with stories or without
      1    a line was no name or not paid for; with --wait: a name ended otherwise;
           with --out: a result was deleted or has passed its lifetime
      2    wrong use, or no server or key
      3    the server refused (401, 402, 413, 422 ...) or could not be reached
      4    with --wait: not all ended in time; with --out: the results could not be written;
           the same command goes on with it
      130  interrupted
    """
    _check_together(webhook_url, webhook_mode, out, as_json=as_json)
    check_stdout()
    query = _query(webhook_url, webhook_mode, max_age, clamp=clamp, strict=strict)
    work = None
    try:
        with sigterm_raises():
            found = find_server(server, key)
            wish = Wish(file, wait or out is not None, _checked_out(out), as_json, resume_within * 3_600.0)
            given = read_list(file, form, query)
            memory = Named(idempotency_key) if idempotency_key else _memory(found, given, wish)
            work = Work(Api(found, wait=wait_seconds, stop=threading.Event()), given, memory, wish)
            status = work.do()
    except (KeyboardInterrupt, Terminated, BrokenPipeError) as error:
        leave(error, work.parts if work else None, work.last_words() if work else "")
    sys.exit(status)


def _check_together(
    webhook_url: str | None, webhook_mode: str | None, out: Path | None, *, as_json: bool
) -> None:
    """Raises click.UsageError for options that make no sense beside each other."""
    if webhook_mode and not webhook_url:
        raise click.UsageError("--webhook-mode needs --webhook-url.")
    if as_json and out == Path("-"):
        raise click.UsageError("Either --json or --out - goes to standard output.")


def _query(
    webhook_url: str | None, webhook_mode: str | None, max_age: int | None, *, clamp: bool, strict: bool
) -> dict[str, str]:
    """Return the options that are the server's; what is not given is left to it."""
    options = {
        "webhookUrl": webhook_url,
        "webhookMode": webhook_mode,
        "maxAge": None if max_age is None else str(max_age),
        "onInsufficientCredits": "clamp" if clamp else None,
        "strict": "true" if strict else None,
    }
    return {name: value for name, value in options.items() if value}


def read_list(file: Path, form: str | None, options: dict[str, str]) -> List:
    """Read a list as it is; "-" is standard input. Raises ConfigurationError, ValidationFailed."""
    try:
        if file == Path("-"):
            body = sys.stdin.buffer.read(LIST_MOST + 1)
        else:
            with file.open("rb") as stream:
                body = stream.read(LIST_MOST + 1)
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}.") from None
    if not body.strip():
        raise ValidationFailed(f"{file}: there are no names in it.")
    if len(body) > LIST_MOST:
        raise ValidationFailed(f"{file}: this is too long for a list of names.")
    return List(body, CONTENT_TYPES[form or SUFFIXES.get(file.suffix.lower(), "text")], options)


def _memory(server: Server, given: List, wish: Wish) -> Memory:
    # Not resolved: /dev/stdin leads to another pipe each time.
    name = b"-" if wish.file == Path("-") else os.fsencode(os.path.abspath(wish.file))
    out = b"" if wish.out is None else os.fsencode(wish.out)
    options = repr([*sorted(given.options.items()), wish.wait]).encode()
    # Another key may be another account's, which has neither the batch nor the right to it.
    account = hashlib.sha256(server.api_key.encode()).digest()
    return Memory([server.url.encode(), account, name, given.content_type.encode(), options, out, given.body])


def _checked_out(out: Path | None) -> Path | None:
    """Return where results go, or why they cannot before anything is asked. Raises ConfigurationError."""
    if out is None or out == Path("-"):
        return out
    path = out.resolve()  # a link stays one
    if path.exists() and not path.is_file():
        raise ConfigurationError(f"--out {out}: this is no ordinary file, and it would be replaced.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigurationError(f"--out {out}: nothing may be written there.")
    remove_old_parts(path.parent, path.name)
    return path
