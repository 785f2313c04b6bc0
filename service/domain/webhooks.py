"""Where a webhook may go, as far as the URL itself tells."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from service.domain.errors import ConfigurationError, ValidationFailed, WebhookForbidden
from service.domain.requests import WEBHOOK_URL_MAX

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class AllowList:
    """Private receivers the operator allows: exact host names, and networks for literal addresses."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    def allows(self, host: str) -> bool:
        if host in self.hosts:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self.networks)


def parse_allow_list(entries: Sequence[str]) -> AllowList:
    """Read ``WEBHOOK_ALLOW``: host names, addresses and CIDRs. Raises ConfigurationError."""
    hosts, networks = set(), []
    for entry in (raw.strip().lower() for raw in entries):
        try:
            networks.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            if "/" in entry or not entry:
                raise ConfigurationError(f"WEBHOOK_ALLOW: {entry!r} is no host, address or CIDR") from None
            hosts.add(entry)
    return AllowList(frozenset(hosts), tuple(networks))


def check_url(url: str, allowed: AllowList) -> str:
    """Return ``url`` when a webhook may be sent to it.

    Raises ValidationFailed for what is no plain http(s) URL, WebhookForbidden for one that names an
    inner address and is not on the operator's list.
    """
    host = _host_of(url)
    if not allowed.allows(host) and _is_inner(host):
        raise WebhookForbidden(
            f"The webhookUrl names the inner address {host}, which this service does not reach."
        )
    return url


def _host_of(url: str) -> str:
    if len(url) > WEBHOOK_URL_MAX:
        raise _bad_url(f"A webhookUrl has at most {WEBHOOK_URL_MAX} characters.")
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url) or "\\" in url:
        raise _bad_url("A webhookUrl holds no spaces, control characters or backslashes.")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _bad_url("This is no valid URL.") from None
    if parts.scheme.lower() not in {"http", "https"} or not host:
        raise _bad_url("Give an absolute http:// or https:// URL.")
    if "@" in parts.netloc:
        raise _bad_url("A webhookUrl carries no user name or password.")
    return host.lower().rstrip(".")


def _is_inner(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def _bad_url(sentence: str) -> ValidationFailed:
    return ValidationFailed(details={"webhookUrl": [sentence]})
