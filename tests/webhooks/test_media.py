"""Files of Instagram's CDN: whose are fetched, what is passed on, and how it is told what went wrong.

A real server on loopback stands in for the simulated Instagram; what is meant for the CDN goes there.
"""

from __future__ import annotations

import re
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from redis import Redis

from service.config import Settings
from service.domain.errors import (
    FetchError,
    MediaNotFound,
    RangeNotSatisfiable,
    UpstreamFailed,
    UpstreamTimeout,
)
from service.domain.ports.media import MediaFile
from service.media import Media
from tests.conftest import RecordingQueue, make_services
from tests.webhooks.support import DIALS, Line, Names, Server, leaving_nothing

URL = "https://scontent-sim1-1.cdninstagram.com/v/t66.30100-16/1_2_n.mp4?oh=00_ab&oe=6A"
FILE = bytes(range(256)) * 1024
MEBIBYTE = 1024 * 1024
PATIENCE = 20.0


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    with leaving_nothing():
        yield


def media(server: Server | None = None, **more: float) -> Media:
    limits = {"connect_timeout": 5.0, "idle_timeout": PATIENCE, "total_timeout": PATIENCE, **more}
    redirect_to = f"http://127.0.0.1:{server.port}" if server else None
    return Media(redirect_to=redirect_to, resolver=Names(), **limits)


def files(asked: list[bytes] | None = None) -> Callable[[Line], None]:
    """Serve FILE as an MP4, a range of it when one is asked for; note the requests."""

    def serve(line: Line) -> None:
        while True:
            request = line.request()
            if asked is not None:
                asked.append(request)
            line.send(_answer(re.search(rb"(?mi)^range: bytes=(\d*)-(\d*)\r$", request)))

    return serve


def _answer(wanted: re.Match[bytes] | None) -> bytes:
    size = len(FILE)
    if wanted is None:
        return reply(200, FILE)
    first = int(wanted[1]) if wanted[1] else size - int(wanted[2])
    last = min(int(wanted[2]), size - 1) if wanted[1] and wanted[2] else size - 1
    if first >= size:
        return reply(416, b"", f"Content-Range: bytes */{size}")
    return reply(206, FILE[first : last + 1], f"Content-Range: bytes {first}-{last}/{size}")


def reply(status: int, body: bytes, *headers: str, kind: str = "video/mp4") -> bytes:
    lines = (f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join((*lines, "\r\n")).encode() + body


def once(answer: bytes, then: Callable[[Line], object] = lambda _line: None) -> Callable[[Line], None]:
    def serve(line: Line) -> None:
        line.request()
        line.send(answer)
        then(line)

    return serve


def refused(media: Media, url: str = URL, range: str | None = None) -> FetchError:
    with pytest.raises(FetchError) as caught:
        media.open(url, range)
    return caught.value


# --- what is passed on ---------------------------------------------------------------------------


def test_a_whole_file() -> None:
    with Server(files()) as server, media(server).open(URL) as file:
        assert (file.status, file.content_type, file.content_length) == (200, "video/mp4", len(FILE))
        assert file.content_range is None
        assert b"".join(file.chunks()) == FILE


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-99", 0, 99),
        ("bytes=1000-", 1000, len(FILE) - 1),
        ("bytes=-10", len(FILE) - 10, len(FILE) - 1),
        ("bytes=5-99999999", 5, len(FILE) - 1),
    ],
)
def test_a_range_of_it(asked: str, first: int, last: int) -> None:
    with Server(files()) as server, media(server).open(URL, asked) as file:
        assert (file.status, file.content_length) == (206, last - first + 1)
        assert file.content_range == f"bytes {first}-{last}/{len(FILE)}"
        assert b"".join(file.chunks()) == FILE[first : last + 1]


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-9", "lines=1-2", "bytes=-", "bytes=1-2\r\nX-Evil: 1", "bytes=٣-", ""]
)
def test_a_range_that_is_no_single_one_is_not_asked_for(asked: str) -> None:
    requests: list[bytes] = []
    with Server(files(requests)) as server, media(server).open(URL, asked) as file:
        assert file.status == 200
    assert b"range" not in requests[0].lower()
    assert b"evil" not in requests[0].lower()


def test_a_cdn_that_knows_no_ranges_sends_all_of_it() -> None:
    with Server(once(reply(200, b"all"))) as server, media(server).open(URL, "bytes=1-1") as file:
        assert (file.status, b"".join(file.chunks())) == (200, b"all")


