"""What decoding for receivers takes: memory of a frame, disk for the result, and no more."""

from __future__ import annotations

import os
import signal
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from lfscp.archive.store import deflated, spool
from lfscp.archive.store.stored_dataset import read_stored_dataset
from lfscp.config import Settings
from lfscp.config.budgets import Budgets
from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.node.parts import open_archive
from lfscp.services.transcoding.codecs.codec_client import CodecProcess, codec_process
from lfscp.services.transcoding.codecs.working_set import working_set
from lfscp.services.transcoding.decoding import DecodingError, converted
from lfscp.services.transcoding.decoding_memory import MEMORY
from lfscp.services.transcoding.frames import FramePieces
from lfscp.upperlayer.scu.sending import FileSlice
from tests.support.converted import decode
from tests.support.pixel_objects import described, native_frame, save, with_fragments

MB = 1 << 20
EXPLICIT, IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)


class CalledOffError(Exception):
    """Raised by whoever waits no longer."""


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """How many bytes of memory were held at once since."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def by_process(codec: CodecProcess, *asked: Any) -> FramePieces:
    """A frame that a process decodes."""
    codec.begin(*asked)
    return codec.finish()


def run_length(rows: int, columns: int) -> bytes:
    """A frame of zeros, 8 bits, as RLE Lossless has it."""
    runs = b"\x81\0" * (rows * columns // 128)
    return np.array([1, 64, *[0] * 14], "<u4").tobytes() + runs


def black(folder: Path, frames: int, rows: int = 1024, columns: int = 1024) -> Path:
    """An object of zeros in RLE Lossless."""
    dataset = described(rows, columns, syntax=RLELossless, frames=frames)
    return with_fragments(dataset, [run_length(rows, columns)] * frames, folder)


def test_an_object_of_many_frames_takes_the_memory_of_a_part_of_one(tmp_path: Path) -> None:
    path = black(tmp_path, 6, 4096, 4096)
    with traced() as peak, converted(path, str(RLELossless), EXPLICIT) as made:
        assert made.size > 6 * 16 * MB
        assert peak() < 4 * MB
    assert MEMORY.in_use == 0


@pytest.mark.parametrize("wanted", ["1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"])
def test_turning_round_and_deflating_go_piece_by_piece(tmp_path: Path, wanted: str) -> None:
    dataset = described(1024, 1024, allocated=16, frames=16)
    dataset.PixelData = bytes(32 * MB)
    dataset["PixelData"].VR = "OW"
    path = save(dataset, tmp_path)
    del dataset
    with traced() as peak, converted(path, EXPLICIT, wanted):
        assert peak() < 8 * MB


def test_a_frame_that_alone_needs_more_is_refused_with_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MEMORY, "limit_bytes", 4 * MB)
    path = black(tmp_path, 1, 2048, 2048)
    with pytest.raises(DecodingError, match=r"needs \d+ MB, budgets\.decoding_mb is 4"):
        decode(path, str(RLELossless), EXPLICIT)


def test_a_size_that_is_only_claimed_is_refused_before_anything_is_allocated(
    tmp_path: Path,
) -> None:
    dataset = described(65535, 65535, syntax=RLELossless, frames=2)
    path = with_fragments(dataset, [run_length(64, 64)] * 2, tmp_path)
    with traced() as peak, pytest.raises(DecodingError, match="MB"):
        decode(path, str(RLELossless), EXPLICIT)
    assert peak() < MB


def test_who_wants_more_than_is_left_waits_and_may_give_up(tmp_path: Path) -> None:
    path = black(tmp_path, 1)
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise CalledOffError

    with (
        MEMORY.reserve(MEMORY.limit_bytes, lambda: None),
        pytest.raises(CalledOffError),
        converted(path, str(RLELossless), EXPLICIT, look=look),
    ):
        pass
    assert MEMORY.in_use == 0
    assert not MEMORY.waiting


def test_memory_is_free_again_while_the_receiver_takes_its_time(tmp_path: Path) -> None:
    path = black(tmp_path, 4)
    with converted(path, str(RLELossless), EXPLICIT):
        assert MEMORY.in_use == 0
        assert spool.SPACE.in_use > 4 * MB
    assert spool.SPACE.in_use == 0


def test_an_object_is_fetched_before_it_takes_memory(tmp_path: Path) -> None:
    path = black(tmp_path, 1)
    taken = []

    class Fetched:
        """As an object of a bucket, whose opening may take minutes."""

        def open(self, mode: str) -> Any:
            taken.append(MEMORY.in_use)
            return path.open(mode)

    with converted(Fetched(), RLELossless, EXPLICIT) as made:  # type: ignore[arg-type]
        assert made.size
    assert taken == [0]


def test_nothing_of_a_converted_object_has_a_name(tmp_path: Path) -> None:
    path = black(tmp_path, 4)
    spool.use(tmp_path, 8192 * MB, 0)
    try:
        with converted(path, str(RLELossless), EXPLICIT) as made:
            assert isinstance(made.body, FileSlice)
            assert os.fstat(made.body.descriptor or -1).st_dev == tmp_path.stat().st_dev
            assert list(tmp_path.iterdir()) == [path]
    finally:
        spool._places.clear()


def test_more_disk_than_the_budget_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool.SPACE, "limit_bytes", 8 * MB)
    path = black(tmp_path, 16)
    with pytest.raises(DecodingError, match=r"needs 17 MB, budgets\.spool_mb is 8"):
        decode(path, str(RLELossless), EXPLICIT)


def test_a_frame_that_is_wrong_in_the_middle_leaves_nothing_held(tmp_path: Path) -> None:
    dataset = described(1024, 1024, syntax=RLELossless, frames=4)
    frame = run_length(1024, 1024)
    path = with_fragments(dataset, [frame, frame, frame[:-8000], frame], tmp_path)
    with pytest.raises(DecodingError, match="frame 3"):
        decode(path, str(RLELossless), EXPLICIT)
    assert (MEMORY.in_use, spool.SPACE.in_use) == (0, 0)


# Other processes


def image(rows: int, columns: int) -> ImagePixel:
    return ImagePixel(rows, columns, 1, 8, 8, 7, False, "MONOCHROME2", 0, 1)


def jpeg_ls_of(rows: int, columns: int) -> bytes:
    jpeg_ls = pytest.importorskip("jpeg_ls", reason="extra codecs is not installed")
    return bytes(jpeg_ls.encode_array(np.zeros((rows, columns), np.uint8)))


def test_a_codec_that_takes_more_than_was_foreseen_fails(tmp_path: Path) -> None:
    size = 8192
    frame = memoryview(jpeg_ls_of(size, size))
    with (
        codec_process(lambda: None) as codec,
        pytest.raises(DecodingError),
    ):
        by_process(codec, str(JPEGLSLossless), [frame], image(size, size), 4 * MB, 0)
    path = black(tmp_path, 1)
    assert decode(path, str(RLELossless), EXPLICIT)


def test_who_gives_up_does_not_wait_for_the_codec(tmp_path: Path) -> None:
    dataset = described(8192, 8192, syntax=JPEGLSLossless)
    path = with_fragments(dataset, [jpeg_ls_of(8192, 8192)], tmp_path)
    calls = 0

    def look() -> None:
        nonlocal calls
        calls += 1
        if MEMORY.in_use:
            raise CalledOffError

    MEMORY.limit_bytes *= 4
    try:
        with (
            pytest.raises(CalledOffError),
            converted(path, str(JPEGLSLossless), EXPLICIT, look=look),
        ):
            pass
    finally:
        MEMORY.limit_bytes //= 4
    assert calls
    assert MEMORY.in_use == 0


def test_a_codestream_in_tiny_tiles_counts_for_what_they_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openjpeg", reason="extra codecs is not installed")
    from io import BytesIO

    from PIL import Image

    def stored(tiles: int) -> Path:
        file = BytesIO()
        values = np.zeros((1024, 1024), np.uint8)
        options = {"no_jp2": True, "irreversible": False, "tile_size": (tiles, tiles)}
        Image.fromarray(values).save(file, "JPEG2000", **options)
        dataset = described(1024, 1024, syntax=JPEG2000Lossless)
        return with_fragments(dataset, [file.getvalue()], tmp_path)

    monkeypatch.setattr(MEMORY, "limit_bytes", 20 * MB)
    assert len(decode(stored(512), str(JPEG2000Lossless), EXPLICIT)) > MB
    with pytest.raises(DecodingError, match=r"budgets\.decoding_mb is 20"):
        decode(stored(16), str(JPEG2000Lossless), EXPLICIT)


# Deflated datasets


def deflated_object(folder: Path, frames: int) -> Path:
    dataset = described(1024, 1024, frames=frames, syntax=DeflatedExplicitVRLittleEndian)
    dataset.PixelData = bytes(frames * MB)
    dataset["PixelData"].VR = "OB"
    return save(dataset, folder)


def test_a_deflated_object_is_inflated_on_disk(tmp_path: Path) -> None:
    path = deflated_object(tmp_path, 24)
    with traced() as peak, converted(path, str(DeflatedExplicitVRLittleEndian), IMPLICIT):
        assert peak() < 6 * MB


def test_frames_asked_for_one_after_another_are_inflated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = deflated_object(tmp_path, 3)
    inflations = 0
    inflate = deflated.inflated

    def counted(dataset: memoryview) -> memoryview:
        nonlocal inflations
        inflations += 1
        return inflate(dataset)

    monkeypatch.setattr("lfscp.archive.store.stored_dataset.inflated", counted)
    for number in range(3):
        assert not native_frame(path, number).values.any()
    assert inflations == 1


def test_another_object_in_the_same_place_is_inflated_anew(tmp_path: Path) -> None:
    path = deflated_object(tmp_path, 3)
    assert len(read_stored_dataset(path).content) > 3 * MB
    assert len(read_stored_dataset(deflated_object(tmp_path, 5)).content) > 5 * MB


def test_what_inflates_to_more_than_the_bound_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inflate = partial(deflated.inflated, limit=32 * MB)
    monkeypatch.setattr("lfscp.archive.store.stored_dataset.inflated", inflate)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    pieces = [deflater.compress(bytes(MB)) for _ in range(40)]
    syntax = str(DeflatedExplicitVRLittleEndian)
    path = tmp_path / "bomb.dcm"
    path.write_bytes(part10_header("1.2", "1.2.3", syntax) + b"".join(pieces) + deflater.flush())
    with traced() as peak, pytest.raises(DecodingError, match="inflates to more than 32 MB"):
        decode(path, syntax, IMPLICIT)
    assert peak() < 4 * MB


def test_elements_beside_pixels_are_bounded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = described(16, 16)
    dataset.add_new(0x00091001, "UN", bytes(60_000))
    for number in range(80):
        dataset.add_new(0x00110000 + 0x1000 + number, "UN", bytes(60_000))
    dataset.PixelData = bytes(256)
    path = save(dataset, tmp_path)
    monkeypatch.setattr(MEMORY, "limit_bytes", 8 * MB)
    with pytest.raises(DecodingError, match="need too much memory"):
        decode(path, EXPLICIT, IMPLICIT)


def test_an_archive_that_is_opened_for_a_node_sets_the_budgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for budget in (MEMORY, spool.SPACE):
        monkeypatch.setattr(budget, "limit_bytes", budget.limit_bytes)
    budgets = {"decoding_mb": 5, "spool_mb": 7}
    settings = Settings.model_validate({"data_dir": tmp_path, "budgets": budgets})
    try:
        with open_archive(settings):
            assert (MEMORY.limit_bytes, spool.SPACE.limit_bytes) == (5 * MB, 7 * MB)
    finally:
        spool._places.clear()


def test_a_codec_that_dies_fails_one_frame_and_no_more(tmp_path: Path) -> None:
    frame = memoryview(jpeg_ls_of(4096, 4096))
    with codec_process(lambda: None) as codec:
        signal.pidfd_send_signal(codec.child._pidfd, signal.SIGKILL)
        with pytest.raises(DecodingError, match="the codec failed"):
            by_process(codec, str(JPEGLSLossless), [frame], image(4096, 4096), 160 * MB, 0)
    assert decode(black(tmp_path, 1), str(RLELossless), EXPLICIT)


def process_of(owner: object) -> int:
    """The number of the process that decodes a frame for it."""
    frame = memoryview(jpeg_ls_of(64, 64))
    with codec_process(lambda: None, owner) as codec:
        decoded = by_process(codec, str(JPEGLSLossless), [frame], image(64, 64), 4 * MB, 0)
        assert b"".join(decoded.pieces) == bytes(64 * 64)
        return pid_of(codec.child._pidfd)


def pid_of(pidfd: int) -> int:
    lines = Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))


def test_the_objects_of_one_retrieve_share_a_process_and_those_of_another_do_not() -> None:
    one, other = object(), object()
    first = process_of(one)
    assert process_of(other) != first
    assert process_of(one) == first
    assert process_of(None) != process_of(None)


def test_only_so_many_processes_are_kept() -> None:
    owners = [object() for _ in range(3)]
    before = [process_of(owner) for owner in owners]
    assert [process_of(owner) for owner in reversed(owners)][:2] == before[:0:-1]
    assert process_of(owners[0]) != before[0]


def test_a_process_that_failed_or_was_left_is_not_used_again() -> None:
    owner = object()
    frame = memoryview(jpeg_ls_of(64, 64))
    first = process_of(owner)
    with (
        pytest.raises(DecodingError),
        codec_process(lambda: None, owner) as codec,
    ):
        by_process(codec, str(JPEGLSLossless), [frame[:-9]], image(64, 64), 4 * MB, 0)
    second = process_of(owner)
    assert second != first
    with codec_process(lambda: None, owner) as codec:  # and does not read what was decoded
        by_process(codec, str(JPEGLSLossless), [frame], image(64, 64), 4 * MB, 0)
    assert process_of(owner) != second


# What is usual

USUAL = {
    "computed radiography": (4280, 3520, 1, 16),
    "mammography": (3328, 4096, 1, 16),
    "large mammography": (4096, 5625, 1, 16),
    "a slide's tile": (2048, 2048, 3, 8),
}


@pytest.mark.parametrize("what", USUAL)
@pytest.mark.parametrize(
    "syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, JPEG2000, RLELossless]
)
def test_large_frames_that_are_usual_may_be_decoded_by_default(what: str, syntax: str) -> None:
    rows, columns, samples, allocated = USUAL[what]
    header = ImagePixel(
        rows, columns, samples, allocated, allocated, allocated - 1, False, "", 0, 60
    )
    cells = rows * columns * samples * allocated // 8
    stored_bytes = cells // 8 if syntax == JPEG2000 else cells * 2 // 5
    limit = Budgets().decoding_mb << 20
    assert working_set(str(syntax), header, stored_bytes) < limit
