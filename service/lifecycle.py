"""The life of a process: it settles in, has children, and as a child survives no parent."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

PARENT_CHECK_SECONDS = 1.0
# Of malloc.h; see mallopt(3).
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
LARGE_BLOCK = 131_072  # bytes


def settle_in() -> None:
    """Leave what is loaded by now to itself: the garbage collector does not look through it again.

    Every answer of Instagram makes thousands of objects, and so collections; they took a third of the time
    it takes to read one. Call it at the end of the start.
    """
    gc.collect()
    gc.freeze()


def return_memory() -> None:
    """Have glibc give large blocks back to the system when they are freed, and keep few heaps.

    By default it keeps a heap for many a thread, and what was freed in it: answers of megabytes made by a
    hundred threads left the front end with three times the memory. Elsewhere this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
        mallopt(M_ARENA_MAX, 2)


def run_children(count: int, work: Callable[..., None], *arguments: Any) -> None:
    """Run ``work`` in so many processes until this one is told to end, or one of them has ended: then all do.

    Exits with the code of the one that ended by itself.
    """
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=work, args=arguments) for _ in range(count)]
    told = threading.Event()

    def end(*_: object) -> None:
        told.set()
        for child in children:
            if child.is_alive():
                child.terminate()

    for child in children:
        child.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    wait([child.sentinel for child in children])
    code = 0 if told.is_set() else next((child.exitcode for child in children if child.exitcode), 1)
    end()
    for child in children:
        child.join()
    sys.exit(code)


def end_with_parent() -> None:
    """End this process when its parent has died: after a kill -9 it would go on serving the port."""
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
