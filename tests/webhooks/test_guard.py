"""Where the way out leads: decided on the address dialled, whatever the URL or the resolver say.

Nothing is patched. A real socket on loopback counts who comes, the interpreter's audit events tell
what was dialled, and the resolver is the argument it is made to be.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from service.domain.addresses import DENIED_PORTS
from service.egress import Egress, EgressError, Resolved
from service.egress.lookups import LOOKUPS_MOST
from tests.conftest import await_true
from tests.webhooks.conftest import Certificate
from tests.webhooks.corpus import ADDRESSES, MALFORMED, URLS
from tests.webhooks.support import DIALS, Line, Names, Server, answering, egress, refusal, resolved

# Global, and given to nobody: 3ffe::/16 went back in 2006 and is routed nowhere.
PUBLIC = "3ffe::1"
OTHER_PUBLIC = "3ffe::2"

NO_ANSWER = {"blocked", "dns_not_found", "bad_answer"}


class Trap:
    """Listens at one port of every inner address this machine has, and counts who comes."""

    def __init__(self) -> None:
        self._sockets = [socket.create_server(("0.0.0.0", 0))]
        self.port = self._sockets[0].getsockname()[1]
        if socket.has_ipv6:
            with suppress(OSError):  # a machine without IPv6
                self._sockets.append(socket.create_server(("::", self.port), family=socket.AF_INET6))
        for server in self._sockets:
            server.setblocking(False)

    def came(self) -> int:
        """Return how many connections wait to be accepted; the kernel makes them without our help."""
        count = 0
        for server in self._sockets:
            try:
                while True:
                    server.accept()[0].close()
                    count += 1
            except BlockingIOError:
                pass
        return count

    def close(self) -> None:
        for server in self._sockets:
            server.close()


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    trap = Trap()
    yield trap
    trap.close()


NAMES = Names({f"host-{number}.example": [address] for number, address in enumerate(ADDRESSES)})


@pytest.fixture(scope="module")
def guarded() -> Egress:
    return egress(resolver=NAMES)


@contextmanager
def nothing_connects(trap: Trap) -> Iterator[None]:
    with DIALS.noted() as dialled:
        yield
    assert dialled == []
    assert trap.came() == 0


# --- the corpus ----------------------------------------------------------------------------------


@pytest.mark.parametrize("url", URLS)
def test_an_inner_address_is_not_reached_however_it_is_spelled(trap: Trap, guarded: Egress, url: str) -> None:
    with nothing_connects(trap):
        assert refusal(guarded, url.replace("{port}", str(trap.port))) in NO_ANSWER


# What has no scheme at all urllib3 warns of; it is refused at submit, see test_addresses.
@pytest.mark.parametrize("url", [url for url in MALFORMED if ":" in url.partition("//")[0].partition("1")[0]])
def test_nor_by_a_url_that_hides_where_it_leads(trap: Trap, guarded: Egress, url: str) -> None:
    with nothing_connects(trap):
        assert refusal(guarded, url.replace("{port}", str(trap.port))) in NO_ANSWER


@pytest.mark.parametrize("number", range(len(ADDRESSES)), ids=ADDRESSES)
def test_nor_by_a_name_that_resolves_to_it(trap: Trap, guarded: Egress, number: int) -> None:
    with nothing_connects(trap):
        assert refusal(guarded, f"http://host-{number}.example:{trap.port}/") == "blocked"
        assert refusal(guarded, f"https://host-{number}.example:{trap.port}/") == "blocked"


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "fe80::1"])
def test_of_what_kind_an_inner_address_is_is_not_told(trap: Trap, address: str) -> None:
    way_out = egress(resolver=Names({"inner.example": [address]}))
    with pytest.raises(EgressError) as caught:
        way_out.post(f"http://inner.example:{trap.port}/", b"", {})
    assert caught.value.why == "it leads to no address this service may reach"


@pytest.mark.parametrize("port", [1, 21, 22, 23, 25, 53, 110, 445, 1023, *sorted(DENIED_PORTS)])
def test_a_port_that_receives_no_webhooks_is_not_dialled(trap: Trap, port: int) -> None:
    way_out = egress(allow=["127.0.0.0/8"], resolver=Names({"receiver.example": [PUBLIC]}))
    with nothing_connects(trap):
        assert refusal(way_out, f"http://receiver.example:{port}/") == "blocked"
        assert refusal(way_out, f"http://127.0.0.1:{port}/") == "blocked"


# --- what a name resolves to ---------------------------------------------------------------------


def dialled(way_out: Egress, url: str) -> list[str]:
    with DIALS.noted() as addresses:
        refusal(way_out, url)
    return [address[0] for address in addresses]


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1", PUBLIC],
        [PUBLIC, "127.0.0.1"],
        ["10.0.0.1", "::1", PUBLIC, "169.254.169.254", "64:ff9b::7f00:1"],
    ],
)
def test_of_a_mixed_answer_only_the_public_address_is_dialled(trap: Trap, answers: list[str]) -> None:
    way_out = egress(resolver=Names({"mixed.example": answers}), connect=0.2)
    assert set(dialled(way_out, f"http://mixed.example:{trap.port}/")) == {PUBLIC}
    assert trap.came() == 0


def test_a_public_host_behind_nat64_is_dialled() -> None:
    way_out = egress(resolver=Names({"old.example": ["64:ff9b::8.8.8.8"]}), connect=0.2)
    assert dialled(way_out, "http://old.example:8080/") == ["64:ff9b::808:808"]


def test_every_address_that_is_allowed_is_tried_in_turn() -> None:
    way_out = egress(resolver=Names({"two.example": [PUBLIC, OTHER_PUBLIC]}), connect=0.3)
    assert dialled(way_out, "http://two.example:8080/") == [PUBLIC, OTHER_PUBLIC]


class Turncoat:
    """A resolver that gives one answer at first, and another one ever after."""

    def __init__(self, first: str, then: str) -> None:
        self.answers = [first]
        self.then = then
        self.asked = 0

    def __call__(self, host: str, port: int) -> list[Resolved]:
        self.asked += 1
        return [resolved(self.answers.pop() if self.answers else self.then, port)]


def test_a_name_that_changes_its_answer_gains_nothing() -> None:
    """The address that was checked is the one that is dialled: nobody asks a second time."""
    with Server(answering(), address="127.0.0.2") as allowed, ExitStack() as stack:
        inner = stack.enter_context(Server(answering(), address="127.0.0.1", port=allowed.port))
        names = Turncoat("127.0.0.2", "127.0.0.1")
        way_out = egress(allow=["127.0.0.2"], resolver=names)
        url = f"http://rebound.example:{allowed.port}/"
        assert way_out.post(url, b"{}", {"Connection": "close"}).status == 204
        assert names.asked == 1
        way_out = egress(allow=["127.0.0.2"], resolver=names)
        for _ in range(5):
            assert refusal(way_out, url) == "blocked"
        assert names.asked == 6
        assert (allowed.connections, inner.connections) == (1, 0)


def test_every_new_connection_is_checked_anew() -> None:
    closing = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    with Server(answering(closing), address="127.0.0.2") as allowed, ExitStack() as stack:
        inner = stack.enter_context(Server(answering(), address="127.0.0.1", port=allowed.port))
        way_out = egress(allow=["127.0.0.2"], resolver=Turncoat("127.0.0.2", "127.0.0.1"))
        url = f"http://rebound.example:{allowed.port}/"
        assert way_out.post(url, b"{}", {}).status == 204
        assert refusal(way_out, url) == "blocked"
        assert (allowed.connections, inner.connections) == (1, 0)


def test_a_kept_connection_stays_where_it_was_made() -> None:
    with Server(answering(), address="127.0.0.2") as allowed:
        names = Turncoat("127.0.0.2", "127.0.0.1")
        way_out = egress(allow=["127.0.0.2"], resolver=names)
        for _ in range(3):
            assert way_out.post(f"http://rebound.example:{allowed.port}/", b"{}", {}).status == 204
        assert (allowed.connections, names.asked) == (1, 1)


# --- the operator's lists ------------------------------------------------------------------------


@pytest.mark.parametrize("allow", ["127.0.0.1", "127.0.0.0/8", "n8n.lan", "N8N.lan."])
def test_an_inner_receiver_that_is_allowed_is_reached(allow: str) -> None:
    with Server(answering()) as inner:
        way_out = egress(allow=[allow], resolver=Names({"n8n.lan": ["127.0.0.1"]}))
        assert way_out.post(f"http://n8n.lan:{inner.port}/hook", b"{}", {}).status == 204
        assert inner.connections == 1


@pytest.mark.parametrize("allow", ["127.0.0.2", "10.0.0.0/8", "lan", "x.n8n.lan", "n8n.lan.example", "::1"])
def test_and_by_no_other_entry(trap: Trap, allow: str) -> None:
    way_out = egress(allow=[allow], resolver=Names({"n8n.lan": ["127.0.0.1"]}))
    with nothing_connects(trap):
        assert refusal(way_out, f"http://n8n.lan:{trap.port}/") == "blocked"


@pytest.mark.parametrize("deny", ["127.0.0.1", "127.0.0.0/8"])
def test_what_is_denied_is_not_reached_even_if_allowed(trap: Trap, deny: str) -> None:
    way_out = egress(
        allow=["n8n.lan", "127.0.0.0/8"], deny=[deny], resolver=Names({"n8n.lan": ["127.0.0.1"]})
    )
    with nothing_connects(trap):
        assert refusal(way_out, f"http://n8n.lan:{trap.port}/") == "blocked"


def test_a_public_address_that_is_denied_is_not_dialled_through_nat64_either() -> None:
    way_out = egress(
        deny=["8.8.8.0/24", "3ffe::/16"], resolver=Names({"a": ["64:ff9b::8.8.8.8"], "b": [PUBLIC]})
    )
    assert dialled(way_out, "http://a:8080/") == []
    assert dialled(way_out, "http://b:8080/") == []


# --- redirects and proxies -----------------------------------------------------------------------


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_not_followed(status: int) -> None:
    with Server(answering()) as elsewhere:
        location = f"HTTP/1.1 {status} X\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n".encode()
        with Server(answering(location)) as receiver:
            way_out = egress(allow=["127.0.0.0/8"])
            for _ in range(2):
                assert way_out.post(receiver.url, b"{}", {}).status == status
            assert (receiver.connections, elsewhere.connections) == (1, 0)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with Server(answering()) as proxy, Server(answering()) as receiver:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "")
        names = Names({"receiver.example": ["127.0.0.1"]})
        way_out = egress(allow=["127.0.0.0/8"], resolver=names)
        assert way_out.post(f"http://receiver.example:{receiver.port}/", b"{}", {}).status == 204
        impatient = egress(allow=["127.0.0.0/8"], resolver=names, total=1.0)
        assert refusal(impatient, f"https://receiver.example:{receiver.port}/")  # it speaks no TLS
        assert (proxy.connections, receiver.connections) == (0, 2)


# --- TLS -----------------------------------------------------------------------------------------


def test_host_and_sni_stay_the_name_while_the_checked_address_is_dialled(certificate: Certificate) -> None:
    asked: list[str | None] = []
    heard: list[bytes] = []

    def serve(line: Line) -> None:
        heard.append(line.request())
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with Server(serve, tls=certificate.server(asked)) as receiver:
        way_out = egress(
            allow=["127.0.0.0/8"],
            resolver=Names({"hooks.example": ["127.0.0.1"]}),
            ca_file=str(certificate.file),
        )
        with DIALS.noted() as addresses:
            answer = way_out.post(f"https://hooks.example:{receiver.port}/a?b=c", b'{"x":1}', {})
    assert (answer.status, answer.body) == (200, b"ok")
    assert [address[0] for address in addresses] == ["127.0.0.1"]
    assert asked == ["hooks.example"]
    assert heard[0].startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert f"\r\nHost: hooks.example:{receiver.port}\r\n".encode() in heard[0]


def test_a_certificate_nobody_vouches_for_is_refused(certificate: Certificate) -> None:
    with Server(answering(), tls=certificate.server()) as receiver:
        way_out = egress(allow=["127.0.0.0/8"], resolver=Names({"hooks.example": ["127.0.0.1"]}))
        assert refusal(way_out, f"https://hooks.example:{receiver.port}/") == "tls_error"
        assert receiver.sent == 0


def test_so_is_a_certificate_of_another_name(certificate: Certificate) -> None:
    with Server(answering(), tls=certificate.server()) as receiver:
        names = Names({"other.example": ["127.0.0.1"], "hooks.example.": ["127.0.0.1"]})
        way_out = egress(allow=["127.0.0.0/8"], resolver=names, ca_file=str(certificate.file))
        assert refusal(way_out, f"https://other.example:{receiver.port}/") == "tls_error"
        assert refusal(way_out, f"https://127.0.0.1:{receiver.port}/") == "tls_error"


def test_a_trailing_dot_is_no_other_name(certificate: Certificate) -> None:
    with Server(answering(), tls=certificate.server()) as receiver:
        names = Names({"hooks.example": ["127.0.0.1"]})
        way_out = egress(allow=["hooks.example"], resolver=names, ca_file=str(certificate.file))
        assert way_out.post(f"https://hooks.example.:{receiver.port}/", b"{}", {}).status == 204


def test_a_certificate_may_be_of_an_address(certificate: Certificate) -> None:
    with Server(answering(), address="127.0.0.4", tls=certificate.server()) as receiver:
        way_out = egress(allow=["127.0.0.4"], ca_file=str(certificate.file))
        assert way_out.post(f"https://127.0.0.4:{receiver.port}/", b"{}", {}).status == 204


def test_a_handshake_may_take_its_time_when_a_name_has_many_addresses(certificate: Certificate) -> None:
    """The connect time is shared among addresses in order to dial them, not in order to talk to one."""
    context = certificate.server()
    context.sni_callback = lambda *_: time.sleep(1.5)  # type: ignore[assignment,return-value]
    with Server(answering(), tls=context) as receiver:
        names = Names({"hooks.example": ["127.0.0.1", *(f"127.0.1.{n}" for n in range(1, 8))]})
        way_out = egress(
            allow=["127.0.0.0/8"], resolver=names, ca_file=str(certificate.file), connect=8, total=20
        )
        assert way_out.post(f"https://hooks.example:{receiver.port}/", b"{}", {}).status == 204


# --- addresses that are dead, and resolvers that are ---------------------------------------------


def test_a_first_address_that_refuses_gives_way_to_the_second() -> None:
    with Server(answering(), address="127.0.0.2") as alive:
        names = Names({"two.example": ["127.0.0.3", "127.0.0.2"]})
        way_out = egress(allow=["127.0.0.0/8"], resolver=names)
        assert way_out.post(f"http://two.example:{alive.port}/", b"{}", {}).status == 204


@contextmanager
def full(address: str, port: int) -> Iterator[None]:
    """Listen where nobody is let in any more: further connections get no answer at all."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen(0)
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex((address, server.getsockname()[1]))
        yield


