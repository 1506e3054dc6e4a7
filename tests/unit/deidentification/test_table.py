"""The table is that of PS3.15, whole: rows, actions, options, and a VR for each attribute."""

from __future__ import annotations

from collections import Counter

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as other

from lfscp.deidentification.options import Option
from lfscp.deidentification.table import EDITION, PRIVATE, row_of, rows

ACTIONS = {
    "X": 416,
    "D": 93,
    "U": 55,
    "Z": 42,
    "X/D": 23,
    "X/Z": 11,
    "X/Z/D": 8,
    "Z/D": 6,
    "X/Z/U*": 2,
}
OPTIONS = {
    Option.RETAIN_SAFE_PRIVATE: {"C": 1},
    Option.RETAIN_UIDS: {"K": 60},
    Option.RETAIN_DEVICE: {"K": 48, "C": 11},
    Option.RETAIN_INSTITUTION: {"K": 10},
    Option.RETAIN_PATIENT_CHARACTERISTICS: {"K": 14, "C": 5},
    Option.RETAIN_FULL_DATES: {"K": 169},
    Option.RETAIN_MODIFIED_DATES: {"C": 169},
    Option.CLEAN_DESCRIPTORS: {"C": 140},
    Option.CLEAN_STRUCTURED_CONTENT: {"C": 4},
    Option.CLEAN_GRAPHICS: {"C": 4},
}


def test_the_table_has_all_rows_and_actions_of_its_edition() -> None:
    assert EDITION == "2026c"
    assert len(rows()) == 656
    assert Counter(row.basic for row in rows()) == ACTIONS
    assert len({row.tag for row in rows()}) == 656


def test_each_option_has_its_column() -> None:
    for option, counts in OPTIONS.items():
        cells = Counter(row.by_option[option] for row in rows() if option in row.by_option)
        assert cells == counts, option


def test_rows_that_came_last_have_their_options() -> None:
    """Those that editions before 2026 lack."""
    expected = {
        0x00181010: {Option.RETAIN_DEVICE: "K"},
        0x00181011: {Option.RETAIN_DEVICE: "K"},
        0x00321033: {Option.CLEAN_DESCRIPTORS: "C"},
        0x003A0020: {Option.CLEAN_DESCRIPTORS: "C"},
        0x003A0203: {Option.CLEAN_DESCRIPTORS: "C"},
        0x003A020C: {Option.CLEAN_DESCRIPTORS: "C"},
        0x00400556: {Option.CLEAN_DESCRIPTORS: "C"},
        0x0040B020: {Option.CLEAN_STRUCTURED_CONTENT: "C"},
        0x0040E012: {},
        0x00700006: {Option.CLEAN_DESCRIPTORS: "C"},
    }
    for tag, by_option in expected.items():
        row = row_of(tag)
        assert row is not None
        assert row.by_option == by_option, row.name


def test_each_attribute_has_a_vr_even_if_pydicom_lacks_it() -> None:
    many = {PRIVATE, "50xxxxxx"}
    assert [row.tag for row in rows() if not row.vr] == [
        row.tag for row in rows() if row.tag in many
    ]


def test_the_basic_column_is_that_of_another_reader_of_the_standard() -> None:
    """dicom-anonymizer reads the same table; its repeating groups have masks."""
    lists = {
        "X": other.X_TAGS,
        "D": other.D_TAGS,
        "U": other.U_TAGS,
        "Z": other.Z_TAGS,
        "X/D": other.X_D_TAGS,
        "X/Z": other.X_Z_TAGS,
        "X/Z/D": other.X_Z_D_TAGS,
        "Z/D": other.Z_D_TAGS,
        "X/Z/U*": other.X_Z_U_STAR_TAGS,
    }
    theirs = {
        group << 16 | element: action
        for action, tags in lists.items()
        for group, element, *mask in tags
        if not mask
    }
    ours = {int(row.tag, 16): row.basic for row in rows() if row.vr and "x" not in row.tag}
    assert ours == theirs
