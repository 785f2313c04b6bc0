"""One stack for the session, and one that is quick to give up for the tests that hurt it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def customer(stack: Stack) -> Customer:
    """A new account with 100 credits."""
    return stack.customer()
