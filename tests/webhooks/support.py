"""What the tests of this folder share: sockets that misbehave or keep count, and deliveries to be made."""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from redis import Redis

from service.domain import ids
from service.domain.accounts import Account
from service.domain.addresses import parse_policy
from service.domain.ports import Services
from service.domain.requests import BULK, Ending, Submission
from service.domain.targets import named
from service.egress import Egress, EgressError, Resolved
from service.stores import keys
from tests.conftest import await_true, finish_one

# --- names and addresses -------------------------------------------------------------------------


def resolved(address: str, port: int) -> Resolved:
    """What getaddrinfo says of an address; nobody is asked."""
    return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0]


@dataclass
class Names:
    """A resolver that knows these names and how to read addresses, in whatever spelling."""

    table: Mapping[str, Sequence[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __call__(self, host: str, port: int) -> list[Resolved]:
        self.asked.append(host)
        return [resolved(address, port) for address in self.table.get(host.rstrip("."), [host])]


def egress(
    *,
    allow: Sequence[str] = (),
    deny: Sequence[str] = (),
    resolver: Any = None,
    connect: float = 20.0,
    total: float = 20.0,
    ca_file: str | None = None,
) -> Egress:
    return Egress(
        parse_policy(allow, deny),
        connect_timeout=connect,
        total_timeout=total,
        resolver=resolver or Names(),
        ca_file=ca_file,
    )


def refusal(way_out: Egress, url: str, body: bytes = b"{}") -> str:
    """POST to ``url``, which must come to no answer; return the word for why."""
    try:
        answer = way_out.post(url, body, {"Content-Type": "application/json"})
    except EgressError as error:
        return error.code
    raise AssertionError(f"{url} was answered with {answer.status}")


class Dials:
    """Every address this process connects a socket to, as the interpreter reports it."""

    def __init__(self) -> None:
        self.addresses: list[Any] = []
        self._listening = False
        sys.addaudithook(self._heard)  # it stays for good; that is why it has a switch

    def _heard(self, event: str, details: tuple[Any, ...]) -> None:
        if self._listening and event == "socket.connect":
            self.addresses.append(details[1])

    @contextmanager
    def noted(self) -> Iterator[list[Any]]:
        """Return the list to which what is dialled in the block is added."""
        self.addresses = []
        self._listening = True
        try:
            yield self.addresses
        finally:
            self._listening = False


DIALS = Dials()

# --- sockets -------------------------------------------------------------------------------------


class Line:
    """A connection as a receiver has it."""

    def __init__(self, connection: socket.socket, over: threading.Event) -> None:
        self.connection = connection
        self.over = over
        self.sent = 0

    def request(self) -> bytes:
        """Read a request with a Content-Length to its end."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._some()
        head, _, body = received.partition(b"\r\n\r\n")
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(body) < int(lines.get(b"content-length", b"0")):
            body += self._some()
        return head + b"\r\n\r\n" + body

    def _some(self) -> bytes:
        piece = self.connection.recv(65_536)
        if not piece:
            raise ConnectionError("the caller is gone")
        return piece

    def send(self, piece: bytes) -> None:
        self.connection.sendall(piece)
        self.sent += len(piece)

    def flood(self, piece: bytes) -> None:
        """Send the same for as long as it is taken."""
        while not self.over.is_set():
            self.send(piece)

    def drip(self, piece: bytes, pause: float = 0.02) -> None:
        """Send byte after byte, slowly and for ever."""
        while True:
            for position in range(len(piece)):
                if self.over.wait(pause):
                    return
                self.send(piece[position : position + 1])

    def hold(self) -> None:
        """Say nothing more, and keep the connection."""
        self.over.wait(30)


class Server:
    """Serves each connection in a thread with ``serve``; all is over when the block is left."""

    def __init__(
        self, serve: Callable[[Line], object], *, address: str = "127.0.0.1", port: int = 0, tls: Any = None
    ) -> None:
        self._serve = serve
        self._tls = tls
        self._over = threading.Event()
        self._socket = socket.create_server((address, port))
        # What is sent is to say something about what is read: the kernel is to take little besides.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        self._threads: list[threading.Thread] = []
        self.port = self._socket.getsockname()[1]
        self.connections = 0
        self.lines: list[Line] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def sent(self) -> int:
        return sum(line.sent for line in self.lines)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for line in self.lines:
            with suppress(OSError):
                line.connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _start(self, run: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._talk, connection)

    def _talk(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if self._tls is None:
                self._say(connection)
            else:
                with self._tls.wrap_socket(connection, server_side=True) as wrapped:
                    self._say(wrapped)

    def _say(self, connection: socket.socket) -> None:
        line = Line(connection, self._over)
        self.lines.append(line)
        self._serve(line)


def answering(answer: bytes = b"HTTP/1.1 204 No Content\r\n\r\n") -> Callable[[Line], None]:
    """Answer every request of a connection with ``answer``."""

    def serve(line: Line) -> None:
        while True:
            line.request()
            line.send(answer)

    return serve


def open_sockets() -> set[str]:
    """Return what /proc says of the sockets this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return {link for link in found if link.startswith("socket:")}


def helpers() -> set[str]:
    """Return the names of the threads, less those that stay: they resolve names and keep the deadlines."""
    stay = ("resolver", "alarms")
    return {thread.name for thread in threading.enumerate() if not thread.name.startswith(stay)}


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """Check that what runs in the block leaves no socket and no thread."""
    sockets, threads = open_sockets(), helpers()
    yield
    with suppress(AssertionError):
        await_true(lambda: open_sockets() <= sockets, 1)
    if open_sockets() - sockets:
        gc.collect()  # a way out that is not used any more closes what it kept
    await_true(lambda: open_sockets() <= sockets and helpers() <= threads, 30)


# --- deliveries ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arrival:
    """A POST as it came."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def delivery_id(self) -> str:
        return self.headers["webhook-id"]


Answer = tuple[int, Mapping[str, str], bytes]


class Receiver:
    """A receiver of webhooks on loopback: answers as listed, then 204; ``gate`` closed, it waits."""

    def __init__(self, *answers: int | Answer) -> None:
        self.answers = list(answers)
        self.arrivals: list[Arrival] = []
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}/hook"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def take(self, arrival: Arrival) -> Answer:
        with self._lock:
            self.arrivals.append(arrival)
            answer = self.answers.pop(0) if self.answers else 204
        self.gate.wait(30)
        return (answer, {}, b"") if isinstance(answer, int) else answer


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, content = receiver.take(Arrival(dict(self.headers.items()), body))
            with suppress(ConnectionError):
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """The tests look at ``arrivals``."""

    return Handler


def new_account(services: Services, email: str = "me@example.com") -> Account:
    return services.accounts.create(email, "no password")


def owe(services: Services, account_id: str, url: str, **said: Any) -> str:
    """Have a request end that owes a webhook to ``url``; return the delivery's id."""
    now = services.clock()
    request_id = ids.new_id(ids.REQUEST, ids.shard_in(account_id), now)
    submission = Submission(request_id, account_id, "stories", named("anna"), BULK, hold=0, webhook_url=url)
    services.requests.submit(submission)
    claim = services.requests.claim(request_id)
    assert claim
    envelope = {"success": True, "requestId": request_id, "username": "anna", "note": "größer 🙂", **said}
    body = json.dumps(envelope, ensure_ascii=False).encode()
    owed = finish_one(services.requests, claim, Ending("succeeded", body, charge=0, outcome="found"))
    assert owed
    return owed.delivery_id


def now_ms() -> int:
    return int(time.time() * 1000)


def make_due(redis: Redis, delivery_id: str) -> None:
    """Let the time of a delivery's next attempt, and of the pump's next look, be now."""
    key, shard = keys.delivery(delivery_id), ids.shard_in(delivery_id)
    host, past = str(redis.hget(key, "host")), now_ms() - 1_000
    redis.hset(key, "next_at", past)
    redis.zadd(keys.due(shard, host), {delivery_id: past})
    redis.zadd(keys.due_hosts(shard), {host: past})


def waiting(redis: Redis, delivery_id: str, since: float | None = None) -> float | None:
    """Return the seconds until the pump looks at a delivery, None when it never will.

    They are counted from now or from ``since``, Unix seconds: how long a test took is no part of them then.
    """
    host = str(redis.hget(keys.delivery(delivery_id), "host"))
    score = redis.zscore(keys.due(ids.shard_in(delivery_id), host), delivery_id)
    return None if score is None else score / 1000 - (time.time() if since is None else since)
