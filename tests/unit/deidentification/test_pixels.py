"""Pixels stay to the bit, and nothing that stands beside them comes out."""

from __future__ import annotations

import io
import struct

import numpy
import pytest
from PIL import Image
from pydicom import dcmread

from lfscp.deidentification.deidentifier import Deidentifier
from lfscp.deidentification.errors import HeldBackError
from lfscp.dicom.encoding.elements import EXPLICIT_BIG
from lfscp.dicom.part10.file_meta import part10_header
from tests.support.marked_objects import CT, dataset, element

KEY = b"the key of a project"
EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
JPEG, JPEG_2000 = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
TOLD = b"mk7fe00010"


def image(pixels: bytes, given: dict[int, bytes] | None = None, *, frames: int = 1) -> bytes:
    """A grey image of 8 rows and 8 columns, with the element of its pixels."""
    values = {
        0x00280002: struct.pack("<H", 1),
        0x00280004: b"MONOCHROME2",
        0x00280008: b"%d" % frames,
        0x00280010: struct.pack("<H", 8),
        0x00280011: struct.pack("<H", 8),
        0x00280100: struct.pack("<H", 8),
        0x00280101: struct.pack("<H", 8),
        0x00280102: struct.pack("<H", 7),
        0x00280103: struct.pack("<H", 0),
        **(given or {}),
    }
    elements = {tag: element(tag, value) for tag, value in values.items()}
    return dataset({**elements, 0x7FE00010: pixels}, CT)


def native(pixels: bytes) -> bytes:
    return element(0x7FE00010, pixels, as_vr=b"OB")


