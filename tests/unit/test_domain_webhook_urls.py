"""Where a webhook may go, as far as the URL itself tells."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.addresses import AddressPolicy, parse_policy
from service.domain.errors import ConfigurationError, ValidationFailed, WebhookForbidden
from service.domain.webhooks import Target, check_url, target_of

NOBODY = AddressPolicy()


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://example.com/hook", "example.com", 443), ("http://example.com", "example.com", 80),
        ("https://example.com:8443/a?b=c#d", "example.com", 8443), ("HTTPS://EXAMPLE.COM./", "example.com",
        443),
        ("http://93.184.216.34/", "93.184.216.34", 80), ("http://[2606:4700::1111]/x", "2606:4700::1111", 80),
        ("https://bücher.example/", "xn--bcher-kva.example", 443),
        ("https://notlocalhost/", "notlocalhost", 443),
        ("https://localhost.example.com/", "localhost.example.com", 443), ("http://[64:ff9b::8.8.8.8]/",
        "64:ff9b::808:808", 80),
    ],
)  # fmt: skip
def test_a_public_address_is_taken(url: str, host: str, port: int) -> None:
    assert check_url(url, NOBODY) == Target(host, port)


@pytest.mark.parametrize(
    "url",
    [
        "", " ", "example.com/hook", "//example.com/hook", "/hook", "http://", "https:///hook",
        "http:example.com", "http:/example.com",
        "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "javascript:alert(1)",
        "data:text/plain,x",
        "redis://example.com:6379/", "http://user@example.com/", "http://user:pw@example.com/",
        "http://@example.com/",
        "http://example.com@10.0.0.1/", "http://example.com\\@10.0.0.1/", "http:\\\\example.com",
        "http://example.com /",
        "http://exa mple.com/", " http://example.com/", "http://example.com/\r\nHost: x",
        "http://example.com/\x00",
        "http://example.com/\x7f", "http://example.com/\t", "http://example.com:port/",
        "http://example.com:99999/",
        "http://[::1/", "http://]/", "http://[nothing]/", "http://./",
        "http://example.com/" + "a" * 2048,
    ],
)  # fmt: skip
def test_what_is_no_plain_web_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        check_url(url, NOBODY)
    assert list(caught.value.details or {}) == ["webhookUrl"]


def test_a_url_of_just_the_longest_length_is_taken() -> None:
    assert check_url("http://example.com/".ljust(2048, "a"), NOBODY).host == "example.com"


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST", "localhost.", "a.localhost", "metadata.google.internal", "printer.local",
        "127.0.0.1",
        "127.0.0.1.", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254",
        "168.63.129.16", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.255.255.250",
        "240.0.0.1", "255.255.255.255",
        "[::1]", "[::]", "[fe80::1]", "[fc00::1]", "[fd12::1]",
        "[fec0::1]", "[ff02::1]",
        "[2001:db8::1]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[::ffff:a9fe:a9fe]", "[::127.0.0.1]",
        "[::ffff:0:127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2002:a00:1::1]", "[2001::1]",
    ],
)  # fmt: skip
def test_an_inner_address_is_forbidden(host: str) -> None:
    with pytest.raises(WebhookForbidden):
        check_url(f"http://{host}:8080/hook", NOBODY)


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0x7f.1", "0X7F.1", "0177.0.0.1", "127.1", "0", "10.1",
    "017700000001", "0xa9fea9fe"]
)  # fmt: skip
def test_an_inner_address_is_forbidden_in_every_spelling_the_resolver_reads(host: str) -> None:
    with pytest.raises(WebhookForbidden):
        check_url(f"http://{host}/hook", NOBODY)


@pytest.mark.parametrize(
    "host", ["loc%61lhost", "%31%32%37.0.0.1", "127\u30020\u30020\u30021", "①②⑦.⓪.⓪.①", "ⓛocalhost"]
)
def test_an_inner_host_is_forbidden_however_its_letters_are_dressed_up(host: str) -> None:
    with pytest.raises((WebhookForbidden, ValidationFailed)):
        check_url(f"http://{host}/hook", NOBODY)


@pytest.mark.parametrize(
    "host",
    [
        "a" * 64 + ".example", "a..example", ".example", "..", "a%2fb.example", "a%40b.example",
        "[fe80::1%25eth0]", "[::1%25lo]", "loc%61lhost",
    ],
)  # fmt: skip
def test_a_host_no_resolver_need_take_is_refused(host: str) -> None:
    with pytest.raises(ValidationFailed):
        check_url(f"http://{host}/hook", NOBODY)


@pytest.mark.parametrize("port", [0, 1, 22, 25, 81, 1023, 3306, 5432, 6379, 9200, 11211])
def test_a_port_that_speaks_no_webhooks_is_forbidden(port: int) -> None:
    with pytest.raises(WebhookForbidden, match=str(port)):
        check_url(f"http://example.com:{port}/", NOBODY)


@given(st.ip_addresses())
def test_an_address_that_is_not_global_is_never_taken(address: ipaddress.IPv4Address) -> None:
    host = str(address) if address.version == 4 else f"[{address}]"
    if not address.is_global:
        with pytest.raises(WebhookForbidden):
            check_url(f"http://{host}/", NOBODY)


@given(st.text())
def test_whatever_is_sent_as_a_url_gets_an_answer_or_a_refusal(text: str) -> None:
    for url in (text, f"http://{text}", f"https://example.com/{text}"):
        with contextlib.suppress(ValidationFailed, WebhookForbidden):
            target = check_url(url, NOBODY)
            assert target == target_of(url)
            assert target.host


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/x", "http://127.1/", "http://10.1.2.3/", "http://x.local/",
    "http://X.LOCAL./", "http://[fd00::5]/"]
)  # fmt: skip
def test_what_the_operator_allows_may_be_an_inner_address(url: str) -> None:
    check_url(url, parse_policy(["127.0.0.0/8", "10.1.2.3", " X.local. ", "fd00::/64"], []))


@pytest.mark.parametrize(
    "url", ["http://10.1.2.4/", "http://[fd00:0:0:1::5]/", "http://localhost/", "http://a.x.local/"]
)
def test_allowing_one_inner_address_allows_no_other(url: str) -> None:
    with pytest.raises(WebhookForbidden):
        check_url(url, parse_policy(["127.0.0.0/8", "10.1.2.3", "x.local", "fd00::/64"], []))


def test_what_the_operator_denies_is_forbidden_although_it_is_public_or_allowed() -> None:
    policy = parse_policy(["10.0.0.0/8"], ["93.184.216.0/24", "10.0.0.1"])
    for host in ("93.184.216.34", "10.0.0.1"):
        with pytest.raises(WebhookForbidden):
            check_url(f"http://{host}/", policy)
    check_url("http://10.0.0.2/", policy)


def test_a_network_may_be_written_by_any_of_its_addresses() -> None:
    check_url("http://192.168.1.1/", parse_policy(["192.168.1.77/24"], []))


def test_blank_entries_allow_nobody() -> None:
    assert parse_policy(["", " "], [" "]) == NOBODY


@pytest.mark.parametrize(
    "entry", ["10.0.0.0/33", "http://receiver", "receiver/24", "10.0.0.0/8/8", "receiver:8080"]
)
def test_an_allowed_entry_that_is_no_host_or_network_is_refused_by_name(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="WEBHOOK_ALLOW"):
        parse_policy([entry], [])


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "evil.example"])
def test_a_denied_entry_that_is_no_network_is_refused_by_name(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="WEBHOOK_DENY"):
        parse_policy([], [entry])
