"""`storyhook fetch NAME...`: stories on the command line, for cron and people."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from service.cli.client import Answer, Api
from service.cli.endings import ENDED_OTHERWISE, REFUSED, Terminated, leave, sigterm_raises
from service.cli.output import check_stdout, progress_bar, server_options, show
from service.cli.saving import Saved, Saver
from service.cli.servers import find_server
from service.cli.transport import NoAnswer, Stopped
from service.cli.words import complain
from service.domain.errors import ValidationFailed
from service.domain.namelists import text_lines
from service.domain.requests import parse_username
from service.domain.sharing import MAX_AGE_MOST
from service.domain.texts import printable, printable_json

AHEAD = 4  # results that wait for their turn, for each job

COLUMNS = ("name", "outcome", "items", "photos/videos", "newest", "credits", "cached")


@dataclass(frozen=True)
class Result:
    """What became of a name: an answer, or why there is none, or neither when the run ended before."""

    name: str
    answer: Answer | None = None
    problem: NoAnswer | None = None
    saved: Saved = field(default_factory=Saved)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--json", "form", flag_value="json", help="Print one envelope a line. [default in a pipe]")
@click.option("--table", "form", flag_value="table", help="Print a table. [default on a terminal]")
@click.option(
    "--save",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Save new stories as DIR/<username>/<taken at>_<pk>.<jpg|mp4|...> and the envelope as "
    "<requestId>.json; print the paths of new stories, unless --json or --table is given.",
)
@click.option(
    "--max-age",
    type=click.IntRange(0, MAX_AGE_MOST),
    metavar="SECONDS",
    help="Take a result fetched for another call up to so long ago; 0 fetches anew. [default: the server's]",
)
@click.option(
    "--wait",
    type=click.IntRange(0, 86_400),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="How long to try and wait for each name.",
)
@click.option("--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="Names at a time.")
@server_options
def fetch(
    *,
    names: tuple[str, ...],
    form: str | None,
    folder: Path | None,
    max_age: int | None,
    wait: int,
    jobs: int,
    server: str | None,
    key: str | None,
) -> None:
    """Fetch the stories of one or more accounts from a Storyhook server.

    NAME is a name, @name or profile URL; `-` reads names from standard input, one a line.

    Server and key come from the options, the environment, ~/.config/storyhook/config.toml (url = "...",
    api_key = "..."), or a `make run` in this folder.

    \b
    Exit codes:
      0    all names succeeded, with stories or without
      1    at least one ended otherwise (private, not found, blocked ...) or could not be saved
      2    wrong use, or no server or key
      3    the server refused (401, 402, 403 ...) or could not be reached
      130  interrupted
    """
    check_stdout()
    stop = threading.Event()
    saver = None
    try:
        with sigterm_raises():
            found = find_server(server, key)
            wanted = parse_names(names, _read_stdin)
            saver = Saver(folder, found, stop=stop) if folder else None
            api = Api(found, wait=wait, stop=stop)
            results = in_order(lambda name: _fetched(api, saver, name, max_age, stop), wanted, jobs)
            form = form or ("paths" if saver else "table" if sys.stdout.isatty() else "json")
            complaints = _print(results, form, len(wanted))
    except (KeyboardInterrupt, Terminated, BrokenPipeError) as error:
        stop.set()
        leave(error, saver.parts if saver else None)
    for complaint in complaints.lines():
        complain(complaint)
    sys.exit(complaints.status)


def parse_names(given: Iterable[str], read_stdin: Callable[[], bytes]) -> list[str]:
    """Return the names to ask for, each once, in the order given; "-" stands for the lines that are read.

    Raises ValidationFailed naming the first that is none: nothing was asked or charged then.
    """
    names: dict[str, None] = {}
    for text in given:
        for each in _lines(read_stdin()) if text == "-" else [text]:
            try:
                names[parse_username(each)] = None
            except ValidationFailed as error:
                sentence = " ".join((error.details or {})["username"])
                raise ValidationFailed(f"{printable(each)!r}: {sentence}") from None
    if not names:
        raise ValidationFailed("Standard input holds no names.")
    return list(names)


def _read_stdin() -> bytes:
    return sys.stdin.buffer.read()  # bytes: what they are as text does not hang on the locale


def _lines(body: bytes) -> Iterator[str]:
    """Yield the lines of a list; blank ones and # comments are none. Raises ValidationFailed."""
    try:
        lines = text_lines(body)
    except ValidationFailed as error:
        [[sentence]] = (error.details or {}).values()
        raise ValidationFailed(f"Standard input: {sentence}") from None
    for line in lines:
        text = line.lstrip("\ufeff").strip()
        if text and not text.startswith("#"):
            yield text


