"""Webhook URLs: what makes one acceptable, as far as the URL itself tells."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from service.domain.addresses import Address, AddressPolicy, port_is_allowed
from service.domain.errors import ValidationFailed, WebhookForbidden
from service.domain.hosts import parse_host

URL_MAX = 2048
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Stands for the host of a stored URL that was taken once and would not be any more: nothing is sent there.
UNREADABLE = "unreadable:0"


@dataclass(frozen=True)
class Target:
    """Where a URL leads: the host as `parse_host` gives it, and the port."""

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
    if ("[" in parts.netloc) != (":" in host):
        raise _bad_url(field, "This URL names no valid host: brackets are for IPv6 addresses.")
    try:
        return Target(parse_host(host), port if port is not None else _DEFAULT_PORTS[scheme])
    except ValueError as error:
        raise _bad_url(field, f"This URL names no valid host. {error}") from None


def host_of(url: str) -> str:
    """Return the ``host:port`` of a URL that was accepted, which is a key of the store; never raises.

    What an earlier version took and this one would not is UNREADABLE: its webhook is owed all the same, and
    ends when it is to be sent.
    """
    try:
        return str(target_of(url))
    except ValidationFailed:
        return UNREADABLE


def as_dialled(url: str) -> str:
    """Return ``url`` with its host as it was checked, so that nobody reads it another way when connecting.

    Raises ValidationFailed as `target_of`.
    """
    target, parts = target_of(url), urlsplit(url)
    host = f"[{target.host}]" if ":" in target.host else target.host
    start = url.index("//") + 2
    netloc = host if parts.port is None else f"{host}:{parts.port}"
    return f"{url[:start]}{netloc}{url[start + len(parts.netloc) :]}"


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
    """Return the address that ``host`` is, None for a name; it is as `parse_host` gives it."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _inner_name(host: str, policy: AddressPolicy) -> str | None:
    named_inner = host == "localhost" or host.endswith((".localhost", ".internal", ".local"))
    return "inner name" if named_inner and host not in policy.hosts else None


def _bad_url(field: str, sentence: str) -> ValidationFailed:
    return ValidationFailed(details={field: [sentence]})
