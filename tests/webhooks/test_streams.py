"""Streams through the guarded way out: bounded in memory and time, whatever the other side does."""

from __future__ import annotations

import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
import urllib3

from service.domain.addresses import parse_policy
from service.egress import Egress, EgressError
from service.egress.alarms import Alarm
from service.egress.deadline import Deadline
from tests.conftest import await_true
from tests.webhooks.conftest import Certificate
from tests.webhooks.support import DIALS, Line, Names, Server, answering, leaving_nothing

MEBIBYTE = 1024 * 1024
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
# Heads of answers after which the connection counts as closed, before the body is read.
LAST = [
    HEAD + b"Connection: close\r\nContent-Length: 100000\r\n\r\n",
    HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
    HEAD + b"\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
]
PATIENCE = 20.0


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    with leaving_nothing():
        yield


def way_out(
    *, idle: float = PATIENCE, total: float = PATIENCE, allow: str = "127.0.0.0/8", **more: object
) -> Egress:
    return Egress(
        parse_policy([allow] if allow else [], []),
        connect_timeout=5.0,
        idle_timeout=idle,
        total_timeout=total,
        **{"resolver": Names(), **more},  # type: ignore[arg-type]
    )


def saying(*pieces: bytes, then: Callable[[Line], object] = lambda _line: None) -> Callable[[Line], None]:
    def serve(line: Line) -> None:
        # Small buffers and late acknowledgements make large bodies crawl.
        line.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MEBIBYTE)
        line.request()
        for piece in pieces:
            line.send(piece)
        then(line)

    return serve


def ending(egress: Egress, url: str) -> tuple[bytes, str]:
    """Return what came of a body, and the word for why no more did."""
    body = bytearray()
    try:
        with egress.get(url, {}) as stream:
            for chunk in stream.chunks():
                body += chunk
    except EgressError as error:
        return bytes(body), error.code
    return bytes(body), ""


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (HEAD + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
        (HEAD + b"Connection: close\r\n\r\nhello", b"hello"),
        (HEAD + b"Content-Length: 0\r\n\r\n", b""),
        (HEAD + b"Content-Length: 5\r\nContent-Encoding: gzip\r\n\r\nhello", b"hello"),  # as it was sent
        (b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno", b"no"),
    ],
)
def test_a_body_comes_as_it_was_sent(answer: bytes, body: bytes) -> None:
    with Server(saying(answer)) as server:
        assert ending(way_out(), server.url) == (body, "")


def test_status_and_headers_come_before_the_body() -> None:
    head = HEAD + b"Content-Length: 5\r\nX-Word: yes\r\n\r\n"
    with Server(saying(head, then=Line.hold)) as server, way_out().get(server.url, {}) as stream:
        assert (stream.status, stream.headers["x-word"]) == (200, "yes")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300, 304])
def test_a_redirect_is_refused_and_not_followed(status: int) -> None:
    with Server(answering()) as elsewhere, DIALS.noted() as dialled:
        answer = f"HTTP/1.1 {status} X\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n".encode()
        with Server(saying(answer)) as server:
            assert ending(way_out(), server.url) == (b"", "bad_answer")
        assert [port for _, port in dialled] == [server.port]


@pytest.mark.parametrize("answer", [HEAD + b"Content-Length: 9\r\n\r\nhello", CHUNKED + b"9\r\nhello"])
def test_a_body_that_breaks_off_is_no_whole_one(answer: bytes) -> None:
    with Server(saying(answer)) as server:
        body, word = ending(way_out(), server.url)
        assert b"hello".startswith(body)
        assert word in {"bad_answer", "connection_failed"}


def test_silence_ends_it_and_bytes_that_come_do_not() -> None:
    def slowly(line: Line) -> None:
        for _ in range(11):
            line.send(b"x")
            assert not line.over.wait(0.2)  # in all longer than the silence that is borne
        line.hold()

    with Server(saying(HEAD + b"Content-Length: 12\r\n\r\n", then=slowly)) as server:
        started = time.monotonic()
        assert ending(way_out(idle=2.0), server.url) == (b"x" * 11, "timeout")
        assert time.monotonic() - started > 3.5


