"""Programs beside the stack, each in a session of its own so that its CPU is counted apart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.e2e.stack import ROOT

STOP_LIMIT = 30.0
ASK_LIMIT = 600.0


@contextmanager
def running(arguments: Sequence[str], log: Path, **environment: str) -> Iterator[int]:
    """Run a program of this environment until the end of the block; its output goes to ``log``.

    Yields its process id, which is its session's too.
    """
    with log.open("ab") as output:
        program = subprocess.Popen(
            [str(Path(sys.executable).with_name(arguments[0])), *arguments[1:]],
            cwd=log.parent,
            env=_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield program.pid
    finally:
        program.terminate()
        with suppress(subprocess.TimeoutExpired):
            program.wait(STOP_LIMIT)
        with suppress(ProcessLookupError):  # itself, or children it has left
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def ask(module: str, plan: Mapping[str, Any], **environment: str) -> dict[str, Any]:
    """Run ``python -m module`` with ``plan`` as JSON on its standard input; return the JSON it prints."""
    ended = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(plan).encode(),
        env=_environment(environment),
        capture_output=True,
        timeout=ASK_LIMIT,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"{module} failed: {ended.stderr.decode(errors='replace')[-2000:]}")
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    known = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL") if name in os.environ}
    return {**known, "PYTHONPATH": str(ROOT), **extra}
