"""C-STORE sent by pynetdicom over real sockets: SOP classes, syntaxes, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, RLELossless
from pynetdicom import AE
from pynetdicom.dsutils import encode
from pynetdicom.presentation import AllStoragePresentationContexts

from lfscp.dicom.values.attributes import Level
from tests.support.served_archive import CT, EXPLICIT, Node, compressed, image, served

STUDY = "1.2.826.0.2.1"
SERIES = "1.2.826.0.2.1.1"
PRIVATE = "1.3.6.1.4.1.9999.1.1"


def store(node: Node, dataset: Dataset, calling: str = "SENDER") -> Dataset | None:
    """Send one object; None when its presentation context was refused."""
    ae = AE(calling)
    ae.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", node.port, ae_title="LFSCP")
    if not association.accepted_contexts:
        association.abort()
        return None
    status = association.send_c_store(dataset)
    association.release()
    return status


def stored(node: Node) -> list[tuple[str, str]]:
    """SOP class and transfer syntax of each object in the archive."""
    found = node.archive.select(Level.STUDY, {Level.STUDY: [STUDY]})
    return [(one.sop_class_uid, one.transfer_syntax_uid) for one in found]


@pytest.mark.parametrize(
    "syntax",
    [EXPLICIT, "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", RLELossless],
)
def test_object_is_kept_in_the_syntax_it_came_in(tmp_path: Path, syntax: str) -> None:
    dataset = image(study=STUDY, series=SERIES)
    if syntax == RLELossless:
        compressed(dataset, RLELossless)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if syntax == "1.2.840.10008.1.2.2":
        dataset["PixelData"].VR = "OB"  # bytes, which no byte order turns round
    with served(tmp_path) as node:
        status = store(node, dataset)

        assert status is not None
        assert status.Status == 0x0000
        assert stored(node) == [(CT, syntax)]


@pytest.mark.parametrize(
    ("sop_class", "storage"),
    [
        ("1.2.840.10008.5.1.4.1.1.6", {}),  # retired
        (PRIVATE, {"accept_unknown_sop_classes": False, "private_sop_classes": [PRIVATE]}),
        (PRIVATE, {}),
    ],
    ids=["retired", "private-configured", "unknown-accepted"],
)
def test_unusual_sop_classes(tmp_path: Path, sop_class: str, storage: dict[str, Any]) -> None:
    with served(tmp_path, storage=storage) as node:
        status = store(node, image(study=STUDY, series=SERIES, sop_class=sop_class))

        assert status is not None
        assert status.Status == 0x0000
        assert stored(node) == [(sop_class, EXPLICIT)]


def test_a_strict_node_refuses_unknown_sop_classes(tmp_path: Path) -> None:
    with served(tmp_path, storage={"accept_unknown_sop_classes": False}) as node:
        assert store(node, image(study=STUDY, series=SERIES, sop_class=PRIVATE)) is None


def test_every_storage_class_is_accepted(tmp_path: Path) -> None:
    with served(tmp_path) as node:
        for start in range(0, len(AllStoragePresentationContexts), 128):
            ae = AE("SENDER")
            ae.requested_contexts = AllStoragePresentationContexts[start : start + 128]
            association = ae.associate("127.0.0.1", node.port, ae_title="LFSCP")
            assert association.rejected_contexts == []
            association.release()


@pytest.mark.parametrize(
    ("missing", "expected"), [("StudyInstanceUID", 0x0020000D), ("SeriesInstanceUID", 0x0020000E)]
)
def test_dataset_without_its_uids_cannot_be_understood(
    tmp_path: Path, missing: str, expected: int
) -> None:
    dataset = image(study=STUDY, series=SERIES)
    delattr(dataset, missing)
    with served(tmp_path) as node:
        status = store(node, dataset)

        assert status is not None
        assert status.Status == 0xC000
        assert status.OffendingElement == expected
        assert status.ErrorComment
        assert stored(node) == []


@pytest.mark.parametrize("group", [0x0000, 0x0002])
def test_dataset_that_begins_with_a_command_or_file_meta(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    dataset = image(study=STUDY, series=SERIES)
    stray = group.to_bytes(2, "little") + b"\x10\0UI\x12\x001.2.840.10008.1.2\0"
    wire = stray + (encode(dataset, False, True) or b"")
    monkeypatch.setattr("pynetdicom.association.encode", lambda *_: wire)
    with served(tmp_path) as node:
        status = store(node, dataset)

        assert status is not None
        assert status.Status == 0xC000
        assert status.OffendingElement == group << 16 | 0x0010
        assert status.ErrorComment.startswith(f"it begins with ({group:04X},0010), which no")
        assert stored(node) == []


def test_other_uid_in_the_dataset_than_in_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = image(study=STUDY, series=SERIES)
    wire = encode(other, False, True)
    monkeypatch.setattr("pynetdicom.association.encode", lambda *_: wire)
    with served(tmp_path) as node:
        status = store(node, image(study=STUDY, series=SERIES))

        assert status is not None
        assert status.Status == 0xA900
        assert status.OffendingElement == 0x00080018
        assert stored(node) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"StudyInstanceUID": f"{STUDY}.9"}, 0x00080018),
        ({"SeriesInstanceUID": f"{SERIES}.9"}, 0x00080018),
        ({"PatientID": "P-OTHER"}, 0x00100020),
    ],
    ids=["study", "series", "patient"],
)
def test_an_instance_uid_in_use_elsewhere_is_no_success(
    tmp_path: Path, change: dict[str, str], expected: int
) -> None:
    dataset = image(study=STUDY, series=SERIES)
    with served(tmp_path) as node:
        assert store(node, dataset).Status == 0x0000
        for keyword, value in change.items():
            setattr(dataset, keyword, value)
        status = store(node, dataset)

        assert status is not None
        assert (status.Status, status.OffendingElement) == (0xA900, expected)
        assert status.ErrorComment
        assert len(stored(node)) == 1


def test_peer_that_may_not_store(tmp_path: Path) -> None:
    peers = {"SCREEN": {"host": "127.0.0.1", "port": 104, "may": ["query"]}}
    with served(tmp_path, peers=peers) as node:
        status = store(node, image(study=STUDY, series=SERIES), calling="SCREEN")

        assert status is not None
        assert status.Status == 0x0124
        assert stored(node) == []


def test_echo_and_its_permission(tmp_path: Path) -> None:
    peers = {"SCREEN": {"host": "127.0.0.1", "port": 104, "may": ["query"]}}
    answers = {}
    with served(tmp_path, peers=peers) as node:
        for calling in ("ANYBODY", "SCREEN"):
            ae = AE(calling)
            ae.add_requested_context("1.2.840.10008.1.1")
            association = ae.associate("127.0.0.1", node.port, ae_title="LFSCP")
            answers[calling] = association.send_c_echo().Status
            association.release()

    assert answers == {"ANYBODY": 0x0000, "SCREEN": 0x0124}
