"""Stands in front of a store: loading its file until it is let go, then the store itself."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

LOADING = b"-LOADING Valkey is loading the dataset in memory\r\n"


class LoadingStore:
    """Listens on a port of its own. Answers each command with an error while it loads, and forwards later.

    ``error`` is what it answers until then; b"" takes connections and says nothing.
    """

    def __init__(self, behind: int, error: bytes = LOADING) -> None:
        self._behind = behind
        self._error = error
        self._loaded = threading.Event()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def loaded(self) -> None:
        """Let everybody through from now on."""
        self._loaded.set()

    def cut(self) -> None:
        """End all connections there are."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self._loaded.is_set():
                self._forward(client)
                return
            reader = client.makefile("rb")
            while head := reader.readline():
                for _ in range(int(head[1:])):
                    reader.read(int(reader.readline()[1:]) + 2)
                if self._loaded.is_set():
                    return  # whoever asked connects again
                client.sendall(self._error)

    def _forward(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._behind)) as store:
            self._open.append(store)
            threading.Thread(target=_copy, args=(store, client), daemon=True).start()
            _copy(client, store)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
