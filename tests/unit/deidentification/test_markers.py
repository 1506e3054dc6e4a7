"""Nothing leaks: a marker in every place of an object, and none of them comes out."""

from __future__ import annotations

import io
import re

import pytest
from pydicom import dcmread

from lfscp.deidentification.deidentifier import Deidentifier
from lfscp.deidentification.errors import HeldBackError
from lfscp.deidentification.options import Option
from lfscp.deidentification.table import row_of, vm_of
from lfscp.dicom.encoding.elements import EXPLICIT_LITTLE, IMPLICIT_LITTLE, Encoding
from lfscp.dicom.encoding.value_representations import KNOWN
from tests.support.marked_objects import (
    BASIC_TEXT_SR,
    INNER,
    MARKER,
    OUTER,
    UIDS,
    all_tags,
    dataset,
    element,
    file_of,
    marked,
    marker,
    sequence,
    table_tags,
    vr,
)

KEY = b"sixteen bytes or"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
ENCODINGS = pytest.mark.parametrize(
    ("encoding", "syntax"), [(EXPLICIT_LITTLE, EXPLICIT), (IMPLICIT_LITTLE, IMPLICIT)]
)
# Held back as a whole, and tested so in test_held_back.py.
REFUSED = {0x00420011, 0x00041220, 0x0040A730}
OURS = {0x00120062, 0x00120063, 0x00120064, 0x00280303}
PIXELS = {0x7FE00008, 0x7FE00009, 0x7FE00010}
TEXT = {b"LO", b"SH", b"ST", b"LT", b"UC", b"UT"}
BULK = {b"OB", b"OW", b"OD", b"OF", b"OL", b"OV"}
NUMBERS = {b"AT", b"FD", b"FL", b"SL", b"SS", b"SV", b"UL", b"US", b"UV"}


def leaks(content: bytes, syntax: str = EXPLICIT, *options: Option) -> set[bytes]:
    """The markers that come out."""
    found = Deidentifier(options, KEY).deidentify_dataset(content, syntax)
    return set(MARKER.findall(found.to_bytes()))


def is_private(tag: int) -> bool:
    """Whether the standard's dictionary has it for another group than a data set's."""
    return tag >> 16 < 8 or bool(tag >> 16 & 1)


def kept_by_profile(tag: int) -> bool:
    """Whether the profile keeps text or bytes of an attribute: it is not in the table."""
    if tag == 0x0040A160 or row_of(tag) is not None or is_private(tag) or tag >> 24 in (0x50, 0x60):
        return False
    is_free = vr(tag) in TEXT | BULK
    return is_free or (vr(tag) in NUMBERS and not 0 < vm_of(tag) < 5)  # a marker has five words


def of_dataset(tags: list[int]) -> list[int]:
    return [tag for tag in tags if tag not in REFUSED | PIXELS and tag >> 16 >= 8]


@ENCODINGS
def test_no_attribute_of_the_table_comes_out(encoding: Encoding, syntax: str) -> None:
    tags = [
        tag for tag in of_dataset(table_tags()) if tag not in (0x00080018, 0x0020000D, 0x0020000E)
    ]
    assert len(tags) > 600
    assert not leaks(dataset(marked(tags, encoding), encoding=encoding), syntax)


@ENCODINGS
def test_nothing_comes_out_but_what_the_profile_keeps(encoding: Encoding, syntax: str) -> None:
    """Every attribute of every VR. What the table lacks is kept if its VR is text or bulk data."""
    found = leaks(dataset(marked(of_dataset(all_tags()), encoding), encoding=encoding), syntax)
    allowed = {marker(tag) for tag in all_tags() if kept_by_profile(tag)}
    assert found
    assert not found - allowed


@ENCODINGS
@pytest.mark.parametrize("delimited", [False, True])
def test_nothing_comes_out_of_kept_sequences_two_deep(
    encoding: Encoding, syntax: str, delimited: bool
) -> None:
    tags = of_dataset(table_tags())
    inner = b"".join(value for _, value in sorted(marked(tags, encoding).items()))
    if delimited:
        item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + inner + b"\xfe\xff\x0d\xe0\0\0\0\0"
        content = item + b"\xfe\xff\xdd\xe0\0\0\0\0"
        head = b"\x08\x00\x4a\x11" + (b"SQ\0\0" if encoding.explicit else b"") + b"\xff" * 4
        nested = sequence(OUTER, head + content, encoding=encoding)
    else:
        nested = sequence(OUTER, sequence(INNER, inner, encoding=encoding), encoding=encoding)
    assert not leaks(dataset({OUTER: nested}, encoding=encoding), syntax)


