"""Structured reports as text: whole, in order, with units and codes, and bounded when hostile."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from lfscp.web.documents.report import MAX_DEPTH, MAX_LINES, Line, report
from lfscp.web.imaging.errors import NoPictureError
from tests.support.web_objects import REPORT_CLASS, new

SAMPLE = Path(get_testdata_file("test-SR.dcm"))


def code(meaning: str, value: str = "1", scheme: str = "99TEST") -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return [item]


def node(kind: str, name: str = "", **values) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", kind
    if name:
        item.ConceptNameCodeSequence = code(name)
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def measured(value: str, unit: str, meaning: str = "", scheme: str = "UCUM") -> Dataset:
    number = Dataset()
    number.NumericValue = value
    number.MeasurementUnitsCodeSequence = code(meaning or unit, unit, scheme)
    return node("NUM", "Diameter", MeasuredValueSequence=[number])


def written(folder: Path, *children: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    dataset = new(REPORT_CLASS, "1.2.3.4", "1.2", "1.2.3", ValueType="CONTAINER")
    dataset.ConceptNameCodeSequence = code("Findings")
    dataset.ContentSequence = list(children)
    dataset.file_meta.TransferSyntaxUID = syntax
    return save(dataset, folder / "report.dcm")


def save(dataset: FileDataset, path: Path) -> Path:
    syntax = dataset.file_meta.TransferSyntaxUID
    dataset.file_meta.FileMetaInformationGroupLength = 0  # as pydicom finds out
    dcmwrite(
        path,
        dataset,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        force_encoding=syntax == ExplicitVRBigEndian,
        enforce_file_format=syntax != ExplicitVRBigEndian,
    )
    return path


def expected(item: Dataset, number: str = "1"):
    """The tree as pydicom reads it: place, type and name of each content item."""
    name = item.get("ConceptNameCodeSequence")
    yield number, item.get("ValueType", ""), name[0].CodeMeaning if name else ""
    for at, child in enumerate(item.get("ContentSequence", []), 1):
        yield from expected(child, f"{number}.{at}")


def test_the_tree_is_the_one_that_pydicom_reads():
    found = report(SAMPLE)

    tree = [(each.number, each.value_type, each.name) for each in found.lines]
    assert tree == list(expected(dcmread(SAMPLE)))
    assert (found.completion, found.verification, found.left_out) == ("COMPLETE", "VERIFIED", "")
    assert found.observers[0] == "Riesmeier^Jörg 20010213184746"
    by_number = {each.number: each for each in found.lines}
    assert by_number["1.2.2"].value == "3"
    assert by_number["1.2.2"].units == "Length Unit"
    assert by_number["1.2.1.1"].value == "Sample Code 1"
    assert by_number["1.2.1.1"].value_code == "(2222, 99_OFFIS_DCMTK)"
    assert by_number["1.3.3.1"].value == "see 1.3.2"
    assert by_number["1.5"].value == "CT Image Storage, frame 5, 2"
    assert by_number["1.5"].reference == "1.2.3.4.5.0"


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_a_report_is_the_same_in_every_encoding(tmp_path, syntax):
    text = node("TEXT", "Größe", TextValue="<b>fünf</b> & more")
    found = report(written(tmp_path, text, measured("12.50", "mm"), syntax=syntax))

    assert [(each.name, each.value, each.units) for each in found.lines] == [
        ("Findings", "", ""),
        ("Größe", "<b>fünf</b> & more", ""),
        ("Diameter", "12.50", "mm"),
    ]


def test_a_unit_is_shown_by_its_symbol_and_what_is_none_is_not(tmp_path):
    found = report(
        written(
            tmp_path,
            measured("3", "cm2", "square centimeter"),
            measured("0.4", "1", "no units"),
            measured("7", "{nodules}", "nodules"),
            measured("9", "X1", "furlong", "99TEST"),
            node("NUM", "Volume", NumericValueQualifierCodeSequence=code("Not a number")),
        )
    )

    values = [(each.value, each.units) for each in found.lines[1:]]
    assert values == [("3", "cm2"), ("0.4", ""), ("7", ""), ("9", "furlong"), ("Not a number", "")]


def test_an_item_may_have_a_character_set_of_its_own(tmp_path):
    item = node("TEXT", TextValue="Größe")
    item.SpecificCharacterSet = "ISO_IR 100"
    inner = node("TEXT", TextValue="Länge")
    item.ContentSequence = [inner]
    found = report(written(tmp_path, item, node("TEXT", TextValue="Дом")))

    assert [each.value for each in found.lines[1:]] == ["Größe", "Länge", "Дом"]


def test_a_report_without_content_is_one_line(tmp_path):
    assert [each.value_type for each in report(written(tmp_path)).lines] == ["CONTAINER"]


def test_what_is_no_report_says_so(tmp_path):
    path = save(new(REPORT_CLASS, "1.2.3.4", "1.2", "1.2.3"), tmp_path / "none.dcm")
    with pytest.raises(NoPictureError, match="this object holds no report"):
        report(path)


def explicit(tag: bytes, vr: bytes, value: bytes, *, undefined: bool = False) -> bytes:
    if vr == b"SQ":
        length = 0xFFFFFFFF if undefined else len(value)
        return tag + vr + bytes(2) + length.to_bytes(4, "little") + value
    value += b" " * (len(value) % 2)
    return tag + vr + len(value).to_bytes(2, "little") + value


TYPE = explicit(b"\x40\x00\x40\xa0", b"CS", b"TEXT")
CONTENT = b"\x40\x00\x30\xa7"


def raw(folder: Path, dataset: bytes) -> Path:
    path = folder / "raw.dcm"
    meta = new(REPORT_CLASS, "1.2.3.4", "1.2", "1.2.3").file_meta
    with path.open("wb") as file:
        file.write(bytes(128) + b"DICM")
        write_file_meta_info(file, meta, enforce_standard=True)
        file.write(dataset)
    return path


def item(content: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + len(content).to_bytes(4, "little") + content


def nested(levels: int) -> bytes:
    opened = CONTENT + b"SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + TYPE
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return TYPE + opened * levels + closed * levels


def test_items_nested_deep_are_shown_to_a_depth(tmp_path):
    found = report(raw(tmp_path, nested(500)))

    assert [each.depth for each in found.lines] == list(range(MAX_DEPTH + 1))
    assert found.left_out == f"What is nested more than {MAX_DEPTH} deep is not shown."


def test_items_nested_without_end_are_looked_at_for_a_while(tmp_path):
    before = time.thread_time()
    found = report(raw(tmp_path, nested(50_000)))

    assert time.thread_time() - before < 20
    assert 1 < len(found.lines) < MAX_DEPTH
    assert found.left_out.startswith("The rest is not shown: this object has too many elements")


def test_a_million_items_are_shown_as_far_as_one_reads(tmp_path):
    value = item(TYPE) * 1_000_000
    found = report(raw(tmp_path, TYPE + explicit(CONTENT, b"SQ", value)))

    assert len(found.lines) == MAX_LINES
    assert found.left_out == "The report goes on. Only its first 5,000 lines are shown."


def test_a_lying_length_ends_the_report_with_a_reason(tmp_path):
    good = item(TYPE + explicit(b"\x40\x00\x60\xa1", b"LO", b"good"))
    bad = b"\xfe\xff\x00\xe0" + (12).to_bytes(4, "little") + b"\x40\x00\x40\xa0CS\xff\x7fab"
    found = report(raw(tmp_path, TYPE + explicit(CONTENT, b"SQ", good + bad)))

    assert [each.value for each in found.lines] == ["", "good"]
    assert found.left_out.startswith("The rest cannot be read: ")


def test_a_long_text_is_cut_off(tmp_path):
    found = report(written(tmp_path, node("TEXT", "Text", TextValue="x" * 100_000)))
    assert len(found.lines[1].value) == 20_000


def test_the_api_gives_the_lines(client):
    assert client.post("/api/instances", content=SAMPLE.read_bytes()).status_code == 201
    uid = dcmread(SAMPLE).SOPInstanceUID
    answer = client.get(f"/api/instances/{uid}/report")

    assert answer.status_code == 200
    assert [Line(**each) for each in answer.json()["lines"]] == report(SAMPLE).lines


def test_the_api_refuses_what_is_no_report(filled):
    uid = "1.2.826.0.1.3680043.10.1.1.1.1"
    answer = filled.get(f"/api/instances/{uid}/report")
    assert (answer.status_code, answer.json()["detail"]) == (422, "this object holds no report")
