"""Resolves names, checks addresses and dials them."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from service.domain.addresses import AddressPolicy, port_is_allowed
from service.domain.deliveries import (
    BLOCKED_ADDRESS,
    CONNECT_TIMEOUT,
    CONNECTION_FAILED,
    DNS_NOT_FOUND,
    DNS_UNAVAILABLE,
)
from service.egress.deadline import Deadline
from service.egress.errors import EgressError

RESOLVER_THREADS = 32

# (family, type, protocol, canonical name, socket address), as getaddrinfo(3) has it
Resolved = tuple[int, int, int, str, Any]
Resolver = Callable[[str, int], Sequence[Resolved]]


def system_resolver(host: str, port: int) -> Sequence[Resolved]:
    """Return what the system resolves ``host`` to."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Dialler:
    """Resolves, checks and dials: all addresses that are allowed, in turn."""

    def __init__(self, policy: AddressPolicy, resolver: Resolver, connect_timeout: float) -> None:
        self._policy = policy
        self._resolver = resolver
        self._connect_timeout = connect_timeout
        # getaddrinfo knows no timeout; a name whose servers hang holds one of these threads.
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolver")

    def dial(self, host: str, port: int, options: Any) -> socket.socket:
        """Return a connected socket. Raises EgressError."""
        addresses = self._allowed(host, port)
        give_up_at = time.monotonic() + Deadline.at_most(self._connect_timeout)
        word = CONNECTION_FAILED
        for position, (family, kind, protocol, address) in enumerate(addresses):
            line = socket.socket(family, kind, protocol)
            try:
                for option in options or ():
                    line.setsockopt(*option)
                # A dead first address must leave time for the others.
                left = max(give_up_at - time.monotonic(), 0.01)
                line.settimeout(left / (len(addresses) - position))
                line.connect(address)
                line.settimeout(self._connect_timeout)  # for a TLS handshake; the shares were for dialling
                return line
            except OSError as error:
                line.close()
                word = CONNECT_TIMEOUT if isinstance(error, TimeoutError) else CONNECTION_FAILED
        raise EgressError(word)

    def _allowed(self, host: str, port: int) -> list[tuple[int, int, int, Any]]:
        name = host.lower().rstrip(".")
        if not port_is_allowed(port):
            raise EgressError(BLOCKED_ADDRESS, f"port {port}")
        allowed = []
        for family, kind, protocol, _, address in self._resolve(host, port):
            ip = ipaddress.ip_address(address[0].partition("%")[0])
            if self._policy.why_forbidden(name, ip) is None:
                allowed.append((family, kind, protocol, address))
        if not allowed:
            # Of which kind the address is, is told to nobody: that would map the inner names.
            raise EgressError(BLOCKED_ADDRESS, "it leads to no address this service may reach")
        return allowed

    def _resolve(self, host: str, port: int) -> Sequence[Resolved]:
        lookup = self._threads.submit(self._resolver, host, port)
        try:
            return lookup.result(Deadline.at_most(self._connect_timeout))
        except FutureTimeout:
            lookup.cancel()  # one that still waits for a thread need not begin any more
            raise EgressError(DNS_UNAVAILABLE, "no answer in time") from None
        except socket.gaierror as error:
            # "Try again" is said when a name server does not answer: ours or theirs, not the receiver.
            ours = error.errno == socket.EAI_AGAIN
            raise EgressError(DNS_UNAVAILABLE if ours else DNS_NOT_FOUND) from error
        except UnicodeError as error:
            raise EgressError(DNS_NOT_FOUND, "no valid name") from error
