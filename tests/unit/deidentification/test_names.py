"""What an object says to be a name or a number of a person stands nowhere in what comes out."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from lfscp.deidentification.deidentifier import Deidentifier
from lfscp.deidentification.options import Option
from tests.support.marked_objects import OUTER, dataset, element, sequence

KEY = b"the key of a project"
EXPLICIT = "1.2.840.10008.1.2.1"
PATIENT = {
    0x00080050: element(0x00080050, b"ACC-77889"),
    0x00080090: element(0x00080090, b"Quimby^Philip"),
    0x00100010: element(0x00100010, b"Doe^Jane^Head"),
    0x00100020: element(0x00100020, b"MRN00123"),
}
TELLING = re.compile(rb"(?i)doe|jane|quimby|mrn00123|77889")


def out(elements: dict[int, bytes], options: Iterable[Option] = ()) -> bytes:
    content = dataset({**PATIENT, **elements})
    return Deidentifier(options, KEY).deidentify_dataset(content, EXPLICIT).to_bytes()


@pytest.mark.parametrize(
    ("tag", "value", "stays"),
    [
        (0x00080008, b"ORIGINAL\\DOE JANE", b"ORIGINAL\\UNKNOWN"),
        (0x00180015, b"DOE", b"UNKNOWN"),
        (0x00181020, b"v1 of jane", b""),
        (0x00281055, b"BRAIN\\Doe's window", b"BRAIN"),
        (0x00281055, b"Thorax 77889", b"Thorax"),
        (0x00080060, b"CT", b"CT"),
    ],
)
def test_a_name_in_what_the_profile_keeps_goes(tag: int, value: bytes, stays: bytes) -> None:
    found = out({tag: element(tag, value)})
    assert not TELLING.search(found)
    assert stays in found


def test_a_name_in_an_item_goes_and_other_items_stay() -> None:
    regions = sequence(
        0x30060020,
        element(0x30060026, b"DOE_BRAIN", as_vr=b"LO"),
        element(0x30060026, b"Chiasm-2", as_vr=b"LO"),
    )
    found = out({0x30060020: regions}, [Option.CLEAN_DESCRIPTORS])
    assert not TELLING.search(found)
    code = (
        element(0x00080100, b"MRN00123")
        + element(0x00080102, b"99LOCAL")
        + element(0x00080104, b"Knee of Doe")
    )
    found = out({0x00082218: sequence(0x00082218, code)})
    assert not TELLING.search(found)
    assert b"Knee" in found


def test_what_has_no_name_is_not_touched() -> None:
    """HEAD is a name here, and a word of medicine: as such it tells nobody."""
    values = {0x00180015: b"HEAD", 0x00080008: b"ORIGINAL\\PRIMARY\\AXIAL", 0x00181020: b"syngo 7"}
    found = out({tag: element(tag, value) for tag, value in values.items()})
    assert all(value in found for value in values.values())


@pytest.mark.parametrize(
    ("charset", "name", "kept"),
    [
        (b"ISO_IR 192", "Müller^Jörg".encode(), "von Müller".encode()),
        (b"\\ISO 2022 IR 87", b"A^B=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", b"v \x1b$B;3ED\x1b(B x"),
    ],
)
def test_names_in_other_letters(charset: bytes, name: bytes, kept: bytes) -> None:
    found = out(
        {
            0x00080005: element(0x00080005, charset),
            0x00100010: element(0x00100010, name),
            0x00181020: element(0x00181020, kept),
        }
    )
    assert kept[2:-1] not in found


def test_a_safe_private_code_with_a_name_goes() -> None:
    elements = {
        0x00190010: element(0x00190010, b"SIEMENS MR HEADER", as_vr=b"LO"),
        0x0019100C: element(0x0019100C, b"1000", as_vr=b"IS"),
        0x0019100D: element(0x0019100D, b"DOE", as_vr=b"CS"),
    }
    found = out(elements, [Option.RETAIN_SAFE_PRIVATE])
    assert not TELLING.search(found)
    assert b"1000" in found


def test_uids_with_a_number_of_a_patient_go() -> None:
    """Also below the root of the standard, where none of its own has such a long part."""
    reference = element(0x00081150, b"1.2.840.10008.5.1.4.1.1.2.12345678") + element(
        0x00081155, b"1.2.3.12345678"
    )
    assert b"12345678" not in out({OUTER: sequence(OUTER, reference)})


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (0x00080030, b"5551234567"),
        (0x0008002A, b"202403015551234567"),
        (0x00080020, b"2024010155512345"),
    ],
)
@pytest.mark.parametrize("option", [Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES])
def test_a_telephone_number_is_no_time(tag: int, value: bytes, option: Option) -> None:
    assert b"55512345" not in out({tag: element(tag, value)}, [option])
