"""Imported by every Python process of the stack under test: its clock and its DNS can be put wrong.

``CHAOS_FILE`` holds two doubles: by how many seconds the clock of the process is off, and whether names
under ``.hooks.test`` are in trouble. It is mapped, so looking costs no system call.
"""

from __future__ import annotations

import mmap
import os
import random
import socket
import struct
import time

_SUFFIX = ".hooks.test"
_FORBIDDEN = ("169.254.169.254", "10.1.2.3", "192.168.1.1")
_DNS_HANGS_FOR = 8.0


def _install(path: str) -> None:
    with open(path, "rb") as file:
        memory = mmap.mmap(file.fileno(), 16, access=mmap.ACCESS_READ)
    true_time, true_time_ns, true_getaddrinfo = time.time, time.time_ns, socket.getaddrinfo

    def off_by() -> float:
        return struct.unpack_from("d", memory, 0)[0]

    def getaddrinfo(host, port, *args, **kwargs):  # type: ignore[no-untyped-def]
        name = host.decode() if isinstance(host, bytes) else host
        if not isinstance(name, str) or not name.endswith(_SUFFIX):
            return true_getaddrinfo(host, port, *args, **kwargs)
        address = "127.0.0.1"
        if struct.unpack_from("d", memory, 8)[0]:
            address = _trouble(name)
        return true_getaddrinfo(address, port, *args, **kwargs)

    time.time = lambda: true_time() + off_by()
    time.time_ns = lambda: true_time_ns() + int(off_by() * 1e9)
    socket.getaddrinfo = getaddrinfo


def _trouble(name: str) -> str:
    if name.startswith("servfail"):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    if name.startswith("hangs"):
        time.sleep(_DNS_HANGS_FOR)  # the fault itself
    if name.startswith("rebinds"):
        return random.choice(("127.0.0.1", *_FORBIDDEN))
    return "127.0.0.1"


if "CHAOS_FILE" in os.environ:
    _install(os.environ["CHAOS_FILE"])
