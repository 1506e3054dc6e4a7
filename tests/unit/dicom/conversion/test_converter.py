"""Datasets from one encoding to another: the structure changes, the values do not."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfscp.dicom.conversion.converter import Edit, convert
from lfscp.dicom.encoding.elements import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from lfscp.dicom.errors import DatasetError
from tests.support.dataset_model import (
    BIG,
    EXPLICIT,
    IMPLICIT,
    Item,
    Sequence,
    Value,
    dataset,
    head,
)

ENCODINGS = {IMPLICIT: IMPLICIT_LITTLE, EXPLICIT: EXPLICIT_LITTLE, BIG: EXPLICIT_BIG}
WAYS = [(source, target) for source in ENCODINGS for target in ENCODINGS if source != target]

# Standard attributes, one or two of each VR.
TEXTS = {
    "AE": 0x00080054, "AS": 0x00101010, "CS": 0x00080008, "DA": 0x00080020, "DS": 0x00101020,
    "DT": 0x0008002A, "IS": 0x00200013, "LO": 0x00081030, "LT": 0x00104000, "PN": 0x00100010,
    "SH": 0x00080050, "ST": 0x00080081, "TM": 0x00080030, "UC": 0x00080119, "UI": 0x0008001A,
    "UR": 0x00080120, "UT": 0x0040A160,
}  # fmt: skip
NUMBERS = {
    "AT": 0x00280009, "FD": 0x00189073, "FL": 0x00186060, "OD": 0x7FE00009, "OF": 0x7FE00008,
    "OL": 0x00660040, "OV": 0x7FE00001, "OW": 0x00281201, "SL": 0x00186020, "SS": 0x00189219,
    "SV": 0x00720082, "UL": 0x00186016, "US": 0x00280010, "UV": 0x7FE00003,
}  # fmt: skip
BYTES = {"OB": 0x00420011, "UN": 0x00091001}
PRIVATE_CREATOR = Value(0x00090010, "LO", b"NOBODY KNOWS IT ")
RANGES = {"AT": (0, 2**16 - 1), "OL": (0, 2**32 - 1), "OV": (0, 2**64 - 1), "OW": (0, 2**16 - 1)}
RANGES |= {"SL": (-(2**31), 2**31 - 1), "SS": (-(2**15), 2**15 - 1), "SV": (-(2**63), 2**63 - 1)}
RANGES |= {"UL": (0, 2**32 - 1), "US": (0, 2**16 - 1), "UV": (0, 2**64 - 1)}


def converted(content: bytes, source: str, target: str, **options: object) -> bytes:
    pieces = convert(memoryview(content), ENCODINGS[source], ENCODINGS[target], **options)
    return b"".join(pieces)


def even(content: bytes) -> bytes:
    return content + b" " * (len(content) % 2)


def numbers(vr: str) -> st.SearchStrategy[Value]:
    if vr in RANGES:
        each: st.SearchStrategy[object] = st.integers(*RANGES[vr])
    else:
        each = st.floats(width=64 if vr in ("FD", "OD") else 32, allow_nan=False)
    return st.lists(each, max_size=5).map(lambda values: Value(NUMBERS[vr], vr, values))


def content(vr: str, tag: int) -> st.SearchStrategy[Value]:
    return st.binary(max_size=20).map(lambda value: Value(tag, vr, even(value)))


VALUES = st.one_of(
    *(content(vr, tag) for vr, tag in (TEXTS | BYTES).items()), *(numbers(vr) for vr in NUMBERS)
)


def in_order(elements: list[Value | Sequence]) -> list[Value | Sequence]:
    """In the order of their tags, each once, private elements with their creator."""
    by_tag = {each.tag: each for each in elements}
    if BYTES["UN"] in by_tag:
        by_tag[PRIVATE_CREATOR.tag] = PRIVATE_CREATOR
    return [by_tag[tag] for tag in sorted(by_tag)]


ELEMENTS = st.recursive(
    st.lists(VALUES, max_size=6).map(in_order),
    lambda inner: st.lists(
        st.one_of(
            VALUES,
            st.builds(
                Sequence,
                st.sampled_from([0x00081140, 0x00400275, 0x52009229]),
                st.lists(st.builds(Item, inner, st.booleans()), max_size=3),
                st.booleans(),
            ),
        ),
        max_size=6,
    ).map(in_order),
    max_leaves=12,
)


@pytest.mark.parametrize(("source", "target"), WAYS)
@given(elements=ELEMENTS, group_lengths=st.booleans())
def test_any_dataset_becomes_what_it_is_in_the_other_encoding(
    source: str, target: str, elements: list[Value | Sequence], group_lengths: bool
) -> None:
    content = dataset(elements, source, group_lengths=group_lengths)

    result = converted(content, source, target)

    assert result == dataset(elements, target, group_lengths=group_lengths)
    assert converted(result, target, source) == content


@given(content=st.binary(max_size=200), way=st.sampled_from(WAYS))
def test_any_bytes_are_converted_or_refused(content: bytes, way: tuple[str, str]) -> None:
    with contextlib.suppress(DatasetError):
        converted(content, *way)


def test_text_where_a_sequence_belongs_goes_as_un() -> None:
    text = Value(0x00120064, "UN", b"Some Header Anonymizer")

    result = converted(text.encoded(IMPLICIT), IMPLICIT, EXPLICIT)

    assert result == text.encoded(EXPLICIT)
    assert converted(result, EXPLICIT, IMPLICIT) == text.encoded(IMPLICIT)


@pytest.mark.parametrize("target", [EXPLICIT, BIG])
def test_value_that_is_too_long_for_its_vr_goes_as_un(target: str) -> None:
    uids = Value(0x00080058, "UN", b"1.2\\" * 20_000)

    assert converted(uids.encoded(IMPLICIT), IMPLICIT, target) == uids.encoded(target)


@pytest.mark.parametrize("target", [EXPLICIT, BIG])
@pytest.mark.parametrize(
    ("tag", "value"),
    [(0x00189073, b"1234"), (0x00280010, b"\1\2\3\4\5\6\7"), (0x00186016, b"ab")],
)
def test_numbers_of_another_width_go_as_un(target: str, tag: int, value: bytes) -> None:
    stored = Value(tag, "UN", value)

    assert converted(stored.encoded(IMPLICIT), IMPLICIT, target) == stored.encoded(target)


def without_vr(value: Value, source: str, stands_there: bytes) -> bytes:
    """An element as writers write it that know no VR: with a 16-bit length."""
    short = Value(value.tag, "US" if value.vr in BYTES else value.vr, value.value)
    encoded = short.encoded(source)
    return encoded[:4] + stands_there + encoded[6:]


@pytest.mark.parametrize("stands_there", [b"  ", b"\0\0", b"??", b"--"])
@pytest.mark.parametrize(("source", "target"), [way for way in WAYS if way[0] != IMPLICIT])
@pytest.mark.parametrize("sign", ["US", "SS"])
def test_what_leaves_out_its_vr_gets_that_of_the_dictionary(
    source: str, target: str, stands_there: bytes, sign: str
) -> None:
    smallest = Value(0x00280106, sign, [5])
    elements = [
        Value(0x00080060, "CS", b"CT"),
        Value(0x00101020, "DS", b"1.80"),
        Value(0x00186016, "UL", [70_000]),
        Value(0x00280010, "US", [512]),
        Value(0x00280103, "US", [int(sign == "SS")]),
        smallest,
        Sequence(0x00289145, [Item([smallest])]),
    ]
    content = b"".join(
        without_vr(each, source, stands_there) if isinstance(each, Value) else each.encoded(source)
        for each in elements
    )
    assert converted(content, source, target) == dataset(elements, target)


@pytest.mark.parametrize(("source", "target"), [way for way in WAYS if way[0] != IMPLICIT])
@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (0x00280010, b"\1\2\3"),  # US, but no whole numbers
        (0x00420011, b"abcd"),  # OB, which has no 16-bit length
        (0x00281408, b"abcd"),  # OW, likewise
        (0x00091001, b"abcd"),  # private
        (0x7FE00010, b"abcd"),
        (0x0008FFF1, b"abcd"),  # in no dictionary
    ],
)
def test_what_leaves_out_its_vr_and_fits_none_goes_as_un(
    source: str, target: str, tag: int, value: bytes
) -> None:
    unknown = Value(tag, "UN", value)
    content = without_vr(unknown, source, b"  ")
    assert converted(content, source, target) == unknown.encoded(target)


@pytest.mark.parametrize("target", [IMPLICIT, BIG])
def test_odd_count_of_words_in_a_tag_is_kept(target: str) -> None:
    tags = Value(0x00280009, "AT", [0x0028, 0x0010, 0x0028])

    assert converted(tags.encoded(EXPLICIT), EXPLICIT, target) == tags.encoded(target)
    assert converted(tags.encoded(target), target, EXPLICIT) == tags.encoded(EXPLICIT)


@pytest.mark.parametrize(("source", "target"), [(EXPLICIT, BIG), (BIG, EXPLICIT)])
def test_number_that_is_not_whole_cannot_be_turned_round(source: str, target: str) -> None:
    stored = Value(0x00281201, "OW", b"\1\2\3")

    with pytest.raises(DatasetError, match=r"\(0028,1201\) OW has 3 bytes"):
        converted(stored.encoded(source), source, target)


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_un_is_never_turned_round(source: str, target: str) -> None:
    stored = Value(0x00091001, "UN", b"\1\2\3\4")

    result = converted(stored.encoded(source), source, target)

    assert result == stored.encoded(target)


@pytest.mark.parametrize(
    ("source", "target"), [(EXPLICIT, BIG), (BIG, IMPLICIT), (EXPLICIT, IMPLICIT)]
)
def test_un_of_undefined_length_holds_implicit_little_endian_everywhere(
    source: str, target: str
) -> None:
    inside = Sequence(0x00091002, [Item([Value(0x00280010, "US", [513])], True)], True)
    content = inside.encoded(IMPLICIT)[8:]

    result = converted(head(0x00091002, "UN", 0xFFFFFFFF, source) + content, source, target)

    assert result == head(0x00091002, "UN", 0xFFFFFFFF, target) + content


def test_unknown_sequence_goes_as_un_with_what_it_holds() -> None:
    inside = Sequence(0x00091002, [Item([Value(0x00280010, "US", [513])])], True)

    result = converted(inside.encoded(IMPLICIT), IMPLICIT, EXPLICIT)

    assert result == head(0x00091002, "UN", 0xFFFFFFFF, EXPLICIT) + inside.encoded(IMPLICIT)[8:]
    assert converted(result, EXPLICIT, IMPLICIT) == inside.encoded(IMPLICIT)


def test_known_private_element_has_its_vr() -> None:
    creator = Value(0x00190010, "LO", b"SIEMENS MR HEADER ")
    number = Value(0x0019100C, "IS", b"1000")
    other = Value(0x00191101, "UN", b"1000")  # of block 11, which nobody owns

    content = dataset([creator, number, other], IMPLICIT)

    assert converted(content, IMPLICIT, EXPLICIT) == dataset([creator, number, other], EXPLICIT)


@pytest.mark.parametrize(
    ("outer", "own", "vr"),
    [(None, None, "US"), (0, None, "US"), (1, None, "SS"), (0, 1, "SS"), (1, 0, "US")],
)
def test_us_or_ss_by_the_nearest_pixel_representation(
    outer: int | None, own: int | None, vr: str
) -> None:
    def with_sign(elements: list[Value | Sequence], sign: int | None) -> list[Value | Sequence]:
        pixel_representation = [] if sign is None else [Value(0x00280103, "US", [sign])]
        return sorted(elements + pixel_representation, key=lambda element: element.tag)

    smallest = Value(0x00280106, vr, b"\xfe\xff")
    item = Item([Sequence(0x00081140, [Item(with_sign([smallest], own))])])
    elements = with_sign([Sequence(0x00081115, [item], True)], outer)

    result = converted(dataset(elements, IMPLICIT), IMPLICIT, EXPLICIT)

    assert result == dataset(elements, EXPLICIT)


@pytest.mark.parametrize("bits", [1, 8, 12, 16, 32])
@pytest.mark.parametrize("target", [EXPLICIT, BIG])
def test_pixel_data_in_implicit_vr_is_words(bits: int, target: str) -> None:
    """So it is by PS3.5 annex A.1, and DCMTK and pydicom name it OW as well."""
    elements = [Value(0x00280100, "US", [bits]), Value(0x7FE00010, "OW", [0x0201, 0x0403])]

    assert converted(dataset(elements, IMPLICIT), IMPLICIT, target) == dataset(elements, target)


@pytest.mark.parametrize("target", [EXPLICIT, BIG])
def test_odd_pixel_data_is_bytes(target: str) -> None:
    elements = [Value(0x00280100, "US", [8]), Value(0x7FE00010, "OB", b"\1\2\3")]

    assert converted(dataset(elements, IMPLICIT), IMPLICIT, target) == dataset(elements, target)


def test_odd_pixel_data_of_words_cannot_be_converted() -> None:
    elements = [Value(0x00280100, "US", [16]), Value(0x7FE00010, "OB", b"\1\2\3")]

    with pytest.raises(DatasetError, match=r"\(7FE0,0010\) OW has 3 bytes"):
        converted(dataset(elements, IMPLICIT), IMPLICIT, EXPLICIT)


@pytest.mark.parametrize(("entries", "vr"), [(1, "US"), (2, "OW"), (0, "OW")])
def test_table_has_the_vr_of_its_entries(entries: int, vr: str) -> None:
    item = Item([Value(0x00283002, "US", [entries, 0, 16]), Value(0x00283006, vr, [1] * 2)])
    elements = [Sequence(0x00283010, [item])]

    assert converted(dataset(elements, IMPLICIT), IMPLICIT, EXPLICIT) == dataset(elements, EXPLICIT)


def test_unknown_vr_goes_as_un() -> None:
    content = struct.pack("<HH2sHL", 0x0009, 0x1001, b"ZZ", 0, 4) + b"\1\2\3\4"

    assert converted(content, EXPLICIT, BIG) == Value(0x00091001, "UN", b"\1\2\3\4").encoded(BIG)


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_trailing_padding_stays_and_zeros_behind_do_not(source: str, target: str) -> None:
    elements = [Value(0x00080020, "DA", b"20240101"), Value(0xFFFCFFFC, "OB", b"\0" * 30)]

    result = converted(dataset(elements, source) + b"\0" * 11, source, target)

    assert result == dataset(elements, target)


def test_nesting_costs_no_recursion() -> None:
    depth = 20_000
    opening = head(0x00081140, "SQ", 0xFFFFFFFF, IMPLICIT) + b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    content = opening * depth + closing * depth

    result = converted(content, IMPLICIT, EXPLICIT)

    assert len(result) == len(content) + 4 * depth
    assert converted(result, EXPLICIT, IMPLICIT) == content


@pytest.mark.parametrize("source", list(ENCODINGS))
def test_what_is_cut_off_is_refused(source: str) -> None:
    item = Item([Value(0x00080050, "SH", b"A1")])
    sequence = [Sequence(0x00081140, [item]), Value(0x00100010, "PN", b"Doe^Jane")]
    content = dataset(sequence, source)
    target = EXPLICIT if source != EXPLICIT else IMPLICIT
    whole = len(content) - len(sequence[1].encoded(source))

    for end in range(2, len(content)):
        if content[whole:end].strip(b"\0") or end < whole:  # zeros would be padding
            with pytest.raises(DatasetError):
                converted(content[:end], source, target)


@pytest.mark.parametrize("target", list(ENCODINGS))
def test_edits_replace_add_and_leave_out(target: str) -> None:
    elements = [
        Value(0x00280004, "CS", b"YBR_FULL_422"),
        Value(0x00280010, "US", [2]),
        Value(0x7FE00001, "OV", [0]),
        Value(0x7FE00010, "OW", [1, 2]),
    ]
    edits = {
        0x00280004: Edit(b"CS", [b"RGB "]),
        0x00280006: Edit(b"US", [b"\0\0"]),
        0x7FE00001: None,
        0x7FE00010: Edit(b"OW", [b"\1\2", b"\3\4"]),
    }
    expected = [
        Value(0x00280004, "CS", b"RGB "),
        Value(0x00280006, "US", [0]),
        Value(0x00280010, "US", [2]),
        Value(0x7FE00010, "OW", [0x0201, 0x0403]),
    ]

    content = dataset(elements, EXPLICIT, group_lengths=True)
    result = converted(content, EXPLICIT, target, edits=edits)

    assert result == dataset(expected, target, group_lengths=True)


def test_padding_makes_every_value_even() -> None:
    item = Item([Value(0x00080050, "SH", b"A12")])
    stored = [
        Value(0x00080018, "UI", b"1.2.3"),
        Sequence(0x00081140, [item], True),
        Value(0x00100010, "PN", b"Doe"),
        Value(0x7FE00010, "OB", b"\1\2\3"),
    ]
    padded = [
        Value(0x00080018, "UI", b"1.2.3\0"),
        Sequence(0x00081140, [Item([Value(0x00080050, "SH", b"A12 ")])], True),
        Value(0x00100010, "PN", b"Doe "),
        Value(0x7FE00010, "OB", b"\1\2\3\0"),
    ]

    for encoding in ENCODINGS:
        result = converted(dataset(stored, encoding), encoding, encoding, pads=True)
        assert result == dataset(padded, encoding)


def test_padding_of_a_fragment_moves_the_offsets_behind_it() -> None:
    def items(*contents: bytes) -> bytes:
        return b"".join(
            b"\xfe\xff\0\xe0" + struct.pack("<L", len(each)) + each for each in contents
        )

    begin, end = head(0x7FE00010, "OB", 0xFFFFFFFF, EXPLICIT), b"\xfe\xff\xdd\xe0\0\0\0\0"
    content = begin + items(struct.pack("<3L", 0, 11, 21), b"abc", b"de", b"f") + end

    result = converted(content, EXPLICIT, EXPLICIT, pads=True)

    expected = items(struct.pack("<3L", 0, 12, 22), b"abc\0", b"de", b"f\0")
    assert result == begin + expected + end
