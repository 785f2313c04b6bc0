"""A CDN on loopback: a real server to which `service.media.Media` is sent instead of Instagram's."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from service.media import Media

FILE = bytes(range(256)) * 400
HOST = "https://scontent.cdninstagram.com"
PATIENCE = 20.0


@dataclass
class Cdn:
    """Serves `FILE` under any path. ``asked`` holds the Range of each request, "" for none.

    ``gone_after`` is after how many requests there is nothing more, ``gone_at`` to which of them (from 1)
    there was nothing. ``breaks_after`` and ``stalls_after`` are how many bytes of a body come before the
    connection breaks off, or falls silent until ``go_on`` is set.
    """

    url: str = ""
    content_type: str = "video/mp4"
    gone_after: int | None = None
    gone_at: int | None = None
    breaks_after: int | None = None
    stalls_after: int | None = None
    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)

    @cached_property
    def media(self) -> Media:
        """What takes files from here; opened once, as reading the list of authorities takes a while."""
        return Media(redirect_to=self.url, connect_timeout=PATIENCE, idle_timeout=PATIENCE)

    def reset(self) -> None:
        """Be as new, and let go who is kept waiting."""
        self.go_on.set()
        self.go_on = threading.Event()
        self.content_type = "video/mp4"
        self.gone_after = self.gone_at = self.breaks_after = self.stalls_after = None
        self.asked = []


@contextmanager
def running() -> Iterator[Cdn]:
    """Run a CDN until the block is left."""
    cdn = Cdn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(cdn))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    cdn.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield cdn
    finally:
        cdn.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def _handler(cdn: Cdn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cdn.asked.append(self.headers.get("Range", ""))
            number = len(cdn.asked)
            if number == cdn.gone_at or (cdn.gone_after is not None and number > cdn.gone_after):
                self.send_error(404)
                return
            first, last = _range(self.headers.get("Range", ""))
            if first >= len(FILE):
                self.send_error(416)
                return
            body = FILE[first : last + 1]
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Content-Type", cdn.content_type)
            self.send_header("Content-Length", str(len(body)))
            if "Range" in self.headers:
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(FILE)}")
            self.end_headers()
            self._send(body)

        def _send(self, body: bytes) -> None:
            cut = len(body)
            if len(body) > 1:  # a look at the file asks for one byte
                cut = next((each for each in (cdn.breaks_after, cdn.stalls_after) if each is not None), cut)
            go_on, stalls = cdn.go_on, cdn.stalls_after is not None
            with suppress(OSError):  # who asked has gone
                self.wfile.write(body[:cut])
                if stalls and cut < len(body):
                    go_on.wait(PATIENCE)
                    self.wfile.write(body[cut:])

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _range(asked: str) -> tuple[int, int]:
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
    size = len(FILE)
    if match is None:
        return 0, size - 1
    if not match[1]:
        return max(size - int(match[2]), 0), size - 1
    return int(match[1]), min(int(match[2]), size - 1) if match[2] else size - 1
