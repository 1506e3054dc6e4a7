"""Single frames decoded within the budgets: whole, or an error with a reason; nothing is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, RLELossless

from lfscp.archive.store.spool import IN_MEMORY, SPACE
from lfscp.archive.store.stored_dataset import read_stored_dataset
from lfscp.services.transcoding.decoded import DecodingError
from lfscp.services.transcoding.decoded_frames import DecodedFrames, can_decode
from lfscp.services.transcoding.decoding_memory import MEMORY
from tests.support.pixel_objects import described, ramp, save, with_fragments


@pytest.fixture
def compressed(tmp_path: Path) -> Path:
    """Three frames of 64 by 64 cells of 16 bits in JPEG 2000."""
    dataset = described(64, 64, allocated=16, frames=3)
    dataset.PixelData = cells().tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    return save(dataset, tmp_path)


def cells() -> np.ndarray:
    frame = ramp(64, 64, 16).astype("<u2")
    return np.stack([frame + number for number in range(3)]).astype("<u2")


def frame(path: Path, number: int, look=lambda: None, *, alone: bool = True) -> bytes:
    frames = DecodedFrames(read_stored_dataset(path), look, owner=path)
    with frames.frame(number, alone=alone) as file:
        return file.read()


@pytest.fixture(autouse=True)
def nothing_is_kept():
    yield
    assert MEMORY.in_use == SPACE.in_use == 0
    assert IN_MEMORY._size == 0


@pytest.mark.parametrize("alone", [True, False])
def test_each_frame_is_decoded_by_itself(compressed, alone):
    found = [frame(compressed, number, alone=alone) for number in (2, 0)]

    assert found == [cells()[2].tobytes(), cells()[0].tobytes()]


def test_a_frame_that_needs_more_than_the_budget_is_refused(compressed, monkeypatch):
    monkeypatch.setattr(MEMORY, "limit_bytes", 1 << 20)

    with pytest.raises(DecodingError, match=r"budgets\.decoding_mb is 1"):
        frame(compressed, 0)


def test_no_memory_is_held_while_the_frame_is_read(compressed):
    frames = DecodedFrames(read_stored_dataset(compressed), lambda: None, owner=None)
    with frames.frame(0) as file:
        assert MEMORY.in_use == 0
        assert file.read() == cells()[0].tobytes()


def test_a_broken_frame_is_an_error_and_the_others_are_not(tmp_path):
    whole = b"\1\0\0\0\x40" + bytes(59) + b"\xff\7"  # 2 bytes, once more
    dataset = described(1, 2, syntax=RLELossless, frames=2)
    path = with_fragments(dataset, [whole, whole[:40]], tmp_path, has_table=True)

    with pytest.raises(DecodingError, match="frame 2"):
        frame(path, 1)
    assert frame(path, 0) == b"\7\7"


def test_a_client_that_is_gone_ends_the_work(compressed):
    class GoneError(Exception):
        pass

    def look() -> None:
        raise GoneError

    with pytest.raises(GoneError):
        frame(compressed, 0, look)


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        (JPEG2000Lossless, True),
        (RLELossless, True),
        ("1.2.840.10008.1.2.8.1", True),
        ("1.2.840.10008.1.2.4.94", False),  # JPIP
        ("1.2.840.10008.1.2.4.102", False),  # a video
    ],
)
def test_what_can_be_decoded_is_known_beforehand(syntax, expected):
    assert can_decode(syntax) is expected
