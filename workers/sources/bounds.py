"""No answer of an upstream is larger, or takes longer as a whole, than a worker can bear.

Bytes are counted unpacked, in steps, before they are kept: 300 kB of gzip may be 300 MB. Seconds are those of
`service.egress.patience`, looked at before every read of a socket.
"""

from __future__ import annotations

import http.client
import io
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore
import httpx
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from service.domain.errors import Retry, UpstreamFailed
from service.egress.patience import time_left

# Thirty accounts' stories in one answer are a few megabytes.
ANSWER_MAX = 32 * 1024 * 1024
PIECE = 64 * 1024


def too_large() -> UpstreamFailed:
    """Return the error for an answer that is not read to its end; it would be as large the next time."""
    return UpstreamFailed("The upstream's answer is too large.", retry=Retry.NEVER)


def gathered(pieces: Iterable[bytes]) -> bytes:
    """Return what comes in ``pieces``, unpacked already. Raises UpstreamFailed past ANSWER_MAX."""
    kept, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > ANSWER_MAX:
            raise too_large()
        kept.append(piece)
    return b"".join(kept)


# --- requests, over urllib3 -----------------------------------------------------------------------


class _Timed(io.RawIOBase):
    """What comes in from a socket, each read of which ends when the time for the whole is up."""

    def __init__(self, raw: io.RawIOBase, line: Any) -> None:
        self._raw = raw
        self._line = line
        self._silence: float | None = line.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any, /) -> int | None:
        self._line.settimeout(time_left(self._silence))
        return self._raw.readinto(into)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock))


class _Connection(HTTPConnection):
    response_class = _Response


class _TlsConnection(HTTPSConnection):
    response_class = _Response


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class BoundedAdapter(HTTPAdapter):
    """An adapter whose every read looks at the time that is left."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _with_our_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        return _with_our_pools(super().proxy_manager_for(proxy, **kwargs))


def _with_our_pools(manager: Any) -> Any:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return manager


def read_whole(response: requests.Response) -> requests.Response:
    """Read the body of a response that was asked for as a stream, and return the response.

    Raises UpstreamFailed when it is too large. Cut short, it raises requests.ConnectionError: after a
    ChunkedEncodingError instagrapi would sleep 2 s and send again.
    """
    try:
        response._content = gathered(response.iter_content(PIECE))
    except requests.exceptions.ChunkedEncodingError as error:
        raise requests.ConnectionError("the body was cut short", request=response.request) from error
    except BaseException:
        response.close()
        raise
    response._content_consumed = True  # type: ignore[attr-defined]
    return response


# --- httpx, over httpcore -------------------------------------------------------------------------


class _TimedStream(httpcore.NetworkStream):
    """A connection that takes no longer for one step than there is left for the whole."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _TimedBackend(httpcore.SyncBackend):
    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _TimedStream(super().connect_tcp(host, port, left, *args, **kwargs))


def _left(timeout: float | None, error: type[Exception]) -> float | None:
    try:
        return time_left(timeout)
    except TimeoutError as late:
        raise error(str(late)) from late


def keep_time(client: httpx.Client) -> httpx.Client:
    """Have every connection of a client look at the time that is left, those by way of proxies too."""
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):  # httpx has no public way to give it a network
            transport._pool._network_backend = _TimedBackend()
    return client


class _Raw(io.RawIOBase):
    """The pieces of a body as a file, for urllib3's decoders: httpx's unpack each piece whole."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any, /) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        size = min(len(into), len(self._rest))
        into[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def read_response(response: httpx.Response) -> None:
    """Response hook: read the body. Raises UpstreamFailed when it is too large, and what httpx raises."""
    try:
        packed = urllib3.HTTPResponse(
            body=io.BufferedReader(_Raw(response.iter_raw(PIECE))),
            headers={"Content-Encoding": response.headers.get("Content-Encoding", "")},
            preload_content=False,
        )
        response._content = gathered(packed.stream(PIECE, decode_content=True))
    except urllib3.exceptions.HTTPError as error:
        raise httpx.DecodingError(type(error).__name__, request=response.request) from error
    finally:
        response.close()
