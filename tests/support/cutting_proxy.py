"""A proxy before a database server that loses its answers, or all of its connections."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class CuttingProxy:
    """Stands before a server; `cut` lets no answer through any more and ends the connections."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._holds = threading.Event()
        self.held = threading.Event()
        self._last_word = b""
        self._awaited: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """From now on, keep the server's answers; those who wait for one hear nothing."""
        self._holds.set()

    def hold_after(self, *words: str) -> None:
        """The same, from when clients have said these words, one after the other."""
        self._awaited = [word.encode() for word in words]

    def end_at(self, word: str) -> None:
        """Be gone for good as soon as a client says a word, which nobody hears."""
        self._last_word = word.encode()

    def cut(self) -> None:
        """End all connections, and serve new ones properly."""
        self._holds.clear()
        while self._open:
            end(self._open.pop())

    def close(self) -> None:
        end(self._listener)  # who waits for a connection hears of it
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._open += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(
                    target=self._forward, args=(source, target, source is server), daemon=True
                ).start()

    def _forward(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        try:
            while data := source.recv(65536):
                if is_answer and self._holds.is_set():
                    self.held.set()  # the server has done it, and nobody hears of it
                    continue
                if self._awaited and not is_answer and self._awaited[0] in data:
                    del self._awaited[0]
                    if not self._awaited:
                        self._holds.set()
                if self._last_word and not is_answer and self._last_word in data:
                    self.close()
                target.sendall(data)
        except OSError:
            pass
        end(source)
        end(target)


def end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
