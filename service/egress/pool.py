"""Connections that are guarded and bounded, as urllib3 keeps them."""

from __future__ import annotations

import http.client
import io
import math
import socket
import ssl
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from service.egress.deadline import Deadline
from service.egress.dialler import Dialler

ANSWER_MAX = 64 * 1024  # bytes of an answer's body that are read, and as much of the rest of it
KEPT_HOSTS = 256
KEPT_CONNECTIONS = 10  # per host


class Counted(io.RawIOBase):
    """What comes in, up to a limit: headers, chunk sizes and trailers can be endless too."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._left: float = 2 * ANSWER_MAX

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any, /) -> int | None:
        if self._left <= 0:
            raise OSError("the answer is too long")
        got = self._raw.readinto(into)
        self._left -= got or 0
        return got

    def lift(self) -> None:
        """Limit nothing any more."""
        self._left = math.inf

    def close(self) -> None:
        self._raw.close()
        super().close()


class Bounded(http.client.HTTPResponse):
    """A response that may not be long."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._counted = Counted(self.fp.detach())
        self.fp = io.BufferedReader(self._counted)


class BoundedHead(Bounded):
    """A response of which only what comes before the body may not be long."""

    def begin(self) -> None:
        super().begin()
        self._counted.lift()


def pool_manager(
    dialler: Dialler, context: ssl.SSLContext, response: type[Bounded], silence: float
) -> urllib3.PoolManager:
    """Return a pool whose connections are made by ``dialler``; SNI and Host stay the name.

    ``silence`` is how long a connection may do nothing while a request is sent, seconds.
    """

    class Guarded(HTTPConnection):
        response_class = response
        _line: socket.socket | None = None
        _deadline: Deadline | None = None

        def _new_conn(self) -> socket.socket:
            sock = dialler.dial(self._dns_host, self.port, self.socket_options)
            # A second handle on the connection: TLS takes the first one over, also while it is
            # still shaking hands, and the deadline must be able to cut it all the same.
            self._line = sock.dup()
            self._deadline = Deadline.watch(self._line)
            return sock

        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(silence)  # a large body may take longer than connecting

        def request(self, *args: Any, **kwargs: Any) -> None:
            if self._line is not None:
                self._deadline = Deadline.watch(self._line)
            super().request(*args, **kwargs)

        def come_to_rest(self) -> None:
            """Hear that the exchange is over: its deadline must not cut that of somebody else."""
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def close(self) -> None:
            super().close()
            if self._line is not None:
                self._line.close()
                self._line = None

    class GuardedTls(Guarded, HTTPSConnection):
        pass

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Guarded

        def _put_conn(self, conn: Any) -> None:
            # urllib3 does this with the last byte of a body, before whoever reads it knows that it is.
            if conn is not None:
                conn.come_to_rest()
            super()._put_conn(conn)

    class TlsPool(Pool, urllib3.HTTPSConnectionPool):
        ConnectionCls = GuardedTls

    manager = urllib3.PoolManager(KEPT_HOSTS, maxsize=KEPT_CONNECTIONS, ssl_context=context)
    manager.pool_classes_by_scheme = {"http": Pool, "https": TlsPool}
    return manager
