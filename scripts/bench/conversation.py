"""One association of a real node, served in the calling thread, its client's requests fed to it.

The node is set up as `lfscp serve` does it. The association talks over a pair of connected sockets:
before the node reads its next request, that request is put in whole, and the clock starts; when it
comes back for the next one, the clock stops and the answers are taken out. Nothing else runs
meanwhile, so what is measured is the node's own work and the kernel's.

Making and feeding requests leaves the caches cold, as waiting for a real peer does: code costs two
to three times here what it costs in a tight loop of its own.
"""

from __future__ import annotations

import gc
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peers import dul

from lfscp.config import Settings
from lfscp.node.single_process import SingleProcess
from lfscp.observe import logging as log
from lfscp.upperlayer.acceptor import open_acceptor, serve_acceptor
from lfscp.upperlayer.engine.provider import InlineProvider

_SOCKET_BUFFER = 4 << 20
_ASSOCIATE_AC = 2


class FailedError(Exception):
    """The node answered otherwise than it should; no figure means anything."""


@contextmanager
def node_in(folder: Path) -> Iterator[SingleProcess]:
    """A node with default settings and its data in `folder`; its log goes to a file there."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    log.configure("info", "json", descriptor=descriptor)
    settings = Settings.model_validate(
        {"data_dir": folder / "data", "server": {"host": "127.0.0.1", "port": 0}}
    )
    node = SingleProcess(settings)
    node.start()
    gc.collect()
    gc.freeze()  # as a worker does
    try:
        yield node
    finally:
        gc.unfreeze()
        node.stop()
        log.configure("error")
        os.close(descriptor)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets whose buffers hold a whole request."""
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
    return ours, theirs


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two sockets connected over the loopback, as a peer's are."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


def feed(client: socket.socket, data: bytes) -> None:
    """Put bytes in; what the buffers do not take goes in while they are read."""
    try:
        sent = client.send(data, socket.MSG_DONTWAIT)
    except BlockingIOError:
        sent = 0
    if sent < len(data):
        rest = memoryview(data)[sent:]
        threading.Thread(target=client.sendall, args=(rest,), daemon=True).start()


def converse(
    node: SingleProcess,
    pair: tuple[socket.socket, socket.socket],
    associate_rq: bytes,
    requests: Iterable[bytes],
    *,
    answered: Callable[[float, bytes], None],
    takes_answers: bool = True,
) -> None:
    """Serve one association to its end in this thread.

    Args:
        node: a started one.
        pair: the client's and the node's socket.
        associate_rq: encoded A-ASSOCIATE-RQ.
        requests: encoded DIMSE requests, one after another.
        answered: called after each with the seconds it took, and the bytes of the answers.
        takes_answers: read what the node sent; False when somebody else reads the client's socket.
    """
    client, served = pair
    # Relied on: the settings that all associations of the node's server share.
    settings: Any = node.worker.server._acceptors  # noqa: SLF001
    waiting = iter(requests)
    original = InlineProvider.read_until_request
    began = 0.0
    accepted = False

    def received() -> bytes:
        return _all_there_is(client) if takes_answers else b""

    def read_until_request(provider: Any, timeout_s: float | None) -> Any:
        nonlocal began, accepted
        if accepted:
            elapsed = time.perf_counter() - began
            answered(elapsed, received())
        elif received()[:1] not in (b"", bytes([_ASSOCIATE_AC])):
            raise FailedError("the association was not accepted")
        accepted = True
        request = next(waiting, None)
        if request is None:
            InlineProvider.read_until_request = original  # type: ignore[method-assign]
            feed(client, dul.RELEASE_RQ)
            client.shutdown(socket.SHUT_WR)  # the node waits for it before it closes
        else:
            feed(client, request)
        began = time.perf_counter()
        return original(provider, timeout_s)

    client.sendall(associate_rq)
    association = open_acceptor(settings, served, ("127.0.0.1", 104))
    InlineProvider.read_until_request = read_until_request  # type: ignore[assignment,method-assign]
    try:
        serve_acceptor(association, ("127.0.0.1", 104), None)
    finally:
        InlineProvider.read_until_request = original  # type: ignore[method-assign]
        client.close()
        served.close()
    if not accepted or association.end_reason is not None:
        raise FailedError(association.end_reason or "the association was not accepted")


def _all_there_is(client: socket.socket) -> bytes:
    parts = []
    try:
        while part := client.recv(1 << 20, socket.MSG_DONTWAIT):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts)


def statuses(answers: bytes) -> list[int]:
    """The status of each response in the PDUs that a node sent."""
    found = []
    position = 0
    while position < len(answers):
        kind, length = struct.unpack_from(">BxI", answers, position)
        if kind != dul.PDU_DATA:
            raise FailedError(f"PDU of type {kind} instead of an answer")
        flags = answers[position + 11]
        if flags & 1:
            found.append(dul.status_of(answers[position + 12 : position + 6 + length]))
        position += 6 + length
    return found
