"""The same conversions by DCMTK: dcmconv for encodings, its decoders for pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from lfscp.dicom.part10.file_meta import part10_header
from tests.support.converted import decode
from tests.support.dataset_model import BIG, EXPLICIT, IMPLICIT, Item, Sequence, Value, dataset
from tests.support.pixel_objects import Array, described, of_type, ramp, save

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SYNTAXES = {
    IMPLICIT: "1.2.840.10008.1.2",
    EXPLICIT: "1.2.840.10008.1.2.1",
    BIG: "1.2.840.10008.1.2.2",
}
OPTIONS = {IMPLICIT: "+ti", EXPLICIT: "+te", BIG: "+tb"}
WAYS = [(source, target) for source in SYNTAXES for target in SYNTAXES if source != target]

Elements = list[Value | Sequence]


def image_of(bits: int, vr: str, *, signed: bool = False) -> Elements:
    """An image's attributes, with those whose VR depends on others."""
    kind = "SS" if signed else "US"
    return [
        Value(0x00280002, "US", [1]),
        Value(0x00280004, "CS", b"MONOCHROME2 "),
        Value(0x00280010, "US", [2]),
        Value(0x00280011, "US", [2]),
        Value(0x00280100, "US", [bits]),
        Value(0x00280101, "US", [bits]),
        Value(0x00280102, "US", [bits - 1]),
        Value(0x00280103, "US", [int(signed)]),
        Value(0x00280106, kind, [1]),
        Value(0x00280107, kind, [258]),
        Value(0x00280120, kind, [0]),
        Value(0x7FE00010, vr, bytes(range(4)) if vr == "OB" else [1, 258, 772, 65535]),
    ]


def waveform() -> Elements:
    channel = Item([Value(0x54000110, "OW", [1]), Value(0x54000112, "OW", [65535])])
    multiplex = [
        Sequence(0x003A0200, [channel]),
        Value(0x54001004, "US", [16]),
        Value(0x5400100A, "OW", [0]),
        Value(0x54001010, "OW", [1, 258, 772]),
    ]
    return [Sequence(0x54000100, [Item(multiplex)])]


def of_every_vr() -> Elements:
    return [
        Value(0x00080005, "CS", b"ISO_IR 192"),
        Value(0x00080008, "CS", b"ORIGINAL\\PRIMARY"),
        Value(0x00080018, "UI", b"1.2.3\0"),
        Value(0x00080020, "DA", b"20240101"),
        Value(0x0008002A, "DT", b"20240101120000"),
        Value(0x00080030, "TM", b"120000"),
        Value(0x00080050, "SH", b"A1"),
        Value(0x00080054, "AE", b"LFSCP "),
        Value(0x00080081, "ST", b"Some\r\nStreet"),
        Value(0x00081030, "LO", b"Head\\Neck "),
        Value(0x00091001, "UN", b"\1\2\3\4"),
        Value(0x00100010, "PN", b"M\xfcller^Jane "),  # no UTF-8
        Value(0x00101010, "AS", b"042Y"),
        Value(0x00101020, "DS", b"1.75"),
        Value(0x00104000, "LT", b" leading and trailing "),
        Value(0x00186016, "UL", [1, 2**32 - 2]),
        Value(0x00186020, "SL", [-1, 2**31 - 1]),
        Value(0x00186060, "FL", [1.5, -2.0]),
        Value(0x00189073, "FD", [1.5, -2.25]),
        Value(0x00189219, "SS", [-3]),
        Value(0x00200013, "IS", b"12"),
        Value(0x00280009, "AT", [0x0018, 0x1063, 0x0018, 0x1065]),
        Value(0x00420011, "OB", b"%PDF-1.4 "[:8]),
        Value(0x00660040, "OL", [1, 2**32 - 1]),
        Value(0x7FE00008, "OF", [0.5, -1.5]),
        Value(0x7FE00009, "OD", [0.5, -1.5]),
        Value(0xFFFCFFFC, "OB", b"\0" * 10),
    ]


