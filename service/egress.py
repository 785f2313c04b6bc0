"""The way out to addresses that callers chose: where it may go, how long and how much it may take.

Where a connection goes is decided when it is made, on the address actually dialled, so a name that
resolves to another address a moment later (DNS rebinding) gains nothing. urllib3 is used directly,
one layer below requests: the check has to sit where the socket is made, urllib3 reads no proxies
from the environment, and an attempt costs about half the CPU.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError, SSLError

from service.domain.addresses import AddressPolicy, port_is_allowed
from service.domain.deliveries import (
    BAD_ANSWER,
    BLOCKED_ADDRESS,
    CONNECT_TIMEOUT,
    CONNECTION_FAILED,
    DNS_NOT_FOUND,
    DNS_UNAVAILABLE,
    TIMEOUT,
    TLS_ERROR,
)

ANSWER_MAX = 64 * 1024  # bytes of an answer's body that are read, and as much of the rest of it
RESOLVER_THREADS = 32
KEPT_HOSTS = 256
KEPT_CONNECTIONS = 10  # per host

# (family, type, protocol, canonical name, socket address), as getaddrinfo(3) has it
Resolved = tuple[int, int, int, str, Any]
Resolver = Callable[[str, int], Sequence[Resolved]]


class EgressError(Exception):
    """The exchange came to no answer; ``code`` says why, a word of `service.domain.deliveries`."""

    def __init__(self, code: str, why: str = "") -> None:
        self.code = code
        self.why = why
        super().__init__(f"{code}: {why}" if why else code)


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the headers, and at most ANSWER_MAX bytes of the body, as sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def system_resolver(host: str, port: int) -> Sequence[Resolved]:
    """Return what the system resolves ``host`` to."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Egress:
    """Sends requests to callers' addresses. Threads may share it."""

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        connect_timeout: float,
        total_timeout: float,
        ca_file: str | None = None,
        resolver: Resolver = system_resolver,
    ) -> None:
        self._total_timeout = total_timeout
        self._timeout = urllib3.Timeout(connect=connect_timeout, read=total_timeout)
        context = ssl.create_default_context(cafile=certifi.where())
        if ca_file:
            context.load_verify_locations(ca_file)
        dialler = _Dialler(policy, resolver, connect_timeout)
        self._pool = _pool_manager(dialler, context, total_timeout)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """POST ``body`` and return the answer, whatever its status. Raises EgressError."""
        with _Deadline(self._total_timeout) as deadline:
            try:
                answer = self._exchange(url, body, headers)
            except EgressError:
                raise
            except (HTTPError, OSError, ValueError, AttributeError) as error:
                # What a connection that was cut under it raises depends on where it was.
                if deadline.passed:
                    raise EgressError(TIMEOUT) from error
                raise _translate(error) from error
        if deadline.passed:
            # What was cut can look like an answer that came to its end, with half a header.
            raise EgressError(TIMEOUT)
        return answer

    def _exchange(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        response = self._pool.request(
            "POST",
            url,
            body=body,
            headers=headers,
            timeout=self._timeout,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
        )
        try:
            content = response.read(ANSWER_MAX, decode_content=False)
        finally:
            # A body that was read to its end has given its connection back; any other goes.
            response.close()
        return Answer(response.status, response.headers, content)


class _Deadline:
    """Cuts the connection of this thread when the time is up, wherever it stands.

    A timeout of a socket starts anew with every byte; a receiver that drips would never meet it.
    """

    _of_thread = threading.local()

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._ends_at = time.monotonic() + seconds
        self._line: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> _Deadline:
        self._of_thread.current = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._of_thread.current = None

    def _cut(self) -> None:
        self.passed = True
        if self._line is not None:
            with suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)

    @classmethod
    def at_most(cls, seconds: float) -> float:
        """Return ``seconds``, or what is left when that is less."""
        current = getattr(cls._of_thread, "current", None)
        return seconds if current is None else max(min(seconds, current._ends_at - time.monotonic()), 0.01)

    @classmethod
    def watch(cls, line: socket.socket) -> None:
        """Make ``line`` the connection that is cut."""
        current = getattr(cls._of_thread, "current", None)
        if current is not None:
            current._line = line
            if current.passed:
                current._cut()


