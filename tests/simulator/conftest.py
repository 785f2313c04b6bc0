"""The simulator as a process on a free port, and clients which are sent there instead of to Instagram."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
import requests
from instagrapi import Client
from requests.adapters import HTTPAdapter

ROOT = Path(__file__).resolve().parents[2]
SESSION = "1001%3Asimulated%3A1"
INSTAGRAM = "https://i.instagram.com/api/v1/"


class Redirect(HTTPAdapter):
    """Sends to the simulator what was meant for Instagram, keeping the Host header."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        self._base = urlsplit(base_url)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        meant = urlsplit(request.url)
        request.headers.setdefault("Host", meant.netloc)
        request.url = urlunsplit(meant._replace(scheme="http", netloc=self._base.netloc))
        kwargs["proxies"], kwargs["timeout"] = {}, kwargs.get("timeout") or (60, 60)
        response = super().send(request, *args, **kwargs)
        response.url = urlunsplit(meant)
        return response


def redirect(session: requests.Session, base_url: str) -> None:
    for prefix in ("https://i.instagram.com/", "https://www.instagram.com/", "https://scontent"):
        session.mount(prefix, Redirect(base_url))


class Simulator:
    """A running simulator, seen from a test."""

    def __init__(self, url: str) -> None:
        self.url = url

    def session(self, sessionid: str | None = SESSION) -> requests.Session:
        """Plain HTTP, redirected; with the session as a cookie."""
        session = requests.Session()
        redirect(session, self.url)
        if sessionid:
            session.headers["Cookie"] = f"sessionid={sessionid}"
        return session

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session().get(INSTAGRAM + path, **options)

    def user_id(self, username: str) -> int:
        return self.get(f"users/{username}/usernameinfo/").json()["user"]["pk"]

    def feed(self, username: str, **options: Any) -> requests.Response:
        return self.get(f"feed/user/{self.user_id(username)}/story/", **options)

    def calls(self) -> dict[str, Any]:
        return requests.get(f"{self.url}/_sim/calls", timeout=60).json()

    def reset(self) -> None:
        requests.post(f"{self.url}/_sim/reset", timeout=60).raise_for_status()

    def knobs(self, **changes: Any) -> requests.Response:
        return requests.post(f"{self.url}/_sim/knobs", json=changes, timeout=60)


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The process, listening already: it says so on its first line."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIMULATOR_")}
    return subprocess.Popen(
        [sys.executable, "-m", "workers.simulator", *arguments],
        cwd=ROOT,
        env=clean | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop(process: subprocess.Popen[str]) -> int:
    process.terminate()
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return process.returncode


def address_of(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline()
    assert "http://" in line, process.stderr.read()
    return line.split()[-1]


@pytest.fixture
def launch() -> Iterator[Callable[..., tuple[subprocess.Popen[str], Simulator]]]:
    """Starts further simulators, for tests about starting, stopping and restarting."""
    running: list[subprocess.Popen[str]] = []

    def launched(*arguments: str, **environment: str) -> tuple[subprocess.Popen[str], Simulator]:
        process = start("--port", "0", *arguments, **environment)
        running.append(process)
        return process, Simulator(address_of(process))

    yield launched
    for process in running:
        stop(process)


@pytest.fixture(scope="session")
def shared_simulator() -> Iterator[Simulator]:
    process = start("--port", "0")
    try:
        yield Simulator(address_of(process))
    finally:
        stop(process)


@pytest.fixture
def simulator(shared_simulator: Simulator) -> Simulator:
    """The shared process with fresh counters and knobs."""
    shared_simulator.reset()
    return shared_simulator


@pytest.fixture
def client(simulator: Simulator) -> Client:
    return stock_client(simulator)


def stock_client(simulator: Simulator, sessionid: str = SESSION) -> Client:
    """An unmodified instagrapi client, logged in by settings alone, that does not wait or retry."""
    made = Client(
        with_challenge_flow=False, request_timeout=0, session_retry_total=0, public_request_retries_count=1
    )
    authorization = {
        "ds_user_id": sessionid.partition("%3A")[0],
        "sessionid": sessionid,
        "should_use_header_over_cookies": True,
    }
    made.set_settings({**made.get_settings(), "authorization_data": authorization})
    for session in (made.private, made.public, made.graphql):
        redirect(session, simulator.url)
    return made