def nested() -> Elements:
    code = Item([Value(0x00080100, "SH", b"T1"), Value(0x00080104, "LO", b"Head")])
    spacing = Value(0x00280030, "DS", b"1\\2 ")
    inner = Item([Sequence(0x00081140, [code, Item([]), code]), Value(0x00200013, "IS", b"1 ")])
    return [
        Value(0x00080018, "UI", b"1.2.3\0"),
        Sequence(0x00081115, [inner, Item([Sequence(0x00081140)])]),
        Sequence(0x00400275),
        Sequence(0x52009229, [Item([Sequence(0x00289110, [Item([spacing])])])]),
    ]


def tables() -> Elements:
    item = Item([Value(0x00283002, "US", [2, 0, 16]), Value(0x00283006, "OW", [1, 513])])
    return [
        Value(0x00280103, "US", [0]),
        Value(0x00281101, "US", [2, 0, 16]),
        Value(0x00281201, "OW", [1, 513]),
        Sequence(0x00283010, [item, item]),
        Value(0x60000010, "US", [2]),
        Value(0x60003000, "OW", [258]),
    ]


DATASETS: dict[str, Elements] = {
    "every VR": of_every_vr(),
    "nested": nested(),
    "tables": tables(),
    "waveform": waveform(),
    "8 bits": image_of(8, "OB"),
    "8 bits in words": image_of(8, "OW"),
    "16 bits": image_of(16, "OW"),
    "16 bits signed": image_of(16, "OW", signed=True),
    "32 bits": image_of(32, "OW"),
    "long list": [Value(0x00080018, "UI", b"1.2.3\0"), Value(0x00080058, "UN", b"1.2\\" * 20_000)],
}


# DCMTK names words of a waveform OB when they come without a VR, which PS3.5 annex A.2 does not.
CASES = [
    (name, source, target)
    for name in DATASETS
    for source, target in WAYS
    if (name, source) != ("waveform", IMPLICIT)
]


@pytest.mark.parametrize("group_lengths", [False, True])
@pytest.mark.parametrize(("name", "source", "target"), CASES)
def test_encodings_are_converted_as_dcmconv_does(
    tmp_path: Path, dcmtk: Any, name: str, source: str, target: str, group_lengths: bool
) -> None:
    path, by_dcmtk = tmp_path / "object.dcm", tmp_path / "dcmtk.dcm"
    content = dataset(DATASETS[name], source, group_lengths=group_lengths)
    path.write_bytes(part10_header(SECONDARY_CAPTURE, "1.2.3", SYNTAXES[source]) + content)
    dcmtk.done(dcmtk.run("dcmconv", OPTIONS[target], path, by_dcmtk))

    assert decode(path, SYNTAXES[source], SYNTAXES[target]) == dcmtk.dataset_bytes(by_dcmtk)


# Pixels that DCMTK compresses


LAYOUTS = [
    # Bits Allocated, Bits Stored, signed, samples, frames
    (8, 8, False, 1, 1),
    (8, 8, False, 1, 3),
    (8, 6, False, 1, 1),
    (8, 8, True, 1, 1),
    (16, 8, False, 1, 2),
    (16, 8, True, 1, 1),
    (16, 10, True, 1, 1),
    (16, 12, False, 1, 1),
    (16, 12, True, 1, 2),
    (16, 16, False, 1, 1),
    (16, 16, True, 1, 1),
    (8, 8, False, 3, 1),
    (8, 8, False, 3, 3),
    (16, 16, False, 3, 1),
]
LOSSLESS = [
    ("dcmcrle", ()),
    ("dcmcjpls", ("+il",)),
    ("dcmcjpls", ("+is",)),
    ("dcmcjpls", ("+in",)),
    ("dcmcjpeg", ("+e1",)),
    ("dcmcjpeg", ("+el",)),
]