class _Dialler:
    """Resolves, checks and dials: all addresses that are allowed, in turn."""

    def __init__(self, policy: AddressPolicy, resolver: Resolver, connect_timeout: float) -> None:
        self._policy = policy
        self._resolver = resolver
        self._connect_timeout = connect_timeout
        # getaddrinfo knows no timeout; a name whose servers hang holds one of these threads.
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolver")

    def dial(self, host: str, port: int, options: Any) -> socket.socket:
        """Return a connected socket. Raises EgressError."""
        addresses = self._allowed(host, port)
        give_up_at = time.monotonic() + _Deadline.at_most(self._connect_timeout)
        word = CONNECTION_FAILED
        for position, (family, kind, protocol, address) in enumerate(addresses):
            line = socket.socket(family, kind, protocol)
            try:
                for option in options or ():
                    line.setsockopt(*option)
                # A dead first address must leave time for the others.
                left = max(give_up_at - time.monotonic(), 0.01)
                line.settimeout(left / (len(addresses) - position))
                line.connect(address)
                line.settimeout(self._connect_timeout)  # for a TLS handshake; the shares were for dialling
                return line
            except OSError as error:
                line.close()
                word = CONNECT_TIMEOUT if isinstance(error, TimeoutError) else CONNECTION_FAILED
        raise EgressError(word)

    def _allowed(self, host: str, port: int) -> list[tuple[int, int, int, Any]]:
        name = host.lower().rstrip(".")
        if not port_is_allowed(port):
            raise EgressError(BLOCKED_ADDRESS, f"port {port}")
        allowed = []
        for family, kind, protocol, _, address in self._resolve(host, port):
            ip = ipaddress.ip_address(address[0].partition("%")[0])
            if self._policy.why_forbidden(name, ip) is None:
                allowed.append((family, kind, protocol, address))
        if not allowed:
            # Of which kind the address is, is told to nobody: that would map the inner names.
            raise EgressError(BLOCKED_ADDRESS, "it leads to no address this service may reach")
        return allowed

    def _resolve(self, host: str, port: int) -> Sequence[Resolved]:
        lookup = self._threads.submit(self._resolver, host, port)
        try:
            return lookup.result(_Deadline.at_most(self._connect_timeout))
        except FutureTimeout:
            lookup.cancel()  # one that still waits for a thread need not begin any more
            raise EgressError(DNS_UNAVAILABLE, "no answer in time") from None
        except socket.gaierror as error:
            # "Try again" is said when a name server does not answer: ours or theirs, not the receiver.
            ours = error.errno == socket.EAI_AGAIN
            raise EgressError(DNS_UNAVAILABLE if ours else DNS_NOT_FOUND) from error
        except UnicodeError as error:
            raise EgressError(DNS_NOT_FOUND, "no valid name") from error


class _Counted(io.RawIOBase):
    """What comes in, up to a limit: headers, chunk sizes and trailers can be endless too."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._left = 2 * ANSWER_MAX

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any, /) -> int | None:
        if self._left <= 0:
            raise OSError("the answer is too long")
        got = self._raw.readinto(into)
        self._left -= got or 0
        return got

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fp = io.BufferedReader(_Counted(self.fp.detach()))


def _pool_manager(dialler: _Dialler, context: ssl.SSLContext, total_timeout: float) -> urllib3.PoolManager:
    """Return a pool whose connections are made by ``dialler``; SNI and Host stay the name."""

    class Guarded(HTTPConnection):
        response_class = _Response
        _line: socket.socket | None = None

        def _new_conn(self) -> socket.socket:
            sock = dialler.dial(self._dns_host, self.port, self.socket_options)
            # A second handle on the connection: TLS takes the first one over, also while it is
            # still shaking hands, and the deadline must be able to cut it all the same.
            self._line = sock.dup()
            _Deadline.watch(self._line)
            return sock

        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(total_timeout)  # a large body may take longer than connecting

        def request(self, *args: Any, **kwargs: Any) -> None:
            if self._line is not None:
                _Deadline.watch(self._line)
            super().request(*args, **kwargs)

        def close(self) -> None:
            super().close()
            if self._line is not None:
                self._line.close()
                self._line = None

    class GuardedTls(Guarded, HTTPSConnection):
        pass

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Guarded

    class TlsPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = GuardedTls

    manager = urllib3.PoolManager(KEPT_HOSTS, maxsize=KEPT_CONNECTIONS, ssl_context=context)
    manager.pool_classes_by_scheme = {"http": Pool, "https": TlsPool}
    return manager


def _translate(error: Exception) -> EgressError:
    """Turn what urllib3 raises into one of our words."""
    if isinstance(error, (SSLError, ssl.SSLError)):
        return EgressError(TLS_ERROR)
    if isinstance(error, (ReadTimeoutError, TimeoutError)):
        return EgressError(TIMEOUT)
    if isinstance(error, ProtocolError) and any(isinstance(cause, TimeoutError) for cause in error.args):
        return EgressError(TIMEOUT)
    if isinstance(error, ProtocolError) and any(isinstance(cause, ConnectionError) for cause in error.args):
        return EgressError(CONNECTION_FAILED)
    return EgressError(BAD_ANSWER, type(error).__name__)