def test_nothing_comes_out_of_a_known_sequence_that_is_written_as_un() -> None:
    inner = b"".join(
        value for tag, value in sorted(marked(of_dataset(table_tags()), IMPLICIT_LITTLE).items())
    )
    writer_item = b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
    assert not leaks(dataset({OUTER: element(OUTER, writer_item, as_vr=b"UN")}))


@pytest.mark.parametrize("as_vr", [b"UN", b"OB", b"UT", b"LO", b"US", b"UC", b"??"])
def test_a_name_under_another_vr_does_not_come_out(as_vr: bytes) -> None:
    for tag in (0x00100010, 0x00100020, 0x00080020, 0x00080080, 0x00181000, 0x00280010):
        if as_vr == b"??":
            content = element(tag, b"mk00000000", as_vr=b"LO").replace(b"LO\n\0", b"??\n\0")
        else:
            content = element(tag, b"mk00000000", as_vr=as_vr)
        assert not leaks(dataset({tag: content})), hex(tag)


def test_private_unknown_and_retired_groups_do_not_come_out() -> None:
    elements = {
        0x00090010: element(0x00090010, b"mk00090010", as_vr=b"LO"),
        0x00091001: element(0x00091001, b"mk00091001", as_vr=b"UN"),
        0x00091002: sequence(0x00091002, element(0x00100010, b"mk00091002")),
        0x00189FF0: element(0x00189FF0, b"mk00189ff0", as_vr=b"LO"),  # no dictionary has it
        0x00189FF2: element(0x00189FF2, b"mk00189ff2", as_vr=b"UN"),
        0x50000020: element(0x50000020, b"mk50000020", as_vr=b"CS"),
        0x50003000: element(0x50003000, b"mk50003000", as_vr=b"OW"),
        0x60000022: element(0x60000022, b"mk60000022", as_vr=b"LO"),
        0x60001500: element(0x60001500, b"mk60001500", as_vr=b"LO"),
        0x60003000: element(0x60003000, b"mk60003000", as_vr=b"OW"),
        0x60104000: element(0x60104000, b"mk60104000", as_vr=b"LT"),
        0x04000500: sequence(0x04000500, element(0x04000520, b"mk04000520", as_vr=b"OB")),
        0xFFFAFFFA: sequence(0xFFFAFFFA, element(0x04000120, b"mk04000120", as_vr=b"OB")),
        0xFFFCFFFC: element(0xFFFCFFFC, b"mkfffcfffc", as_vr=b"OB"),
    }
    assert not leaks(dataset(elements))
    assert not leaks(dataset(elements), EXPLICIT, *(set(Option) - {Option.RETAIN_FULL_DATES}))


def test_preamble_and_file_meta_information_are_new() -> None:
    file = file_of(dataset({}), preamble=b"mk00000000".ljust(128, b"\0"))
    assert len(set(MARKER.findall(file))) == 4
    found = Deidentifier(key=KEY).deidentify(file).to_bytes()
    assert not MARKER.search(found)
    assert found[:128] == bytes(128)
    assert b"1.2.3.9" not in found  # the implementation of who wrote it


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (b"\\ISO 2022 IR 87", b"mk00000001^A=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@"),
        (b"ISO_IR 192", "mk00000001=山田^太郎=やまだ^たろう".encode()),
        (b"GB18030", "mk00000001=王^小东".encode("gb18030")),
        (b"no such set", b"mk00000001^\xff\xfe"),
        (b"ISO_IR 100\\mk00000002", b"mk00000001"),
    ],
)
def test_names_in_other_character_sets_do_not_come_out(charset: bytes, name: bytes) -> None:
    elements = {
        0x00080005: element(0x00080005, charset),
        0x00100010: element(0x00100010, name),
        0x00081030: element(0x00081030, name),
    }
    for options in ((), (Option.CLEAN_DESCRIPTORS,)):
        found = (
            Deidentifier(options, KEY).deidentify_dataset(dataset(elements), EXPLICIT).to_bytes()
        )
        assert not MARKER.search(found)
        assert all(part not in found for part in name.split(b"=")[1:])


