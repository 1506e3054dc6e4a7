"""A C-MOVE's destination that fails at every step: right counters, and the node is as before."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.dicom_peer import (
    ABORT,
    APPLICATION_CONTEXT,
    ASSOCIATE_RJ,
    COMMAND,
    CT,
    DATA_SET,
    IMPLICIT,
    LAST,
    Peer,
    cancel_rq,
    command,
    data_set,
    element,
    item,
    message,
    p_data,
    pdu,
    pdv,
    store_rq,
    uid,
    until,
    us,
)
from tests.support.node_process import NodeProcess, StartNode

STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
OBJECTS = 4
STUDY = "1.2.3"
SETTINGS = """
[server]
acse_timeout_s = 0.5
dimse_timeout_s = 0.5
network_timeout_s = 1.0

[peers.DST]
host = "127.0.0.1"
port = {port}
"""


class Connection(Peer):
    """One association of the node with the destination."""

    def __init__(self, accepted: socket.socket) -> None:
        self.sock = accepted
        accepted.settimeout(10)

    def accept(self) -> None:
        """Take CT in implicit VR, whatever else is proposed."""
        _, request = self.pdu()
        results, at = b"", 68
        while at < len(request):
            kind, length = struct.unpack_from(">BxH", request, at)
            value = request[at + 4 : at + 4 + length]
            at += 4 + length
            if kind == 0x20:
                result = 0 if CT.encode() in value else 3
                syntax = item(0x40, IMPLICIT.encode())
                results += item(0x21, bytes([value[0], 0, result, 0]) + syntax)
        user = item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.826.0.1.99"))
        context = item(0x10, APPLICATION_CONTEXT.encode())
        self.send(pdu(2, request[:68] + context + results + user))

    def answer(self, status: int = 0x0000) -> None:
        """Take one object."""
        context_id, elements, _ = self.message()
        response = command(
            element(0x0002, elements[0x0002]),
            us(0x0100, 0x8001),
            element(0x0120, elements[0x0110]),
            us(0x0800, 0x0101),
            us(0x0900, status),
            element(0x1000, elements[0x1000]),
        )
        self.send(p_data(pdv(context_id, COMMAND | LAST, response)))

    def stall(self) -> None:
        """Say nothing until the node gives up."""
        while self.sock.recv(65536):
            pass


def reject(connection: Connection) -> None:
    connection.pdu()
    connection.send(pdu(ASSOCIATE_RJ, b"\0\1\1\7"))


def abort(connection: Connection) -> None:
    connection.send(pdu(ABORT, b"\0\0\0\0"))


def garbage(connection: Connection) -> None:
    connection.send(b"\xff" * 100)


def after(taken: int, then: Callable[[Connection], None]) -> Callable[[Connection], None]:
    """Accept, take so many objects, then do something else with the next."""

    def behave(connection: Connection) -> None:
        connection.accept()
        for _ in range(taken):
            connection.answer()
        if taken < OBJECTS:
            connection.pdu()  # the next command, or part of an object
        then(connection)

    return behave


def refuse_all(connection: Connection) -> None:
    connection.accept()
    for _ in range(OBJECTS):
        connection.answer(0xA700)
    connection.stall()


def stall_at_release(connection: Connection) -> None:
    connection.accept()
    for _ in range(OBJECTS):
        connection.answer()
    connection.stall()


# What the destination does, and how many objects arrive. With none at all the move as a whole has
# failed (0xA702); else some did (0xB000), or none (0x0000). An association that breaks costs one
# object: the rest goes over another one, whose destination takes two again.
STEPS: dict[str, tuple[Callable[[Connection], None], int]] = {
    "closes when connected": (lambda connection: None, 0),
    "stalls when connected": (Connection.stall, 0),
    "rejects": (reject, 0),
    "garbage for an answer": (lambda each: (each.pdu(), garbage(each))[0], 0),
    "aborts before the first": (after(0, abort), 0),
    "closes in the first": (after(0, lambda connection: None), 0),
    "stalls in the first": (after(0, Connection.stall), 0),
    "aborts after two": (after(2, abort), 3),
    "closes after two": (after(2, lambda connection: None), 3),
    "stalls after two": (after(2, Connection.stall), 3),
    "garbage after two": (after(2, garbage), 3),
    "refuses each": (refuse_all, 0),
    "stalls at the release": (stall_at_release, OBJECTS),
    "closes at the release": (after(OBJECTS, lambda connection: None), OBJECTS),
    "aborts at the release": (after(OBJECTS, abort), OBJECTS),
}


class Destination:
    """Listens, and treats each association as it is told."""

    def __init__(self) -> None:
        self.behave: Callable[[Connection], None] = Connection.stall
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                accepted, _ = self._listener.accept()
                with accepted, contextlib.suppress(OSError, AssertionError, TypeError):
                    self.behave(Connection(accepted))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeProcess, Destination]]:
    destination = Destination()
    configuration = SETTINGS.format(port=destination.port)
    node = NodeProcess(tmp_path_factory.mktemp("moving"), configuration=configuration)
    try:
        node.start()
        with Peer(("127.0.0.1", node.port)) as peer:
            peer.associate()
            for number in range(OBJECTS):
                instance = f"1.2.3.1.{number}"
                peer.send(message(3, store_rq(1, instance), data_set(instance, padding=30_000)))
                assert peer.status() == 0x0000
            peer.release()
        yield node, destination
        assert node.stop() == 0
        assert node.complaints() == []
    finally:
        node.kill()
        destination.close()


def move_request() -> bytes:
    keys = struct.pack("<HHI", 8, 0x52, 6) + b"STUDY "
    keys += struct.pack("<HHI", 0x20, 0x0D, 6) + STUDY.encode() + b"\0"
    request = command(
        uid(0x0002, STUDY_ROOT_MOVE),
        us(0x0100, 0x0021),
        us(0x0110, 1),
        element(0x0600, b"DST "),
        us(0x0700, 0),
        us(0x0800, DATA_SET),
    )
    return message(1, request, keys)


def move(port: int) -> dict[int, int]:
    """Have the study moved: the numbers of the last response."""
    with Peer(("127.0.0.1", port), timeout=30) as peer:
        peer.associate([(1, STUDY_ROOT_MOVE, (IMPLICIT,))])
        peer.send(move_request())
        while True:
            _, elements, _ = peer.message()
            numbers = {n: int.from_bytes(v, "little") for n, v in elements.items() if len(v) == 2}
            if numbers[0x0900] != 0xFF00:
                peer.release()
                return numbers


def sockets(pid: int) -> int:
    links = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # just closed
            links.append(str(each.readlink()))
    return sum(link.startswith("socket:") for link in links)


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@pytest.mark.parametrize("step", STEPS)
def test_a_destination_that_fails_is_counted_and_leaves_nothing(
    moving: tuple[NodeProcess, Destination], step: str
) -> None:
    node, destination = moving
    destination.behave, arrived = STEPS[step]
    sockets_before, threads_before = sockets(node.pid), threads(node.pid)
    told = move(node.port)
    status = 0x0000 if arrived == OBJECTS else 0xB000 if arrived else 0xA702
    assert told[0x0900] == status, hex(told[0x0900])
    assert told.get(0x1021, 0) == arrived
    assert told.get(0x1022, 0) == OBJECTS - arrived
    assert until(lambda: sockets(node.pid) <= sockets_before)
    assert threads(node.pid) <= threads_before + 1  # a follower more, which is kept


PATIENT = """
[server]
drain_timeout_s = 600

