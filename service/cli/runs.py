"""What an interrupted `storyhook batch` leaves for the next one: the key it handed its list in with.

The key is on the disk before the list is sent. Whatever happens after that, the same command finds it and
sends the list under the same key, which the server answers with the same batch. It is forgotten once the
command has done all it was asked for, so that the next run of a cron job is a new batch.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from service.domain.errors import ConfigurationError

KEY_LIFE = 23 * 3_600.0  # seconds; the server knows a key for 24 hours
FORGOTTEN_AFTER = 8 * 86_400.0  # seconds; by then the server has no results any more


@dataclass(frozen=True)
class Run:
    """A batch from its beginning (Unix seconds) on; ``answer`` is what the server said of the list."""

    key: str
    begun: float
    answer: dict[str, Any] | None = None


def state_folder() -> Path:
    """Return where runs are remembered (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):  # the specification: relative ones are ignored
        base = os.path.expanduser("~/.local/state")
    return Path(base) / "storyhook" / "batches"


class Memory:
    """Remembers the run of one command. Several processes may do so at a time.

    ``what`` tells one such run from all others: server, a hash of the API key, list, options, where its
    results go.
    """

    def __init__(self, what: Iterable[bytes]) -> None:
        digest = hashlib.sha256()
        for each in what:
            digest.update(len(each).to_bytes(8, "big") + each)
        self._folder = state_folder()
        self._path = self._folder / f"{digest.hexdigest()[:32]}.json"

    def recall(self, within: float) -> Run:
        """Return the run that was interrupted in the last ``within`` seconds, or begin one.

        Raises ConfigurationError when it could not be remembered: nothing may be sent then.
        """
        try:
            with self._locked():
                self._tidy()
                run = self._read()
                if run is None or not _holds(run, within):
                    run = Run(str(uuid.uuid4()), time.time())
                    self._write(run)
                return run
        except OSError as error:
            raise ConfigurationError(
                f"{self._folder}: {error.strerror}. An interrupted batch is remembered there: set "
                "XDG_STATE_HOME to a folder of yours, or give --idempotency-key."
            ) from None

    def keep(self, run: Run, answer: dict[str, Any]) -> Run:
        """Add the server's answer to a run; without room for it, its key will do."""
        known = replace(run, answer=answer)
        with suppress(OSError), self._locked():
            if self._is(run):
                self._write(known)
        return known

    def forget(self, run: Run) -> None:
        """Forget a run that has come to its end; a newer one of the same command stays."""
        with suppress(OSError), self._locked():
            if self._is(run):
                self._path.unlink()

    def _is(self, run: Run) -> bool:
        known = self._read()
        return known is not None and known.key == run.key

    def _read(self) -> Run | None:
        try:
            return Run(**orjson.loads(self._path.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _write(self, run: Run) -> None:
        part = self._path.with_suffix(".part")  # one writer at a time: the folder is locked
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps({"key": run.key, "begun": run.begun, "answer": run.answer}))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name too is to outlive a power cut
        finally:
            os.close(folder)

    def _tidy(self) -> None:
        """Forget the runs nobody has come back to."""
        for path in self._folder.glob("*.json"):
            if time.time() - path.stat().st_mtime > FORGOTTEN_AFTER:
                path.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Named:
    """The run of a caller who names it: nothing is on the disk, the key stands for it."""

    def __init__(self, key: str) -> None:
        self._key = key

    def recall(self, within: float) -> Run:
        """Return the run of this name."""
        return Run(self._key, time.time())

    def keep(self, run: Run, answer: dict[str, Any]) -> Run:
        """Return the run with the server's answer."""
        return replace(run, answer=answer)

    def forget(self, run: Run) -> None:
        """Do nothing: the server forgets the key by itself."""


def _holds(run: Run, within: float) -> bool:
    age = time.time() - run.begun
    return age < within and (run.answer is not None or age < KEY_LIFE)
