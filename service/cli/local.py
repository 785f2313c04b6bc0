"""What `make run` sets up for itself: environment, secrets, the demo account, simulated sessions."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from service.actions import accounts as actions
from service.domain.errors import ConfigurationError
from service.domain.instagram import settings_from_sessionid
from service.domain.ports import Services
from service.tls import authority_of

DEMO_EMAIL = "demo@storyhook.local"
DEMO_CREDITS = 1_000
SIMULATED_SESSIONS = 24

LOOPBACK = "localhost,127.0.0.0/8,::1"


@dataclass(frozen=True)
class Stack:
    """What is started, and with which environment."""

    folder: Path
    environment: Mapping[str, str]
    own_store: bool
    simulated: bool

    @property
    def base_url(self) -> str:
        scheme = "https" if self.environment.get("TLS_CERT") else "http"
        return f"{scheme}://127.0.0.1:{self.environment['PORT']}"

    @property
    def ca_file(self) -> str:
        """Return the authority that calls of ``base_url`` are to trust, "" for those of the system."""
        return authority_of(self.environment.get("TLS_CERT", ""))

    @property
    def receiver_url(self) -> str:
        return f"http://127.0.0.1:{self.environment['LISTEN_PORT']}/"

    def processes(self, procfile: Mapping[str, str]) -> dict[str, str]:
        """Return the lines of the Procfile that this stack needs."""
        left_out = {
            name for name, used in (("store", self.own_store), ("instagram", self.simulated)) if not used
        }
        return {name: line for name, line in procfile.items() if name not in left_out}

    def ports(self) -> dict[str, int]:
        """Return the ports this stack will listen on, by the setting that moves each."""
        names = ["PORT", "LISTEN_PORT"]
        names += ["STORE_PORT"] if self.own_store else []
        names += ["SIMULATOR_PORT"] if self.simulated else []
        return {name: int(self.environment[name]) for name in names}


def plan(folder: Path) -> Stack:
    """Return the stack for ``folder``: the environment and ``.env``, filled up with what runs at once."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    given = {
        **{key: value for key, value in dotenv_values(".env").items() if value is not None},
        **os.environ,
    }
    own_store = not given.get("REDIS_URL")
    simulated = given.get("INSTAGRAM", "simulated") != "real"
    defaults = {
        "ENVIRONMENT": "development",
        "LOG_FORMAT": "console",
        "PORT": "3222",
        "SIMULATOR_PORT": "3223",
        "LISTEN_PORT": "3224",
        "STORE_PORT": "6390",
        "STORE_FOLDER": str(folder / "store"),
        "SIMULATOR_DATA": str(folder / "simulator"),
        "ARCHIVE_URL": str(folder / "archive"),
        "WEBHOOK_ALLOW": LOOPBACK,
        "PYTHONUNBUFFERED": "1",
    }
    environment = {**defaults, **given}
    if not given.get("SECRET_KEY") and not given.get("SECRET_KEY_FILE"):
        environment["SECRET_KEY_FILE"] = str(_secret_file(folder / "secret_key").resolve())
    if own_store:
        environment["REDIS_URL"] = f"redis://127.0.0.1:{environment['STORE_PORT']}/0"
    if simulated:
        environment["SIMULATED_INSTAGRAM_URL"] = f"http://127.0.0.1:{environment['SIMULATOR_PORT']}"
        # Nobody is protected by a rest of hours here; seconds show what happens.
        environment.setdefault("REST_SCALE", "0.01")
        # Nor by a pace.
        environment.setdefault("SESSION_CALLS_PER_MINUTE", "0")
        environment.setdefault("SESSION_CALLS_PER_HOUR", "0")
        environment.setdefault("PROXY_CALLS_PER_MINUTE", "0")
        environment.setdefault("PROXY_CALLS_PER_HOUR", "0")
    stack = Stack(folder, environment, own_store, simulated)
    environment.setdefault("PUBLIC_URL", stack.base_url)
    return stack


def _secret_file(path: Path) -> Path:
    if not path.exists():
        write_private(path, secrets.token_urlsafe(48))
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def check_ports(stack: Stack) -> None:
    """Raise ConfigurationError for a port that is taken, naming the setting that moves it."""
    for name, port in stack.ports().items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise ConfigurationError(
                    f"Port {port} is in use. Stop what listens there, or run: {name}={port + 100} make run"
                ) from None


# What a `storyhook` command in the same folder needs in order to reach this stack.
_SHARED = (
    "ENVIRONMENT", "SECRET_KEY_FILE", "REDIS_URL", "BROKER_URL", "PORT", "LISTEN_PORT", "TLS_CERT", "TLS_KEY",
    "WEBHOOK_ALLOW", "ARCHIVE_URL", "SIMULATED_INSTAGRAM_URL", "SESSION_CALLS_PER_MINUTE",
    "SESSION_CALLS_PER_HOUR", "PROXY_CALLS_PER_MINUTE", "PROXY_CALLS_PER_HOUR",
)  # fmt: skip


def share(stack: Stack) -> None:
    """Leave the environment for commands of the same folder (`service.config.load(local=True)`)."""
    lines = [f"{key}={stack.environment[key]}" for key in _SHARED if stack.environment.get(key)]
    write_private(stack.folder / "run.env", "\n".join(lines) + "\n")


def demo_account(services: Services, folder: Path) -> str:
    """Return the API key of the demo account; made once, with its credits, and kept in ``folder``."""
    file = folder / "demo.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    key_id = services.keys.key_id(known.get("apiKey", ""))
    if key_id and services.accounts.key(key_id):
        return str(known["apiKey"])
    account = services.accounts.by_email(DEMO_EMAIL)
    password = secrets.token_urlsafe(12)
    if account is None:
        account = actions.create_account(services, email=DEMO_EMAIL, password=password)
        actions.add_credits(services, account.account_id, DEMO_CREDITS, note="demo credits")
    else:
        actions.set_password(services, email=DEMO_EMAIL, password=password)
    secret, _ = actions.create_key(services, account.account_id, name="demo")
    write_private(file, json.dumps({"email": DEMO_EMAIL, "password": password, "apiKey": secret}, indent=2))
    return secret


def simulated_sessions(services: Services) -> None:
    """Give the pool its simulated sessions; those that were challenged come back fresh."""
    for number in range(1, SIMULATED_SESSIONS + 1):
        settings = settings_from_sessionid(f"90000000{number:03d}%3Asimulated{number:08d}%3A1")
        services.sessions.add(f"simulated-{number:02d}", settings)
