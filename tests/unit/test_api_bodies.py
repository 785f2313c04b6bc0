"""Bodies that are sent a piece at a time: how long, and what is let go of when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from flask import Flask

from service.api.bodies import in_time, sent
from service.domain.errors import StreamTimeout


@pytest.fixture(autouse=True)
def exchange() -> Iterator[None]:
    with Flask(__name__).test_request_context():
        yield


PIECES = [b"a", b"b", b"c"]


class Clock:
    """Goes on by a second with each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_a_body_that_is_read_in_time_comes_whole() -> None:
    assert list(in_time(iter(PIECES), 3.0, Clock())) == PIECES


def test_a_body_ends_when_its_time_is_up_however_slowly_it_is_read() -> None:
    body = in_time(iter(PIECES), 2.0, Clock())
    assert [next(body), next(body)] == PIECES[:2]
    with pytest.raises(StreamTimeout):
        next(body)


def test_the_time_begins_with_the_first_piece_that_is_asked_for() -> None:
    clock = Clock()
    pieces = in_time(iter(PIECES), 3.0, clock)
    clock.now += 100
    assert list(pieces) == PIECES


@pytest.mark.parametrize("read", [0, 1, 3])
def test_what_is_held_is_let_go_of_once_whenever_the_caller_goes(read: int) -> None:
    let_go: list[str] = []
    held = ExitStack()
    held.callback(let_go.append, "held")
    response = sent(iter(PIECES), held)
    body = iter(response.response)
    assert [next(body) for _ in range(read)] == PIECES[:read]
    assert let_go == []
    response.close()
    assert let_go == ["held"]


def test_what_is_held_is_let_go_of_when_all_is_sent_or_it_breaks() -> None:
    let_go: list[str] = []

    def broken() -> Iterator[bytes]:
        yield b"a"
        raise StreamTimeout

    for pieces in (iter(PIECES), broken()):
        held = ExitStack()
        held.callback(let_go.append, "held")
        with suppress(StreamTimeout):
            list(sent(pieces, held).response)
    assert let_go == ["held", "held"]
