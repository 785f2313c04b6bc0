"""An answer of an upstream is bounded in size, unpacked, and in time as a whole, whoever reads it."""

from __future__ import annotations

import socket
import tracemalloc
import zlib
from collections.abc import Callable
from functools import cache
from itertools import chain
from typing import Any

import pytest
import requests
from instagrapi import Client
from instagrapi.exceptions import ClientConnectionError

from service.domain.errors import FetchError, Retry, UpstreamFailed, UpstreamTimeout
from service.domain.operations import DOWNLOAD, USER, Ask
from service.domain.targets import MEDIA_URL, Target, named
from service.egress.patience import time_left, within
from service.media import Media
from service.upstreams import GraphAccount
from tests.sources.subjects import TOKEN
from tests.upstreams import StoriesByName, stories_of
from tests.webhooks.support import Line, Server
from workers.sources import bounds
from workers.sources.accounts import client_factory
from workers.sources.bounds import ANSWER_MAX
from workers.sources.contract import Found
from workers.sources.fallback import Fallback
from workers.sources.files import WithFiles
from workers.sources.graph import GraphSource
from workers.sources.hikerapi import HikerApiSource
from workers.sources.transport import TimedAdapter
from workers.sources.verdicts import translate
from workers.sources.web import WebSource

MEBIBYTE = 1024 * 1024
PATIENCE = 60.0
SOON = 0.5
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

Fetch = Callable[[str, float], object]


# --- who asks -------------------------------------------------------------------------------------


def by_graph(url: str, seconds: float) -> object:
    source = GraphSource(
        {"anna": GraphAccount("1784", "t")}, url, connect_timeout=seconds, read_timeout=seconds
    )
    return source.fetch(stories_of("anna"))


def by_hikerapi(url: str, seconds: float) -> object:
    source = HikerApiSource(TOKEN, url, connect_timeout=seconds, read_timeout=seconds)
    return source.fetch(stories_of("anna"))


def by_web(url: str, seconds: float) -> object:
    factory = client_factory(redirect_to=url, connect_timeout=seconds, read_timeout=seconds)
    return WebSource(factory).fetch(Ask(USER, named("anna")))


def by_public_session(url: str, seconds: float) -> object:
    """What instagrapi's session without curl does with real traffic."""
    client = Client(public_request_retries_count=1, request_timeout=0, session_retry_total=0)
    client.public.mount(url, TimedAdapter(client.public, (seconds, seconds)))
    try:
        return client.public_request(f"{url}/", return_json=True)
    except (requests.RequestException, ClientConnectionError) as error:
        raise translate(error) from error


@pytest.fixture(params=["instagrapi", "web", "public session", "hikerapi", "graph"])
def fetch(request: pytest.FixtureRequest, make_world: Any) -> Fetch:
    def by_instagrapi(url: str, seconds: float) -> object:
        return make_world(url, connect_timeout=seconds, read_timeout=seconds).stories("anna")

    table = {
        "instagrapi": by_instagrapi,
        "web": by_web,
        "public session": by_public_session,
        "hikerapi": by_hikerapi,
        "graph": by_graph,
    }
    return table[request.param]


def failure(fetch: Fetch, server: Server, seconds: float = PATIENCE) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetch(f"http://127.0.0.1:{server.port}", seconds)
    return caught.value


# --- size -----------------------------------------------------------------------------------------


@cache
def bomb(encoding: str) -> bytes:
    """300 MB of JSON in some 300 kB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    pieces = chain([b'{"a": "'], (bytes([97]) * MEBIBYTE for _ in range(300)), [b'"}'])
    return b"".join([*(packer.compress(piece) for piece in pieces), packer.flush()])


def sending(answer: bytes) -> Callable[[Line], None]:
    def serve(line: Line) -> None:
        while True:
            _asked(line)
            line.send(answer)

    return serve


def _asked(line: Line) -> None:
    """Read a request, which may be a GET."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = line.connection.recv(65_536)
        if not piece:
            raise ConnectionError
        received += piece


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_little_that_unpacks_to_much_is_refused_before_it_is_in_memory(fetch: Fetch, encoding: str) -> None:
    packed = bomb(encoding)
    assert len(packed) < 400_000
    fields = f"Connection: close\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(packed)}\r\n\r\n"
    head = HEAD + fields.encode()
    with Server(sending(head + packed)) as server:
        tracemalloc.start()
        try:
            error = failure(fetch, server)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert server.sent <= len(head) + len(packed), "it is not asked for again"
    assert (type(error), error.retry) == (UpstreamFailed, Retry.NEVER)
    assert peak < 2 * ANSWER_MAX


