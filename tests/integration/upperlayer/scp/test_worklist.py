"""A handler of one's own for C-FIND on the worklist class, as pynetdicom's users write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import ModalityWorklistInformationFind

from lfscp.upperlayer.scp.encoded import EncodedDataset
from tests.support.pynetdicom_client import association
from tests.support.serving import make_ae, serving
from tests.support.worklist_items import worklist_dataset

WORKLIST = ModalityWorklistInformationFind
EXPLICIT = "1.2.840.10008.1.2.1"
Handler = Callable[[evt.Event], Any]


def asked_of(handler: Handler) -> list[tuple[Dataset, Dataset | None]]:
    """What a server with this handler answers."""
    ae = make_ae()
    ae.add_supported_context(WORKLIST)
    with (
        serving((evt.EVT_C_FIND, handler), ae=ae) as server,
        association(server.server_address[1], [(WORKLIST, EXPLICIT)]) as assoc,
    ):
        identifier = Dataset()
        identifier.PatientID = "P1"
        return list(assoc.send_c_find(identifier, WORKLIST))


def encoded(dataset: Dataset) -> EncodedDataset:
    data = encode(dataset, is_implicit_vr=False, is_little_endian=True)
    assert data is not None
    return EncodedDataset(data)


@pytest.mark.parametrize("given", [lambda dataset: dataset, encoded])
def test_items_may_be_datasets_or_encoded(given: Callable[[Dataset], Any]) -> None:
    def handle(event: evt.Event) -> Iterator[tuple[int, Any]]:
        assert event.identifier.PatientID == "P1"
        yield 0xFF00, given(worklist_dataset(1))
        yield 0xFF01, given(worklist_dataset(2))

    answers = asked_of(handle)
    assert [status.Status for status, _ in answers] == [0xFF00, 0xFF01, 0x0000]
    assert [found for _, found in answers] == [worklist_dataset(1), worklist_dataset(2), None]


def test_a_handler_ends_the_query_with_its_own_status() -> None:
    def handle(_: evt.Event) -> Iterator[tuple[int, Any]]:
        yield 0xA700, None

    ((status, found),) = asked_of(handle)
    assert status.Status == 0xA700
    assert found is None


def test_a_handler_that_raises_is_answered_as_pynetdicom_does() -> None:
    def handle(_: evt.Event) -> Iterator[tuple[int, Any]]:
        yield 0xFF00, worklist_dataset()
        raise ValueError("no worklist today")

    pending, (final, _) = asked_of(handle)
    assert pending[0].Status == 0xFF00
    assert final.Status == 0xC311


def test_a_handler_sees_a_cancel() -> None:
    ae = make_ae()
    ae.add_supported_context(WORKLIST)

    def handle(event: evt.Event) -> Iterator[tuple[int, Any]]:
        for number in range(100_000):
            if event.is_cancelled:
                yield 0xFE00, None
                return
            yield 0xFF00, worklist_dataset(number)

    with (
        serving((evt.EVT_C_FIND, handle), ae=ae) as server,
        association(server.server_address[1], [(WORKLIST, EXPLICIT)]) as assoc,
    ):
        found = assoc.send_c_find(worklist_dataset(), WORKLIST, msg_id=3)
        assert next(found)[0].Status == 0xFF00
        assoc.send_c_cancel(3, query_model=WORKLIST)
        *_, (final, _) = found
    assert final.Status == 0xFE00
