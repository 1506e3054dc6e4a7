"""What a peer answers to our client: any bytes, whatever was asked; see `targets`."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.cli.peers.saved_objects import SavedObjects
from lfscp.scu.echo import echo
from lfscp.scu.errors import PeerError
from lfscp.scu.find import find
from lfscp.scu.identifiers import identifier, plain
from lfscp.scu.parts import RetrieveResult
from lfscp.scu.peer import Peer
from lfscp.scu.retrieve import get, move
from lfscp.scu.send import send
from tests.support import dicom_peer as peer
from tests.support.scripted_peer import (
    ACCEPTED,
    C_ECHO_RSP,
    C_FIND_RSP,
    C_GET_RSP,
    C_MOVE_RSP,
    C_STORE_RSP,
    GET,
    MOVE,
    PENDING,
    REFUSED,
    RELEASED,
    STUDY,
    SUCCESS,
    TAKING,
    accepted,
    brought,
    counters,
    found,
    got,
    response,
    value,
)

KEYS = {"StudyInstanceUID": STUDY}


class Tracebacks(logging.Handler):
    """Keeps what was logged with a traceback: an exception that nobody expected."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.seen.append(logging.Formatter().format(record))


class ScriptedPeer:
    """Listens, says to each connection what it was given, and hears what comes to the end."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.says: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            said = self.says.get()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass


@cache
def _peer() -> tuple[ScriptedPeer, Peer, Tracebacks]:
    tracebacks = Tracebacks()
    for name in ("lfscp", "lfscp.upperlayer"):
        logging.getLogger(name).addHandler(tracebacks)
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    scripted = ScriptedPeer()
    asked = Peer(
        "X",
        "127.0.0.1",
        scripted.port,
        connect_timeout_s=2,
        acse_timeout_s=2,
        dimse_timeout_s=2,
    )
    return scripted, asked, tracebacks


def _echo(asked: Peer) -> None:
    echo(asked)


def _find(asked: Peer) -> None:
    matches = find(asked, identifier({**KEYS, "PatientName": "", "StudyDate": ""}, "STUDY"))
    for match in itertools.islice(matches, 5):
        plain(match)
    matches.close()  # type: ignore[attr-defined]


def _get(asked: Peer) -> None:
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer, "in")
        folder.mkdir()
        saved = SavedObjects(folder)
        result: RetrieveResult | None = None
        try:
            result = get(
                asked,
                identifier(KEYS, "STUDY"),
                on_object=saved.save,
                sop_classes=(peer.CT,),
                spool_dir=folder,
            )
        finally:
            files = list(folder.iterdir())
            assert list(Path(outer).iterdir()) == [folder], "something is beside the folder"
            assert all(file.suffix == ".dcm" for file in files), files
            assert len(files) == saved.count, "what is counted is not what is there"
            for file in files:
                assert STUDY.encode() in file.read_bytes(), "it was not asked for"
        assert result.completed + result.warning == len(files)


def _move(asked: Peer) -> None:
    result = move(asked, identifier(KEYS, "STUDY"), "THERE")
    assert all(len(uid) <= 64 for uid in result.failed_uids)


@cache
def _instance() -> StoredInstance:
    folder = Path(tempfile.mkdtemp())
    file = folder / "object"
    file.write_bytes(peer.data_set(padding=300_000))
    size = file.stat().st_size
    return StoredInstance(peer.CT, "1.2.3.4", peer.IMPLICIT, file, 0, size, "", "")


def _send(asked: Peer) -> None:
    result = send(asked, [_instance()])
    assert result.completed + result.warning + len(result.failed) == 1


ASKING: tuple[Callable[[Peer], None], ...] = (_echo, _find, _get, _move, _send)


def run_answers(data: bytes) -> None:
    """First byte: what is asked; the rest: what the peer says, then it closes."""
    if not data:
        return
    scripted, asked, tracebacks = _peer()
    ask = ASKING[data[0] % len(ASKING)]
    # A send asks again when an association breaks.
    for _ in range(3 if ask is _send else 1):
        scripted.says.put(data[1:])
    with contextlib.suppress(PeerError):
        ask(asked)
    while not scripted.says.empty():
        with contextlib.suppress(queue.Empty):
            scripted.says.get_nowait()
    assert not tracebacks.seen, tracebacks.seen.pop()


# --- seeds ---


def answers_seeds() -> Iterator[bytes]:
    """One conversation of each kind, and some that end badly."""
    one, query = ACCEPTED, peer.STUDY_ROOT_FIND
    yield b"\0" + one + peer.message(1, response(C_ECHO_RSP, peer.VERIFICATION, 0)) + RELEASED
    last = peer.message(1, response(C_FIND_RSP, query, SUCCESS))
    yield b"\1" + one + found() + last + RELEASED
    comment = peer.element(0x0902, b"\x1b[2Jno \r\n")
    yield b"\1" + one + peer.message(1, response(C_FIND_RSP, query, REFUSED, comment))
    yield b"\1" + accepted((1, "1.2.3.4")) + found()
    for instance, study in (("1.2.3.4", STUDY), ("1.2.9.4", "9.9.9")):
        yield b"\2" + TAKING + brought(instance, study) + got(1) + RELEASED
    uids = value(8, 0x58, b"1.2.3.4\\1.2.3.5\0")
    failed = response(C_GET_RSP, GET, 0xB000, counters(0, 2), data=True)
    yield b"\2" + TAKING + peer.message(1, failed, uids) + RELEASED
    moved = response(C_MOVE_RSP, MOVE, SUCCESS, counters(65535))
    still = peer.message(1, response(C_MOVE_RSP, MOVE, PENDING, counters(1)))
    yield b"\3" + one + still + peer.message(1, moved) + RELEASED
    stored = response(C_STORE_RSP, peer.CT, SUCCESS, peer.uid(0x1000, "1.2.3.4"))
    for contexts in (one, accepted((1, peer.IMPLICIT), (3, peer.EXPLICIT))):
        yield b"\4" + contexts + peer.message(1, stored) + RELEASED
    yield b"\0" + peer.pdu(peer.ASSOCIATE_RJ, b"\0\1\1\7")
    yield b"\1" + one + peer.pdu(peer.ABORT, b"\0\0\0\0")