@pytest.mark.parametrize("head", [HEAD + b"\r\n", CHUNKED], ids=["to the end", "chunked"])
def test_an_answer_without_end_is_refused(fetch: Fetch, head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "ANSWER_MAX", MEBIBYTE)
    piece = b" " * 65_536 if head != CHUNKED else b"10000\r\n" + b" " * 65_536 + b"\r\n"

    def serve(line: Line) -> None:
        _asked(line)
        line.send(head)
        line.flood(piece)

    with Server(serve) as server:
        error = failure(fetch, server)
        assert server.connections == 1
        assert server.sent < 16 * MEBIBYTE, "what the kernel takes besides"
    assert (type(error), error.retry) == (UpstreamFailed, Retry.NEVER)


def test_as_much_as_may_be_is_taken(httpserver: Any) -> None:
    account, body = GraphAccount("1784", "t"), b'{"data": []}'.ljust(ANSWER_MAX)
    httpserver.expect_request("/v25.0/1784/stories").respond_with_data(body, content_type="application/json")
    url = httpserver.url_for("/")
    assert GraphSource({"anna": account}, url).fetch(stories_of("anna")).data["items"] == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_packed_badly_is_a_failure_like_any_other(fetch: Fetch, encoding: str) -> None:
    head = HEAD + f"Connection: close\r\nContent-Encoding: {encoding}\r\nContent-Length: 9\r\n\r\n".encode()
    with Server(sending(head + b"no packer")) as server:
        assert isinstance(failure(fetch, server), (UpstreamFailed, UpstreamTimeout))


# --- time -----------------------------------------------------------------------------------------

DRIPS = {
    "head": (b"", b"HTTP/1.1 200 OK\r\n" + b"X-Slow: aaaaaaaaaaaaaaaa\r\n" * 90),
    "long line": (b"HTTP/1.1 200 OK\r\nX: ", b"a" * 4_000),
    "body": (HEAD + b"Content-Length: 1000000\r\n\r\n", b" " * 4_000),
    "chunks": (CHUNKED, b"1\r\n \r\n" * 1_000),
    "one chunk": (CHUNKED + b"f4240\r\n", b" " * 4_000),
    "packed": (HEAD + b"Content-Encoding: gzip\r\n\r\n", bomb("gzip")[:4_000]),
}


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_an_answer_that_drips_ends_with_the_time_for_the_whole(
    fetch: Fetch, drip: tuple[bytes, bytes]
) -> None:
    begin, rest = drip

    def serve(line: Line) -> None:
        _asked(line)
        line.send(begin)
        line.drip(rest)

    with Server(serve) as server:
        assert type(failure(fetch, server, SOON)) is UpstreamTimeout


def test_many_calls_of_one_fetch_share_its_time(httpserver: Any) -> None:
    """Each page comes at once, and none is the last."""
    body = {"data": [], "paging": {"next": "x", "cursors": {"after": "y"}}}
    asked: list[float | None] = []

    class Pages(StoriesByName):
        def stories(self, username: str) -> Found:
            for _ in range(3):
                asked.append(time_left(None))
            return Found({"id": "1", "user": {}, "items": []})

    httpserver.expect_request("/v25.0/1784/stories").respond_with_json(body)
    WithFiles(Pages(), Media(connect_timeout=1, idle_timeout=1), seconds=50.0).fetch(stories_of("anna"))
    Fallback([Pages(), Pages()], seconds=40.0).fetch(stories_of("anna"))
    assert all(left is not None and left <= 50 for left in asked[:3])
    assert all(left is not None and left <= 40 for left in asked[3:])
    source = GraphSource({"anna": GraphAccount("1784", "t")}, httpserver.url_for("/"))
    with within(0.0), pytest.raises(UpstreamTimeout):
        source.fetch(stories_of("anna"))
    assert httpserver.log == []


