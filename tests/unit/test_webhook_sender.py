"""A sender tells what came of an attempt, whatever the receiver does."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from standardwebhooks import Webhook

from service.domain.addresses import parse_policy
from service.domain.deliveries import Attempt
from service.domain.policy import Policy
from workers.webhooks.sender import Sender

SECRET = "whsec_" + base64.b64encode(b"x" * 32).decode()
BODY = b'{"success":true}'


@pytest.fixture
def sender() -> Sender:
    """Of an operator who allows receivers on this machine."""
    here = parse_policy(["127.0.0.0/8"], [])
    return Sender(Policy(webhook_addresses=here, webhook_connect_timeout=0.5, webhook_timeout=0.3))


@pytest.fixture
def receiver() -> Iterator[Callable[..., str]]:
    """Starts receivers that say ``answer`` to one connection, and keep it open when ``hold``."""
    over = threading.Event()
    servers: list[socket.socket] = []

    def start(answer: bytes, *, hold: bool = False, heard: list[bytes] | None = None) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                received = b""
                while not received.endswith(BODY):
                    received += connection.recv(65_536)
                if heard is not None:
                    heard.append(received)
                connection.sendall(answer)
                if hold:
                    over.wait(10)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/hook"

    yield start
    over.set()
    for server in servers:
        server.close()


def post(sender: Sender, url: str) -> Attempt:
    return sender.post(url, "msg_1", BODY, [SECRET])


def test_a_receiver_gets_the_signed_bytes(sender: Sender, receiver: Callable[..., str]) -> None:
    heard: list[bytes] = []
    attempt = post(sender, receiver(b"HTTP/1.1 204 No Content\r\n\r\n", heard=heard))
    head, _, body = heard[0].partition(b"\r\n\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
    raw = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    signed = {name: raw[name] for name in raw if name.startswith("webhook-")}
    assert attempt.succeeded
    assert Webhook(SECRET).verify(body, signed) == {"success": True}
    assert headers["user-agent"].startswith("storyhook/")
    assert str(attempt.at) == headers["webhook-timestamp"]


@pytest.mark.parametrize("status", [301, 302, 307, 404, 410, 429, 500, 503])
def test_an_answer_other_than_2xx_is_no_success_and_is_not_followed(
    sender: Sender, receiver: Callable[..., str], status: int
) -> None:
    answer = b"HTTP/1.1 %d X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\nno" % status
    attempt = post(sender, receiver(answer))
    assert (attempt.status, attempt.succeeded, attempt.snippet) == (status, False, "no")


def test_a_receiver_that_is_not_there_is_an_attempt(sender: Sender) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    attempt = post(sender, f"http://127.0.0.1:{port}/")
    assert (attempt.status, attempt.error) == (0, "connection_failed")


def test_a_receiver_that_never_answers_is_an_attempt(sender: Sender, receiver: Callable[..., str]) -> None:
    attempt = post(sender, receiver(b"", hold=True))
    assert (attempt.status, attempt.error) == (0, "timeout")


BROKEN = {
    "no HTTP": b"nonsense\r\n\r\n",
    "a body that ends early": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab",
    "a chunk that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a bad Location": b"HTTP/1.1 302 X\r\nLocation: http://[bad\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "a length below nothing": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a bad Retry-After": b"HTTP/1.1 503 X\r\nRetry-After: Thu, 01 Jan 2026 00:00:00 +99999999999999\r\n\r\n",
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(200)) + b"\r\n",
    "bytes that are no text": b"HTTP/1.1 500 X\r\n\r\n\xff\xfe\x00\x1b[2J",
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("hold", [False, True], ids=["closed", "kept open"])
def test_a_broken_answer_is_an_attempt_and_no_exception(
    sender: Sender, receiver: Callable[..., str], kind: str, hold: bool
) -> None:
    attempt = post(sender, receiver(BROKEN[kind], hold=hold))
    assert attempt.snippet.isprintable()


@pytest.mark.parametrize(
    "host", ["a" * 64 + ".example", "a..example", ".example", "xn--a", "[v1.a]", "[nothing]"]
)
def test_a_host_no_resolver_can_take_is_an_attempt_and_no_exception(sender: Sender, host: str) -> None:
    attempt = post(sender, f"http://{host}/")
    assert attempt.status == 0
    assert attempt.error


def test_an_address_the_operator_does_not_allow_is_not_dialled(receiver: Callable[..., str]) -> None:
    heard: list[bytes] = []
    attempt = post(Sender(Policy()), receiver(b"HTTP/1.1 200 OK\r\n\r\n", heard=heard))
    assert (attempt.status, attempt.error, heard) == (0, "blocked", [])
