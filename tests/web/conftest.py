from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.web.support import Door, opened


@pytest.fixture
def door() -> Iterator[Door]:
    with opened() as one:
        yield one