def test_looking_at_a_file_of_the_cdn_takes_no_longer_than_one_answer() -> None:
    def serve(line: Line) -> None:
        _asked(line)
        line.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: aaaaaaaaaaaaaaaa\r\n" * 90)

    with Server(serve) as server:
        media = Media(redirect_to=f"http://127.0.0.1:{server.port}", connect_timeout=SOON, idle_timeout=SOON)
        files = WithFiles(StoriesByName(), media)
        with pytest.raises(UpstreamTimeout):
            files.fetch(Ask(DOWNLOAD, Target(MEDIA_URL, "https://scontent.cdninstagram.com/a.jpg")))


# --- curl, which does the real traffic ------------------------------------------------------------

PREFACE = 24
DATA, HEADERS, SETTINGS, ACK, END_HEADERS, END_STREAM = 0, 1, 4, 1, 4, 1
STATUS_200, GZIP = b"\x88", b"\x0f\x0b\x04gzip"  # by HPACK's static table; content-encoding is its 26th name


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def speaking_http2(line: Line, fields: bytes) -> None:
    """Answer the first request of a connection with a head."""
    received = b""
    while len(received) < PREFACE:
        received += line.connection.recv(65_536)
    line.send(frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0) + frame(HEADERS, END_HEADERS, 1, fields))


@pytest.fixture
def by_curl() -> Callable[[Server, float], Exception]:
    def fetch(server: Server, seconds: float) -> Exception:
        client = Client(request_timeout=0, session_retry_total=0)
        url = f"http://127.0.0.1:{server.port}"
        client.private.mount(url, TimedAdapter(client.private, (seconds, seconds)))
        with pytest.raises((requests.RequestException, FetchError)) as caught:
            client.private.get(url)
        return translate(caught.value)

    return fetch


@pytest.mark.parametrize("packed", [False, True])
def test_curl_takes_no_more_than_may_be(
    by_curl: Callable[[Server, float], Any], packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "ANSWER_MAX", 20_000)

    def serve(line: Line) -> None:
        speaking_http2(line, STATUS_200 + (GZIP if packed else b""))
        if packed:
            packer = zlib.compressobj(9, zlib.DEFLATED, 31)
            line.send(frame(DATA, END_STREAM, 1, packer.compress(b" " * MEBIBYTE) + packer.flush()))
        else:
            for _ in range(3):  # the stream does not end: it has to be left
                line.send(frame(DATA, 0, 1, b" " * 16_000))
        line.hold()

    with Server(serve) as server:
        error = by_curl(server, PATIENCE)
    assert (type(error), error.retry) == (UpstreamFailed, Retry.NEVER)


def test_curl_ends_with_the_time_for_the_whole(by_curl: Callable[[Server, float], Any]) -> None:
    def serve(line: Line) -> None:
        speaking_http2(line, STATUS_200)
        while not line.over.wait(0.02):
            line.send(frame(DATA, 0, 1, b" "))

    with Server(serve) as server:
        assert type(by_curl(server, SOON)) is UpstreamTimeout


# --- patience -------------------------------------------------------------------------------------


def test_an_inner_limit_is_never_longer_than_an_outer_one() -> None:
    assert time_left(None) is None
    assert time_left(5.0) == 5.0
    with within(100.0):
        with within(1_000.0):
            left = time_left(None)
            assert left is not None
            assert left <= 100
        with within(10.0):
            assert (time_left(50.0) or 0) <= 10
        assert (time_left(50.0) or 0) == 50
    with within(0.0), pytest.raises(TimeoutError):
        time_left(5.0)
    assert time_left(None) is None
    assert socket.getdefaulttimeout() is None