def test_a_first_address_that_is_silent_gives_way_to_the_second() -> None:
    with Server(answering(), address="127.0.0.2") as alive, full("127.0.0.3", alive.port):
        names = Names({"two.example": ["127.0.0.3", "127.0.0.2"]})
        way_out = egress(allow=["127.0.0.0/8"], resolver=names, connect=4)
        started = time.monotonic()
        assert way_out.post(f"http://two.example:{alive.port}/", b"{}", {}).status == 204
        assert time.monotonic() - started > 1.5, "half of the time is the first one's"


def test_addresses_that_are_all_dead_tell_how() -> None:
    with Server(answering(), address="127.0.0.2") as alive, full("127.0.0.3", alive.port):
        names = Names({"refused": ["127.0.0.5"], "silent": ["127.0.0.3"]})
        patient = egress(allow=["127.0.0.0/8"], resolver=names)
        way_out = egress(allow=["127.0.0.0/8"], resolver=names, connect=0.2)
        assert refusal(patient, f"http://refused:{alive.port}/") == "connection_failed"
        assert refusal(way_out, f"http://silent:{alive.port}/") == "connect_timeout"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "dns_unavailable"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "dns_not_found"),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), "dns_not_found"),
        (UnicodeError("label empty or too long"), "dns_not_found"),
    ],
)
def test_what_a_resolver_says_has_a_word(error: Exception, code: str) -> None:
    def failing(host: str, port: int) -> list[Resolved]:
        raise error

    assert refusal(egress(resolver=failing), "http://receiver.example/") == code


