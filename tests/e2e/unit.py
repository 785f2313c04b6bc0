"""What the shipped systemd units say: how a role is started, and when it is started again."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "systemd"
# Signals that are no failure to systemd (systemd.service(5), SuccessExitStatus=).
CLEAN = {-signal.SIGHUP, -signal.SIGINT, -signal.SIGTERM, -signal.SIGPIPE}


def _unit(role: str) -> Path:
    names = (f"storyhook-{role}@.service", f"storyhook-{role}.service", "storyhook@.service")
    return next(FOLDER / name for name in names if (FOLDER / name).exists())


def _settings(role: str) -> Mapping[str, str]:
    lines = _unit(role).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def command(role: str) -> list[str]:
    """Return the command of a role, with the programs of this environment."""
    program, *arguments = shlex.split(_settings(role)["ExecStart"].replace("%i", role))
    return [str(Path(sys.executable).with_name(Path(program).name)), *arguments]


def is_started_again(role: str, code: int) -> bool:
    """Tell whether systemd starts a role again that ended with ``code``, a signal's number if negative."""
    settings = _settings(role)
    if str(code) in settings.get("RestartPreventExitStatus", "").split():
        return False
    if settings["Restart"] == "on-failure":
        return code != 0 and code not in CLEAN
    assert settings["Restart"] == "always"
    return True
