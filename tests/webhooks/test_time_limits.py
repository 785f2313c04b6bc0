"""An attempt ends in time and takes little, whatever the receiver does. Real sockets throughout."""

from __future__ import annotations

import gzip
import os
import socket
import ssl
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from service.domain.addresses import parse_policy
from service.domain.policy import Policy
from service.egress import ANSWER_MAX, Egress, EgressError
from tests.webhooks.conftest import Certificate
from tests.webhooks.support import Line, Names, Server, answering, egress, leaving_nothing
from workers.webhooks.sender import SNIPPET, Sender

TOTAL = 0.5
# A busy machine may stand still meanwhile; a receiver that is not cut off holds for longer than this.
SLACK = 20.0
PATIENCE = 20.0
# What the kernels of both ends take before the reader reads: it is sent, and never looked at.
BUFFERED = 1024 * 1024
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = HEAD + b"Connection: close\r\n"
OLD = b"HTTP/1.0 200 OK\r\n"
MEBIBYTE = 1024 * 1024


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    with leaving_nothing():
        yield


@pytest.fixture
def way_out() -> Egress:
    return egress(allow=["127.0.0.0/8"], total=TOTAL)


@pytest.fixture
def patient() -> Egress:
    """A way out whose time is never up: what ends by itself must not be told from a busy machine."""
    return egress(allow=["127.0.0.0/8"], total=PATIENCE)


def patient_sender() -> Sender:
    addresses = parse_policy(["127.0.0.0/8"], [])
    return Sender(
        Policy(webhook_addresses=addresses, webhook_connect_timeout=PATIENCE, webhook_timeout=PATIENCE)
    )


class Outcome:
    """What came of one attempt, and how long it took."""

    def __init__(self, way_out: Egress, url: str, body: bytes = b"{}") -> None:
        started = time.monotonic()
        self.code, self.status, self.body = "", 0, b""
        try:
            answer = way_out.post(url, body, {})
            self.status, self.body = answer.status, answer.body
        except EgressError as error:
            self.code = error.code
        self.seconds = time.monotonic() - started


def after_request(do: Callable[[Line], object]) -> Callable[[Line], None]:
    def serve(line: Line) -> None:
        line.request()
        do(line)

    return serve


def say(piece: bytes, then: Callable[[Line], object] = Line.hold) -> Callable[[Line], None]:
    def do(line: Line) -> None:
        line.send(piece)
        then(line)

    return after_request(do)


