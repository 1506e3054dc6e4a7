"""A decoded object's file is closed when it was decoded, not when garbage is collected."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

from lfscp.archive.store.stored_dataset import read_stored_dataset
from lfscp.services.transcoding import parallel_codecs
from lfscp.services.transcoding.ahead import Ahead, Wanted
from lfscp.services.transcoding.decoded import DecodingError
from lfscp.services.transcoding.decoded_frames import DecodedFrames
from tests.support.converted import decode
from tests.support.dicom_peer import until
from tests.support.pixel_objects import described, with_fragments

EXPLICIT = str(ExplicitVRLittleEndian)
FRAMES = 5


@pytest.fixture(autouse=True)
def without_garbage_collection(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(parallel_codecs, "PROCESSORS", parallel_codecs.Processors(3))
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def an_object(folder: Path, broken: int | None = None) -> Path:
    frame = bytes(imagecodecs.jpegls_encode(np.arange(4096, dtype=np.uint8).reshape(64, 64)))
    frames = [frame + b"\0" * (len(frame) % 2)] * FRAMES
    if broken is not None:
        frames[broken] = frames[broken][:40]
    dataset = described(64, 64, syntax=JPEGLSLossless, frames=FRAMES)
    return with_fragments(dataset, frames, folder)


def is_open(path: Path) -> bool:
    """Whether this process has the file open; a mapping has a descriptor of its own."""
    links = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.append(os.readlink(each))  # noqa: PTH115 - it may be no path
    return str(path.resolve()) in links


def test_of_an_object_that_was_decoded(tmp_path: Path) -> None:
    path = an_object(tmp_path)
    decode(path, str(JPEGLSLossless), EXPLICIT)
    assert not is_open(path)


@pytest.mark.parametrize("broken", [0, 3])
def test_of_an_object_with_a_broken_frame(tmp_path: Path, broken: int) -> None:
    path = an_object(tmp_path, broken)
    with suppress(DecodingError):
        decode(path, str(JPEGLSLossless), EXPLICIT)
    assert not is_open(path)


@pytest.mark.parametrize("broken", [None, 3])
def test_of_an_object_that_was_decoded_ahead(tmp_path: Path, broken: int | None) -> None:
    path = an_object(tmp_path, broken)
    wanted = Wanted(path, str(JPEGLSLossless), EXPLICIT, offset_in(path), path.stat().st_size)
    ahead = Ahead(object())
    ahead.prepare([wanted._replace(size=1), wanted])
    assert until(lambda: all(job.done() for job in ahead._jobs.values()))
    ahead.close()
    assert until(lambda: not is_open(path))


def offset_in(path: Path) -> int:
    return path.read_bytes().index(b"\x08\0\x16\0")


@pytest.mark.parametrize("broken", [None, 3])
def test_of_frames_that_were_asked_for(tmp_path: Path, broken: int | None) -> None:
    path = an_object(tmp_path, broken)
    frames: Any = DecodedFrames(read_stored_dataset(path), lambda: None, object())
    with suppress(DecodingError), frames.frame(3):
        pass
    del frames
    assert not is_open(path)