def item(content: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + struct.pack("<L", len(content)) + content


def fragments(*contents: bytes, table: bytes = b"", end: bytes = bytes(4)) -> bytes:
    """The element of pixels in fragments."""
    items = b"".join(item(content + b"\0" * (len(content) % 2)) for content in contents)
    head = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff"
    return head + item(table) + items + b"\xfe\xff\xdd\xe0" + end


def jpeg(*, kind: str = "JPEG", **told: object) -> bytes:
    noise = numpy.random.default_rng(1).integers(0, 255, (8, 8), dtype=numpy.uint8)
    target = io.BytesIO()
    Image.fromarray(noise).save(target, kind, **told)
    return target.getvalue()


def told_jpeg() -> bytes:
    """A JPEG with a comment, EXIF, and bytes behind its end."""
    exif = Image.Exif()
    exif[0x010E] = TOLD.decode()
    return jpeg(comment=TOLD, exif=exif, progressive=True) + TOLD


def out(content: bytes, syntax: str = EXPLICIT) -> bytes:
    return Deidentifier(key=KEY).deidentify_dataset(content, syntax).to_bytes()


def pixels_of(content: bytes) -> numpy.ndarray:
    return dcmread(io.BytesIO(content)).pixel_array


def pixels_before(content: bytes, syntax: str) -> numpy.ndarray:
    """The same of a dataset without a head."""
    return pixels_of(part10_header(CT, "1.2.3.4", syntax) + content)


def test_bytes_behind_the_last_frame_are_gone_and_the_length_stays() -> None:
    found = out(image(native(b"\x07" * 64 + TOLD)))
    assert TOLD not in found
    assert found.endswith(b"\x07" * 64 + bytes(len(TOLD)))


def test_more_pixels_than_the_object_says_are_held_back() -> None:
    with pytest.raises(HeldBackError, match="more pixels"):
        out(image(native(b"\x07" * 128)))


def test_fewer_pixels_than_the_object_says_come_out_as_they_are() -> None:
    assert out(image(native(b"\x07" * 40))).endswith(b"\x07" * 40)


def test_pixels_whose_size_is_not_known_are_held_back() -> None:
    with pytest.raises(HeldBackError, match="Rows"):
        out(dataset({0x7FE00010: native(b"\x07" * 64)}))


def test_colours_that_two_pixels_share_are_no_bytes_too_many() -> None:
    colours = {0x00280002: struct.pack("<H", 3), 0x00280004: b"YBR_FULL_422"}
    found = out(image(native(b"\x07" * 128), colours))
    assert found.endswith(b"\x07" * 128)
    assert TOLD not in out(image(native(b"\x07" * 128 + TOLD), colours))


def test_pixels_of_bits_end_in_the_middle_of_a_byte() -> None:
    bits = {0x00280100: b"\1\0", 0x00280101: b"\1\0", 0x00280102: b"\0\0"}
    found = out(image(native(b"\xaa" * 8 + b"mk"), bits))
    assert found.endswith(b"\xaa" * 8 + b"\0\0")


def test_comments_of_a_jpeg_are_gone_and_its_picture_is_the_same() -> None:
    content = image(fragments(told_jpeg()))
    found = out(content, JPEG)
    assert TOLD in content
    assert TOLD not in found
    assert (pixels_of(found) == pixels_before(content, JPEG)).all()


def test_a_comment_in_two_fragments_is_gone() -> None:
    whole = told_jpeg()
    at = whole.index(TOLD) + 5
    at += at % 2
    found = out(image(fragments(whole[:at], whole[at:])), JPEG)
    assert b"mk7" not in found
    assert b"00010" not in found


def test_a_comment_of_a_jpeg_2000_is_gone_and_its_picture_is_the_same() -> None:
    plain = jpeg(kind="JPEG2000", no_jp2=True, irreversible=False)
    comment = b"\xff\x64" + struct.pack(">HH", 4 + len(TOLD), 1) + TOLD
    at = plain.index(b"\xff\x90")
    content = image(fragments(plain[:at] + comment + plain[at:] + TOLD))
    found = out(content, JPEG_2000)
    assert TOLD not in found
    assert (pixels_of(found) == pixels_before(content, JPEG_2000)).all()


def test_compressed_pixels_in_a_file_format_are_held_back() -> None:
    with pytest.raises(HeldBackError, match="may hold text"):
        out(image(fragments(jpeg(kind="JPEG2000", no_jp2=False))), JPEG_2000)


@pytest.mark.parametrize("cut", [3, 5, 22])
def test_a_jpeg_that_is_cut_short_in_its_head_is_held_back(cut: int) -> None:
    with pytest.raises(HeldBackError, match="cut short or broken"):
        out(image(fragments(told_jpeg()[:cut])), JPEG)


def test_an_offset_table_that_is_none_is_gone() -> None:
    plain = jpeg()
    found = out(image(fragments(plain, table=b"mk7fe00010\0\0")), JPEG)
    assert TOLD not in found
    assert (pixels_of(found) == pixels_before(image(fragments(plain)), JPEG)).all()


def test_an_offset_table_that_fits_stays() -> None:
    plain = jpeg()
    plain += b"\0" * (len(plain) % 2)
    table = struct.pack("<LL", 0, len(plain) + 8)
    element_of_pixels = fragments(plain, plain, table=table)
    found = out(image(element_of_pixels, frames=2), JPEG)
    assert found.endswith(element_of_pixels)


def test_an_extended_offset_table_stays_only_if_it_fits() -> None:
    plain = jpeg()
    plain += b"\0" * (len(plain) % 2)
    tags = (0x7FE00001, 0x7FE00002)
    right = struct.pack("<QQ", 0, len(plain) + 8), struct.pack("<QQ", len(plain), len(plain))
    wrong = b"mk7fe00010".ljust(16), b"mk7fe00020".ljust(16)
    for tables, stays in ((right, True), (wrong, False)):
        given = dict(zip(tags, tables, strict=True))
        found = dcmread(io.BytesIO(out(image(fragments(plain, plain), given, frames=2), JPEG)))
        assert ("ExtendedOffsetTable" in found) == stays
    given = dict(zip(tags, wrong, strict=True))
    assert b"mk7fe0" not in out(image(native(b"\x07" * 64), given))


def test_a_delimiter_with_a_length_is_written_anew() -> None:
    found = out(image(fragments(jpeg(), end=b"Jane")), JPEG)
    assert found.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")


def test_reserved_bytes_of_a_head_are_zero() -> None:
    pixels = bytearray(native(b"\x07" * 64))
    pixels[6:8] = b"Ja"
    lookup = bytearray(element(0x00281201, bytes(16), as_vr=b"OW"))
    lookup[6:8] = b"ne"
    found = out(image(bytes(pixels)))
    assert b"OBJa" not in found
    assert b"OWne" not in out(dataset({0x00281201: bytes(lookup)}))


def test_two_pixels_that_share_a_word_in_big_endian_stay() -> None:
    """Nine pixels of a byte: the one that fills the last word stands before the ninth."""
    numbers = {0x00280002: 1, 0x00280010: 3, 0x00280011: 3, 0x00280100: 8, 0x00280101: 8}
    elements = {
        tag: element(tag, struct.pack(">H", number), EXPLICIT_BIG)
        for tag, number in {**numbers, 0x00280102: 7, 0x00280103: 0}.items()
    }
    pixels = bytes([1, 0, 3, 2, 5, 4, 7, 6, 0, 8])
    elements[0x7FE00010] = element(0x7FE00010, pixels, EXPLICIT_BIG, b"OW")
    content = dataset(elements, CT, EXPLICIT_BIG)
    assert out(content, BIG_ENDIAN).endswith(pixels)


def test_fragments_that_are_not_what_their_transfer_syntax_says_are_held_back() -> None:
    with pytest.raises(HeldBackError, match="cut short or broken"):
        out(image(fragments(TOLD + jpeg())), JPEG)


def test_a_layout_of_pixels_that_is_not_valid_is_held_back() -> None:
    """A dummy in its place would change the picture."""
    with pytest.raises(HeldBackError, match="layout"):
        out(image(native(b"\x07" * 64), {0x00280102: b"seven."}))