def test_the_cdn_is_asked_by_its_name_without_anything_of_ours() -> None:
    requests: list[bytes] = []
    with Server(files(requests)) as server, media(server).open(URL):
        pass
    head = requests[0].decode().lower()
    assert head.startswith("get /v/t66.30100-16/1_2_n.mp4?oh=00_ab&oe=6a http/1.1\r\n")
    assert "host: scontent-sim1-1.cdninstagram.com\r\n" in head
    assert "accept-encoding: identity\r\n" in head
    assert not {"cookie:", "authorization:", "referer:"} & set(head.split())


def test_a_probe_tells_of_a_file_and_fetches_one_byte() -> None:
    requests: list[bytes] = []
    with Server(files(requests)) as server:
        fetcher = media(server)
        assert fetcher.probe(URL) == MediaFile(URL, "video/mp4", len(FILE))
        assert b"bytes=0-0" in requests[0]
        with fetcher.open(URL):
            pass
        assert server.connections == 1, "the connection was not used again"


@pytest.mark.parametrize(
    ("answer", "size"),
    [
        (reply(200, FILE), len(FILE)),
        (reply(206, b"x", "Content-Range: bytes 0-0/*"), None),
        (reply(206, FILE, "Content-Range: bytes 0-0/7"), 7),  # more than was asked for is not read
        (b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nConnection: close\r\n\r\nxyz", None),
    ],
)
def test_a_probe_reads_no_body_beyond_that(answer: bytes, size: int | None) -> None:
    with Server(once(answer)) as server:
        assert media(server).probe(URL).size == size


def test_50_megabytes_take_little_memory() -> None:
    def serve(line: Line) -> None:
        # Small buffers and late acknowledgements make large bodies crawl.
        line.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MEBIBYTE)
        line.request()
        line.send(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: 52428800\r\n\r\n")
        for _ in range(50):
            line.send(piece)

    piece = b"x" * MEBIBYTE
    with Server(serve) as server, media(server).open(URL) as file:
        tracemalloc.start()
        try:
            total = sum(len(chunk) for chunk in file.chunks())
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert total == file.content_length == 50 * MEBIBYTE
    assert peak < MEBIBYTE


def test_a_kept_connection_that_the_cdn_has_closed_is_no_failure() -> None:
    def twice(line: Line) -> None:
        line.request()
        line.send(reply(200, b"one"))
        line.request()  # and then it goes without an answer

    with Server(twice) as server:
        fetcher = media(server)
        for _ in range(3):
            with fetcher.open(URL) as file:
                assert b"".join(file.chunks()) == b"one"
        assert server.connections > 1


# --- what is not ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_file_that_is_gone_or_whose_signature_is_over(status: int) -> None:
    with Server(once(reply(status, b"URL signature expired", kind="text/plain"))) as server:
        error = refused(media(server))
        assert (type(error), error.code, error.status) == (MediaNotFound, "media_not_found", 404)


def test_a_range_beyond_the_end() -> None:
    with Server(files()) as server:
        assert isinstance(refused(media(server), range=f"bytes={len(FILE)}-"), RangeNotSatisfiable)


@pytest.mark.parametrize(
    "answer",
    [
        reply(302, b"", "Location: https://scontent.cdninstagram.com/elsewhere.mp4"),
        reply(304, b""),
        reply(500, b"oops"),
        reply(429, b"slow down"),
        reply(204, b""),
        reply(206, b"not asked for", "Content-Range: bytes 0-12/99"),
        reply(416, b""),
        reply(200, b"<html>", kind="text/html"),
        reply(200, b"<html>", kind="text/html; image/png"),
        reply(200, b"<svg onload=...>", kind="image/svg+xml"),
        reply(200, b"{}", kind="application/json"),
        reply(200, b"?", kind=""),
        reply(200, b"?", kind="image/"),
        reply(200, b"?", kind="image/png\x7f"),
        reply(200, b"packed", "Content-Encoding: gzip"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
)
def test_what_is_no_photo_or_video_is_not_passed_on(answer: bytes) -> None:
    with Server(once(answer)) as server:
        error = refused(media(server))
        assert (type(error), error.code) == (UpstreamFailed, "upstream_error")
        assert server.connections == 1


@pytest.mark.parametrize("said", [(), ("Content-Range: bytes */7",), ("Content-Range: lines 1-2/3",)])
def test_nor_is_a_part_that_does_not_say_which(said: tuple[str, ...]) -> None:
    with Server(once(reply(206, b"x", *said))) as server:
        assert isinstance(refused(media(server), range="bytes=0-0"), UpstreamFailed)


@pytest.mark.parametrize(
    "kind", ["image/jpeg", "image/webp", "IMAGE/JPEG; charset=binary", "video/mp4", "video/quicktime"]
)
def test_photos_and_videos_are_passed_on_under_their_type(kind: str) -> None:
    with Server(once(reply(200, b"x", kind=kind))) as server, media(server).open(URL) as file:
        assert file.content_type == kind.lower().partition(";")[0]


def test_a_body_that_breaks_off_fails_in_the_middle() -> None:
    received = bytearray()
    with (
        Server(once(reply(200, FILE)[:-1])) as server,
        media(server).open(URL) as file,
        pytest.raises(UpstreamFailed),
    ):
        received.extend(byte for chunk in file.chunks() for byte in chunk)
    assert FILE.startswith(bytes(received))


@pytest.mark.parametrize("answer", [b"", reply(200, FILE)[:20]])
def test_a_cdn_that_says_nothing_is_late(answer: bytes) -> None:
    with Server(once(answer, Line.hold)) as server:
        started = time.monotonic()
        assert isinstance(refused(media(server, idle_timeout=0.5)), UpstreamTimeout)
        assert time.monotonic() - started < PATIENCE


@pytest.mark.parametrize("limits", [{"idle_timeout": 3.0}, {"total_timeout": 3.0}])
def test_so_is_one_that_stops_in_the_middle(limits: dict[str, float]) -> None:
    with (
        Server(once(reply(200, FILE)[:-1], Line.hold)) as server,
        media(server, **limits).open(URL) as file,
        pytest.raises(UpstreamTimeout),
    ):
        list(file.chunks())


def test_nobody_listens() -> None:
    with Server(files()) as server:
        pass
    assert isinstance(refused(media(server)), UpstreamFailed)


# --- where it goes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://scontent.cdninstagram.com/a.mp4",
        "https://cdninstagram.com.evil.example/a.mp4",
        "https://evilcdninstagram.com/a.mp4",
        "https://scontent.cdninstagram.com@evil.example/a.mp4",
        "https://evil@scontent.cdninstagram.com/a.mp4",
        "https://scontent.cdninstagram.com:8443/a.mp4",
        "https://scontent.cdninstagram.com\\@evil.example/a.mp4",
        "https://scontent.cdninstagram.com/a b.mp4",
        "https://127.0.0.1/a.mp4",
        "https:///a.mp4",
        "file:///etc/passwd",
        "",
    ],
)
@pytest.mark.parametrize("redirected", [True, False])
def test_nothing_but_the_cdn_is_asked(url: str, redirected: bool) -> None:
    with Server(files()) as server, DIALS.noted() as dialled:
        fetcher = media(server if redirected else None)
        assert isinstance(refused(fetcher, url), UpstreamFailed)
        with pytest.raises(UpstreamFailed):
            fetcher.probe(url)
        assert dialled == []


@pytest.mark.parametrize("host", ["cdninstagram.com", "scontent-a.cdninstagram.com", "video.xx.fbcdn.net"])
def test_the_hosts_of_the_cdn_and_what_is_below_them(host: str) -> None:
    with Server(files()) as server:
        assert media(server).probe(f"https://{host}/a.mp4").size == len(FILE)


def test_which_hosts_are_the_cdns_is_an_argument() -> None:
    with Server(files()) as server:
        fetcher = Media(
            hosts=["files.example"],
            redirect_to=f"http://127.0.0.1:{server.port}",
            connect_timeout=5,
            idle_timeout=PATIENCE,
        )
        assert fetcher.probe("https://a.files.example/x.jpg").size == len(FILE)
        assert isinstance(refused(fetcher), UpstreamFailed)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"])
def test_a_name_of_the_cdn_that_leads_inside_is_not_followed(address: str) -> None:
    names = Names({"scontent-sim1-1.cdninstagram.com": [address]})
    fetcher = Media(connect_timeout=5, idle_timeout=PATIENCE, resolver=names)
    with DIALS.noted() as dialled:
        assert isinstance(refused(fetcher), UpstreamFailed)
    assert dialled == []
    assert names.asked == ["scontent-sim1-1.cdninstagram.com"]


def test_the_services_send_to_the_simulated_instagram_where_one_is_set(
    settings: Settings, redis: Redis, queue: RecordingQueue
) -> None:
    with Server(files()) as server:
        simulated = replace(settings, simulated_instagram_url=f"http://127.0.0.1:{server.port}")
        assert make_services(simulated, redis, queue).media.probe(URL).size == len(FILE)
