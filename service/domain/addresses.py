"""Which addresses the service may send to: a pure function of the address and the operator's lists.

Asked at submit for addresses written in a URL, and at connect for every address a name resolves to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from service.domain.errors import ConfigurationError
from service.domain.hosts import parse_host

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Inside 64:ff9b::/96 (RFC 6052) the last 32 bits are the IPv4 address a NAT64 gateway dials.
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

# What Python's own `is_global` passes in one version or another, or cannot know.
# https://www.iana.org/assignments/iana-ipv4-special-registry, .../iana-ipv6-special-registry
SPECIAL: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(network), word)
    for network, word in (
        ("0.0.0.0/8", "unspecified"),
        ("100.64.0.0/10", "shared"),
        ("168.63.129.16/32", "metadata"),  # Azure's, the one metadata address that looks global
        ("192.0.0.0/24", "reserved"),
        ("192.88.99.0/24", "6to4 relay"),
        ("198.18.0.0/15", "benchmarking"),
        ("240.0.0.0/4", "reserved"),
        ("::/96", "IPv4-compatible"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("100::/64", "discard"),
        ("2001::/32", "Teredo"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fec0::/10", "site-local"),
    )
)

# Besides these two only ports from 1024 up: what lives below speaks no webhooks.
PORTS = frozenset({80, 443})
PORT_FLOOR = 1024
# Services that take orders from whoever can connect.
DENIED_PORTS = frozenset({
    1433, 1521, 2049, 2181, 2375, 2376, 2379, 2380, 3306, 3389, 4369, 5432, 5672, 5900, 5984, 6379, 6390,
    9042, 9092, 9200, 9300, 10250, 11211, 27017,
})  # fmt: skip


@dataclass(frozen=True)
class AddressPolicy:
    """The operator's lists: inner receivers that are allowed, outer addresses that are not.

    ``hosts`` are exact host names; whatever such a name resolves to is allowed.
    """

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    denied: tuple[Network, ...] = field(default=())

    def why_forbidden(self, host: str, address: Address) -> str | None:
        """Return a word that says why ``address``, reached by the name ``host``, is off limits."""
        if _in(address, self.denied) or _in(behind_nat64(address), self.denied):
            return "denied"
        if host in self.hosts or _in(address, self.networks):
            return None
        return why_not_global(address)


def why_not_global(address: Address) -> str | None:
    """Return a word for the kind of address that is not a public one's, None for a public one."""
    address = behind_nat64(address)
    for network, word in SPECIAL:
        if address.version == network.version and address in network:
            return word
    for word in ("loopback", "link_local", "multicast", "unspecified", "private", "reserved"):
        if getattr(address, f"is_{word}"):
            return word.replace("_", "-")
    return None if address.is_global else "not global"


def behind_nat64(address: Address) -> Address:
    """Return the IPv4 address that a NAT64 gateway would dial, any other address as it is.

    Public IPv4 hosts look like this on IPv6-only networks: what counts is who is behind.
    """
    if isinstance(address, ipaddress.IPv6Address) and address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def port_is_allowed(port: int) -> bool:
    """Tell whether webhooks may go to this port."""
    return port in PORTS or (port >= PORT_FLOOR and port not in DENIED_PORTS)


def parse_policy(allow: Sequence[str], deny: Sequence[str]) -> AddressPolicy:
    """Read WEBHOOK_ALLOW (hosts, addresses, CIDRs) and WEBHOOK_DENY (addresses, CIDRs).

    Raises ConfigurationError naming the setting.
    """
    hosts, networks = set(), []
    for entry in _entries(allow):
        network = _network(entry)
        if network is not None:
            networks.append(network)
        elif "/" in entry or ":" in entry:
            raise ConfigurationError(f"WEBHOOK_ALLOW: {entry!r} is no host, address or CIDR")
        else:
            hosts.add(_host(entry))
    denied = []
    for entry in _entries(deny):
        network = _network(entry)
        if network is None:
            raise ConfigurationError(f"WEBHOOK_DENY: {entry!r} is no address or CIDR")
        denied.append(network)
    return AddressPolicy(frozenset(hosts), tuple(networks), tuple(denied))


def _entries(texts: Sequence[str]) -> list[str]:
    return [text.strip().lower() for text in texts if text.strip()]


def _host(entry: str) -> str:
    try:
        return parse_host(entry)  # as it is read in a webhook's URL
    except ValueError as error:
        raise ConfigurationError(f"WEBHOOK_ALLOW: {entry!r} is no host, address or CIDR. {error}") from None


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
