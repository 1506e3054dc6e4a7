"""Conversions without a codec: small ones in memory, large ones from the stored file."""

from __future__ import annotations

import tracemalloc
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lfscp.archive.store import spool
from lfscp.services.transcoding.decoding import converted
from lfscp.services.transcoding.decoding_memory import MEMORY
from lfscp.upperlayer.scu.sending import FileSlice, Parts
from tests.support.converted import decode
from tests.support.pixel_objects import described, save

MB = 1 << 20
EXPLICIT, IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)


def stored(folder: Path, rows: int, syntax: str = EXPLICIT) -> Path:
    dataset = described(rows, 1024, allocated=16, syntax=syntax)
    values = np.random.default_rng(1).integers(0, 1 << 16, (rows, 1024))
    dataset.PixelData = values.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.add_new(0xFFFCFFFC, "OB", b"behind")  # the pixels
    return save(dataset, folder)


def read(content: bytes, syntax: str) -> Dataset:
    is_implicit = syntax == IMPLICIT
    return read_dataset(BytesIO(content), is_implicit, is_little_endian=True)


@pytest.mark.parametrize(("stored_in", "wanted"), [(EXPLICIT, IMPLICIT), (IMPLICIT, EXPLICIT)])
@pytest.mark.parametrize("rows", [16, 64, 512, 4096])
def test_all_sizes_become_what_they_were(
    tmp_path: Path, rows: int, stored_in: str, wanted: str
) -> None:
    path = stored(tmp_path, rows, stored_in)
    found, expected = read(decode(path, stored_in, wanted), wanted), dcmread(path)
    assert found.keys() == expected.keys()
    for element in expected:
        assert found[element.tag].value == element.value


def test_pixels_of_a_large_one_are_sent_from_the_stored_file(tmp_path: Path) -> None:
    path = stored(tmp_path, 4096)
    before = MEMORY.in_use, spool.SPACE.in_use
    tracemalloc.start()
    try:
        with converted(path, EXPLICIT, IMPLICIT) as made:
            assert isinstance(made.body, Parts)
            slices = [each for each in made.body.parts if isinstance(each, FileSlice)]
            assert [each.size for each in slices] == [8 * MB]
            assert (MEMORY.in_use, spool.SPACE.in_use) == before
            assert tracemalloc.get_traced_memory()[1] < MB
    finally:
        tracemalloc.stop()


def test_what_is_sent_is_the_file_that_was_read(tmp_path: Path) -> None:
    path = stored(tmp_path, 4096)
    expected = decode(path, EXPLICIT, IMPLICIT)
    with converted(path, EXPLICIT, IMPLICIT) as made:
        path.rename(tmp_path / "replaced")
        path.write_bytes(bytes(16 * MB))
        assert isinstance(made.body, Parts)
        assert made.body.read() == expected


def test_where_much_is_held_already_it_waits_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(tmp_path, 4096)
    expected = decode(path, EXPLICIT, IMPLICIT)
    monkeypatch.setattr(spool, "_MAX_IN_MEMORY", 0)
    with converted(path, EXPLICIT, IMPLICIT) as made:
        assert isinstance(made.body, FileSlice)
        assert spool.SPACE.in_use > 8 * MB
        assert made.body.read() == expected


def test_nothing_counts_as_held_when_it_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(tmp_path, 64)
    monkeypatch.setattr(spool, "_MAX_IN_MEMORY", MB)
    for _ in range(10):
        with converted(path, EXPLICIT, IMPLICIT) as made:
            assert isinstance(made.body, bytes)


def test_many_elements_beside_pixels_go_to_the_disk(tmp_path: Path) -> None:
    dataset = described(16, 16)
    for number in range(80):
        dataset.add_new(0x00111000 + number, "UN", bytes(60_000))
    dataset.PixelData = bytes(256)
    path = save(dataset, tmp_path)
    with converted(path, EXPLICIT, IMPLICIT) as made:
        assert isinstance(made.body, FileSlice)
        assert made.size > 80 * 60_000


def test_a_large_one_of_odd_length_is_padded_where_it_is_odd(tmp_path: Path) -> None:
    path = stored(tmp_path, 4096)
    content = path.read_bytes()
    odd = content.replace(b"OB\0\0\6\0\0\0behind", b"OB\0\0\5\0\0\0behin")
    assert len(odd) == len(content) - 1
    path.write_bytes(odd)
    with converted(path, EXPLICIT, EXPLICIT) as made:
        assert isinstance(made.body, Parts)
        assert read(made.body.read(), EXPLICIT)[0xFFFCFFFC].value == b"behin\0"