# Name: what the receiver does, and what the attempt is told as.
NEVER_ENDING: dict[str, tuple[Callable[[Line], None], str]] = {
    "accepts and never answers": (after_request(Line.hold), "timeout"),
    "does not even read": (Line.hold, "timeout"),
    "drips the status line": (after_request(lambda line: line.drip(HEAD)), "timeout"),
    "drips headers": (say(HEAD, lambda line: line.drip(b"X-A: aaaaaaaaaaaaaaaaaaaaaaaa\r\n")), "timeout"),
    "drips one header": (say(HEAD + b"X-A: ", lambda line: line.drip(b"a")), "timeout"),
    "drips its body": (say(HEAD + b"Content-Length: 9000\r\n\r\n", lambda line: line.drip(b"a")), "timeout"),
    "drips chunks": (say(CHUNKED, lambda line: line.drip(b"1\r\na\r\n")), "timeout"),
    "never ends its body": (say(HEAD + b"Content-Length: 9000\r\n\r\nabc"), "timeout"),
    "never says how long its body is": (say(HEAD + b"\r\nabc"), "timeout"),
    "never ends its chunks": (say(CHUNKED + b"3\r\nabc\r\n"), "timeout"),
    "says 100 Continue slowly for ever": (
        after_request(lambda line: line.drip(b"HTTP/1.1 100 Continue\r\n\r\n", 0.005)),
        "timeout",
    ),
}
# The connection counts as closed before the body is read where an answer says that it is the last.
NEVER_ENDING_LAST: dict[str, tuple[Callable[[Line], None], str]] = {
    name: (say(head, lambda line, piece=piece: line.drip(piece)), "timeout")  # type: ignore[misc]
    for name, head, piece in (
        ("drips its last body", LAST + b"Content-Length: 9000\r\n\r\n", b"a"),
        ("drips its last chunks", LAST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        ("drips a body of HTTP/1.0", OLD + b"Content-Length: 9000\r\n\r\n", b"a"),
        ("drips a body of HTTP/1.0 without a length", OLD + b"\r\n", b"a"),
        ("drips a body without a length", HEAD + b"\r\n", b"a"),
    )
}
NEVER_ENDING |= NEVER_ENDING_LAST
ENDLESS: dict[str, tuple[Callable[[Line], None], str]] = {
    "endless headers": (say(HEAD, lambda line: line.flood(b"X-A: a\r\n" * 100)), "bad_answer"),
    "endless large headers": (
        say(HEAD, lambda line: line.flood(b"X-A: " + b"a" * 60_000 + b"\r\n")),
        "bad_answer",
    ),
    "one endless header": (say(HEAD + b"X-A: ", lambda line: line.flood(b"a" * 10_000)), "bad_answer"),
    "an endless status line": (
        after_request(lambda line: line.flood(b"HTTP/1.1 200 " + b"a" * 10_000)),
        "bad_answer",
    ),
    "endless 100 Continue": (
        after_request(lambda line: line.flood(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)),
        "bad_answer",
    ),
    "endless trailers": (say(CHUNKED + b"0\r\n", lambda line: line.flood(b"X-A: a\r\n" * 100)), "bad_answer"),
    "endless chunk extensions": (
        say(CHUNKED, lambda line: line.flood(b"1;" + b"a" * 60_000 + b"\r\na\r\n")),
        "bad_answer",
    ),
    "noise that is no HTTP": (after_request(lambda line: line.flood(b"\x00\xff" * 5_000)), "bad_answer"),
}


@pytest.mark.parametrize("behaviour", NEVER_ENDING)
def test_a_receiver_that_does_not_come_to_an_end_is_cut_off_in_time(way_out: Egress, behaviour: str) -> None:
    serve, code = NEVER_ENDING[behaviour]
    with Server(serve) as receiver:
        outcome = Outcome(way_out, receiver.url)
    assert outcome.code == code
    assert TOTAL - 0.05 < outcome.seconds < TOTAL + SLACK


@pytest.mark.parametrize("behaviour", ENDLESS)
def test_a_receiver_that_talks_without_end_is_not_listened_to(patient: Egress, behaviour: str) -> None:
    serve, code = ENDLESS[behaviour]
    with Server(serve) as receiver:
        outcome = Outcome(patient, receiver.url)
        sent = receiver.sent
    assert outcome.code == code
    assert outcome.seconds < PATIENCE
    assert sent < 2 * ANSWER_MAX + BUFFERED


@pytest.mark.parametrize(
    "head",
    [HEAD + b"Content-Length: 209715200\r\n\r\n", HEAD + b"\r\n", CHUNKED + b"C800000\r\n"],
    ids=["length", "until it closes", "chunked"],
)
def test_of_a_body_of_200_megabytes_64_kibibytes_are_read(patient: Egress, head: bytes) -> None:
    with Server(say(head, lambda line: line.flood(b"x" * 65_536))) as receiver:
        before = resident()
        outcome = Outcome(patient, receiver.url)
        grown = resident() - before
        sent = receiver.sent
    assert (outcome.status, outcome.body) == (200, b"x" * ANSWER_MAX)
    assert outcome.seconds < PATIENCE
    assert sent < ANSWER_MAX + BUFFERED
    assert grown < 8 * MEBIBYTE


def test_what_is_read_is_counted_at_the_socket(patient: Egress) -> None:
    """With small buffers at the sender's end hardly more leaves it than is read at the other."""

    def dribble(line: Line) -> None:
        line.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        line.request()
        line.send(HEAD + b"Content-Length: 209715200\r\n\r\n")
        with suppress(OSError):
            while line.sent < 200 * MEBIBYTE:
                time.sleep(0.0005)  # so that what was sent has been looked at before more is
                line.send(b"x" * 1_024)

    with Server(dribble) as receiver:
        outcome = Outcome(patient, receiver.url)
        sent = receiver.sent
    assert len(outcome.body) == ANSWER_MAX
    assert sent < ANSWER_MAX + 32 * 1024


def resident() -> int:
    """Return the bytes this process holds in memory."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_gzip_bomb_is_not_unpacked(patient: Egress) -> None:
    bomb = gzip.compress(bytes(50 * MEBIBYTE), 9)
    head = HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    with Server(say(head + bomb)) as receiver:
        tracemalloc.start()
        try:
            outcome = Outcome(patient, receiver.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert outcome.status == 200
    assert outcome.body == bomb[:ANSWER_MAX]
    assert peak < 2 * MEBIBYTE


def test_a_gzip_bomb_is_logged_as_it_came() -> None:
    bomb = gzip.compress(bytes(MEBIBYTE), 9)
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    sender = patient_sender()
    with Server(say(head + bomb)) as receiver:
        attempt = sender.post(receiver.url, "msg_1", b"{}", [])
    assert attempt.status == 200
    assert attempt.snippet.isprintable()
    assert len(attempt.snippet) <= SNIPPET * len("\\x00")


# --- connections that break ----------------------------------------------------------------------


def reset(line: Line) -> None:
    line.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


@pytest.mark.parametrize(
    ("serve", "code"),
    [
        pytest.param(lambda line: None, "connection_failed", id="closed at once"),
        pytest.param(reset, "connection_failed", id="reset at once"),
        pytest.param(after_request(lambda line: None), "connection_failed", id="closed instead of an answer"),
        pytest.param(after_request(reset), "connection_failed", id="reset instead of an answer"),
        pytest.param(say(HEAD, lambda line: None), "", id="closed amid its headers"),
        pytest.param(
            say(CHUNKED + b"9\r\nabc", lambda line: None), "bad_answer", id="closed amid its chunks"
        ),
        pytest.param(say(b"SSH-2.0-x\r\n", lambda line: None), "bad_answer", id="another protocol"),
    ],
)
def test_a_connection_that_breaks_is_told_at_once(
    patient: Egress, serve: Callable[[Line], object], code: str
) -> None:
    with Server(serve) as receiver:
        outcome = Outcome(patient, receiver.url)
    assert outcome.code == code
    assert outcome.seconds < PATIENCE


def test_a_connection_that_breaks_at_once_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    # "At once" is within a second, which a busy machine may take.
    monkeypatch.setattr("service.domain.deliveries.INSTANT_RETRY_WITHIN", PATIENCE)
    sender = patient_sender()

    def moody(line: Line) -> None:
        if receiver.connections > 1:
            answering()(line)

    with Server(moody) as receiver:
        attempt = sender.post(receiver.url, "msg_1", b"{}", [])
        assert attempt.status == 204
        assert receiver.connections == 2
    with Server(lambda line: None) as receiver:
        attempt = sender.post(receiver.url, "msg_1", b"{}", [])
        assert attempt.error == "connection_failed"
        assert receiver.connections == 2


def test_a_kept_connection_the_receiver_has_closed_costs_no_attempt() -> None:
    sender = patient_sender()
    with Server(say(b"HTTP/1.1 204 No Content\r\n\r\n", lambda line: None)) as receiver:
        statuses = [sender.post(receiver.url, "msg_1", b"{}", []).status for _ in range(5)]
    assert statuses == [204] * 5


def test_a_half_open_connection_that_takes_nothing_is_cut(way_out: Egress) -> None:
    """The kernel lets the caller in; nobody ever looks at it, and a large body cannot be sent."""
    server = socket.create_server(("127.0.0.1", 0))
    with server:
        outcome = Outcome(way_out, f"http://127.0.0.1:{server.getsockname()[1]}/", bytes(32 * MEBIBYTE))
    assert outcome.code == "timeout"
    assert outcome.seconds < TOTAL + SLACK


def test_the_next_attempt_is_not_cut_with_the_last() -> None:
    """One deadline ends nothing but its own attempt, on whatever connection."""
    way_out = egress(allow=["127.0.0.0/8"], total=TOTAL)
    with Server(answering()) as receiver, Server(after_request(Line.hold)) as silent:
        assert Outcome(way_out, receiver.url).status == 204
        assert Outcome(way_out, silent.url).code == "timeout"
        for _ in range(3):
            assert Outcome(way_out, receiver.url).status == 204
        assert receiver.connections == 1


# --- TLS -----------------------------------------------------------------------------------------


def raw_tls(certificate: Certificate, pause: float) -> Callable[[Line], None]:
    """Shake hands byte by byte."""

    def serve(line: Line) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        machine = certificate.server().wrap_bio(incoming, outgoing, server_side=True)
        with suppress(OSError, ssl.SSLWantReadError):
            while True:
                with suppress(ssl.SSLWantReadError):
                    machine.do_handshake()
                for byte in outgoing.read():
                    if line.over.wait(pause):
                        return
                    line.send(bytes([byte]))
                incoming.write(line.connection.recv(65_536))

    return serve


@pytest.mark.parametrize("behaviour", ["drips", "never begins", "closes", "speaks no TLS"])
def test_a_tls_handshake_that_comes_to_nothing_ends_in_time(certificate: Certificate, behaviour: str) -> None:
    serve, code = {
        "drips": (raw_tls(certificate, 0.02), "timeout"),
        "never begins": (Line.hold, "timeout"),
        "closes": (lambda line: None, "tls_error"),
        "speaks no TLS": (lambda line: line.send(b"HTTP/1.1 400 X\r\n\r\n"), "tls_error"),
    }[behaviour]
    tls = egress(
        allow=["hooks.example"],
        resolver=Names({"hooks.example": ["127.0.0.1"]}),
        total=TOTAL if code == "timeout" else PATIENCE,
        ca_file=str(certificate.file),
    )
    with Server(serve) as receiver:
        outcome = Outcome(tls, f"https://hooks.example:{receiver.port}/")
    assert outcome.code in {code, "connection_failed" if code == "tls_error" else code}
    assert outcome.seconds < TOTAL + SLACK


@pytest.mark.parametrize(
    "behaviour", ["drips its body", "drips headers", "accepts and never answers", *NEVER_ENDING_LAST]
)
def test_behind_tls_the_limits_are_the_same(certificate: Certificate, behaviour: str) -> None:
    tls = egress(
        allow=["hooks.example"],
        resolver=Names({"hooks.example": ["127.0.0.1"]}),
        total=TOTAL,
        ca_file=str(certificate.file),
    )
    serve, code = NEVER_ENDING[behaviour]
    with Server(serve, tls=certificate.server()) as receiver:
        outcome = Outcome(tls, f"https://hooks.example:{receiver.port}/")
    assert outcome.code == code
    assert TOTAL - 0.05 < outcome.seconds < TOTAL + SLACK
    del tls  # its connections are closed with it


def test_connecting_counts_against_the_limit() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(server.getsockname())
        outcome = Outcome(
            egress(allow=["127.0.0.1"], total=TOTAL),
            f"http://127.0.0.1:{server.getsockname()[1]}/",
        )
        for caller in callers:
            caller.close()
    assert outcome.code in {"connect_timeout", "timeout"}
    assert outcome.seconds < TOTAL + SLACK
