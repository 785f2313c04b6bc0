"""The life of a process: it settles in; one of the web hears of its end early, and survives no parent."""

from __future__ import annotations

import gc
import os
import select
import signal
import threading

PARENT_CHECK_SECONDS = 1.0
ENDING = frozenset({signal.SIGTERM, signal.SIGINT})


def settle_in() -> None:
    """Leave what is loaded by now to itself: the garbage collector does not look through it again.

    Every answer of Instagram makes thousands of objects, and so collections; they took a third of the time
    it takes to read one. Call it at the end of the start.
    """
    gc.collect()
    gc.freeze()


def watch(stopping: threading.Event) -> None:
    """Set ``stopping`` when this process is told to end; end it when its parent has died.

    The server installs its own signal handlers after importing the application, so none of ours
    would survive; the wakeup descriptor hears the same signals (signal.set_wakeup_fd). Without the
    look at the parent, a worker would go on serving its port after a kill -9 of the server. Call it
    from the main thread.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(reader, os.getppid(), stopping), daemon=True).start()


def _listen(reader: int, parent: int, stopping: threading.Event) -> None:
    while not stopping.is_set():
        readable, _, _ = select.select([reader], [], [], PARENT_CHECK_SECONDS)
        if readable and ENDING & set(os.read(reader, 64)):
            stopping.set()
        elif os.getppid() != parent:
            stopping.set()
            os.kill(os.getpid(), signal.SIGTERM)