[peers.DST]
host = "127.0.0.1"
port = {port}
"""


@pytest.mark.parametrize("how", ["aborts", "closes", "cancels", "node stops"])
@pytest.mark.parametrize("step", ["stalls when connected", "stalls in the first"])
def test_a_destination_that_stalls_is_left_when_nobody_waits_for_the_move(
    start_node: StartNode, step: str, how: str
) -> None:
    """With half a minute of patience for the destination, and ten minutes for the drain."""
    left = threading.Event()
    stalls = threading.Event()

    class Stalling(Connection):
        def stall(self) -> None:
            stalls.set()
            super().stall()
            left.set()

    destination = Destination()
    destination.behave = lambda accepted: stall_as(step, Stalling(accepted.sock))
    try:
        drain_s = 2 if how == "node stops" else 600
        configuration = PATIENT.format(port=destination.port).replace("600", str(drain_s))
        node = start_node(configuration=configuration)
        with Peer(("127.0.0.1", node.port), timeout=30) as peer:
            contexts = [(1, STUDY_ROOT_MOVE, (IMPLICIT,)), (3, CT, (IMPLICIT,))]
            peer.associate(contexts)
            peer.send(message(3, store_rq(1, "1.2.3.1.1"), data_set("1.2.3.1.1")))
            assert peer.status() == 0x0000
            peer.send(move_request())
            assert stalls.wait(10)
            if how == "aborts":
                abort(peer)
            elif how == "closes":
                peer.sock.close()
            elif how == "cancels":
                peer.send(message(1, cancel_rq(1)))
            else:
                node.signal(signal.SIGTERM)
            assert left.wait(20)
            if how == "cancels":
                while (status := peer.status()) == 0xFF00:
                    pass
                assert status == 0xA702, "the only object has failed, as all there is"
        if how == "node stops":
            assert node.wait() == 0
        else:
            assert until(lambda: node.events("C-MOVE"))
        assert len(node.events("C-MOVE")) == 1
    finally:
        destination.close()


def stall_as(step: str, connection: Connection) -> None:
    if step == "stalls in the first":
        connection.accept()
        connection.pdu()
    connection.stall()


def test_a_destination_that_is_not_there(start_node: StartNode) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        node = start_node(configuration=SETTINGS.format(port=probe.getsockname()[1]))
        with Peer(("127.0.0.1", node.port)) as peer:
            peer.associate()
            peer.send(message(3, store_rq(1, "1.2.3.1.1"), data_set("1.2.3.1.1")))
            assert peer.status() == 0x0000
            peer.release()
        told = move(node.port)
    assert (told[0x0900], told.get(0x1021, 0), told.get(0x1022, 0)) == (0xA702, 0, 1)