@pytest.mark.parametrize(
    "endless",
    [
        HEAD + b"Content-Length: 100000\r\n\r\n",
        CHUNKED + b"10000\r\n",
        CHUNKED,  # a size that never ends
        CHUNKED + b"1\r\nx\r\n0\r\n",  # a trailer that never ends
        b"",  # a status line that never ends
        HEAD,
        *LAST,
    ],
)
def test_dripping_ends_with_the_time_for_all_of_it(endless: bytes) -> None:
    with Server(saying(endless, then=lambda line: line.drip(b"1"))) as server:
        started = time.monotonic()
        assert ending(way_out(total=0.5), server.url)[1] == "timeout"
        assert time.monotonic() - started < PATIENCE


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("head", LAST)
def test_so_does_silence_that_could_be_borne_longer(certificate: Certificate, head: bytes, tls: bool) -> None:
    names = Names({"hooks.example": ["127.0.0.1"]})
    egress = way_out(total=0.5, resolver=names, ca_file=str(certificate.file))
    with Server(saying(head, then=Line.hold), tls=certificate.server() if tls else None) as server:
        started = time.monotonic()
        scheme = "https" if tls else "http"
        assert ending(egress, f"{scheme}://hooks.example:{server.port}/") == (b"", "timeout")
        assert time.monotonic() - started < PATIENCE


def test_a_reader_that_takes_its_time_is_bound_by_it_as_well() -> None:
    egress = way_out(total=5.0)
    with (
        Server(
            saying(HEAD + b"Content-Length: 9000000\r\n\r\n", then=lambda line: line.flood(b"x" * 9000))
        ) as server,
        egress.get(server.url, {}) as stream,
    ):
        chunks = stream.chunks()
        next(chunks)
        await_true(lambda: stream._deadline.passed, 20)
        with pytest.raises(EgressError, match="timeout"):
            for _ in chunks:
                pass


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 ", HEAD + b"X-Long: ", HEAD + b"X: y\r\n"])
def test_a_head_may_not_be_long(start: bytes) -> None:
    with Server(saying(start, then=lambda line: line.flood(b"X: abcdefgh\r\n" * 100))) as server:
        assert ending(way_out(), server.url)[1] == "bad_answer"
        assert server.sent < 10 * MEBIBYTE


def test_nor_may_what_stands_between_chunks() -> None:
    with Server(saying(CHUNKED, then=lambda line: line.flood(b"1" * 1000))) as server:
        assert ending(way_out(), server.url)[1] == "bad_answer"


@pytest.mark.parametrize(
    "head", [HEAD + b"Content-Length: 52428800\r\n\r\n", HEAD + b"Connection: close\r\n\r\n"]
)
def test_a_large_body_takes_little_memory(head: bytes) -> None:
    piece = b"x" * MEBIBYTE
    with Server(saying(head, *[piece] * 50)) as server, way_out().get(server.url, {}) as stream:
        tracemalloc.start()
        try:
            longest = total = 0
            for chunk in stream.chunks():
                longest, total = max(longest, len(chunk)), total + len(chunk)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert total == 50 * MEBIBYTE
    assert longest <= 64 * 1024
    assert peak < MEBIBYTE


def test_a_connection_whose_body_was_read_is_used_again_and_no_other() -> None:
    egress = way_out(idle=PATIENCE)
    with Server(answering(HEAD + b"Content-Length: 5\r\n\r\nhello")) as server:
        for _ in range(3):
            assert ending(egress, server.url) == (b"hello", "")
        assert server.connections == 1
        with egress.get(server.url, {}):
            pass
        assert ending(egress, server.url) == (b"hello", "")
        assert server.connections == 2


@pytest.fixture
def alarms(monkeypatch: pytest.MonkeyPatch) -> list[Alarm]:
    """The alarms that are set from now on, in this order; they ring when they are told to."""
    alarms: list[Alarm] = []

    class ByHand:
        def set(self, seconds: float, call: Callable[[], None]) -> Alarm:
            alarms.append(Alarm(call))
            return alarms[-1]

    monkeypatch.setattr(Deadline, "_alarms", ByHand())
    return alarms