def content_item(value_type: bytes, *elements: tuple[int, bytes]) -> bytes:
    """A content item whose concept has a marker."""
    concept = b"".join(
        (
            element(0x00080100, b"mkc0de0001"),
            element(0x00080102, b"99LOCAL"),
            element(0x00080104, b"mkc0de0002"),
        )
    )
    parts = {
        0x0040A010: element(0x0040A010, b"CONTAINS"),
        0x0040A043: sequence(0x0040A043, concept),
    }
    parts[0x0040A040] = element(0x0040A040, value_type)
    parts.update(elements)
    return b"".join(value for _, value in sorted(parts.items()))


@pytest.mark.parametrize("options", [(), (Option.CLEAN_STRUCTURED_CONTENT,)])
def test_nothing_comes_out_of_a_structured_report(options: tuple[Option, ...]) -> None:
    code = (
        element(0x00080100, b"mkc0de0003")
        + element(0x00080102, b"SCT")
        + element(0x00080104, b"mkc0de0004")
    )
    measured = sequence(0x004008EA, code) + element(0x0040A30A, b"mk0040a30a")
    items = [
        content_item(b"TEXT", (0x0040A160, element(0x0040A160, b"mk0040a160"))),
        content_item(b"PNAME", (0x0040A123, element(0x0040A123, b"mk0040a123"))),
        content_item(b"DATE", (0x0040A121, element(0x0040A121, b"mk0040a121"))),
        content_item(b"UIDREF", (0x0040A124, element(0x0040A124, b"mk0040a124"))),
        content_item(b"CODE", (0x0040A168, sequence(0x0040A168, code))),
        content_item(b"NUM", (0x0040A300, sequence(0x0040A300, measured))),
    ]
    inner = content_item(b"CONTAINER", (0x0040A730, sequence(0x0040A730, *items)))
    root = {
        0x0040A040: element(0x0040A040, b"CONTAINER"),
        0x0040A043: sequence(0x0040A043, code),
        0x0040A730: sequence(0x0040A730, *items, inner),
    }
    assert not leaks(dataset(root, BASIC_TEXT_SR), EXPLICIT, *options)


def test_options_keep_what_the_table_says_and_nothing_else() -> None:
    """With each option, the markers that come out are those of its own column."""
    # An offset from UTC that is none does not stay, whatever the option.
    tags = [tag for tag in of_dataset(table_tags()) if vr(tag) in TEXT and tag != 0x00080201]
    content = dataset(marked(tags))
    for option in Option:
        kept = {
            marker(tag)
            for tag in tags
            if (row := row_of(tag)) is not None and row.by_option.get(option) == "K"
        }
        assert leaks(content, EXPLICIT, option) == kept, option


DESCRIPTION = b"CT Head and thorax T2 of mk00000000, Mary Baker 555-123-45 01/02/1970"


def test_cleaned_descriptors_keep_known_words_but_not_those_of_the_patient() -> None:
    elements = {
        0x00100010: element(0x00100010, b"Head^Mary"),
        0x00081030: element(0x00081030, DESCRIPTION),
    }
    cleaned = Deidentifier([Option.CLEAN_DESCRIPTORS], KEY).deidentify_dataset(
        dataset(elements), EXPLICIT
    )
    assert b"CT and thorax T2 of" in cleaned.to_bytes()
    assert b"Head" not in cleaned.to_bytes()
    assert b"Baker" not in cleaned.to_bytes()
    assert b"555" not in cleaned.to_bytes()
    assert b"01" not in cleaned.to_bytes().split(b"T2 of")[1][:20]


def test_pixels_below_the_top_do_not_come_out() -> None:
    picture = element(0x00280010, b"\x02\0") + element(0x7FE00010, b"mk7fe00010", as_vr=b"OB")
    assert not leaks(dataset({OUTER: sequence(OUTER, picture)}))


def test_what_is_removed_leaves_no_trace() -> None:
    elements = {
        0x00080000: element(0x00080000, b"\x10\0\0\0", as_vr=b"UL"),
        0x00091001: element(0x00091001, b"mk00091001", as_vr=b"UN"),
        0x00189FF0: element(0x00189FF0, b"mk00189ff0", as_vr=b"LO"),
        0x00204000: element(0x00204000, b"mk00204000"),
    }
    found = Deidentifier(key=KEY).deidentify_dataset(dataset(elements), EXPLICIT).to_bytes()
    tags = {each.tag for each in dcmread(io.BytesIO(found))}
    assert tags == {0x00080005, 0x00080016, *UIDS, *OURS}


