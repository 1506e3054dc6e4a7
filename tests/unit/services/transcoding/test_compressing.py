"""Objects are compressed without loss, or not at all."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.processes.forking_server import Child
from lfscp.routing.actions.action import Means, OnTheWay
from lfscp.routing.actions.transcoding import TransferSyntaxAction
from lfscp.scu.files import read_instance
from lfscp.services.transcoding.compression import compressing
from lfscp.services.transcoding.compression.compressing import EncodingError, compressed
from lfscp.services.transcoding.decoding import DecodingError
from tests.support.dicom_peer import until

EXPLICIT = "1.2.840.10008.1.2.1"
ALL = (str(RLELossless), str(JPEGLSLossless), str(JPEG2000Lossless))


def stored(name: str) -> StoredInstance:
    return read_instance(Path(str(get_testdata_file(name))), lambda _note: None)


def sent(instance: StoredInstance, syntax: str, folder: Path) -> Iterator[StoredInstance]:
    way = OnTheWay(folder, "", datetime(2026, 1, 1, tzinfo=UTC))
    with TransferSyntaxAction(syntax).ready(Means("HERE"))(instance, way) as changed:
        yield changed


@pytest.mark.parametrize("syntax", ALL)
@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",  # signed, 16 bits
        "MR_small_RLE.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "examples_palette.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "JPEG2000.dcm",
        "image_dfl.dcm",
    ],
)
def test_pixels_and_all_else_stay_the_same(tmp_path: Path, name: str, syntax: str) -> None:
    instance = stored(name)
    for plain in sent(instance, EXPLICIT, tmp_path):
        wanted = dcmread(str(plain.path))
        pixels = wanted.pixel_array
    for changed in sent(instance, syntax, tmp_path):
        found = dcmread(str(changed.path))
        assert changed.transfer_syntax_uid == found.file_meta.TransferSyntaxUID == syntax
        assert np.array_equal(found.pixel_array, pixels)
        assert changed.sop_instance_uid == instance.sop_instance_uid
    if wanted.SamplesPerPixel > 1:
        assert found.PlanarConfiguration == (1 if syntax == RLELossless else 0)
        wanted.PlanarConfiguration = found.PlanarConfiguration
    wanted.PixelData = found.PixelData
    wanted["PixelData"].is_undefined_length = True
    assert [each.tag for each in found] == [each.tag for each in wanted]
    assert all(found[each.tag].value == each.value for each in wanted)


def test_each_frame_is_one_fragment(tmp_path: Path) -> None:
    from pydicom.encaps import generate_fragments

    dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
    one = dataset.pixel_array
    dataset.NumberOfFrames = 3
    dataset.PixelData = b"".join((one + number).tobytes() for number in range(3))
    file = tmp_path / "frames.dcm"
    dataset.save_as(file)
    for changed in sent(read_instance(file, lambda _note: None), ALL[1], tmp_path):
        found = dcmread(str(changed.path))
        assert len(list(generate_fragments(found.PixelData))) == 1 + 3  # the offset table
        assert np.array_equal(found.pixel_array, dataset.pixel_array)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("reportsi.dcm", "it has no pixels"),
        ("liver_1frame.dcm", "its pixels have 1 bits"),
        ("rtdose_1frame.dcm", "its pixels have 32 bits"),
    ],
)
def test_what_cannot_be_compressed_goes_as_it_is(tmp_path: Path, name: str, reason: str) -> None:
    instance = stored(name)
    with (
        pytest.raises(EncodingError, match=reason),
        compressed(instance.path, instance.transfer_syntax_uid, ALL[0], instance.dataset_offset),
    ):
        pass
    for changed in sent(instance, ALL[0], tmp_path):
        assert changed is instance


def test_values_that_a_codec_would_lose_are_not_compressed(tmp_path: Path) -> None:
    dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = b"\xff\xf7" * (dataset.Rows * dataset.Columns)  # bits above Bits Stored
    file = tmp_path / "odd.dcm"
    dataset.save_as(file)
    instance = read_instance(file, lambda _note: None)
    for changed in sent(instance, ALL[1], tmp_path):
        found = dcmread(str(changed.path))
        if changed is not instance:
            assert found.pixel_array.tobytes() == dataset.PixelData
    assert list(tmp_path.glob("*.part")) == []


def test_a_process_that_cannot_start_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(_look: object) -> None:
        raise OSError

    monkeypatch.setattr(compressing._SERVER, "child", fail)
    instance = stored("CT_small.dcm")
    syntax, offset = instance.transfer_syntax_uid, instance.dataset_offset
    with (
        pytest.raises(DecodingError, match="cannot start"),
        compressed(instance.path, syntax, ALL[0], offset) as pieces,
    ):
        list(pieces)


def test_a_process_that_ended_while_others_had_the_memory_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.NumberOfFrames = 3
    dataset.PixelData *= 3
    file = tmp_path / "frames.dcm"
    dataset.save_as(file)
    instance = read_instance(file, lambda _note: None)
    children: list[Child] = []
    begin = compressing._SERVER.child

    def begun(look: Callable[[], None]) -> Child:
        children.append(begin(look))
        return children[-1]

    monkeypatch.setattr(compressing._SERVER, "child", begun)
    syntax, offset = instance.transfer_syntax_uid, instance.dataset_offset
    frames = []
    with compressed(instance.path, syntax, ALL[0], offset) as pieces:
        for piece in pieces:
            frames += [piece] * (len(piece) > 1000)
            if children and not children[-1].has_ended:
                signal.pidfd_send_signal(children[-1]._pidfd, signal.SIGKILL)
                assert until(lambda: children[-1].has_ended)
    assert len(children) == 3
    assert frames[-3:] == [frames[-1]] * 3
