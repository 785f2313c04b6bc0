"""Resolves names, checks addresses and dials them."""

from __future__ import annotations

import ipaddress
import socket
import time
from typing import Any

from service.domain.addresses import AddressPolicy, port_is_allowed
from service.domain.deliveries import BLOCKED_ADDRESS, CONNECT_TIMEOUT, CONNECTION_FAILED
from service.egress.deadline import Deadline
from service.egress.errors import EgressError
from service.egress.lookups import Lookups


class Dialler:
    """Resolves, checks and dials: all addresses that are allowed, in turn."""

    def __init__(self, policy: AddressPolicy, lookups: Lookups, connect_timeout: float) -> None:
        self._policy = policy
        self._lookups = lookups
        self._connect_timeout = connect_timeout

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
        patience = Deadline.at_most(self._connect_timeout)
        for family, kind, protocol, _, address in self._lookups.resolve(
            host, port, patience, Deadline.owner_of_thread()
        ):
            ip = ipaddress.ip_address(address[0].partition("%")[0])
            if self._policy.why_forbidden(name, ip) is None:
                allowed.append((family, kind, protocol, address))
        if not allowed:
            # Of which kind the address is, is told to nobody: that would map the inner names.
            raise EgressError(BLOCKED_ADDRESS, "it leads to no address this service may reach")
        return allowed