def in_order(work: Callable[[str], Result], names: Sequence[str], jobs: int) -> Iterator[Result]:
    """Do ``work`` on ``jobs`` names at a time; yield the results in the order of the names.

    Not much is done ahead of a slow one, so that what waits for its turn stays bounded.
    """
    pool = ThreadPoolExecutor(jobs)  # not as a context: an interruption must not wait for it
    ahead: deque[Future[Result]] = deque()
    for name in names:
        ahead.append(pool.submit(work, name))
        if len(ahead) >= jobs * AHEAD:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()
    pool.shutdown()


def _fetched(api: Api, saver: Saver | None, name: str, max_age: int | None, stop: threading.Event) -> Result:
    if stop.is_set():
        return Result(name)
    try:
        answer = api.stories(name, max_age, archive=saver is not None)
    except Stopped:
        return Result(name)
    except NoAnswer as problem:
        if problem.everywhere:
            stop.set()
        return Result(name, problem=problem)
    if saver is None or not answer.succeeded:
        return Result(name, answer)
    return Result(name, answer, saved=saver.save(name, answer))


# --- what is printed -------------------------------------------------------------------------------


def _print(results: Iterable[Result], form: str, count: int) -> Complaints:
    """Print results as they come, a table at the end; return what is to be complained about."""
    stream = sys.stdout.buffer
    # Lines on the terminal would get into the bar's way.
    shown = sys.stderr.isatty() and (form == "table" or not sys.stdout.isatty())
    complaints = Complaints()
    rows = []
    with progress_bar(shown=shown) as progress:
        bar = progress.add_task("stories", total=count)
        for result in results:
            complaints.hear(result)
            if form == "table":
                rows.append(row(result, time.time()))
            for line in _output(result, form):
                stream.write(line + b"\n")
            stream.flush()
            progress.advance(bar)
    if form == "table":
        show("Stories", COLUMNS, rows, as_json=False)
    return complaints


def _output(result: Result, form: str) -> list[bytes]:
    """Return the lines a result has on standard output."""
    if form == "json" and result.answer is not None:
        return [_harmless(result.answer.body) if sys.stdout.isatty() else result.answer.body]
    return [os.fsencode(path) for path in result.saved.files] if form == "paths" else []


def _harmless(body: bytes) -> bytes:
    """Return JSON for a terminal; into a pipe it goes as it came."""
    return printable_json(body.decode()).encode()


def row(result: Result, now: float) -> tuple[object, ...]:
    """Return the line of a result in the table; ``now`` in Unix seconds."""
    if result.answer is None:
        return (result.name, result.problem.code if result.problem else "no answer", *[""] * 5)
    said = result.answer.envelope
    outcome = said.get("outcome") or said.get("code") or said.get("status")
    if not result.answer.succeeded:
        return (result.name, outcome, "", "", "", said.get("creditsCharged", ""), "")
    items = result.answer.items
    videos = sum(bool(item.get("video_versions")) for item in items)
    taken = [item["taken_at"] for item in items if isinstance(item.get("taken_at"), int)]
    return (
        result.name,
        outcome,
        len(items),
        f"{len(items) - videos}/{videos}" if items else "",
        duration(now - max(taken)) if taken else "",
        said.get("creditsCharged", ""),
        duration(said.get("age", 0)) if said.get("cached") else "",
    )


def duration(seconds: float) -> str:
    """Return ``45 s``, ``12 min`` or ``3 h``."""
    if seconds < 60:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3_570 else f"{seconds / 3_600:.0f} h"


class Complaints:
    """What goes to standard error, a line each, and the exit status."""

    def __init__(self) -> None:
        self.status = 0
        self._lines: dict[str, None] = {}  # what holds for every name is said once
        self._left: list[str] = []

    def hear(self, result: Result) -> None:
        """Take note of a result."""
        if (problem := result.problem) is not None:
            self.status = REFUSED
            about = "" if problem.everywhere else f"{result.name}: "
            self._add(f"{about}{problem}")
        elif result.answer is None:
            self._left.append(result.name)
        elif not result.answer.succeeded:
            self._add(f"{result.name}: {_why(result.answer.envelope)}")
        for failure in result.saved.failures:
            self._add(f"{result.name}: {failure}")

    def _add(self, line: str) -> None:
        self.status = max(self.status, ENDED_OTHERWISE)
        self._lines[printable(line)] = None

    def lines(self) -> Iterator[str]:
        """Yield the lines."""
        yield from self._lines
        if self._left:
            yield f"left without an answer: {', '.join(self._left)}"


def _why(envelope: dict[str, Any]) -> str:
    if "finishedAt" in envelope:
        return f"{envelope.get('code')}: {envelope.get('error')}"
    return f"not ended in time; it goes on as {envelope['requestId']}"
