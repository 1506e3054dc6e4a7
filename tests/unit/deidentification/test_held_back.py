"""What cannot be de-identified for sure is held back, with the reason."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from lfscp.deidentification.deidentifier import Deidentifier
from lfscp.deidentification.errors import DeidentificationRequestError, HeldBackError
from lfscp.deidentification.pixels.burned_in import read_device_rules
from tests.support.marked_objects import (
    BASIC_TEXT_SR,
    CT,
    OUTER,
    dataset,
    element,
    file_of,
    sequence,
)

KEY = b"the key of a project"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
EXPLICIT = "1.2.840.10008.1.2.1"


def reason(content: bytes, syntax: str = EXPLICIT) -> str:
    with pytest.raises(HeldBackError) as held:
        Deidentifier(key=KEY).deidentify_dataset(content, syntax)
    return held.value.reason


@pytest.mark.parametrize("cut", [1, 5, 9, 30, 101])
def test_objects_cut_short(cut: int) -> None:
    name = element(0x00100010, b"Doe^Jane")
    content = dataset(
        {OUTER: sequence(OUTER, name, name), 0x00204000: element(0x00204000, b"x" * 80)}
    )
    assert reason(content[:-cut])


def test_a_length_that_lies_within_an_item() -> None:
    name = element(0x00100010, b"Doe^Jane")
    lying = name[:6] + struct.pack("<H", 400) + name[8:]
    content = dataset({OUTER: sequence(OUTER, lying), 0x00204000: element(0x00204000, b"x" * 800)})
    assert "400 bytes of value" in reason(content)


def test_an_item_that_is_longer_than_its_sequence() -> None:
    item = sequence(OUTER, element(0x00100010, b"Doe^Jane"))
    lying = item[:16] + struct.pack("<L", 400) + item[20:]
    assert "400 bytes of an item" in reason(
        dataset({OUTER: lying, 0x00204000: element(0x00204000, b"x" * 800)})
    )


def test_elements_out_of_order_which_another_reader_may_see_otherwise() -> None:
    content = dataset({}) + element(0x00100010, b"Doe^Jane")
    assert "ascending order" in reason(content)


@pytest.mark.parametrize(
    ("sop_class", "words"),
    [
        ("1.3.12.2.1107.5.9.1", "not one of the standard's"),
        ("1.2.840.10008.5.1.4.1.1.999", "not one of the standard's"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "encapsulated document"),
        ("1.2.840.10008.5.1.4.1.1.104.3", "encapsulated document"),
        ("1.2.840.10008.1.3.10", "DICOMDIR"),
    ],
)
def test_classes_that_are_unknown_or_documents(sop_class: str, words: str) -> None:
    assert words in reason(dataset({}, sop_class))


def test_an_encapsulated_document_in_any_other_class() -> None:
    document = element(0x00420011, b"%PDF Jane Doe", as_vr=b"OB")
    assert "encapsulated document" in reason(dataset({0x00420011: document}))


def test_directory_records_in_any_other_class() -> None:
    records = sequence(0x00041220, element(0x00100010, b"Doe^Jane"))
    assert "DICOMDIR" in reason(dataset({0x00041220: records}))


def test_a_dicomdir_of_pydicom() -> None:
    content = Path(str(get_testdata_file("DICOMDIR"))).read_bytes()
    with pytest.raises(HeldBackError, match="DICOMDIR"):
        Deidentifier(key=KEY).deidentify(content)


def test_what_is_no_dicom() -> None:
    with pytest.raises(HeldBackError, match="DICM"):
        Deidentifier(key=KEY).deidentify(b"Jane Doe has a cold" * 20)


def test_missing_uids() -> None:
    assert "UID" in reason(dataset({0x0020000D: element(0x0020000D, b"")}))


def test_structured_reports_of_unknown_structure() -> None:
    text = element(0x0040A160, b"Jane Doe")
    container = element(0x0040A040, b"CONTAINER")
    no_type = sequence(0x0040A730, text)
    odd_type = sequence(0x0040A730, element(0x0040A040, b"JANE") + text)
    assert "not a container" in reason(dataset({0x0040A160: text}, BASIC_TEXT_SR))
    for items, words in ((no_type, "no value type"), (odd_type, "unknown value type")):
        elements = {0x0040A040: container, 0x0040A730: items}
        assert words in reason(dataset(elements, BASIC_TEXT_SR))


def test_sequences_nested_too_deep() -> None:
    nested = element(0x00100010, b"Doe^Jane")
    for _ in range(200):
        nested = sequence(OUTER, nested)
    assert "nested" in reason(dataset({OUTER: nested}))


# Burned-in text


def image(sop_class: str = CT, **given: bytes) -> bytes:
    """A grey image of 4 rows and 6 columns in two frames, all pixels 255."""
    values = {
        0x00080008: b"ORIGINAL\\PRIMARY",
        0x00080060: b"US",
        0x00080070: b"Maker",
        0x00081090: b"Model 1",
        0x00280002: struct.pack("<H", 1),
        0x00280004: b"MONOCHROME2",
        0x00280008: b"2",
        0x00280010: struct.pack("<H", 4),
        0x00280011: struct.pack("<H", 6),
        0x00280100: struct.pack("<H", 8),
        0x00280101: struct.pack("<H", 8),
        0x00280102: struct.pack("<H", 7),
        0x00280103: struct.pack("<H", 0),
        **{int(tag.removeprefix("t"), 16): value for tag, value in given.items()},
    }
    elements = {tag: element(tag, value) for tag, value in values.items()}
    elements[0x7FE00010] = element(0x7FE00010, b"\xff" * 48, as_vr=b"OB")
    return dataset(elements, sop_class)


@pytest.mark.parametrize(
    "content",
    [
        image(SECONDARY_CAPTURE),
        image("1.2.840.10008.5.1.4.1.1.6.1"),
        image(t00280301=b"YES"),
        image(t00280301=b"no idea"),
        image(t00080064=b"WSD"),
        image(t00080008=b"DERIVED\\SECONDARY\\SCREEN SAVE"),
    ],
)
def test_text_may_be_burned_in(content: bytes) -> None:
    assert "burned into its pixels" in reason(content)


def test_an_overlay_in_the_bits_of_pixels_that_are_not_used() -> None:
    content = image(t60000102=struct.pack("<H", 12))
    assert "overlay" in reason(content)
    assert Deidentifier(key=KEY).deidentify_dataset(image(t60000102=b"\0\0"), EXPLICIT)


@pytest.mark.parametrize(
    "content", [image(), image(t00280301=b"NO"), image(SECONDARY_CAPTURE, t00280301=b"NO")]
)
def test_nothing_is_suspected(content: bytes) -> None:
    found = Deidentifier(key=KEY).deidentify_dataset(content, EXPLICIT).to_bytes()
    assert found.endswith(b"\xff" * 48)


def rules_of(folder: Path, text: str) -> Deidentifier:
    file = folder / "devices.toml"
    file.write_text(text)
    return Deidentifier(key=KEY, devices=read_device_rules(file))


def test_a_rule_of_the_device_blackens_its_rectangles_in_every_frame(tmp_path: Path) -> None:
    deidentifier = rules_of(
        tmp_path,
        '[[device]]\nmanufacturer = "MAKER"\nmodel = "model 1"\nrows = 4\n'
        "rectangles = [[0, 0, 3, 1], [4, 3, 100, 100]]\n",
    )
    content = image(SECONDARY_CAPTURE, t00280301=b"YES")
    found = deidentifier.deidentify_dataset(content, EXPLICIT).to_bytes()
    frame = b"\0\0\0\xff\xff\xff" + b"\xff" * 12 + b"\xff\xff\xff\xff\0\0"
    assert found.endswith(frame * 2)
    assert b"113101" in found
    assert b"NO" in found[found.index(b"\x28\x00\x01\x03") :][:12]


def test_pixels_are_passed_on_and_not_copied() -> None:
    content = image()
    found = Deidentifier(key=KEY).deidentify_dataset(content, EXPLICIT)
    last = found.dataset[-1]
    assert isinstance(last, memoryview)
    assert last.obj is content


def test_colours_are_blackened_by_plane_and_by_pixel(tmp_path: Path) -> None:
    deidentifier = rules_of(
        tmp_path, '[[device]]\nmanufacturer = "Maker"\nrectangles = [[1, 0, 1, 1]]\n'
    )
    colours = {
        "t00280002": struct.pack("<H", 3),
        "t00280004": b"RGB",
        "t00280008": b"1",
        "t00280010": struct.pack("<H", 4),
        "t00280011": struct.pack("<H", 4),
    }
    by_pixel = image(CT, **colours, t00280006=struct.pack("<H", 0))
    by_plane = image(CT, **colours, t00280006=struct.pack("<H", 1))
    pixels = deidentifier.deidentify_dataset(by_pixel, EXPLICIT).to_bytes()[-48:]
    assert pixels == b"\xff" * 3 + b"\0" * 3 + b"\xff" * 42
    planes = deidentifier.deidentify_dataset(by_plane, EXPLICIT).to_bytes()[-48:]
    assert planes == (b"\xff\0" + b"\xff" * 14) * 3


def test_a_rule_without_rectangles_says_that_the_device_draws_nothing(tmp_path: Path) -> None:
    deidentifier = rules_of(tmp_path, '[[device]]\nmanufacturer = "Maker"\nrectangles = []\n')
    found = deidentifier.deidentify_dataset(image(SECONDARY_CAPTURE), EXPLICIT).to_bytes()
    assert found.endswith(b"\xff" * 48)


def test_compressed_pixels_that_need_cleaning(tmp_path: Path) -> None:
    deidentifier = rules_of(
        tmp_path, '[[device]]\nmanufacturer = "Maker"\nrectangles = [[0, 0, 1, 1]]\n'
    )
    fragments = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x02\0\0\0ab\xfe\xff\xdd\xe0\0\0\0\0"
    content = image()[: -48 - 12] + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + fragments
    with pytest.raises(HeldBackError, match="compressed"):
        deidentifier.deidentify_dataset(content, "1.2.840.10008.1.2.4.50")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("device = 1", "expected tables"),
        ("[[device]]\nrectangles = []", "names no device"),
        ('[[device]]\nmanufacturer = "A"', "key rectangles"),
        ('[[device]]\nmanufacturer = "A"\nrectangles = [[1, 2, 3]]', "left, top, width"),
        ('[[device]]\nmaker = "A"\nrectangles = []', "unknown key maker"),
        ("[[device", "no TOML"),
    ],
)
def test_wrong_device_rules_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DeidentificationRequestError, match=words):
        rules_of(tmp_path, text)


def test_a_file_as_it_is_written_elsewhere() -> None:
    """No preamble, but the prefix: it is read, and comes out whole."""
    content = file_of(dataset({}))[128:]
    found = Deidentifier(key=KEY).deidentify(content).to_bytes()
    assert found[128:132] == b"DICM"
