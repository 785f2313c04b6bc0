"""One stack for the session, and one that is quick to give up for the tests that hurt it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.cli.dev_cert import dev_cert
from tests.e2e.clients import Customer
from tests.e2e.receiver import Receiver
from tests.e2e.stack import IMPATIENT, Stack, leaving_nothing


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Return a function that makes an empty folder."""
    return lambda: tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def session_stack(home: Callable[[], Path]) -> Iterator[Stack]:
    with leaving_nothing(Stack(home())) as stack:
        yield stack.start()
        assert "Traceback" not in stack.output()


@pytest.fixture
def stack(session_stack: Stack) -> Iterator[Stack]:
    """The service as `make run` sets it up; its simulated Instagram is at rest before and after."""
    session_stack.simulator.reset()
    yield session_stack
    session_stack.simulator.reset()
    session_stack.resume_sessions()


@pytest.fixture(scope="module")
def module_stack(home: Callable[[], Path]) -> Iterator[Stack]:
    with leaving_nothing(Stack(home(), **IMPATIENT)) as stack:
        yield stack.start()


@pytest.fixture
def impatient(module_stack: Stack) -> Iterator[Stack]:
    """A service with short deadlines, which a test may hurt if it leaves it whole."""
    module_stack.simulator.reset()
    yield module_stack
    module_stack.await_ready()
    module_stack.resume_sessions()


@dataclass(frozen=True)
class TlsStack:
    """A service that speaks https, and the file of the authority its clients are to trust."""

    stack: Stack
    ca_file: str


@pytest.fixture(scope="module")
def tls_stack(home: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsStack]:
    folder = tmp_path_factory.mktemp("tls")
    made = CliRunner().invoke(dev_cert, ["--folder", str(folder)], catch_exceptions=False)
    assert made.exit_code == 0, made.output
    given = {"TLS_CERT": str(folder / "cert.pem"), "TLS_KEY": str(folder / "key.pem")}
    with leaving_nothing(Stack(home(), **given)) as stack:
        yield TlsStack(stack.start(), str(folder / "ca.pem"))
        assert "Traceback" not in stack.output()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def customer(stack: Stack) -> Customer:
    """A new account with 100 credits."""
    return stack.customer()
