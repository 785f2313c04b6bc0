"""What instagrapi's sessions do on the wire once prepared."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
import requests
from instagrapi import Client
from instagrapi.exceptions import ClientConnectionError
from pytest_httpserver import HTTPServer
from requests.adapters import BaseAdapter
from werkzeug import Request, Response

from service.domain.errors import ConfigurationError, UpstreamTimeout
from workers.sources.transport import ADDRESSES, RedirectAdapter, TimedAdapter, prepare, redirect
from workers.sources.verdicts import translate

QUICK: dict[str, Any] = {"with_challenge_flow": False, "request_timeout": 0, "session_retry_total": 0}


@pytest.fixture
def client() -> Client:
    return Client(public_request_retries_count=1, **QUICK)


def address_of(server: HTTPServer) -> str:
    return server.url_for("").rstrip("/")


class Recorder(BaseAdapter):
    """Notes what it is asked to send."""

    def __init__(self, status: int = 200) -> None:
        super().__init__()
        self.sent: list[dict[str, Any]] = []
        self.status = status

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self.sent.append({"url": request.url, **kwargs})
        response = requests.Response()
        response.status_code, response.request, response.url = self.status, request, str(request.url)
        response.raw = BytesIO(b'{"status": "ok"}')
        return response

    def close(self) -> None:
        pass


# --- real traffic --------------------------------------------------------------------------------


def test_timeouts_are_filled_in_and_the_sessions_own_adapter_sends(client: Client) -> None:
    prepare(client, redirect_to=None, connect_timeout=2, read_timeout=7)
    recorder = Recorder()
    client.private.mount("https://", recorder)
    client.private_request("hello/")
    assert recorder.sent[0]["url"] == "https://i.instagram.com/api/v1/hello/"
    assert recorder.sent[0]["timeout"] == (2, 7)
    client.private.get("https://i.instagram.com/x", timeout=1)
    assert recorder.sent[1]["timeout"] == 1


def test_the_default_transport_is_curl_and_survives_new_settings(client: Client) -> None:
    prepare(client, redirect_to=None, connect_timeout=2, read_timeout=7)
    client.set_settings(client.get_settings())
    for session in (client.private, client.public, client.graphql):
        for address in ADDRESSES:
            adapter = session.get_adapter(address + "x")
            assert isinstance(adapter, TimedAdapter)
    assert type(client.private.adapters["https://"]).__name__ == "_CurlH2Adapter"


def test_a_408_is_a_timeout(client: Client) -> None:
    prepare(client, redirect_to=None, connect_timeout=2, read_timeout=7)
    recorder = Recorder(status=408)
    client.private.mount("https://", recorder)
    with pytest.raises(requests.ReadTimeout):
        client.private_request("hello/")
    assert len(recorder.sent) == 1


# --- redirected ----------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True], ids=["fresh", "after set_settings"])
def test_everything_goes_to_the_given_address(client: Client, httpserver: HTTPServer, again: bool) -> None:
    httpserver.expect_request("/api/v1/hello/", query_string="a=1").respond_with_json({"status": "ok"})
    redirect(client, address_of(httpserver))
    if again:
        client.set_settings(client.get_settings())
    assert client.private_request("hello/", params={"a": 1}) == {"status": "ok"}
    request, _ = httpserver.log[0]
    assert request.headers["Host"] == "i.instagram.com"
    assert request.headers["User-Agent"].startswith("Instagram ")
    assert client.last_response.url == "https://i.instagram.com/api/v1/hello/?a=1"
    assert client.last_response.request.url == client.last_response.url


@pytest.mark.parametrize(
    "url",
    [
        "https://b.i.instagram.com/graphql_www",
        "https://www.instagram.com/graphql/query/?x=1",
        "https://graph.instagram.com/logging",
        "https://scontent-fra5-1.cdninstagram.com/v/video.mp4?oe=1",
    ],
)
def test_other_hosts_of_instagram_are_redirected_too(
    client: Client, httpserver: HTTPServer, url: str
) -> None:
    httpserver.expect_request("/" + url.split("/", 3)[3].partition("?")[0]).respond_with_data("ok")
    redirect(client, address_of(httpserver))
    for session in (client.private, client.public, client.graphql):
        response = session.get(url)
        assert (response.text, response.url) == ("ok", url)
    assert {request.headers["Host"] for request, _ in httpserver.log} <= {
        url.split("/")[2],
        "i.instagram.com",
    }


def test_proxies_are_left_out(client: Client, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/v1/hello/").respond_with_json({"status": "ok"})
    client.set_proxy("http://127.0.0.1:1")
    redirect(client, address_of(httpserver))
    assert client.private_request("hello/") == {"status": "ok"}


def test_posts_keep_their_body(client: Client, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/v1/hello/", method="POST").respond_with_json({"status": "ok"})
    redirect(client, address_of(httpserver))
    client.private_request("hello/", {"a": 1})
    assert httpserver.log[0][0].get_data().startswith(b"signed_body=SIGNATURE.")


def test_cookies_are_kept_for_instagram(client: Client, httpserver: HTTPServer) -> None:
    def answer(request: Request) -> Response:
        response = Response('{"status": "ok"}')
        response.set_cookie("csrftoken", "t0ken", domain=".instagram.com")
        return response

    httpserver.expect_request("/api/v1/hello/").respond_with_handler(answer)
    redirect(client, address_of(httpserver))
    client.private_request("hello/")
    client.private_request("hello/")
    assert httpserver.log[1][0].cookies["csrftoken"] == "t0ken"


def test_connections_are_kept_alive(client: Client, one_answer_server: tuple[str, list[int]]) -> None:
    url, connections = one_answer_server
    redirect(client, url)
    for _ in range(3):
        client.private_request("hello/")
    assert len(connections) == 1


def test_a_silent_server_is_a_timeout(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        prepare(client, redirect_to=url, connect_timeout=20, read_timeout=0.1)
        with pytest.raises(requests.ReadTimeout):
            client.private_request("hello/")


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "127.0.0.1:80", "http://", "ftp://x"])
def test_only_plain_http_addresses(url: str) -> None:
    with pytest.raises(ConfigurationError):
        RedirectAdapter(url, (1, 1))


@pytest.fixture
def one_answer_server() -> Iterator[tuple[str, list[int]]]:
    """A server that speaks keep-alive and notes its connections."""
    body = b'{"status": "ok"}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )
    connections: list[int] = []
    server = socket.create_server(("127.0.0.1", 0))

    def talk(peer: socket.socket) -> None:
        with peer:
            while peer.recv(65_536):
                peer.sendall(answer)

    def accept() -> None:
        while True:
            try:
                peer, address = server.accept()
            except OSError:
                return
            connections.append(address[1])
            threading.Thread(target=talk, args=(peer,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}", connections
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(timeout=5)


CUT_SHORT = b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"status"'
HTTP_408 = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    ("answer", "error"),
    [(CUT_SHORT, ClientConnectionError), (HTTP_408, requests.ReadTimeout)],
    ids=["cut short", "408"],
)
def test_the_library_does_not_sleep_and_send_again(
    client: Client, answer: bytes, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body cut short would cost 2 s and a 408 even 60 s."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(65_536)
                peer.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        redirect(client, f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(error):
            client.private_request("hello/")
        thread.join(timeout=5)
    assert not any(slept)
    assert client.private_requests_count == 1


# --- the real transport, as far as a proxy of ours ------------------------------------------------


@pytest.mark.parametrize("silent", [True, False], ids=["silent proxy", "no proxy there"])
def test_curl_keeps_the_timeout(client: Client, silent: bool) -> None:
    """Real traffic without redirection; the proxy is the only thing that is ever reached."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        port = proxy.getsockname()[1]
        if not silent:
            proxy.close()
        client.set_proxy(f"http://user:secret@127.0.0.1:{port}")
        prepare(client, redirect_to=None, connect_timeout=0.2, read_timeout=0.2)
        started = time.monotonic()
        with pytest.raises((requests.RequestException, ClientConnectionError)) as caught:
            client.private_request("hello/")
    assert time.monotonic() - started < 30
    assert type(translate(caught.value)) is UpstreamTimeout
    assert "secret" not in str(caught.value)


