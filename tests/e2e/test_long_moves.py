"""C-MOVEs that take long: an object is converted, or its receiver has it to write."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless
from pynetdicom import AE, evt

from lfscp.archive.store import spool
from lfscp.services.transcoding.decoding_memory import MEMORY
from tests.support.dicom_peer import until
from tests.support.served_archive import CT, EXPLICIT, Node, compressed, image, served

MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY = "1.2.826.0.1.1"
OBJECTS = 3


class Impatient:
    """A destination that aborts its first association when it has been silent for a while.

    Args:
        refuses_one: it aborts the second one as well, at the first object.
    """

    def __init__(self, *, refuses_one: bool) -> None:
        self.refuses_one = refuses_one
        self.associations = 0
        self.has_aborted = threading.Event()
        self.got: list[str] = []
        self.answers_after_s = 0.0

    def established(self, event: evt.Event) -> None:
        self.associations += 1
        if self.associations == 1:
            threading.Timer(0.3, self.abort, (event.assoc,)).start()

    def abort(self, association: Any) -> None:
        association.abort()
        self.has_aborted.set()

    def keep(self, event: evt.Event) -> int:
        if self.refuses_one and self.associations == 2:
            event.assoc.abort()
            return 0xA700
        time.sleep(self.answers_after_s)
        self.got.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000


@contextmanager
def listening(there: Impatient) -> Iterator[int]:
    ae = AE("DEST")
    ae.add_supported_context(CT, EXPLICIT)
    handlers = [(evt.EVT_ESTABLISHED, there.established), (evt.EVT_C_STORE, there.keep)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server.server_address[1]
    finally:
        ae.shutdown()


def fill(node: Node) -> list[str]:
    """Store compressed objects; gives their UIDs."""
    stored = [image(study=STUDY, series="1.2.3") for _ in range(OBJECTS)]
    for each in stored:
        node.store(compressed(each, RLELossless))
    return [str(each.SOPInstanceUID) for each in stored]


def move(node: Node, there: Impatient) -> Dataset:
    """The last response; the conversion waits until the destination has ended the association."""
    ae = AE("ASKER")
    ae.add_requested_context(MOVE)
    keys = Dataset()
    keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", STUDY
    association = ae.associate("127.0.0.1", node.port, ae_title="LFSCP")
    with MEMORY.reserve(MEMORY.limit_bytes, lambda: None):
        responses = association.send_c_move(keys, "DEST", MOVE)
        last: list[Any] = []
        asking = threading.Thread(target=lambda: last.extend(responses))
        asking.start()
        assert there.has_aborted.wait(10)
    asking.join(30)
    association.release()
    return last[-1][0]


@pytest.mark.parametrize("refuses_one", [False, True])
def test_what_was_converted_goes_out_over_the_next_association(
    tmp_path: Path, refuses_one: bool
) -> None:
    there = Impatient(refuses_one=refuses_one)
    with listening(there) as port, served(tmp_path, peers={"DEST": at(port)}) as node:
        uids = fill(node)
        told = move(node, there)
    if refuses_one:  # which is a destination that fails, as any
        assert (told.Status, told.NumberOfFailedSuboperations) == (0xB000, 1)
        assert (len(there.got), there.associations) == (OBJECTS - 1, 3)
    else:
        assert (told.Status, told.NumberOfCompletedSuboperations) == (0x0000, OBJECTS)
        assert (sorted(there.got), there.associations) == (sorted(uids), 2)
    assert until(lambda: spool.SPACE.in_use == spool.IN_MEMORY._size == MEMORY.in_use == 0)


@pytest.mark.parametrize(("size", "is_waited_for"), [(64, False), (4096, True)])
def test_a_large_object_may_be_answered_later_than_a_small_one(
    tmp_path: Path, size: int, is_waited_for: bool
) -> None:
    there = Impatient(refuses_one=False)
    there.associations, there.answers_after_s = 1, 1.3
    settings = {"server": {"dimse_timeout_s": 0.5}}
    with listening(there) as port, served(tmp_path, peers={"DEST": at(port)}, **settings) as node:
        pixels = bytes(2 * size * size)
        node.store(image(study=STUDY, series="1.2.3", Rows=size, Columns=size, PixelData=pixels))
        there.has_aborted.set()
        told = move(node, there)
    assert (told.Status == 0x0000) is is_waited_for


def at(port: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port}
