"""Host names as others give them, read once: what is checked is what becomes a key, and what is dialled."""

from __future__ import annotations

import ipaddress
import re
import socket

HOST_MAX = 253  # characters of a whole name, RFC 1035; nothing longer is looked at any closer

# As DNS has them, and with underscores, which real hosts do have.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# A name that ends like this is an address or nothing: so inet_aton(3) and browsers read it.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# The old and the new standard of international names read these differently, so they lead to two hosts.
_AMBIGUOUS = frozenset("\u00df\u1e9e\u03c2\u200c\u200d")

_SHAPE = "A host is a name of letters, digits, hyphens and dots, or an IP address."
_TOO_LONG = f"A host name has at most {HOST_MAX} characters, and 63 between two dots."
_AS_XN = "Write this host name in its ASCII form, which begins with xn--."


def parse_host(text: str) -> str:
    """Return a host in its one form: a name in lower-case ASCII without a trailing dot, or an address.

    Names in other scripts become their ``xn--`` form, ``127.1`` and ``0x7f.1`` become ``127.0.0.1``. IPv6
    comes and goes without brackets. Raises ValueError with a sentence for all else.
    """
    if not text or len(text) > HOST_MAX + 1:
        raise ValueError(_TOO_LONG if text else _SHAPE)
    if ":" in text:
        return _ipv6(text)
    name = (text if text.isascii() else _in_ascii(text)).lower().removesuffix(".")
    if len(name) > HOST_MAX:
        raise ValueError(_TOO_LONG)
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(_TOO_LONG if any(len(label) > 63 for label in labels) else _SHAPE)
    return _ipv4(name) if _NUMBER.fullmatch(labels[-1]) else name


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address("" if "%" in text else text))  # a zone is a matter of one machine
    except ValueError:
        raise ValueError(_SHAPE) from None


def _ipv4(name: str) -> str:
    try:
        return str(ipaddress.IPv4Address(socket.inet_aton(name)))
    except OSError:
        raise ValueError(_SHAPE) from None


def _in_ascii(text: str) -> str:
    if not _AMBIGUOUS.isdisjoint(text):
        raise ValueError(_AS_XN)
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError:  # also for letters that are newer than the codec's tables
        raise ValueError(_AS_XN) from None