# --- what came ------------------------------------------------------------------------------------


@pytest.mark.parametrize("redirected", [True, False])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"pk": 18446744073709551615}', {"pk": 18446744073709551615}),
        (b'{"caption": "half an emoji: \\ud83d"}', {"caption": "half an emoji: \ud83d"}),
        (b'{"duration": Infinity}', {"duration": None}),  # which is no JSON, and nobody could read it from us
    ],
)
def test_what_orjson_refuses_is_read_all_the_same(
    client: Client, redirected: bool, body: bytes, expected: dict[str, Any]
) -> None:
    with HTTPServer() as server:
        server.expect_request("/api/v1/feed/").respond_with_data(body, content_type="application/json")
        address = address_of(server)
        prepare(client, redirect_to=address if redirected else None, connect_timeout=2, read_timeout=7)
        if not redirected:
            client.private.mount(address, TimedAdapter(client.private, (2, 7)))
            client.private.mount("https://", requests.adapters.HTTPAdapter())
        url = "https://i.instagram.com/api/v1/feed/" if redirected else f"{address}/api/v1/feed/"
        assert client.private.get(url).json() == expected


def test_what_is_no_json_raises_what_requests_raises(client: Client) -> None:
    with HTTPServer() as server:
        server.expect_request("/api/v1/feed/").respond_with_data(b"<html>", content_type="text/html")
        prepare(client, redirect_to=address_of(server), connect_timeout=2, read_timeout=7)
        with pytest.raises(requests.exceptions.JSONDecodeError):
            client.private.get("https://i.instagram.com/api/v1/feed/").json()