def test_the_time_of_a_stream_is_over_with_its_last_byte(alarms: list[Alarm]) -> None:
    """Its connection is somebody else's then, also while the reader has not asked for the end."""
    proceed = threading.Event()

    def serve(line: Line) -> None:
        line.request()
        line.send(HEAD + b"Content-Length: 5\r\n\r\nhello")
        line.request()
        line.send(HEAD + b"Content-Length: 5\r\n\r\nhe")
        assert proceed.wait(30)
        line.send(b"llo")

    egress = way_out()
    with Server(serve) as server, egress.get(server.url, {}) as first:
        chunks = first.chunks()
        received = b""
        while len(received) < 5:
            received += next(chunks)
        with egress.get(server.url, {}) as second:
            alarms[0].ring()
            proceed.set()
            assert b"".join(second.chunks()) == b"hello"
        assert list(chunks) == []  # nor is it told that it was late: it had everything in time
        assert server.connections == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connection_that_is_kept_is_nobodys_to_cut(
    alarms: list[Alarm],
    monkeypatch: pytest.MonkeyPatch,
    certificate: Certificate,
    method: str,
    scheme: str,
) -> None:
    """It is kept while the last byte is read, before the reader hears of that."""
    put_back = urllib3.HTTPConnectionPool._put_conn

    def put_back_and_ring(*what: object) -> None:
        put_back(*what)  # type: ignore[arg-type]
        alarms[-1].ring()

    monkeypatch.setattr(urllib3.HTTPConnectionPool, "_put_conn", put_back_and_ring)
    egress = way_out(resolver=Names({"hooks.example": ["127.0.0.1"]}), ca_file=str(certificate.file))

    def body(url: str) -> bytes:
        return ending(egress, url)[0] if method == "GET" else egress.post(url, b"{}", {}).body

    tls = certificate.server() if scheme == "https" else None
    with Server(answering(HEAD + b"Content-Length: 5\r\n\r\nhello"), tls=tls) as server:
        url = f"{scheme}://hooks.example:{server.port}/"
        assert [body(url) for _ in range(3)] == [b"hello"] * 3
        assert server.connections == 1


def test_chunks_that_nobody_wants_any_more_close_the_connection() -> None:
    with Server(
        saying(HEAD + b"Content-Length: 9000000\r\n\r\n", then=lambda line: line.flood(b"x" * 9000))
    ) as server:
        chunks = way_out().get(server.url, {}).chunks()
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        await_true(lambda: not server._threads[-1].is_alive(), 20)


def test_an_inner_address_is_not_reached() -> None:
    with Server(answering()) as server, DIALS.noted() as dialled:
        assert ending(way_out(allow=""), server.url)[1] == "blocked"
        names = Names({"files.example": ["127.0.0.1"]})
        assert (
            ending(way_out(allow="", resolver=names), f"http://files.example:{server.port}/")[1] == "blocked"
        )
        assert dialled == []


def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(answering()) as proxy, Server(saying(HEAD + b"Content-Length: 2\r\n\r\nok")) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert ending(way_out(), server.url) == (b"ok", "")
        assert proxy.connections == 0


def test_over_tls_the_name_is_what_counts(certificate: Certificate) -> None:
    names = Names({"hooks.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]})
    egress = way_out(resolver=names, ca_file=str(certificate.file))
    body = b"x" * (3 * MEBIBYTE)
    answer = HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode()
    with Server(saying(answer, body), tls=certificate.server()) as server:
        assert ending(egress, f"https://hooks.example:{server.port}/") == (body, "")
        assert ending(egress, f"https://other.example:{server.port}/") == (b"", "tls_error")


@pytest.mark.parametrize("total", [3.5, PATIENCE])
def test_silence_over_tls_ends_it_as_well(certificate: Certificate, total: float) -> None:
    egress = way_out(
        idle=3.0, total=total, resolver=Names({"hooks.example": ["127.0.0.1"]}), ca_file=str(certificate.file)
    )
    with Server(
        saying(HEAD + b"Content-Length: 5\r\n\r\nhe", then=Line.hold), tls=certificate.server()
    ) as server:
        assert ending(egress, f"https://hooks.example:{server.port}/") == (b"he", "timeout")
