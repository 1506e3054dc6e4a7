"""What codestreams say of themselves, and those that say it in two ways."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lfscp.services.transcoding.codecs.codestream import read_codestream

SIZE = 64


def jpeg(**options: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(file, "JPEG", **options)
    return file.getvalue()


def jpeg_2000(**options: Any) -> bytes:
    file = BytesIO()
    image = Image.fromarray(np.zeros((SIZE, SIZE), np.uint8))
    image.save(file, "JPEG2000", irreversible=False, **options)
    return file.getvalue()


def size_of(frame: bytes) -> tuple[int, int] | None:
    found = read_codestream(frame)
    return found and (found.rows, found.columns)


def start_of_frame(rows: int, columns: int) -> bytes:
    return b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, rows, columns, 1) + b"\1\x11\0"


@pytest.mark.parametrize(
    "frame", [jpeg(), jpeg(progressive=True), jpeg_2000(no_jp2=True), jpeg_2000(no_jp2=False)]
)
def test_the_size_is_read(frame: bytes) -> None:
    assert size_of(frame) == (SIZE, SIZE)


@pytest.mark.parametrize("segment", [start_of_frame(65535, 65535), start_of_frame(SIZE, SIZE)])
def test_a_jpeg_with_two_sizes_has_none(segment: bytes) -> None:
    whole = jpeg()
    scan = whole.index(b"\xff\xda")
    assert size_of(whole[:2] + segment + whole[2:]) is None
    assert size_of(whole[:scan] + segment + whole[scan:]) is None


def test_a_jpeg_whose_rows_come_last_has_the_most_of_them() -> None:
    frame = jpeg().replace(struct.pack(">HH", SIZE, SIZE), struct.pack(">HH", 0, SIZE), 1)
    lines = [b"\xff\xdc\0\4" + struct.pack(">H", rows) for rows in (8, 60_000)]
    assert size_of(frame[:-2] + b"".join(lines) + frame[-2:]) == (60_000, SIZE)


@pytest.mark.parametrize(
    "segment",
    [
        b"\xff\xde" + struct.pack(">HBHHB", 11, 8, 60_000, 60_000, 1) + b"\1\x11\0",
        b"\xff\xf8" + struct.pack(">HBBLL", 12, 4, 4, 60_000, 60_000),
    ],
    ids=["hierarchical", "oversize"],
)
def test_sizes_said_elsewhere_than_in_the_frame_header_are_none(segment: bytes) -> None:
    whole = jpeg()
    assert size_of(whole[:2] + segment + whole[2:]) is None


def test_a_codestream_inside_of_another_box_is_none() -> None:
    """A codec walks the boxes, and would decode the larger one behind it."""
    small, large = jpeg_2000(no_jp2=True), bytearray(jpeg_2000(no_jp2=False))
    size = large.index(b"\xff\x4f\xff\x51") + 8
    large[size : size + 8] = struct.pack(">LL", 60_000, 50_000)
    free = struct.pack(">L4s", 8 + len(small), b"free") + small
    assert size_of(bytes(large[:12]) + free + bytes(large[12:])) == (50_000, 60_000)


def test_what_begins_otherwise_is_none() -> None:
    assert size_of(b"\0" * 100 + jpeg_2000(no_jp2=True)) is None
    assert size_of(b"") is None


def overhead(**options: Any) -> int:
    found = read_codestream(jpeg_2000(no_jp2=True, **options))
    assert found is not None
    return found.overhead_bytes


def test_small_parts_of_a_codestream_take_memory() -> None:
    whole = overhead()
    assert overhead(tile_size=(8, 8)) > 20 * whole
    assert overhead(codeblock_size=(4, 4)) > 5 * whole
