"""A short chaos run: every fault once. `make chaos N=20000` is the long one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.chaos.__main__ import describe
from tests.chaos.run import Run

REQUESTS = 600
SEED = 20


@pytest.mark.timeout(420)
def test_nothing_is_lost_and_nothing_charged_twice(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home: Path = tmp_path_factory.mktemp("chaos")
    run = Run(home, SEED, REQUESTS, print)
    try:
        result = run.run()
    finally:
        run.close()
    assert result.holds_good, describe(result)
    assert result.findings.outcomes["ok"] > REQUESTS / 2, "most of it has to have been done"
    run.lab.assert_gone()
    shutil.rmtree(home)
