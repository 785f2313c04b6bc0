"""Look-ups of names that others chose: how many may be under way, for whom, and which are not begun anew.

The system's own getaddrinfo is asked, so that /etc/hosts, names of containers and mDNS work as everywhere
else. It knows no time limit and cannot be cut: a name whose servers hang holds a thread for as long as the
system's settings say. So what is bounded is how many threads may be held, in all and for one owner.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

from service.domain.deliveries import DNS_NOT_FOUND, DNS_UNAVAILABLE, LOOKUPS_BUSY
from service.egress.errors import EgressError

# Look-ups under way in a process; the last ones are for owners who have none.
LOOKUPS_MOST = 64
RESERVED = 16
# Of one owner, and under a registered domain, where the first of every owner is begun all the same: the
# domain is taken to be the last two labels, and many share that where it is a public suffix (co.uk).
OWNER_MOST = 8
DOMAIN_MOST = 4
# What outlasts its callers' patience and this hangs; it is left alone for so long, twice as long each time.
HANGS_AFTER = 1.0
LEFT_ALONE = 120.0
LEFT_ALONE_MOST = 960.0
HUNG_NAMES = 10_000  # that are remembered

# (family, type, protocol, canonical name, socket address), as getaddrinfo(3) has it
Resolved = tuple[int, int, int, str, Any]
Resolver = Callable[[str, int], Sequence[Resolved]]


def system_resolver(host: str, port: int) -> Sequence[Resolved]:
    """Return what the system resolves ``host`` to."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


@dataclass
class _Lookup:
    """One look-up under way, for all who want the same."""

    name: str
    owner: str | None
    began: float
    answer: Future[Sequence[Resolved]] = field(default_factory=Future)
    is_noted: bool = False  # as one that hangs
    is_over: bool = False

    @property
    def domain(self) -> list[str]:
        return _domain(self.name)


class Lookups:
    """Resolves names within bounds. Threads may share it.

    ``each`` is how many look-ups of one owner may be under way, and how many threads may wait for one.
    """

    def __init__(
        self, resolver: Resolver, each: int = OWNER_MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._resolver = resolver
        self._each = each
        self._clock = clock
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(LOOKUPS_MOST, thread_name_prefix="resolver")
        self._under_way: dict[tuple[str, int], _Lookup] = {}
        self._waiting: Counter[str] = Counter()
        # Until when a name is left alone, and for how long that is, seconds.
        self._left_alone: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def resolve(self, host: str, port: int, seconds: float, owner: str | None = None) -> Sequence[Resolved]:
        """Return the addresses of ``host``, after ``seconds`` at most.

        Raises EgressError: DNS_NOT_FOUND; DNS_UNAVAILABLE when there is no answer in time, or was none a
        short while ago; LOOKUPS_BUSY when others have to end first. An ``owner`` of None has no limits of
        its own.
        """
        if _is_address(host):
            return self._resolver(host, port)
        lookup = self._join(host.lower().rstrip("."), host, port, owner)
        try:
            return lookup.answer.result(seconds)
        except FutureTimeout:
            self._note_if_hung(lookup)
            raise EgressError(DNS_UNAVAILABLE, "no answer in time") from None
        except socket.gaierror as error:
            # "Try again" is said when a name server does not answer: ours or theirs, not the receiver.
            ours = error.errno == socket.EAI_AGAIN
            raise EgressError(DNS_UNAVAILABLE if ours else DNS_NOT_FOUND) from error
        except UnicodeError as error:
            raise EgressError(DNS_NOT_FOUND, "no valid name") from error
        finally:
            self._leave(owner)

    def _join(self, name: str, host: str, port: int, owner: str | None) -> _Lookup:
        """Return the look-up to wait for, begun before or now; `_leave` is to follow. Raises EgressError."""
        with self._lock:
            if self._clock() < self._left_alone.get(name, (0.0, 0.0))[0]:
                raise EgressError(DNS_UNAVAILABLE, "no answer a short while ago")
            if owner is not None and self._waiting[owner] >= self._each:
                raise EgressError(LOOKUPS_BUSY)
            lookup = self._under_way.get((name, port))
            if lookup is None:
                self._check_room(name, owner)
                lookup = self._under_way[name, port] = _Lookup(name, owner, self._clock())
                self._threads.submit(self._run, lookup, host, port)
            if owner is not None:
                self._waiting[owner] += 1
            return lookup

    def _leave(self, owner: str | None) -> None:
        with self._lock:
            if owner is not None:
                self._waiting[owner] -= 1
                if not self._waiting[owner]:
                    del self._waiting[owner]

    def _check_room(self, name: str, owner: str | None) -> None:
        """Raise EgressError when one more look-up would be too many, for this owner or for all."""
        total = len(self._under_way)
        mine = [each for each in self._under_way.values() if owner is not None and each.owner == owner]
        domain = _domain(name)
        near = sum(each.domain == domain for each in self._under_way.values())
        too_near = near >= DOMAIN_MOST and any(each.domain == domain for each in mine)
        too_many = mine and (len(mine) >= self._each or total >= LOOKUPS_MOST - RESERVED)
        if total >= LOOKUPS_MOST or too_many or too_near:
            raise EgressError(LOOKUPS_BUSY)

    def _run(self, lookup: _Lookup, host: str, port: int) -> None:
        try:
            answer = self._resolver(host, port)
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
                self._note_if_hung(lookup)
            self._end(lookup, port)
            lookup.answer.set_exception(error)
        else:
            self._end(lookup, port, answered=True)
            lookup.answer.set_result(answer)

    def _end(self, lookup: _Lookup, port: int, *, answered: bool = False) -> None:
        with self._lock:
            lookup.is_over = True
            del self._under_way[lookup.name, port]
            if answered:
                self._left_alone.pop(lookup.name, None)

    def _note_if_hung(self, lookup: _Lookup) -> None:
        """Leave a name alone that nobody answers for; each look-up is noted once."""
        with self._lock:
            now = self._clock()
            if lookup.is_noted or lookup.is_over or now - lookup.began < HANGS_AFTER:
                return
            lookup.is_noted = True
            _, before = self._left_alone.pop(lookup.name, (0.0, LEFT_ALONE / 2))
            wait = min(before * 2, LEFT_ALONE_MOST)
            self._left_alone[lookup.name] = now + wait, wait
            while len(self._left_alone) > HUNG_NAMES:
                self._left_alone.popitem(last=False)


def _domain(name: str) -> list[str]:
    return name.split(".")[-2:]


def _is_address(host: str) -> bool:
    """Tell whether there is nothing to look up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