ALL_VRS = sorted(KNOWN - {b"SQ"})


@pytest.mark.parametrize("as_vr", ALL_VRS, ids=[each.decode() for each in ALL_VRS])
def test_no_vr_that_an_attribute_does_not_have_lets_it_out(as_vr: bytes) -> None:
    """Every attribute of the dictionary but sequences, written with one VR."""
    tags = [tag for tag in of_dataset(all_tags()) if vr(tag) != b"SQ"]
    allowed = {marker(tag) for tag in tags if kept_by_profile(tag)}
    content = dataset({tag: element(tag, marker(tag), as_vr=as_vr) for tag in tags})
    assert not leaks(content) - allowed


def test_a_sequence_that_cannot_be_read_is_held_back() -> None:
    with pytest.raises(HeldBackError, match="no item in a sequence"):
        leaks(dataset({OUTER: element(OUTER, b"mk00081115", as_vr=b"UN")}))


def test_attributes_beyond_the_table_that_tell_of_a_person_do_not_come_out() -> None:
    tags = [
        *(0x00100033, 0x00100034, 0x00240044, 0x00400400, 0x00401006, 0x00401007, 0x0040E001),
        *(0x0040A992, 0x01000424, 0x21000160, 0x30040006, 0x30080202, 0x0074100C),
    ]
    assert not leaks(dataset(marked(tags)))
    assert not leaks(dataset({OUTER: sequence(OUTER, *marked(tags).values())}))


def test_retired_groups_that_repeat_do_not_come_out() -> None:
    elements = {
        0x002031AA: element(0x002031AA, b"MK002031AA", as_vr=b"CS"),
        0x10100001: element(0x10100001, b"mk10100001", as_vr=b"US"),
        0x7F000010: element(0x7F000010, b"mk7f000010", as_vr=b"OW"),
    }
    found = Deidentifier(key=KEY).deidentify_dataset(dataset(elements), EXPLICIT).to_bytes()
    assert not re.search(rb"(?i)mk[0-9a-f]{8}", found)


def code(number: int) -> bytes:
    """A code of a hospital with a known word in its meaning."""
    return (
        element(0x00080100, b"mkc0de%04x" % number)
        + element(0x00080102, b"99LOCAL")
        + element(0x00080104, b"Thorax mkc0de%04x" % (number + 1))
    )


def test_requests_are_cleaned_as_descriptions_are() -> None:
    """Their items are no codes, but have such."""
    request = (
        element(0x00321060, b"Thorax mk00321060")
        + sequence(0x00400008, code(1))
        + element(0x00401001, b"mk00401001")
    )
    content = dataset({0x00400275: sequence(0x00400275, request)})
    assert not leaks(content)
    cleaned = Deidentifier([Option.CLEAN_DESCRIPTORS], KEY).deidentify_dataset(content, EXPLICIT)
    found = dcmread(io.BytesIO(cleaned.to_bytes())).RequestAttributesSequence[0]
    assert found.RequestedProcedureDescription == "Thorax"
    assert found.ScheduledProtocolCodeSequence[0].CodeMeaning == "Thorax"
    assert "RequestedProcedureID" not in found
    assert not re.search(rb"mk[0-9a-f]{8}", cleaned.to_bytes().replace(b"mkc0de0001", b""))


@pytest.mark.parametrize(
    "options", [(), (Option.CLEAN_STRUCTURED_CONTENT,), (*(set(Option) - {Option.RETAIN_UIDS}),)]
)
def test_content_outside_of_reports_is_cleaned_without_value_types(
    options: tuple[Option, ...],
) -> None:
    """Annotations of waveforms, preparations of specimens, the context of an acquisition."""
    options = tuple(option for option in options if option is not Option.RETAIN_FULL_DATES)
    content = (
        sequence(0x0040A043, code(1))
        + element(0x0040A160, b"mk0040a160")
        + sequence(0x0040A168, code(3))
        + element(0x0040A30A, b"1.5")
    )
    annotation = content + element(0x00700006, b"mk00700006")
    preparation = sequence(0x00400612, element(0x0040A040, b"TEXT") + content)
    elements = {
        0x00400555: sequence(0x00400555, content),
        0x00400560: sequence(0x00400560, sequence(0x00400610, preparation)),
        0x0040B020: sequence(0x0040B020, annotation),
    }
    assert not leaks(dataset(elements), EXPLICIT, *options)
