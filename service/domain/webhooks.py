"""Webhook URLs: what makes one acceptable, as far as the URL itself tells."""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from service.domain.addresses import Address, AddressPolicy, port_is_allowed
from service.domain.errors import ValidationFailed, WebhookForbidden

URL_MAX = 2048
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Target:
    """Where a URL leads: the host in lower case without a trailing dot, and the port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def target_of(url: str, field: str = "webhookUrl") -> Target:
    """Return where ``url`` leads. Raises ValidationFailed, naming ``field``, for no plain http(s) URL."""
    if len(url) > URL_MAX:
        raise _bad_url(field, f"A webhook URL has at most {URL_MAX} characters.")
    if _FORBIDDEN.search(url):
        raise _bad_url(field, "A webhook URL holds no spaces, control characters or backslashes.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _bad_url(field, "This is no valid URL.") from None
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not host:
        raise _bad_url(field, "Give an absolute http:// or https:// URL.")
    if "@" in parts.netloc:
        raise _bad_url(field, "A webhook URL carries no user name or password.")
    # As those who connect read it: %6c is l, a digit in a circle is a digit, an ideographic stop a dot.
    host = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".").lower().rstrip(".")
    if not all(0 < len(label) < 64 for label in host.split(".")) or not set(host).isdisjoint("/?#@ "):
        raise _bad_url(field, "This URL names no valid host.")
    return Target(host, port if port is not None else _DEFAULT_PORTS[scheme])


def check_url(url: str, policy: AddressPolicy, field: str = "webhookUrl") -> Target:
    """Return where ``url`` leads when a webhook may be sent there, as far as the URL tells.

    A name is looked up only when connecting, where every address it resolves to is checked. Raises
    ValidationFailed for what is no plain http(s) URL, WebhookForbidden for an inner address or port.
    """
    target = target_of(url, field)
    if not port_is_allowed(target.port):
        raise WebhookForbidden(f"Webhooks go to ports 80, 443 and 1024 upward, and not to {target.port}.")
    address = literal_address(target.host)
    inner = policy.why_forbidden(target.host, address) if address else _inner_name(target.host, policy)
    if inner:
        raise WebhookForbidden(f"The {field} names an address this service does not reach ({inner}).")
    return target


def literal_address(host: str) -> Address | None:
    """Return the address that ``host`` spells, also in the odd spellings that resolvers take.

    ``127.1``, ``0x7f.1``, ``2130706433`` and ``017700000001`` are all 127.0.0.1 to inet_aton(3).
    """
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _inner_name(host: str, policy: AddressPolicy) -> str | None:
    named_inner = host == "localhost" or host.endswith((".localhost", ".internal", ".local"))
    return "inner name" if named_inner and host not in policy.hosts else None


def _bad_url(field: str, sentence: str) -> ValidationFailed:
    return ValidationFailed(details={field: [sentence]})
