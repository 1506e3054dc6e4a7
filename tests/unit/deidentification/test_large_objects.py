"""Objects of 300 MB need no more memory than small ones: nothing of their pixels is copied."""

from __future__ import annotations

import mmap
import struct
import tracemalloc
from pathlib import Path

from lfscp.deidentification.deidentifier import Deidentifier
from lfscp.deidentification.pixels.burned_in import DeviceRule
from tests.support.marked_objects import CT, dataset, element, file_of

KEY = b"the key of a project"
MOST = 16 << 20  # bytes
FRAMES, SIDE = 300, 1024  # frames of one byte a pixel


def head() -> bytes:
    """A file up to its pixels."""
    numbers = {0x00280010: SIDE, 0x00280011: SIDE, 0x00280100: 8, 0x00280101: 8, 0x00280102: 7}
    elements = {
        **{tag: element(tag, struct.pack("<H", number)) for tag, number in numbers.items()},
        0x00080060: element(0x00080060, b"CT"),
        0x00100010: element(0x00100010, b"Doe^Jane"),
        0x00280002: element(0x00280002, struct.pack("<H", 1)),
        0x00280004: element(0x00280004, b"MONOCHROME2"),
        0x00280008: element(0x00280008, b"%d" % FRAMES),
        0x00280103: element(0x00280103, struct.pack("<H", 0)),
    }
    return file_of(dataset(elements, CT))


def mapped(path: Path) -> memoryview:
    with path.open("rb") as stream:
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def most_memory(deidentifier: Deidentifier, path: Path) -> tuple[int, int]:
    """Bytes that came out, and the most memory that was used meanwhile."""
    small = file_of(dataset({0x00100010: element(0x00100010, b"Doe^Jane")}))
    deidentifier.deidentify(small)  # loads the tables, which do not count
    content = mapped(path)
    tracemalloc.start()
    try:
        size = 0
        for piece in deidentifier.deidentify(content).file():
            assert len(piece) <= 1 << 20
            size += len(piece)
        return size, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_pixels_are_passed_on_and_blackened_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "large.dcm"
    pixels = FRAMES * SIDE * SIDE
    with path.open("wb") as stream:  # what is not written takes no room
        start = head() + b"\xe0\x7f\x10\x00OB\0\0" + struct.pack("<L", pixels)
        stream.write(start)
        stream.truncate(len(start) + pixels)
    rule = DeviceRule(((0x00080060, "ct"),), ((0, 0, SIDE, 20),))
    for devices in ((), (rule,)):
        size, memory = most_memory(Deidentifier(key=KEY, devices=devices), path)
        assert size > pixels
        assert memory < MOST


def test_compressed_frames_are_looked_at_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "compressed.dcm"
    size = 1 << 20
    comment = b"\xff\xfe" + struct.pack(">H", 12) + b"mk7fe00010"
    scan = b"\xff\xda\0\x02"
    begin, end = b"\xff\xd8" + comment + scan, b"\xff\xd9"
    content = head().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.50", 1)
    meta = content.index(b"\x02\0\x10\0UI") + 6
    content = content[:meta] + struct.pack("<H", 22) + content[meta + 2 :]
    length = content.index(b"\x02\0\0\0UL\x04\0") + 8
    group = struct.unpack_from("<L", content, length)[0] + 2
    content = content[:length] + struct.pack("<L", group) + content[length + 4 :]
    with path.open("wb") as stream:
        stream.write(content + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\0\0\0\0")
        for _ in range(FRAMES):
            stream.write(b"\xfe\xff\x00\xe0" + struct.pack("<L", size) + begin)
            stream.seek(size - len(begin) - len(end), 1)
            stream.write(end)
        stream.write(b"\xfe\xff\xdd\xe0\0\0\0\0")
    came, memory = most_memory(Deidentifier(key=KEY), path)
    assert came > FRAMES * size
    assert memory < MOST
