"""Which addresses a webhook may go to, and which URLs are refused before anything is stored."""

from __future__ import annotations

import ipaddress
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.domain.addresses import (
    DENIED_PORTS,
    AddressPolicy,
    parse_policy,
    port_is_allowed,
    why_not_global,
)
from service.domain.errors import ConfigurationError, ValidationFailed, WebhookForbidden
from service.domain.webhooks import URL_MAX, check_url, target_of
from tests.webhooks.corpus import ADDRESSES, LITERALS, MALFORMED, PUBLIC, SPELLINGS, URLS

NOBODY = AddressPolicy()


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    assert len({*ADDRESSES, *SPELLINGS, *URLS, *MALFORMED}) >= 120


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_is_not_a_public_one_is_off_limits(address: str) -> None:
    assert NOBODY.why_forbidden("receiver.example", ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_none_of_them(address: str) -> None:
    assert NOBODY.why_forbidden("receiver.example", ipaddress.ip_address(address)) is None


@given(st.ip_addresses())
@example(ipaddress.ip_address("::ffff:8.8.8.8"))
def test_what_python_calls_not_global_is_never_allowed(address: ipaddress.IPv4Address) -> None:
    behind_nat64 = address in ipaddress.ip_network("64:ff9b::/96") if address.version == 6 else False
    if not address.is_global and not behind_nat64:
        assert why_not_global(address)


@given(st.ip_addresses(v=4))
@example(ipaddress.ip_address("127.0.0.1"))
@example(ipaddress.ip_address("8.8.8.8"))
def test_behind_nat64_an_address_is_judged_as_itself(inner: ipaddress.IPv4Address) -> None:
    outer = ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) + int(inner))
    assert why_not_global(outer) == why_not_global(inner)


@given(st.ip_addresses(v=4))
def test_wrapped_any_other_way_an_ipv4_address_is_off_limits(inner: ipaddress.IPv4Address) -> None:
    hexadecimal = f"{int(inner) >> 16:x}:{int(inner) & 0xFFFF:x}"
    for wrapped in (
        f"::{inner}",
        f"::ffff:{inner}",
        f"::ffff:0:{inner}",
        f"2002:{hexadecimal}::1",
        f"2001:0:{hexadecimal}::1",
        f"64:ff9b:1::{inner}",
    ):
        assert why_not_global(ipaddress.ip_address(wrapped)), wrapped


# --- ports ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [80, 443, 1024, 3000, 5678, 8080, 8443, 65_535])
def test_ports_where_webhooks_are_received_are_allowed(port: int) -> None:
    assert port_is_allowed(port)


@pytest.mark.parametrize("port", [0, 1, 21, 22, 23, 25, 53, 81, 110, 111, 389, 445, 873, 1023, *DENIED_PORTS])
def test_ports_of_other_services_are_not(port: int) -> None:
    assert not port_is_allowed(port)
    with pytest.raises(WebhookForbidden):
        check_url(f"http://receiver.example:{port}/", NOBODY)


# --- at submit -----------------------------------------------------------------------------------


@pytest.mark.parametrize("url", LITERALS)
def test_a_url_that_spells_an_inner_address_or_port_is_refused_at_submit(url: str) -> None:
    refusal = ValidationFailed if "%" in url else WebhookForbidden  # what is escaped is no host at all
    with pytest.raises(refusal) as caught:
        check_url(url.replace("{port}", "8080"), NOBODY)
    assert caught.value.status == 422


@pytest.mark.parametrize("url", MALFORMED)
def test_what_is_no_plain_web_address_is_refused_at_submit(url: str) -> None:
    with pytest.raises((ValidationFailed, WebhookForbidden)) as caught:
        check_url(url.replace("{port}", "8080"), NOBODY)
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com/hook", "example.com:443"),
        ("http://example.com", "example.com:80"),
        ("HTTPS://EXAMPLE.COM./hook?a=b#c", "example.com:443"),
        ("https://example.com:8443/hook", "example.com:8443"),
        ("http://93.184.216.34/", "93.184.216.34:80"),
        ("http://[2606:4700::1111]:8080/", "2606:4700::1111:8080"),
        ("https://bücher.example/", "xn--bcher-kva.example:443"),
        ("http://ｅｘａｍｐｌｅ.com/", "example.com:80"),
        ("https://localhost.example.com/", "localhost.example.com:443"),
        ("http://[64:ff9b::5db8:d822]/", "64:ff9b::5db8:d822:80"),
    ],
)
def test_a_public_url_is_taken(url: str, target: str) -> None:
    assert str(check_url(url, NOBODY)) == target


def test_a_url_has_a_longest_length() -> None:
    longest = "http://example.com/".ljust(URL_MAX, "a")
    assert target_of(longest).port == 80
    with pytest.raises(ValidationFailed):
        target_of(longest + "a")


@given(st.text())
def test_whatever_is_sent_as_a_url_gets_a_target_or_a_refusal(text: str) -> None:
    for url in (text, f"http://{text}", f"http://{text}/", f"https://example.com/{text}"):
        with suppress(ValidationFailed, WebhookForbidden):
            assert check_url(url, NOBODY).host


# --- the operator's lists ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("x.example", "10.1.2.3"),
        ("x.example", "192.168.7.9"),
        ("x.example", "fd00::5"),
        ("n8n.lan", "172.20.0.5"),
        ("x.example", "64:ff9b::8.8.8.8"),
    ],
)
def test_what_the_operator_allows_is_reached(host: str, address: str) -> None:
    policy = parse_policy(["10.1.2.3", "192.168.7.77/24", "fd00::/64", " N8N.lan. ", ""], [])
    assert policy.why_forbidden(host, ipaddress.ip_address(address)) is None


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("x.example", "10.1.2.4"),
        ("x.example", "192.168.8.1"),
        ("x.example", "fd00:0:0:1::5"),
        ("x.n8n.lan", "172.20.0.5"),
        ("n8n.lan.example", "172.20.0.5"),
        ("x.example", "::ffff:10.1.2.3"),
    ],
)
def test_and_nothing_besides(host: str, address: str) -> None:
    policy = parse_policy(["10.1.2.3", "192.168.7.77/24", "fd00::/64", "n8n.lan"], [])
    assert policy.why_forbidden(host, ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "64:ff9b::93.184.216.34", "2606:4700::1", "10.0.0.9"])
def test_what_the_operator_denies_is_not_reached_even_if_allowed(address: str) -> None:
    policy = parse_policy(
        ["10.0.0.0/8", "own.example"], ["93.184.216.0/24", "2606:4700::/32", "10.0.0.9", "::1"]
    )
    assert policy.why_forbidden("own.example", ipaddress.ip_address(address)) == "denied"


@pytest.mark.parametrize(
    ("allow", "deny", "name"),
    [
        (["10.0.0.0/33"], [], "WEBHOOK_ALLOW"),
        (["http://receiver"], [], "WEBHOOK_ALLOW"),
        (["receiver/24"], [], "WEBHOOK_ALLOW"),
        (["receiver:8080"], [], "WEBHOOK_ALLOW"),
        ([], ["receiver"], "WEBHOOK_DENY"),
        ([], ["10.0.0.0/99"], "WEBHOOK_DENY"),
    ],
)
def test_an_entry_that_is_none_is_refused_by_the_name_of_its_setting(
    allow: list[str], deny: list[str], name: str
) -> None:
    with pytest.raises(ConfigurationError, match=name):
        parse_policy(allow, deny)
