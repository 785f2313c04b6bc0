"""One run of `storyhook batch`: a list is handed in, its end waited for, its results written."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from service.cli.client import Api, List, has_ended
from service.cli.endings import REFUSED, UNFINISHED
from service.cli.output import progress_bar
from service.cli.parts import Parts
from service.cli.runs import Memory, Named, Run
from service.cli.telling import (
    count_ended,
    print_batch,
    print_end,
    summary,
    tell_end,
    tell_lines,
    tell_refusal,
    tell_resumed,
)
from service.cli.transport import HOLD_MOST, NoAnswer
from service.cli.words import complain, say
from service.domain.texts import printable, printable_json

GLANCE = 2.0  # seconds between two looks while somebody watches the bar

# The server has judged the list: nothing is kept under the key, a new run may begin.
_JUDGED = frozenset({402, 413, 415, 422})


@dataclass(frozen=True)
class Wish:
    """What is to be done with the list in ``file``. ``out`` is where results go, None without."""

    file: Path
    wait: bool
    out: Path | None
    as_json: bool
    resume_within: float

    @property
    def name(self) -> str:
        """What the list is called where people are told of it."""
        return "standard input" if self.file == Path("-") else self.file.name

    @property
    def on_stdout(self) -> bool:
        """Whether the results are what is printed."""
        return self.out == Path("-")


class Work:
    """One run of the command."""

    def __init__(self, api: Api, given: List, memory: Memory | Named, wish: Wish) -> None:
        self.parts = Parts()
        self._api = api
        self._given = given
        self._memory = memory
        self._wish = wish
        self._batch_id = ""
        self._shown = sys.stderr.isatty()

    def do(self) -> int:
        """Hand the list in, wait, write the results; return the exit code. Raises ConfigurationError."""
        run = self._memory.recall(self._wish.resume_within)
        try:
            status = self._do(run)
        except NoAnswer as problem:
            tell_refusal(self._wish.name, problem)
            if problem.status in _JUDGED or (self._batch_id and problem.status == 404):
                self._memory.forget(run)
            elif self._batch_id:
                complain(self.last_words())
            return REFUSED
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            complain(f"{self._wish.out}: {error.strerror}; {self.last_words()}")
            return UNFINISHED
        return status

    def last_words(self) -> str:
        """Return what a person should know who ends the run here."""
        return f"{self._batch_id} goes on; the same command goes on with it" if self._batch_id else ""

    def _do(self, run: Run) -> int:
        if run.answer is None:
            run = self._memory.keep(run, self._api.submit_batch(self._given, run.key).content)
        else:
            tell_resumed(run.answer, run.begun)
        answer = run.answer or {}
        self._batch_id = printable(str(answer["batchId"]))
        status = tell_lines(self._wish.name, answer)
        if self._wish.wait:
            batch = self._awaited(answer.get("accepted"))
            status = max(status, self._finish(batch))
            if not has_ended(batch):
                return status
        else:
            print_batch(answer, self._batch_id, as_json=self._wish.as_json)
        self._memory.forget(run)
        return status

    def _awaited(self, accepted: int | None) -> dict[str, Any]:
        """Wait for the end of so many names; return the batch as it was at last."""
        said: dict[str, Any] = {}
        with progress_bar(shown=self._shown) as progress:
            bar = progress.add_task(self._batch_id, total=accepted)
            for said in self._api.batch(self._batch_id, hold=GLANCE if self._shown else HOLD_MOST):
                progress.update(bar, completed=count_ended(said), total=said["total"])
        return said

    def _finish(self, batch: dict[str, Any]) -> int:
        """Write the results of a batch that has ended, tell how it did; return the exit code."""
        missing = 0
        if has_ended(batch) and self._wish.out is not None:
            missing = batch["total"] - self._write_results(batch["total"])
        if not self._wish.on_stdout:
            print_end(batch, as_json=self._wish.as_json)
        elif self._shown:
            say(summary(batch), err=True)
        return tell_end(self._batch_id, batch, missing)

    def _write_results(self, total: int) -> int:
        """Write the results; return how many there were. Raises OSError."""
        count = there = 0
        with progress_bar(shown=self._shown) as progress, self._out() as file:
            bar = progress.add_task("results", total=total)
            for page in self._api.results(self._batch_id):
                file.writelines(self._line(envelope) for envelope in page)
                count += len(page)
                # What was erased or has passed its lifetime has a line too, without an end.
                there += sum("finishedAt" in envelope for envelope in page)
                progress.update(bar, completed=count)
        return there

    def _line(self, envelope: dict[str, Any]) -> bytes:
        line = orjson.dumps(envelope) + b"\n"
        read = self._wish.on_stdout and sys.stdout.isatty()
        return printable_json(line.decode()).encode() if read else line

    @contextmanager
    def _out(self) -> Iterator[IO[bytes]]:
        if self._wish.on_stdout or self._wish.out is None:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        with self.parts.written(self._wish.out) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # the run is forgotten next
