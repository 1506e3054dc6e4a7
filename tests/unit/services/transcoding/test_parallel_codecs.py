"""Frames of one object in several processes: in their order, within the budgets, or not at all."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.processes.forking_server import Child
from lfscp.services.transcoding import parallel_codecs
from lfscp.services.transcoding.decoded import DecodingError
from lfscp.services.transcoding.decoding_memory import MEMORY
from lfscp.services.transcoding.parallel_codecs import ParallelCodecs
from tests.support.converted import decode
from tests.support.dicom_peer import until
from tests.support.pixel_objects import Array, described, with_fragments

MB = 1 << 20
EXPLICIT = str(ExplicitVRLittleEndian)
IMAGE = ImagePixel(64, 64, 1, 8, 8, 7, False, "MONOCHROME2", 0, 1)


@pytest.fixture(autouse=True)
def three_processors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    processors = parallel_codecs.Processors(3)
    monkeypatch.setattr(parallel_codecs, "PROCESSORS", processors)
    yield
    assert processors._busy == 0
    assert MEMORY.in_use == 0


@pytest.fixture
def most_at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many processes there were, whenever one was added."""
    counts, now = [], 0
    begun = parallel_codecs.codec_process

    @contextmanager
    def counted(*arguments: Any) -> Iterator[Any]:
        nonlocal now
        with begun(*arguments) as process:
            now += 1
            counts.append(now)
            try:
                yield process
            finally:
                now -= 1

    monkeypatch.setattr(parallel_codecs, "codec_process", counted)
    return counts


def frames_of(count: int) -> list[Array]:
    rng = np.random.default_rng(7)
    return [rng.integers(0, 256, (64, 64), np.uint8) for _ in range(count)]


def encoded(frame: Array) -> bytes:
    content = imagecodecs.jpegls_encode(frame)
    return bytes(content) + b"\0" * (len(content) % 2)


def save(frames: list[bytes], folder: Path) -> Path:
    dataset = described(64, 64, syntax=JPEGLSLossless, frames=len(frames))
    return with_fragments(dataset, frames, folder)


def pixels(frames: list[Array]) -> bytes:
    return b"".join(frame.tobytes() for frame in frames)


def test_frames_are_decoded_at_once_and_keep_their_order(
    tmp_path: Path, most_at_once: list[int]
) -> None:
    frames = frames_of(20)
    path = save([encoded(frame) for frame in frames], tmp_path)
    assert decode(path, str(JPEGLSLossless), EXPLICIT).endswith(pixels(frames))
    assert max(most_at_once) == 3


def test_without_memory_for_two_they_are_decoded_one_by_one(
    tmp_path: Path, most_at_once: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MEMORY, "limit_bytes", 8 * MB)
    frames = frames_of(5)
    path = save([encoded(frame) for frame in frames], tmp_path)
    assert decode(path, str(JPEGLSLossless), EXPLICIT).endswith(pixels(frames))
    assert max(most_at_once) == 1


@pytest.mark.parametrize("broken", [0, 1, 4, 9])
def test_a_broken_frame_is_named_and_nothing_is_left(tmp_path: Path, broken: int) -> None:
    contents = [encoded(frame) for frame in frames_of(10)]
    contents[broken] = contents[broken][:-200] + bytes(200)
    path = save(contents, tmp_path)
    with pytest.raises(DecodingError, match=f"frame {broken + 1}: "):
        decode(path, str(JPEGLSLossless), EXPLICIT)


def test_a_process_that_dies_fails_its_frame_when_those_before_it_are_read() -> None:
    first, second = frames_of(2)
    with (
        MEMORY.reserve(2 * MB, lambda: None),
        ParallelCodecs(lambda: None, object(), 2 * MB) as codecs,
    ):
        one = codecs.begin(str(JPEGLSLossless), [memoryview(encoded(first))], IMAGE, 0)
        assert codecs.may_begin()
        other = codecs.begin(str(JPEGLSLossless), [memoryview(encoded(second))], IMAGE, 0)
        codecs._lanes[1].process.child.end()
        assert b"".join(one().pieces) == first.tobytes()
        with pytest.raises(DecodingError, match="the codec failed"):
            other()


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_process_that_ends_while_it_is_idle_is_replaced(lanes: int) -> None:
    frames = frames_of(lanes)
    with (
        MEMORY.reserve(2 * MB, lambda: None),
        ParallelCodecs(lambda: None, object(), 2 * MB) as codecs,
    ):
        for _ in range(2):
            begun = []
            for frame in frames:
                assert codecs.may_begin()
                content = [memoryview(encoded(frame))]
                begun.append(codecs.begin(str(JPEGLSLossless), content, IMAGE, 0))
            assert [b"".join(each().pieces) for each in begun] == [
                each.tobytes() for each in frames
            ]
            for lane in codecs._lanes:
                kill(lane.process.child)


def kill(child: Child) -> None:
    signal.pidfd_send_signal(child._pidfd, signal.SIGKILL)
    assert until(lambda: child.has_ended)


def test_memory_that_others_wait_for_is_given_back() -> None:
    frames = frames_of(2)
    with (
        MEMORY.reserve(2 * MB, lambda: None),
        ParallelCodecs(lambda: None, object(), 2 * MB) as codecs,
    ):
        begun = []
        for frame in frames:
            assert codecs.may_begin()
            content = [memoryview(encoded(frame))]
            begun.append(codecs.begin(str(JPEGLSLossless), content, IMAGE, 0))
        in_use = MEMORY.in_use
        assert in_use > 4 * MB
        has_memory = threading.Event()
        waiting = threading.Thread(target=take, args=(MEMORY.limit_bytes - 2 * MB, has_memory))
        waiting.start()
        while not MEMORY.waiting:
            pass
        assert not codecs.may_begin()
        assert [b"".join(each().pieces) for each in begun] == [each.tobytes() for each in frames]
        assert not codecs.may_begin()
        assert has_memory.wait(10)
        waiting.join()
        assert codecs.may_begin()


def take(size: int, has_memory: threading.Event) -> None:
    with MEMORY.reserve(size, lambda: None):
        has_memory.set()
