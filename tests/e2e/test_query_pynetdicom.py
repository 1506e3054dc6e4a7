"""C-FIND asked for by pynetdicom over real sockets: models, levels, statuses, negotiation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    PatientStudyOnlyQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)

from lfscp.archive.query.query import Query
from tests.support.served_archive import Node, image, served

PATIENT_ROOT = PatientRootQueryRetrieveInformationModelFind
STUDY_ROOT = StudyRootQueryRetrieveInformationModelFind
PATIENT_STUDY_ONLY = PatientStudyOnlyQueryRetrieveInformationModelFind
Response = tuple[Dataset, Dataset | None]


def identifier(level: str | None, **keys: Any) -> Dataset:
    asked = Dataset()
    if level is not None:
        asked.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        tag = Tag(keyword)
        asked.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=IGNORE))
    return asked


@contextmanager
def asking(
    node: Node,
    model: str = STUDY_ROOT,
    *,
    calling: str = "ASKER",
    syntax: str | None = None,
    extended: bytes | None = None,
) -> Iterator[Association]:
    ae = AE(calling)
    ae.add_requested_context(model, syntax)
    items = []
    if extended is not None:
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid = UID(model)
        item.service_class_application_information = extended
        items.append(item)
    association = ae.associate("127.0.0.1", node.port, ae_title="LFSCP", ext_neg=items)
    assert association.is_established
    yield association
    association.release()


def find(node: Node, asked: Dataset, model: str = STUDY_ROOT, **options: Any) -> list[Response]:
    with asking(node, model, **options) as association:
        return list(association.send_c_find(asked, model))


def fill(node: Node, studies: int = 3) -> None:
    for number in range(studies):
        node.store(
            image(
                study=f"1.2.826.1.{number}",
                series=f"1.2.826.1.{number}.1",
                PatientID=f"P{number}",
                PatientName=f"Doe^Number{number}",
                StudyDate=f"2024010{number % 9 + 1}",
                StudyTime="120000",
            )
        )


@pytest.mark.parametrize(
    ("model", "asked", "keyword", "expected"),
    [
        (PATIENT_ROOT, identifier("PATIENT", PatientID=""), "PatientID", {"P0", "P1", "P2"}),
        (
            PATIENT_ROOT,
            identifier("STUDY", PatientID="P1", StudyInstanceUID=""),
            "StudyInstanceUID",
            {"1.2.826.1.1"},
        ),
        (
            STUDY_ROOT,
            identifier("STUDY", PatientName="doe^number2", StudyInstanceUID=""),
            "StudyInstanceUID",
            {"1.2.826.1.2"},
        ),
        (
            STUDY_ROOT,
            identifier("SERIES", StudyInstanceUID="1.2.826.1.0", SeriesInstanceUID=""),
            "SeriesInstanceUID",
            {"1.2.826.1.0.1"},
        ),
        (
            PATIENT_STUDY_ONLY,
            identifier("STUDY", PatientID="P0", StudyDate="20240101-20240102"),
            "StudyDate",
            {"20240101"},
        ),
    ],
)
@pytest.mark.parametrize(
    "syntax",
    ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"],
)
def test_every_model_in_every_syntax(
    tmp_path: Path,
    model: str,
    asked: Dataset,
    keyword: str,
    expected: set[str],
    syntax: str,
    index_url: str | None,
) -> None:
    with served(tmp_path, index={"url": index_url or ""}) as node:
        fill(node)
        *matches, (final, nothing) = find(node, asked, model, syntax=syntax)

    assert {match[keyword].value for _, match in matches if match is not None} == expected
    assert {status.Status for status, _ in matches} == {0xFF00}
    assert {match.QueryRetrieveLevel for _, match in matches if match is not None} == {
        asked.QueryRetrieveLevel
    }
    assert final.Status == 0x0000
    assert nothing is None


def test_image_level(tmp_path: Path) -> None:
    with served(tmp_path) as node:
        one = image(study="1.2.3", series="1.2.3.1", InstanceNumber=7)
        node.store(one)
        asked = identifier(
            "IMAGE",
            StudyInstanceUID="1.2.3",
            SeriesInstanceUID="1.2.3.1",
            SOPInstanceUID="",
            InstanceNumber="",
        )
        (_, match), _ = find(node, asked)

    assert match is not None
    assert match.SOPInstanceUID == one.SOPInstanceUID
    assert match.InstanceNumber == 7


def test_what_the_index_lacks_comes_from_the_object_of_each_image(
    tmp_path: Path, index_url: str | None
) -> None:
    with served(tmp_path, index={"url": index_url or ""}) as node:
        for number in (1, 2):
            where = {"study": "1.2.3", "series": "1.2.3.1", "SliceLocation": f"{number}.5"}
            node.store(image(**where, InstanceNumber=number, WindowCenter=["40", "400"]))
        asked = identifier(
            "IMAGE",
            StudyInstanceUID="1.2.3",
            SeriesInstanceUID="1.2.3.1",
            InstanceNumber="",
            SliceLocation="",
            WindowCenter="",
            ImageComments="",
        )
        *whole, _ = find(node, asked)
        one, _ = sorted((node.archive.data_dir / "objects").rglob("*.dcm"))
        one.unlink()
        *partly, (final, _) = find(node, asked)
        *indexed, _ = find(
            node, identifier("IMAGE", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.1")
        )

    found = {match.InstanceNumber: match for _, match in whole if match}
    assert [status.Status for status, _ in whole] == [0xFF00, 0xFF00]
    assert {number: match.SliceLocation for number, match in found.items()} == {1: 1.5, 2: 2.5}
    assert all(match.WindowCenter == [40, 400] for match in found.values())
    assert all(match["ImageComments"].value == "" for match in found.values())
    came = {status.Status: match.SliceLocation for status, match in partly if match}
    assert came[0xFF01] is None  # its object is gone, what is in the index is still there
    assert came[0xFF00] in (1.5, 2.5)
    assert final.Status == 0x0000
    assert [status.Status for status, _ in indexed] == [0xFF00, 0xFF00]


def test_nothing_matches(tmp_path: Path) -> None:
    with served(tmp_path) as node:
        fill(node)
        ((final, _),) = find(node, identifier("STUDY", StudyInstanceUID="1.2.3"))

    assert final.Status == 0x0000


def test_unsupported_optional_key_is_said_with_each_match(tmp_path: Path) -> None:
    with served(tmp_path) as node:
        fill(node)
        asked = identifier("STUDY", StudyInstanceUID="", DeviceSerialNumber="1")
        *matches, (final, _) = find(node, asked)

    assert [status.Status for status, _ in matches] == [0xFF01] * 3
    assert final.Status == 0x0000


@pytest.mark.parametrize(
    ("model", "asked", "guilty"),
    [
        (STUDY_ROOT, identifier("PATIENT", PatientID=""), 0x00080052),
        (STUDY_ROOT, identifier(None, StudyInstanceUID=""), 0x00080052),
        (PATIENT_STUDY_ONLY, identifier("SERIES", PatientID="P1"), 0x00080052),
        (STUDY_ROOT, identifier("SERIES", SeriesInstanceUID=""), 0x0020000D),
        (PATIENT_ROOT, identifier("STUDY", StudyInstanceUID=""), 0x00100020),
        (STUDY_ROOT, identifier("STUDY", StudyDate="yesterday"), 0x00080020),
    ],
    ids=["patient", "no-level", "series-in-patient-study", "no-study", "no-patient", "date"],
)
def test_wrong_identifier_names_the_element(
    tmp_path: Path, model: str, asked: Dataset, guilty: int
) -> None:
    with served(tmp_path) as node:
        fill(node)
        ((final, nothing),) = find(node, asked, model)

    assert final.Status == 0xA900
    assert final.OffendingElement == guilty
    assert 0 < len(final.ErrorComment) <= 64
    assert nothing is None


def test_cap_on_results_is_said(tmp_path: Path) -> None:
    with served(tmp_path, query={"max_results": 2}) as node:
        fill(node)
        *matches, (final, nothing) = find(node, identifier("STUDY", StudyInstanceUID=""))

    assert len(matches) == 2
    assert final.Status == 0xA700
    assert final.ErrorComment == "only the first 2 matches were sent, narrow the query"
    assert nothing is None


def test_cap_that_is_just_enough_is_not_said(tmp_path: Path) -> None:
    with served(tmp_path, query={"max_results": 3}) as node:
        fill(node)
        *matches, (final, _) = find(node, identifier("STUDY", StudyInstanceUID=""))

    assert len(matches) == 3
    assert final.Status == 0x0000


def test_cancel_ends_without_identifier(tmp_path: Path) -> None:
    with served(tmp_path) as node:
        fill(node, 400)
        asked = identifier("STUDY", StudyInstanceUID="")
        for _ in range(20):  # a C-CANCEL that comes when all is answered means nothing
            with asking(node) as association:
                matches = association.send_c_find(asked, STUDY_ROOT, msg_id=3)
                association.send_c_cancel(3, query_model=STUDY_ROOT)
                responses = list(matches)
            if responses[-1][0].Status != 0x0000:
                break

    final, nothing = responses[-1]
    assert final.Status == 0xFE00
    assert nothing is None
    assert len(responses) <= 400


# A minute and more without a row; what is not interrupted ends nevertheless.
LONG = (
    "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 500000000) "
    "SELECT n FROM number WHERE n < 0"
)


def test_a_query_that_finds_nothing_for_long_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = identifier("STUDY", StudyInstanceUID="")
    with served(tmp_path) as node:
        with monkeypatch.context() as patch:
            patch.setattr(node.archive._prepared, "statement", lambda _: (LONG, []))
            with asking(node) as association:
                responses = association.send_c_find(asked, STUDY_ROOT, msg_id=3)
                association.send_c_cancel(3, query_model=STUDY_ROOT)
                ((final, nothing),) = responses
        ((following, _),) = find(node, asked)

    assert final.Status == 0xFE00
    assert nothing is None
    assert following.Status == 0x0000


@pytest.mark.parametrize("how", ["abort", "close"])
def test_a_query_that_finds_nothing_for_long_ends_with_its_association(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    asked = identifier("STUDY", StudyInstanceUID="")
    with served(tmp_path) as node:  # which drains at its end
        begun = threading.Event()

        def statement(_: Query) -> tuple[str, list[str]]:
            begun.set()
            return LONG, []

        monkeypatch.setattr(node.archive._prepared, "statement", statement)
        with asking(node) as association:
            association.send_c_find(asked, STUDY_ROOT)
            assert begun.wait(10)
            if how == "abort":
                association.abort()
            else:
                association.dul.socket.close()


def test_a_query_for_too_much_names_the_element(tmp_path: Path) -> None:
    asked = identifier("SERIES", StudyInstanceUID="1.2", SeriesNumber=["7"] * 101)
    with served(tmp_path, budgets={"key_values": 100}) as node:
        fill(node)
        ((final, nothing),) = find(node, asked)
        ((few, _),) = find(node, identifier("SERIES", StudyInstanceUID="1.2", SeriesNumber=["7"]))

    assert final.Status == 0xA900
    assert final.OffendingElement == 0x00200011
    assert final.ErrorComment == "more than 100 values in all keys, patterns count as 100"
    assert nothing is None
    assert few.Status == 0x0000


def test_relational_query_needs_negotiation_and_gets_it(tmp_path: Path) -> None:
    asked = identifier("SERIES", SeriesInstanceUID="1.2.826.1.1.1")
    with served(tmp_path) as node:
        fill(node)
        ((hierarchical, _),) = find(node, asked)
        with asking(node, extended=b"\x01\x01\x01") as association:
            agreed = association.acceptor.sop_class_extended
            *matches, (final, _) = association.send_c_find(asked, STUDY_ROOT)

    assert hierarchical.Status == 0xA900
    assert agreed == {STUDY_ROOT: b"\x01\x01\x01"}  # fuzzy matching of names too
    assert [match.SeriesInstanceUID for _, match in matches if match] == ["1.2.826.1.1.1"]
    assert final.Status == 0x0000


def test_combined_date_time_is_used_when_negotiated(tmp_path: Path) -> None:
    # From noon of the 1st to noon of the 3rd; separately, the 2nd at 18:00 is out of hours.
    asked = identifier("STUDY", StudyDate="20240101-20240103", StudyTime="110000-130000")
    with served(tmp_path) as node:
        node.store(image(study="1.2.3", series="1.2.3.1", StudyDate="20240102", StudyTime="180000"))
        separate = find(node, asked)
        combined = find(node, asked, extended=b"\x00\x01")

    assert len(separate) == 1
    assert len(combined) == 2


def test_peer_that_may_not_query(tmp_path: Path) -> None:
    peers = {"SENDER": {"host": "127.0.0.1", "port": 104, "may": ["store"]}}
    with served(tmp_path, peers=peers) as node:
        fill(node)
        asked = identifier("STUDY", StudyInstanceUID="")
        ((refused, _),) = find(node, asked, calling="SENDER")
        others = find(node, asked)

    assert refused.Status == 0x0124
    assert len(others) == 4


def test_index_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lfscp.archive.errors import ArchiveError

    def no_index(*_: object, **__: object) -> Iterator[bytes]:
        raise ArchiveError("read the index", "disk I/O error")
        yield b""

    with served(tmp_path) as node:
        monkeypatch.setattr(node.archive, "find", no_index)
        ((final, _),) = find(node, identifier("STUDY", StudyInstanceUID=""))

    assert final.Status == 0xA700
    assert final.ErrorComment == "index error, see the log"


@pytest.mark.parametrize(
    "wire",
    [
        b"\x08\x00\x52\x00CS\xff\x7fSTUDY ",  # an element longer than what there is
        b"\x08\x00\x52",  # half a tag
        b"\xff" * 40,
    ],
)
def test_identifier_that_cannot_be_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wire: bytes
) -> None:
    monkeypatch.setattr("pynetdicom.association.encode", lambda *_: wire)
    with served(tmp_path) as node:
        fill(node)
        asked = identifier("STUDY", StudyInstanceUID="")
        ((final, _),) = find(node, asked, syntax="1.2.840.10008.1.2.1")
        monkeypatch.undo()
        afterwards = find(node, asked)

    assert final.Status in (0xC001, 0xA900)
    assert final.ErrorComment
    assert "Error" not in final.ErrorComment  # no class of an exception
    assert "DatasetError" not in final.ErrorComment
    assert len(afterwards) == 4
