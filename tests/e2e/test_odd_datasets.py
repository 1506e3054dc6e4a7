"""Datasets of odd length: kept as they came, and sent with the padding that they lack."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as Get

from lfscp.archive.archive import Received
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.dicom.values.attributes import Level
from lfscp.scu.peer import Peer
from lfscp.scu.send import objects_in, send
from tests.e2e.test_retrieve_pynetdicom import getter, identifier, move, peer
from tests.support.served_archive import CT, EXPLICIT, IMPLICIT, Node, destination, served

STUDY = "1.2.826.0.1.1"
INSTANCE = "1.2.826.0.1.1.2.1"


def dataset(name: bytes, syntax: str = EXPLICIT) -> bytes:
    """An object whose only value of odd length may be the name."""
    values = (
        (0x0008, 0x0016, b"UI", CT.encode() + b"\0"),
        (0x0008, 0x0018, b"UI", INSTANCE.encode() + b"\0"),
        (0x0010, 0x0010, b"PN", name),
        (0x0020, 0x000D, b"UI", STUDY.encode() + b"\0"),
        (0x0020, 0x000E, b"UI", b"1.2.826.0.1.1.2\0"),
    )
    parts = []
    for group, element, vr, value in values:
        head = struct.pack("<HH", group, element)
        length = vr + struct.pack("<H", len(value))
        parts.append(head + (length if syntax == EXPLICIT else struct.pack("<L", len(value))))
        parts.append(value)
    return b"".join(parts)


ODD, EVEN = dataset(b"Doe^Jan"), dataset(b"Doe^Jan ")


def fill(node: Node) -> None:
    received = Received(CT, INSTANCE, EXPLICIT, dataset=memoryview(ODD))
    node.archive.store(received)


def test_the_archive_keeps_what_came(tmp_path: Path) -> None:
    with served(tmp_path) as node:
        fill(node)
        (stored,) = node.archive.select(Level.STUDY, {Level.STUDY: [STUDY]})

        assert Path(stored.path).read_bytes()[stored.dataset_offset :] == ODD


@pytest.mark.parametrize(
    ("syntax", "expected"), [(EXPLICIT, EVEN), (IMPLICIT, dataset(b"Doe^Jan ", IMPLICIT))]
)
def test_what_is_got_is_padded(tmp_path: Path, syntax: str, expected: bytes) -> None:
    with served(tmp_path) as node:
        fill(node)
        with getter(node, [(CT, [syntax])]) as (association, got):
            *_, (final, _) = association.send_c_get(identifier(), Get)

    assert final.Status == 0x0000
    assert got == {INSTANCE: (syntax, expected)}


def test_what_is_moved_is_padded(tmp_path: Path) -> None:
    with (
        destination([(CT, [EXPLICIT])]) as there,
        served(tmp_path, peers={"DEST": peer(there.port)}) as node,
    ):
        fill(node)
        assert move(node, identifier())[-1][0].Status == 0x0000

    assert there.objects == {INSTANCE: (EXPLICIT, EVEN)}


def test_dcmtk_takes_what_is_sent(tmp_path: Path, dcmtk: Any) -> None:
    """Its storescp aborts at a fragment of odd length."""
    path = tmp_path / "odd.dcm"
    path.write_bytes(part10_header(CT, INSTANCE, EXPLICIT) + ODD)
    with dcmtk.storescp(tmp_path / "got") as port:
        instances = objects_in([path], on_other=pytest.fail)
        result = send(Peer("STORESCP", "127.0.0.1", port), instances)

    assert (result.completed, result.failed) == (1, [])
    assert dcmtk.contents(tmp_path / "got") == {INSTANCE: (EXPLICIT, EVEN)}