def uncompressed(folder: Path, layout: tuple[int, int, bool, int, int]) -> tuple[Path, Array]:
    allocated, bits, signed, samples, frames = layout
    photometric = "RGB" if samples == 3 else "MONOCHROME2"
    values = ramp(13, 11, bits, signed=signed, samples=samples)
    cells = np.stack([of_type(np.roll(values, number), allocated) for number in range(frames)])
    image = described(
        13,
        11,
        allocated=allocated,
        stored=bits,
        signed=signed,
        photometric=photometric,
        frames=frames,
    )
    content = cells.tobytes()
    content += b"\0" * (len(content) % 2)
    image.add_new("PixelData", "OW" if allocated > 8 else "OB", content)
    return save(image, folder), cells


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(("tool", "options"), LOSSLESS, ids=str)
def test_what_dcmtk_compresses_without_loss_comes_back(
    tmp_path: Path,
    dcmtk: Any,
    tool: str,
    options: tuple[str, ...],
    layout: tuple[int, int, bool, int, int],
) -> None:
    pytest.importorskip("imagecodecs", reason="extra codecs is not installed")
    path, cells = uncompressed(tmp_path, layout)
    packed = tmp_path / "packed.dcm"
    dcmtk.done(dcmtk.run(tool, *options, path, packed))
    meta = dcmread(packed, stop_before_pixels=True).file_meta

    encoded = decode(packed, str(meta.TransferSyntaxUID), SYNTAXES[EXPLICIT])

    whole = tmp_path / "whole.dcm"
    whole.write_bytes(part10_header(SECONDARY_CAPTURE, "1.2.3.4", SYNTAXES[EXPLICIT]) + encoded)
    result = dcmread(whole)
    expected = cells.tobytes()
    assert result.PixelData == expected + b"\0" * (len(expected) % 2)
    assert result.BitsAllocated == layout[0]
    assert result.PhotometricInterpretation == ("RGB" if layout[3] == 3 else "MONOCHROME2")


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    "options", [("+eb",), ("+eb", "+s2"), ("+eb", "+s4"), ("+eb", "+cr"), ("+ee",)]
)
def test_lossy_jpeg_is_decoded_as_dcmdjpeg_does(
    tmp_path: Path, dcmtk: Any, options: tuple[str, ...], samples: int
) -> None:
    pytest.importorskip("imagecodecs", reason="extra codecs is not installed")
    slope = np.indices((32, 48)).sum(axis=0) * 3
    values = slope if samples == 1 else np.stack([slope, 255 - slope, slope // 2], axis=-1)
    photometric = "RGB" if samples == 3 else "MONOCHROME2"
    image = described(32, 48, photometric=photometric)
    image.add_new("PixelData", "OB", values.astype("u1").tobytes())
    packed, by_dcmtk = tmp_path / "packed.dcm", tmp_path / "dcmtk.dcm"
    dcmtk.done(dcmtk.run("dcmcjpeg", *options, "+q", "95", save(image, tmp_path), packed))
    dcmtk.done(dcmtk.run("dcmdjpeg", packed, by_dcmtk))
    meta = dcmread(packed, stop_before_pixels=True).file_meta

    encoded = decode(packed, str(meta.TransferSyntaxUID), SYNTAXES[EXPLICIT])

    whole = tmp_path / "whole.dcm"
    whole.write_bytes(part10_header(SECONDARY_CAPTURE, "1.2.3.4", SYNTAXES[EXPLICIT]) + encoded)
    mine, theirs = dcmread(whole), dcmread(by_dcmtk)
    assert mine.PhotometricInterpretation == theirs.PhotometricInterpretation == photometric
    difference = np.abs(mine.pixel_array.astype(int) - theirs.pixel_array.astype(int))
    assert difference.max() <= 3  # of rounding; chrominance is spread by interpolation or not


def test_lossy_jpeg_of_12_bits_is_decoded_as_dcmdjpeg_does(tmp_path: Path, dcmtk: Any) -> None:
    pytest.importorskip("imagecodecs", reason="extra codecs is not installed")
    path, _ = uncompressed(tmp_path, (16, 12, False, 1, 1))
    packed, by_dcmtk = tmp_path / "packed.dcm", tmp_path / "dcmtk.dcm"
    dcmtk.done(dcmtk.run("dcmcjpeg", "+ee", "+q", "95", path, packed))
    dcmtk.done(dcmtk.run("dcmdjpeg", packed, by_dcmtk))
    meta = dcmread(packed, stop_before_pixels=True).file_meta
    assert str(meta.TransferSyntaxUID).endswith("4.51")

    encoded = decode(packed, str(meta.TransferSyntaxUID), SYNTAXES[EXPLICIT])

    whole = tmp_path / "whole.dcm"
    whole.write_bytes(part10_header(SECONDARY_CAPTURE, "1.2.3.4", SYNTAXES[EXPLICIT]) + encoded)
    mine, theirs = dcmread(whole).pixel_array, dcmread(by_dcmtk).pixel_array
    assert theirs.max() > 255
    assert np.abs(mine.astype(int) - theirs.astype(int)).max() <= 1
