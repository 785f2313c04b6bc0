"""Which node of a cluster holds which slot."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from redis import Redis
from redis import exceptions as redis_errors

from service.stores.topology import Address

# How long a node may take to tell where the slots are, and all of them together.
MAP_TIMEOUT = 0.3
MAP_LIMIT = 0.9

OUT_OF_REACH = (redis_errors.ConnectionError, redis_errors.TimeoutError)


class SlotMap:
    """What the nodes tell; read anew where it proved wrong."""

    def __init__(self, open_node: Callable[..., Redis], seeds: Sequence[Address]) -> None:
        self._open = open_node
        self._seeds = list(seeds)
        self._suspect: Address | None = None  # which failed last: it is asked last
        self._clients: dict[Address, Redis] = {}
        # The first slot of each range, and its last with its node. Both at once: threads look without a lock.
        self._slots: tuple[list[int], list[tuple[int, Address]]] = ([], [])
        self._stale = True
        self._readings = 0  # that have ended, well or not
        self._failure: redis_errors.ConnectionError | None = None
        self._lock = Lock()
        self._reading = Lock()

    def owner(self, slot: int) -> Redis:
        """Return the client of the node that holds a slot. Raises ConnectionError, ClusterDownError."""
        firsts, ranges = self._current()
        place = bisect_right(firsts, slot) - 1
        if place < 0 or slot > ranges[place][0]:
            self.mistrust()
            raise redis_errors.ClusterDownError(f"CLUSTERDOWN Nobody holds slot {slot}")
        return self.at(ranges[place][1])

    def primaries(self) -> list[Redis]:
        """Return the clients of all nodes that hold slots."""
        _, ranges = self._current()
        return [self.at(address) for address in dict.fromkeys(address for _, address in ranges)]

    def at(self, address: Address) -> Redis:
        """Return the client of the node at an address."""
        with self._lock:
            if address not in self._clients:
                self._clients[address] = self._open(address)
            return self._clients[address]

    def mistrust(self, node: Redis | None = None) -> None:
        """Have the map read before it is used again; ``node`` failed."""
        with self._lock:
            self._stale = True
            known = (address for address, client in self._clients.items() if client is node)
            self._suspect = next(known, self._suspect)

    def close(self) -> None:
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()

    def _current(self) -> tuple[list[int], list[tuple[int, Address]]]:
        if self._stale:
            self._read_once()
        return self._slots

    def _read_once(self) -> None:
        """Read the map, or wait until the thread that does so has; whoever waited takes what came of it."""
        seen = self._readings
        if not self._reading.acquire(timeout=MAP_LIMIT):
            raise redis_errors.ConnectionError("The nodes of the cluster do not tell where the slots are.")
        try:
            if self._readings == seen:
                self._read()
            elif self._stale and self._failure is not None:
                raise self._failure
        finally:
            self._reading.release()

    def _read(self) -> None:
        try:
            rows = self._told()
        except redis_errors.ConnectionError as error:
            self._failure = error
            raise
        finally:
            self._readings += 1
        rows.sort()
        with self._lock:
            self._slots = ([first for first, _, _ in rows], [(last, at) for _, last, at in rows])
            holders = {address for _, _, address in rows}
            self._clients = {at: client for at, client in self._clients.items() if at in holders}
            self._stale, self._failure = False, None

    def _told(self) -> list[tuple[int, int, Address]]:
        """Return first slot, last slot and node of each range. Raises ConnectionError when nobody answers."""
        until, told = time.monotonic() + MAP_LIMIT, "nobody was asked"
        for address in self._to_be_asked():
            if time.monotonic() > until:
                break
            node = self._open(address, socket_timeout=MAP_TIMEOUT, socket_connect_timeout=MAP_TIMEOUT)
            try:
                rows = [_range(row, address) for row in node.execute_command("CLUSTER SLOTS")]
                if rows:
                    return rows
                told = "it knows of no slots yet"
            except (redis_errors.ResponseError, *OUT_OF_REACH) as error:
                told = str(error)  # a server that is in no cluster says so
            finally:
                node.close()
        raise redis_errors.ConnectionError(f"No node of the cluster answers: {told}")

    def _to_be_asked(self) -> list[Address]:
        known = dict.fromkeys([*(address for _, address in self._slots[1]), *self._seeds])
        return sorted(known, key=lambda address: address == self._suspect)


def _range(row: list[Any], asked: Address) -> tuple[int, int, Address]:
    """Read a row of CLUSTER SLOTS. A node that does not know how it is called is where it was asked."""
    first, last, (host, port, *_) = row[:3]
    return int(first), int(last), (str(host) if host and host != "?" else asked[0], int(port))
