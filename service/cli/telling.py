"""What `storyhook batch` tells the person at the terminal: of the list, and of how its batch does."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import islice
from typing import Any

import orjson

from service.cli.client import has_ended
from service.cli.endings import ENDED_OTHERWISE, UNFINISHED
from service.cli.output import show
from service.cli.transport import NoAnswer
from service.cli.words import complain, say, say_json
from service.domain.envelopes import timestamp
from service.domain.texts import printable

TOLD_MOST = 20  # lines about a list before the rest is only counted


# --- the list --------------------------------------------------------------------------------------


def tell_resumed(answer: dict[str, Any], begun: float) -> None:
    """Say that an interrupted run is gone on with; ``begun`` in Unix seconds."""
    since = timestamp(int(begun * 1000))
    complain(f"going on with {answer['batchId']} of {since}; --resume-within 0 begins anew")


def tell_refusal(name: str, problem: NoAnswer) -> None:
    """Say why the server did not take a list, with the lines that are at fault."""
    if not problem.details:
        complain(str(problem))
        return
    complain(f"the server refused ({problem.code}):")
    _tell_some(f"{name}: {where}: {why}" for where, why in problem.details.items())


def tell_lines(name: str, answer: dict[str, Any]) -> int:
    """Say what of a list was not taken; return the exit code."""
    duplicates, invalid, unpaid = (answer.get(what) or [] for what in ("duplicates", "invalid", "unpaid"))
    if duplicates:
        lines = [f"line {each['line']} ({each['username']})" for each in duplicates]
        complain(f"{name}: {len(lines)} more than once: {_some(lines)}")
    _tell_some(f"{name}: line {each['line']}: {each['value']!r}: {each['error']}" for each in invalid)
    if unpaid:
        complain(f"{name}: {len(unpaid)} not paid for: {_some(unpaid)}")
    return ENDED_OTHERWISE if invalid or unpaid else 0


def _tell_some(lines: Iterable[str]) -> None:
    rest = iter(lines)
    for line in islice(rest, TOLD_MOST):
        complain(line)
    if left := sum(1 for _ in rest):
        complain(f"... and {left} more")


def _some(words: list[str]) -> str:
    left = len(words) - TOLD_MOST
    return ", ".join(words[:TOLD_MOST]) + (f" and {left} more" if left > 0 else "")


# --- the batch -------------------------------------------------------------------------------------


def print_batch(said: dict[str, Any], line: str, *, as_json: bool) -> None:
    """Print what the server says of a batch, as it is or in a line."""
    if as_json:
        say_json(orjson.dumps(said))
    else:
        say(line)
    sys.stdout.flush()


def print_end(batch: dict[str, Any], *, as_json: bool) -> None:
    """Print how a batch stands at the end of the run: on a terminal as a table."""
    if sys.stdout.isatty() and not as_json:
        show(summary(batch), ("outcome", "names"), list(outcomes(batch).items()), as_json=False)
    else:
        print_batch(batch, summary(batch), as_json=as_json)


def tell_end(batch_id: str, batch: dict[str, Any], missing: int) -> int:
    """Say what a batch did not bring, with so many results ``missing``; return the exit code."""
    others = batch["total"] - batch["states"].get("succeeded", 0)
    if not has_ended(batch):
        complain(f"{batch_id}: not ended in time; the same command goes on with it")
        return UNFINISHED
    if missing:
        complain(f"{batch_id}: {missing} of {batch['total']} results are not there any more")
    if others:
        complain(f"{batch_id}: {others} of {batch['total']} ended otherwise: {_counts(batch)}")
    return ENDED_OTHERWISE if others or missing else 0


def summary(batch: dict[str, Any]) -> str:
    """Return a batch in one line."""
    done = "" if has_ended(batch) else f"{count_ended(batch)} of "
    told = f"{batch['batchId']}: {batch['status']}: {done}{batch['total']} names, {_counts(batch)}"
    return printable(f"{told}; {batch.get('itemCount', 0)} items, {batch.get('creditsCharged', 0)} credits")


def _counts(batch: dict[str, Any]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes(batch).items()) or "none ended"


def outcomes(batch: dict[str, Any]) -> dict[str, int]:
    """Return how many names ended how, the most frequent first."""
    counts = {printable(name): count for name, count in batch.get("outcomes", {}).items() if count}
    if cancelled := batch["states"].get("cancelled"):
        counts.setdefault("cancelled", cancelled)
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def count_ended(batch: dict[str, Any]) -> int:
    """Return how many names have ended, in whatever way."""
    return sum(batch["states"].get(state, 0) for state in ("succeeded", "failed", "cancelled"))
