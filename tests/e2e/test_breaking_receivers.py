"""Receivers that end every association while an object is converted: that has an end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless
from pynetdicom import AE, evt

from lfscp.archive.archive import Archive
from lfscp.archive.store import spool
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.values.attributes import Level
from lfscp.scu.errors import PeerError
from lfscp.scu.kept_association import KeptAssociation
from lfscp.scu.peer import Peer
from lfscp.scu.send import send
from lfscp.services.transcoding.ahead import Ahead
from lfscp.services.transcoding.decoding_memory import MEMORY
from tests.support.dicom_peer import until
from tests.support.served_archive import CT, EXPLICIT, IMPLICIT, Node, compressed, image, served

MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY = "1.2.826.0.1.1"
OBJECTS = 5
ENOUGH = 12  # associations, after which a receiver takes all, so that each test ends


class Breaking:
    """A receiver that aborts each association soon, and at any object.

    Args:
        changes: it takes another transfer syntax each time.
    """

    def __init__(self, *, changes: bool) -> None:
        self.changes = changes
        self.associations = 0
        self.aborted = 0

    def requested(self, event: evt.Event) -> None:
        self.associations += 1
        syntax = (EXPLICIT, IMPLICIT)[self.associations % 2 if self.changes else 0]
        ae = AE("DEST")
        ae.add_supported_context(CT, syntax)
        event.assoc.acceptor.supported_contexts = ae.supported_contexts

    def established(self, event: evt.Event) -> None:
        threading.Timer(0.1, self.abort, (event.assoc,)).start()  # once it has heard of that

    def abort(self, association: Any) -> None:
        if self.associations < ENOUGH:
            association.abort()
        self.aborted += 1

    def store(self, event: evt.Event) -> int:
        if self.associations < ENOUGH:
            event.assoc.abort()
        return 0x0000


@pytest.fixture(params=[False, True], ids=["", "in changing transfer syntaxes"])
def there(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Breaking:
    """A receiver; each conversion lasts until it has ended the association."""
    there = Breaking(changes=request.param)
    convert = Ahead.converted

    @contextmanager
    def slowly(*arguments: Any) -> Iterator[Any]:
        assert until(lambda: there.aborted == there.associations)
        with convert(*arguments) as made:
            yield made

    monkeypatch.setattr(Ahead, "converted", slowly)
    return there


@contextmanager
def listening(there: Breaking) -> Iterator[int]:
    ae = AE("DEST")
    ae.add_supported_context(CT, [EXPLICIT, IMPLICIT])
    handlers = [
        (evt.EVT_REQUESTED, there.requested),
        (evt.EVT_ESTABLISHED, there.established),
        (evt.EVT_C_STORE, there.store),
    ]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server.server_address[1]
    finally:
        ae.shutdown()
    assert until(lambda: spool.SPACE.in_use == spool.IN_MEMORY._size == MEMORY.in_use == 0)


def fill(node: Node) -> None:
    for _ in range(OBJECTS):
        node.store(compressed(image(study=STUDY, series="1.2.3"), RLELossless))


def stored(archive: Archive) -> list[StoredInstance]:
    return list(archive.select(Level.STUDY, {Level.STUDY: [STUDY]}))


def test_a_move_gives_up_after_two_associations_that_break(tmp_path: Path, there: Breaking) -> None:
    with listening(there) as port, served(tmp_path, peers={"DEST": at(port)}) as node:
        fill(node)
        told = move(node)
    assert (told.Status, told.NumberOfFailedSuboperations) == (0xA702, OBJECTS)
    assert there.associations == 4


def test_a_send_gives_up_after_three(tmp_path: Path, there: Breaking) -> None:
    with listening(there) as port, served(tmp_path) as node:
        fill(node)
        with pytest.raises(PeerError, match="keeps ending the association"):
            send(Peer("DEST", "127.0.0.1", port), stored(node.archive))
    assert there.associations == 6


def test_a_route_gives_up_after_three(tmp_path: Path, there: Breaking) -> None:
    with listening(there) as port, served(tmp_path) as node:
        fill(node)
        kept = KeptAssociation(Peer("DEST", "127.0.0.1", port))
        with pytest.raises(PeerError, match="keeps ending the association"):
            kept.send(stored(node.archive), lambda *_: None)
        kept.close()
    assert there.associations == 6


def at(port: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port}


def move(node: Node) -> Dataset:
    ae = AE("ASKER")
    ae.add_requested_context(MOVE)
    keys = Dataset()
    keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", STUDY
    association = ae.associate("127.0.0.1", node.port, ae_title="LFSCP")
    *_, (told, _) = association.send_c_move(keys, "DEST", MOVE)
    association.release()
    return told
