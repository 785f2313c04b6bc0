"""Clients that send or read too slowly: they hold no thread, and are cut off."""

from __future__ import annotations

import socket

import pytest

from service.web import bodies, connections
from service.web.connections import Connection
from tests.conftest import await_true
from tests.web.support import BODY_MOST, Door, call, ends, read_answer

SLOW = 200
LARGE = 20_000_000  # more than the kernel's buffers take


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PIECE_SECONDS", 0.3)
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)


def begun(door: Door, data: bytes, count: int = SLOW) -> list[socket.socket]:
    """Open connections that have sent this much."""
    return [door.connect(data) for _ in range(count)]


def close(lines: list[socket.socket]) -> None:
    for line in lines:
        line.close()


@pytest.mark.parametrize(
    "data",
    [
        call("/api/instagram/stories", method="POST", body=b"{", Content_Length="60000"),
        call("/api/instagram/stories", method="POST", Transfer_Encoding="chunked") + b"1\r\n{\r\n",
        call("/auth/login", method="POST", key="", body=b"{", Content_Length="60000"),
        call("/api/instagram/stories/batch", method="POST", body=b"x" * 90_000, Content_Length="99999"),
        b"POST /api/instagram/stories HTTP/1.1\r\nHo",
        b"",
    ],
    ids=["a byte", "a chunk", "a stranger", "most of it", "half a head", "nothing"],
)
def test_a_healthy_call_is_answered_beside_200_who_have_not_sent_all(door: Door, data: bytes) -> None:
    lines = begun(door, data)
    for _ in range(5):
        assert door.ask("/api/credits").status == 200
    close(lines)
    await_true(door.idle)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("begin", [b"{", b"x" * 70_000])
def test_a_body_that_stops_coming_is_cut_off_with_a_sentence(door: Door, begin: bytes) -> None:
    data = call("/api/instagram/stories", method="POST", body=begin, Content_Length=str(BODY_MOST))
    for line in begun(door, data, 5):
        with line:
            answer = read_answer(line)
            assert (answer.status, answer.json["code"]) == (408, "body_timeout")
            assert answer.headers["connection"] == "close"
            assert ends(line)
    assert door.behind.seen == []
    assert door.idle()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("data", [b"", b"POST /api", b"GET / HTTP/1.1\r\nHost: x\r\nX-One: "])
def test_a_head_that_does_not_come_is_cut_off(door: Door, data: bytes) -> None:
    with door.connect(data) as line:
        assert ends(line)


@pytest.mark.usefixtures("impatient")
def test_the_head_of_a_second_call_has_its_time_too(door: Door) -> None:
    with door.connect(call()) as line:
        assert read_answer(line).status == 200
        line.sendall(b"GET /x HT")
        assert ends(line)


def test_a_head_without_end_is_refused(door: Door) -> None:
    with door.connect(b"GET /x HTTP/1.1\r\nHost: x\r\n") as line:
        try:
            while True:
                line.sendall(b"X-More: " + b"y" * 8_000 + b"\r\n")
        except OSError:
            pass
    assert door.ask().status == 200
    assert len(door.behind.seen) == 1


@pytest.mark.parametrize("query", [f"size={LARGE}", "pieces="])
def test_a_healthy_call_is_answered_beside_many_who_do_not_read(door: Door, query: str) -> None:
    lines = begun(door, call(f"/api/requests/r?{query}"), 30)
    await_true(lambda: door.behind.running.total() == 0 and len(door.behind.seen) >= 1)
    door.admission.callers.remember("another", "acc_other")
    assert door.ask("/api/credits", key="another").status == 200
    close(lines)
    await_true(door.idle)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("query", [f"size={LARGE}", "pieces="])
def test_who_does_not_read_is_cut_off(door: Door, query: str) -> None:
    count = 1 if query.startswith("size") else 3  # so much is not taken on a second time
    lines = begun(door, call(f"/api/requests/r?{query}"), count)
    await_true(lambda: len(door.behind.seen) == count)
    await_true(door.idle)
    if query == "pieces=":
        await_true(lambda: door.behind.closed == count)
    for line in lines:
        with line:
            assert ends(line)


def test_so_many_connections_are_kept_and_one_that_idles_makes_room(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "most", 5)
    busy = [door.connect(call("/api/requests/r?wait")) for _ in range(4)]
    await_true(lambda: door.behind.running["/api/requests/r"] == 4)
    idle = door.connect(call())
    assert read_answer(idle).status == 200
    assert door.ask().status == 200
    assert ends(idle)
    close([*busy, idle])
