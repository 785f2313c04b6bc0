"""What makes these tests quick."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from unittest import mock

import pytest

from service.auth.passwords import Passwords


@pytest.fixture(autouse=True, scope="module")
def one_hasher() -> Iterator[None]:
    """Every `assemble` makes a hasher, which is slow on purpose; here one serves all."""
    with mock.patch("service.bootstrap.Passwords", _hasher):
        yield


@cache
def _hasher() -> Passwords:
    return Passwords()
