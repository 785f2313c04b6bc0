"""The Dockerfile and what goes into the image."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from service import __version__
from service.cli.main import COMMANDS


@pytest.fixture(scope="module")
def stages(deploy: Path) -> list[str]:
    """The Dockerfile without comments and continued lines, cut at each FROM."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (deploy / "Dockerfile").read_text()).replace("\\\n", " ")
    return re.split(r"(?m)^(?=FROM )", text)[1:]


def test_the_last_stage_installs_and_compiles_nothing(stages: list[str]) -> None:
    assert len(stages) == 2
    assert re.search(r"\b(apt-get|pip install|gcc|build-essential|curl|ADD)\b", stages[-1]) is None


def test_dependencies_are_the_tested_ones(stages: list[str]) -> None:
    assert "--only-binary=:all: --constraint constraints.txt" in stages[0]
    assert "--no-deps" in stages[0], "the second install could bring others"


def test_it_runs_as_nobody_in_particular(stages: list[str]) -> None:
    users = re.findall(r"(?m)^USER (\S+)", stages[-1])
    # By number: Kubernetes cannot tell whether a name is root.
    assert users == ["10001:10001"]


def test_every_role_is_a_command(stages: list[str]) -> None:
    command = json.loads(re.findall(r"(?m)^CMD (\[.*\])", stages[-1])[0])
    assert command == ["storyhook", "web"]
    assert {"web", "worker", "deliverer", "beat"} <= set(COMMANDS)


def test_the_labelled_version_is_ours(stages: list[str]) -> None:
    assert f"ARG VERSION={__version__}" in stages[-1]
    assert "org.opencontainers.image.licenses" in stages[-1]


def test_secrets_and_data_stay_out_of_the_build(root: Path, stages: list[str]) -> None:
    lines = [line for line in (root / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]
    assert lines[0] == "*", "everything is left out that is not named"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copies = re.findall(r"(?m)^COPY (?!--from=)(.+) \S+$", "".join(stages))
    copied = {source.removeprefix("./") for sources in copies for source in sources.split()}
    assert copied == allowed
    assert all((root / source).exists() for source in copied)
