"""The one reading of a host: what is checked is what becomes a key, and what is dialled."""

from __future__ import annotations

import contextlib
import re
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.addresses import AddressPolicy, parse_policy
from service.domain.errors import ConfigurationError, ValidationFailed, WebhookForbidden
from service.domain.hosts import HOST_MAX, parse_host
from service.domain.links import MEDIA_URL_MAX, is_media_url
from service.domain.webhooks import UNREADABLE, as_dialled, check_url, host_of, target_of

NOBODY = AddressPolicy()
LONGEST = ".".join(["a" * 63] * 3 + ["b" * 61])
KEY = re.compile(r"[a-z0-9_.:-]+")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("example.com", "example.com"), ("EXAMPLE.Com.", "example.com"), ("n8n", "n8n"),
        ("my_receiver.example", "my_receiver.example"), ("_hooks.example", "_hooks.example"),
        ("r3---sn-a5m.example", "r3---sn-a5m.example"), ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"), ("例え.jp", "xn--r8jz45g.jp"),
        ("ｅｘａｍｐｌｅ。com", "example.com"), ("8.8.8.8", "8.8.8.8"), ("0x8.8.2056", "8.8.8.8"),
        ("134744072", "8.8.8.8"), ("①②⑦.⓪.⓪.①", "127.0.0.1"), ("8.8.8.8.", "8.8.8.8"),
        ("2001:DB8:0:0::1", "2001:db8::1"), (LONGEST, LONGEST),
        (LONGEST + ".", LONGEST),
    ],
)  # fmt: skip
def test_a_host_has_one_form(text: str, host: str) -> None:
    found = parse_host(text)
    assert found == host
    assert parse_host(found) == found


ODD = [
    "a%0ab", "a%2ab", "x{y}z", "{s00}", "a b", "a\tb", "a\nb", "a\x00b", "a\x7fb", "", ".", "..", "a..b",
    ".a", "a..", "*.example", "a/b", "a,b", "a'b", 'a"b', "a|b", "a^b", "a`b", "a<b>", "a;b", "a!b", "a$b",
    "a&b", "a(b)", "a=b", "a+b", "a~b", "-a.example", "a-.example", "a" * 64, LONGEST + "a",
    "a" * 64 + ".example", "ü" * 64, "1.2.3.4.5", "256.1.1.1", "1.2.3.08", "example.0x", "example.7",
    "fe80::1%eth0", "fe80::1%25eth0", "::g", "1:2", "straße.de", "faß.example", "a\u200db.example",
    "a\u200cb.example", "\u2100.example", "\u202ea.example",
]  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_everything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        parse_host(text)


@pytest.mark.parametrize("host", [each for each in ODD if each and not set(each) & set(":/")])
def test_a_webhook_url_with_it_is_refused_by_the_name_of_its_field(host: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        check_url(f"https://{host}/hook", NOBODY)
    assert list(caught.value.details or {}) == ["webhookUrl"]


@given(st.text() | st.text(st.sampled_from("%{}0a.:[]xü-_")))
def test_whatever_is_taken_makes_a_plain_key_and_is_dialled_as_it_was_checked(text: str) -> None:
    for url in (f"http://{text}/a?b#c", f"https://{text}:8443"):
        with contextlib.suppress(ValidationFailed, WebhookForbidden):
            target = check_url(url, NOBODY)
            assert KEY.fullmatch(str(target))
            dialled = as_dialled(url)
            assert urlsplit(dialled).hostname == target.host
            assert urlsplit(dialled)._replace(netloc="") == urlsplit(url)._replace(netloc="")
            assert target_of(dialled) == target


@pytest.mark.parametrize(
    ("url", "dialled"),
    [
        ("https://Example.COM./a?b", "https://example.com/a?b"),
        ("http://http:8080/http", "http://http:8080/http"),
        ("http://[2606:4700:0::1111]:8080/", "http://[2606:4700::1111]:8080/"),
        ("HTTPS://bücher.example", "HTTPS://xn--bcher-kva.example"),
        ("http://0x8.8.8.8/?q=%0a{x}", "http://8.8.8.8/?q=%0a{x}"),
    ],
)
def test_only_the_host_of_a_url_is_written_anew(url: str, dialled: str) -> None:
    assert as_dialled(url) == dialled


@pytest.mark.parametrize("url", ["http://a%0ab/", "http://x{y}z:8080/", "https://" + "a" * 300, "nothing"])
def test_what_an_earlier_version_took_has_a_key_all_the_same(url: str) -> None:
    assert host_of(url) == UNREADABLE
    with pytest.raises(ValidationFailed):
        as_dialled(url)


def test_hosts_that_the_operator_allows_are_read_in_the_same_way() -> None:
    policy = parse_policy([" BÜCHER.local. ", "my_host"], [])
    assert policy.hosts == {"xn--bcher-kva.local", "my_host"}
    check_url("http://bücher.local/", policy)


@pytest.mark.parametrize("entry", ["a%0ab", "x{y}z", "a b", "*.example", "receiver:80", "a..b"])
def test_an_entry_that_no_host_can_match_is_told(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="WEBHOOK_ALLOW"):
        parse_policy([entry], [])


@pytest.mark.parametrize(
    "host", ["a" * 4_000, "a-" * 2_000, ".".join("a" * 100), ".".join(["a" * 60] * 5), "a" * 64]
)
def test_a_media_url_with_a_host_that_no_name_server_knows_is_none(host: str) -> None:
    url = f"https://{host}.fbcdn.net/a.jpg"
    assert len(url) < MEDIA_URL_MAX
    assert is_media_url(url) is (len(host) < HOST_MAX - 20 and all(len(e) < 64 for e in host.split(".")))
