"""Frames read by their offsets: found by a table or by one walk, in little endian, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

from lfscp.archive.store.stored_head import read_head
from lfscp.dicom.errors import DatasetError
from lfscp.services.transcoding.stored_frames import NoFrameError, NoPixelsError, StoredFrames
from tests.support.pixel_objects import described, save

FRAMES = [bytes([number]) * (10 + 2 * number) for number in range(1, 5)]


@contextmanager
def opened(path: Path) -> Iterator[StoredFrames]:
    with path.open("rb") as file:
        head = read_head(file)
        yield StoredFrames(file, head.transfer_syntax_uid, head.dataset_offset)


def frame(path: Path, number: int) -> bytes:
    """One frame, counted from 0; its size is as said."""
    with opened(path) as stored:
        content = b"".join(stored.pieces(number))
        assert stored.size_of(number) == len(content)
        return content


def compressed(folder: Path, *, has_table: bool, fragments: int = 1) -> Path:
    dataset = described(4, 4, syntax=RLELossless, frames=len(FRAMES))
    dataset.PixelData = encapsulate(FRAMES, has_bot=has_table, fragments_per_frame=fragments)
    return save(finished(dataset), folder)


def finished(dataset: Dataset) -> Dataset:
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset


@pytest.mark.parametrize("fragments", [1, 2])
def test_frames_are_found_by_the_basic_offset_table(tmp_path, fragments):
    path = compressed(tmp_path, has_table=True, fragments=fragments)

    assert [frame(path, number) for number in (3, 0, 1, 2)] == [FRAMES[at] for at in (3, 0, 1, 2)]


def test_frames_are_found_without_a_table(tmp_path):
    path = compressed(tmp_path, has_table=False)

    assert [frame(path, number) for number in (2, 0)] == [FRAMES[2], FRAMES[0]]


def test_frames_are_found_by_the_extended_offset_table(tmp_path):
    dataset = described(4, 4, syntax=RLELossless, frames=len(FRAMES))
    dataset.PixelData, offsets, lengths = encapsulate_extended(FRAMES)
    dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths
    path = save(finished(dataset), tmp_path)

    assert frame(path, 2) == FRAMES[2]


def test_with_a_table_the_other_frames_are_not_looked_at(tmp_path):
    path = compressed(tmp_path, has_table=True)
    content = path.read_bytes()
    at = content.index(FRAMES[3])
    path.write_bytes(content[: at - 8] + b"broken!!" + content[at:])

    assert frame(path, 1) == FRAMES[1]
    with pytest.raises(DatasetError):
        frame(path, 3)


def test_another_file_under_the_same_name_is_read_anew(tmp_path):
    path = compressed(tmp_path, has_table=True)
    assert frame(path, 1) == FRAMES[1]

    path.unlink()
    compressed(tmp_path, has_table=False, fragments=1)
    assert frame(path, 1) == FRAMES[1]
    dataset = dcmread(path)
    dataset.PixelData = encapsulate([b"\7\7"] * 4)
    save(finished(dataset), tmp_path)

    assert frame(path, 1) == b"\7\7"


def test_shared_chrominance_stays_as_it_is_stored(tmp_path):
    dataset = described(3, 4, photometric="YBR_FULL_422", frames=2)
    content = bytes(range(3 * 4 * 2 * 2))
    dataset.PixelData = content
    dataset["PixelData"].VR = "OB"

    assert frame(save(dataset, tmp_path), 1) == content[24:]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_big_endian_words_of_bytes_are_turned_across_frames(tmp_path, number):
    dataset = described(3, 3, syntax=ExplicitVRBigEndian, frames=3)
    cells = bytes(range(27)) + b"\0"
    dataset.PixelData = np.frombuffer(cells, "<u2").astype(">u2").tobytes()
    dataset["PixelData"].VR = "OW"  # frames of 9 bytes in words of 2

    assert frame(save(dataset, tmp_path), number) == cells[9 * number : 9 * number + 9]


def test_floating_point_frames_are_read(tmp_path):
    dataset = described(2, 2, syntax=ExplicitVRLittleEndian, allocated=32, frames=2)
    values = np.arange(8, dtype="<f4")
    dataset.FloatPixelData = values.tobytes()

    assert frame(save(dataset, tmp_path), 1) == values[4:].tobytes()


def test_a_frame_that_is_not_there_is_said(tmp_path):
    dataset = described(4, 4, frames=3)
    dataset.PixelData = bytes(40)
    dataset["PixelData"].VR = "OB"
    path = save(dataset, tmp_path)

    assert frame(path, 1) == bytes(16)
    for number, reason in ((2, "ends before the end of frame 3"), (3, "no frame 4"), (-1, "no fr")):
        with pytest.raises(NoFrameError, match=reason):
            frame(path, number)


@pytest.mark.parametrize("content", [None, b""])
def test_an_object_without_pixels_is_said(tmp_path, content):
    dataset = described(4, 4)
    if content is not None:
        dataset.PixelData = content
        dataset["PixelData"].VR = "OB"

    with pytest.raises(NoPixelsError):
        frame(save(dataset, tmp_path), 0)