def test_a_name_without_addresses_is_not_dialled() -> None:
    assert refusal(egress(resolver=Names({"empty.example": []})), "http://empty.example/") == "blocked"


@pytest.mark.parametrize(("connect", "total"), [(0.2, 60), (60, 0.2)])
def test_a_resolver_that_hangs_holds_nobody_longer_than_the_limits(connect: float, total: float) -> None:
    over = threading.Event()

    def hanging(host: str, port: int) -> list[Resolved]:
        over.wait(60)
        return [resolved("127.0.0.1", port)]

    way_out = egress(resolver=hanging, connect=connect, total=total)
    started = time.monotonic()
    try:
        assert refusal(way_out, "http://receiver.example/") == "dns_unavailable"
        assert time.monotonic() - started < 20
    finally:
        over.set()


def test_more_lookups_than_may_hang_are_not_begun() -> None:
    over, asked = threading.Event(), []

    def hanging(host: str, port: int) -> list[Resolved]:
        asked.append(host)
        over.wait(60)
        return [resolved(PUBLIC, port)]

    way_out = egress(resolver=hanging, connect=2.0)
    callers = [
        threading.Thread(target=refusal, args=(way_out, f"http://host-{number}.example/"))
        for number in range(LOOKUPS_MOST)
    ]
    for caller in callers:
        caller.start()
    await_true(lambda: len(asked) == LOOKUPS_MOST)
    assert refusal(way_out, "http://late.example:8080/") == "lookups_busy"
    over.set()
    for caller in callers:
        caller.join(30)
    await_true(
        lambda: refusal(way_out, "http://late.example:8080/") in {"connection_failed", "connect_timeout"}
    )
    assert len(asked) == LOOKUPS_MOST + 1


def test_the_corpus_speaks_of_addresses() -> None:
    assert all(ipaddress.ip_address(address) for address in ADDRESSES)
