"""Several upstreams through the whole service: what one cannot answer the next one does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, leaving_nothing


@pytest.fixture(scope="module")
def many(home: Callable[[], Path]) -> Iterator[Stack]:
    """A service that was given no key at all."""
    with leaving_nothing(Stack(home(), SOURCES="instagrapi,hikerapi,web")) as stack:
        yield stack.start()
        assert "Traceback" not in stack.output()


def test_the_next_one_serves_what_the_first_is_refused(many: Stack) -> None:
    customer = many.customer()
    for name, source in (("nasa", "instagrapi"), ("challenge_nasa", "hikerapi"), ("fail_nasa", "hikerapi")):
        answer = customer.stories(name)
        envelope = answer.json()
        assert (answer.status_code, envelope["outcome"], envelope["source"]) == (200, "found", source), name
    assert customer.stories("private_nasa").status_code == 403
    assert customer.stories("missing_nasa").status_code == 404
