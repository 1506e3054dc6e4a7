"""C-GETs of objects that must be decoded: they need more than the budget, or wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association

from lfscp.services.transcoding.decoding_memory import MEMORY
from tests.support.served_archive import CT, EXPLICIT, MR, Node, compressed, image, served

GET = "1.2.840.10008.5.1.4.1.2.2.3"
STUDY = "1.2.826.0.1.1"


def asked() -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = STUDY
    return identifier


def store(node: Node, size: int = 64) -> None:
    """Put an object in RLE Lossless into the archive."""
    pixels = bytes(2 * size * size)
    node.store(
        compressed(
            image(study=STUDY, series="1.2.3", Rows=size, Columns=size, PixelData=pixels),
            RLELossless,
        )
    )


@contextmanager
def getter(node: Node) -> Iterator[tuple[Association, list[str]]]:
    """A peer that takes CT and MR in Explicit VR only, and what it has got."""
    got: list[str] = []

    def keep(event: evt.Event) -> int:
        got.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    ae = AE("ASKER")
    ae.add_requested_context(GET)
    for sop_class in (CT, MR):
        ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    association = ae.associate(
        "127.0.0.1",
        node.port,
        ae_title="LFSCP",
        ext_neg=[build_role(sop_class, scp_role=True) for sop_class in (CT, MR)],
        evt_handlers=[(evt.EVT_C_STORE, keep)],
    )
    assert association.is_established
    try:
        yield association, got
    finally:
        if association.is_established:
            association.release()


def final(association: Association) -> Dataset:
    *_, (status, _) = association.send_c_get(asked(), GET)
    return status


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with served(tmp_path) as node:
        yield node


def test_an_object_that_needs_more_is_a_failed_sub_operation(
    node: Node, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    store(node, 1024)
    monkeypatch.setattr(MEMORY, "limit_bytes", 4 << 20)
    with getter(node) as (association, got):
        status = final(association)
        assert (status.Status, status.NumberOfFailedSuboperations) == (0xA702, 1)
        assert got == []
        node.store(image(study=STUDY, series="1.2.3", syntax=EXPLICIT))
        assert final(association).Status == 0xB000
        assert len(got) == 1
    logged = capfd.readouterr().err
    assert "budgets.decoding_mb is 4" in logged
    assert "Traceback" not in logged


def test_a_cancel_ends_the_wait_for_memory(node: Node) -> None:
    store(node)
    with getter(node) as (association, got), MEMORY.reserve(MEMORY.limit_bytes, lambda: None):
        responses = association.send_c_get(asked(), GET, msg_id=3)
        status, _ = next(responses)  # while it waits
        assert (status.Status, status.NumberOfRemainingSuboperations) == (0xFF00, 1)
        association.send_c_cancel(3, query_model=GET)
        *_, (status, _) = responses
        assert (status.Status, status.NumberOfRemainingSuboperations) == (0xFE00, 1)
        assert got == []


def test_an_abort_ends_it_too_and_others_are_served_meanwhile(node: Node) -> None:
    store(node)
    with MEMORY.reserve(MEMORY.limit_bytes, lambda: None):
        with getter(node) as (waiting, _), getter(node) as (other, got):
            responses = waiting.send_c_get(asked(), GET)
            next(responses)
            node.store(image(study="1.2", series="1.2.4", syntax=EXPLICIT))
            identifier = asked()
            identifier.StudyInstanceUID = "1.2"
            assert [status.Status for status, _ in other.send_c_get(identifier, GET)][-1] == 0
            assert len(got) == 1
            waiting.abort()
        ended = threading.Event()
        while MEMORY.waiting and not ended.wait(0.05):
            pass
    with getter(node) as (association, got):
        assert final(association).Status == 0
        assert len(got) == 1
