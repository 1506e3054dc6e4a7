"""What a directory record needs of an object, without what is large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    BasicTextSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.jobs.file_sets.record_head import read_record_head

SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


def head_of(folder: Path, syntax: str, sop_class: str, **values: Any) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, "1.2.3"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    file = DicomBytesIO()
    file.is_implicit_VR = syntax == ImplicitVRLittleEndian
    file.is_little_endian = syntax != ExplicitVRBigEndian
    write_dataset(file, dataset)
    path, begin = folder / "object.dcm", part10_header(sop_class, "1.2.3", syntax)
    path.write_bytes(begin + file.getvalue())
    return read_record_head(
        StoredInstance(sop_class, "1.2.3", syntax, path, len(begin), 0, "1.1", "1.1.1")
    )


def content_item(relationship: str, text: str) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.TextValue = relationship, "TEXT", text
    return item


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_document_is_named_without_its_bytes(tmp_path: Path, syntax: str, size: int) -> None:
    values = {"EncapsulatedDocument": bytes(size), "MIMETypeOfEncapsulatedDocument": "text/xml"}
    head = head_of(tmp_path, syntax, EncapsulatedPDFStorage, **values)

    assert not head.EncapsulatedDocument
    assert head.MIMETypeOfEncapsulatedDocument == "text/xml"


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("size", [10, 100_000])
def test_of_a_report_the_items_that_modify_its_title_are_read(
    tmp_path: Path, syntax: str, undefined: bool, size: int
) -> None:
    items = [
        content_item("HAS CONCEPT MOD", "German"),
        content_item("CONTAINS", "x" * size),
        content_item("HAS CONCEPT MOD", "brief"),
    ]
    for each in items:
        each.is_undefined_length_sequence_item = undefined
    dataset = Dataset()
    dataset.ContentSequence = items
    dataset["ContentSequence"].is_undefined_length = undefined
    found = head_of(
        tmp_path,
        syntax,
        BasicTextSRStorage,
        ContentSequence=dataset.ContentSequence,
        CompletionFlag="COMPLETE",
        ContentLabel="BEHIND",
    )

    assert [each.TextValue for each in found.ContentSequence] == ["German", "brief"]
    assert found.CompletionFlag == "COMPLETE"


def test_without_such_items_there_is_no_sequence(tmp_path: Path) -> None:
    items = [content_item("CONTAINS", "x")]
    head = head_of(tmp_path, ExplicitVRLittleEndian, BasicTextSRStorage, ContentSequence=items)

    assert "ContentSequence" not in head
