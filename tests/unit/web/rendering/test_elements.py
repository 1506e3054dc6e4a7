"""An object's elements as text: as pydicom reads them, some at a time, however many there are."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from lfscp.web.imaging.errors import NoPictureError
from lfscp.web.rendering.elements import elements
from tests.support.web_objects import CT_CLASS, new, set_pixels


def sample():
    """What an object may have: names in two character sets, private elements, items in items."""
    dataset = set_pixels(
        new(CT_CLASS, "1.2.3.4", "1.2", "1.2.3"),
        np.full((4, 4), 7, "<i2"),
        PatientName="Müller^Jörg",
        WindowCenter=["40", "50"],
        PixelPaddingValue=-2000,
        SmallestImagePixelValue=-7,
    )
    block = dataset.private_block(0x0009, "LFSCP TEST", create=True)
    block.add_new(0x01, "SH", "own")
    block.add_new(0x02, "SQ", [Dataset()])
    inner, outer, latin = Dataset(), Dataset(), Dataset()
    inner.CodeMeaning = "Übersicht"
    outer.ConceptNameCodeSequence = Sequence([inner, Dataset()])
    latin.SpecificCharacterSet = "ISO_IR 100"
    latin.CodeMeaning = "Größe"
    dataset.ContentSequence = Sequence([outer, latin])
    return dataset


def expected(dataset, depth=0):
    for element in dataset:
        if element.keyword == "PixelData":
            return
        if element.VR == "SQ":
            count = len(element.value)
            value = f"{count} item{'' if count == 1 else 's'}"
        elif element.VM > 1:
            value = "\\".join(map(str, element.value))
        else:
            value = str(element.value)
        if element.VR in ("UN", "OB", "OW"):
            value = f"{len(element.value)} bytes"
        yield depth, element.VR, element.name, value
        if element.VR == "SQ":
            for number, item in enumerate(element.value, 1):
                yield depth + 1, "", f"item {number}", ""
                yield from expected(item, depth + 1)


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
@pytest.mark.parametrize("undefined", [True, False])
def test_elements_are_those_that_pydicom_reads(tmp_path, syntax, undefined):
    path = tmp_path / "object.dcm"
    dataset = sample()
    for element in dataset.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = undefined
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.FileMetaInformationGroupLength = 0  # as pydicom finds out
    if syntax == ExplicitVRBigEndian:
        dataset["PixelData"].VR = "OW"
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    dcmwrite(
        path,
        dataset,
        implicit_vr=implicit,
        little_endian=little,
        force_encoding=syntax == ExplicitVRBigEndian,
        enforce_file_format=syntax != ExplicitVRBigEndian,
    )
    found, following = elements(path)

    read = dcmread(path)
    wanted = [*expected(read.file_meta), *expected(read)]
    assert [(each.depth, each.vr, each.name, each.value) for each in found] == wanted
    assert following is None


def test_a_page_of_elements_is_followed_by_the_next(tmp_path):
    path = tmp_path / "object.dcm"
    sample().save_as(path, enforce_file_format=True)
    whole, _ = elements(path)
    found, first = [], 0
    while first is not None:
        page, first = elements(path, first, 5)
        assert len(page) <= 5
        found += page

    assert found == whole


def test_many_items_cost_no_memory_and_are_counted(tmp_path):
    item = b"\xfe\xff\x00\xe0\x10\0\0\0" + b"\x08\0\x04\x01LO\x08\0meaning "
    for length, end in ((len(item) * 10_000, b""), (0xFFFFFFFF, b"\xfe\xff\xdd\xe0" + bytes(4))):
        path = tmp_path / "object.dcm"
        new(CT_CLASS, "1.2.3.4", "1.2", "1.2.3").save_as(path, enforce_file_format=True)
        with path.open("ab") as file:
            file.write(b"\x40\0\x30\xa7SQ\0\0" + length.to_bytes(4, "little") + item * 10_000 + end)
        elements(path, 0, 10)  # pydicom's dictionaries are loaded
        tracemalloc.start()
        try:
            found, _ = elements(path, 15_000, 4)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert {each.value for each in found} == {"", "meaning"}
        assert most < 1 << 20
        (sequence,) = [each for each in elements(path, 0, 30)[0] if each.vr == "SQ"]
        assert sequence.value == "10000 items"


def test_what_is_broken_hides_nothing_that_comes_before_it(tmp_path):
    path = tmp_path / "object.dcm"
    dataset = new(CT_CLASS, "1.2.3.4", "1.2", "1.2.3", PatientID="P-1")
    dataset.add_new("Rows", "US", 7)
    dataset.save_as(path, enforce_file_format=True)
    with path.open("ab") as file:
        file.write(b"\x40\0\x08\x02LO\xf0\xf0too short")
    found, _ = elements(path)

    assert ("Patient ID", "P-1") in [(each.name, each.value) for each in found]
    assert found[-1].value.startswith("the rest cannot be read: the dataset ends inside")


def test_a_value_that_does_not_fit_its_vr_hides_no_other(tmp_path):
    path = tmp_path / "object.dcm"
    new(CT_CLASS, "1.2.3.4", "1.2", "1.2.3").save_as(path, enforce_file_format=True)
    with path.open("ab") as file:
        file.write(b"\x28\0\x10\0US\x03\0abc\x28\0\x11\0US\x02\0\x05\0")
    values = {each.tag: each.value for each in elements(path)[0]}

    assert values["(0028,0010)"] == "cannot be read: its value does not fit its VR"
    assert values["(0028,0011)"] == "5"


def test_what_is_no_dicom_file_has_no_elements(tmp_path):
    path = tmp_path / "object.dcm"
    path.write_bytes(b"nothing of the kind")

    with pytest.raises(NoPictureError, match="this object cannot be read"):
        elements(path)
