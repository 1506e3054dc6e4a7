"""A connection to a node that stands still after so many bytes, until it is let go on."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class HaltingProxy:
    """Passes one connection on to a node, and stops after so many bytes of one direction.

    Args:
        halt_after: of what the client sends; None for no limit.
        halt_answers_after: of what the node sends.

    Attributes:
        port: where the client connects.
        halted: set when so many bytes were passed on.
        go_on: set it to let the rest through.
    """

    def __init__(
        self, node_port: int, halt_after: int | None = None, halt_answers_after: int | None = None
    ) -> None:
        self.halted = threading.Event()
        self.go_on = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._node_port = node_port
        self._halt_after = halt_after
        self._halt_answers_after = halt_answers_after
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed before anybody came
            client, _ = self._listener.accept()
            node = socket.create_connection(("127.0.0.1", self._node_port))
            self._connections += [client, node]
            answers = (node, client, self._halt_answers_after)
            back = threading.Thread(target=self._pass_on, args=answers, daemon=True)
            back.start()
            self._threads.append(back)
            self._pass_on(client, node, self._halt_after)

    def _pass_on(
        self, source: socket.socket, target: socket.socket, halt_after: int | None
    ) -> None:
        passed = 0
        with contextlib.suppress(OSError):  # one of both is gone
            while True:
                left = 65_536
                if halt_after is not None and not self.go_on.is_set():
                    left = min(left, halt_after - passed)
                if left == 0:
                    self.halted.set()
                    self.go_on.wait()
                    continue
                data = source.recv(left)
                if not data:
                    break
                target.sendall(data)
                passed += len(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End the connection."""
        self.go_on.set()
        for each in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)


@contextlib.contextmanager
def halting_proxy(node_port: int, **limits: int) -> Iterator[HaltingProxy]:
    """A proxy that is closed at the end."""
    proxy = HaltingProxy(node_port, **limits)
    try:
        yield proxy
    finally:
        proxy.close()
