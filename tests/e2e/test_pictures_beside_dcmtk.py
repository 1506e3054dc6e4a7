"""Pictures beside DCMTK's: the same synthetic objects, rendered by lfscp and by dcm2pnm.

Tolerance: 1 of 255, since DCMTK cuts off where we round; 2 where YBR is turned into RGB.

Where DCMTK differs by a choice of its own, and is not asked here:
- Without a window it shows the range of the stored bits; we fit a window to the values.
- Of a region of interest (overlay type R) it darkens what lies outside; we draw its pixels.
- A window below 1 it refuses; we take it as LINEAR_EXACT.
- Pixel padding it shows as any value; we show it as black.
- After a rescale it keeps whole numbers of at most 32 bits; we keep fractions, and any size.
Pixel cells of 32 bits in big endian are words of 16 bits that are turned (PS3.5 section 8.1.1) in
both.
"""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lfscp.web.imaging.frames import to_display
from lfscp.web.imaging.object_header import read_header
from lfscp.web.rendering.decoding import decode
from tests.support.ci import in_ci
from tests.support.images import image, palettes, planar, save, table

TOOLS = ("dcm2pnm", "dcmj2pnm", "dcml2pnm", "dcmconv", "dcmcrle", "dcmcjpeg", "dcmcjpls")
EDGE = 24
SHAPES = [
    (8, 8, 7),
    (8, 6, 5),
    (16, 16, 15),
    (16, 12, 11),
    (16, 12, 15),
    (16, 10, 12),
    (32, 32, 31),
]
UNCOMPRESSED = {"implicit": "+ti", "big": "+tb", "deflated": "+td"}
RNG = np.random.default_rng(7)


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    missing = [name for name in TOOLS if shutil.which(renderer(name)) is None]
    if missing:
        (pytest.fail if in_ci() else pytest.skip)(f"not installed: {', '.join(missing)}")


def renderer(tool: str) -> str:
    """The tool of that name; later versions of DCMTK have one for all syntaxes instead."""
    return "dcm2img" if tool.endswith("2pnm") and shutil.which(tool) is None else tool


def run(*arguments: Any) -> bytes:
    done = subprocess.run([str(each) for each in arguments], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def theirs(path: Path, *flags: str, tool: str = "dcm2pnm") -> np.ndarray:
    png = path.with_suffix(".png")
    run(renderer(tool), "+on", *flags, path, png)
    return np.asarray(Image.open(io.BytesIO(png.read_bytes()))).astype(int)


def ours(path: Path, frame: int = 0) -> np.ndarray:
    return to_display(decode(path, read_header(path), frame)).astype(int)


def differ(path: Path, *flags: str, tool: str = "dcm2pnm") -> int:
    mine, other = ours(path), theirs(path, *flags, tool=tool)
    if mine.ndim == 3 and other.ndim == 2:  # a PNG of grey, when all pixels are
        other = np.stack([other] * 3, axis=-1)
    assert mine.shape == other.shape
    return int(np.abs(mine - other).max())


def converted(path: Path, kind: str) -> Path:
    """The same object in another transfer syntax, by DCMTK."""
    out = path.with_name(f"{path.stem}-{kind}.dcm")
    command = {
        "rle": ("dcmcrle",),
        "jpeg": ("dcmcjpeg", "+e1"),
        "jpeg-ls": ("dcmcjpls", "+el"),
        "baseline": ("dcmcjpeg", "+eb", "+q", "95", "+s4"),
    }
    run(*(command.get(kind) or ("dcmconv", UNCOMPRESSED[kind])), path, out)
    return out


def cells(allocated: int, stored: int, high: int, *, is_signed: bool) -> np.ndarray:
    """Random values with random bits around them, which must not show."""
    bits = RNG.integers(0, 1 << stored, (EDGE, EDGE), dtype=np.uint64)
    noise = RNG.integers(0, 1 << allocated, (EDGE, EDGE), dtype=np.uint64, endpoint=False)
    low = high + 1 - stored
    mask = np.uint64(((1 << stored) - 1) << low)
    kind = "i" if is_signed else "u"
    return (
        ((bits << np.uint64(low)) | (noise & ~mask))
        .astype(f"<u{allocated // 8}")
        .view(f"<{kind}{allocated // 8}")
    )


def grey(tmp_path: Path, shape: tuple[int, int, int], *, is_signed: bool, **values: Any) -> Path:
    allocated, stored, high = shape
    pixels = cells(allocated, stored, high, is_signed=is_signed)
    lowest = -(1 << stored - 1) if is_signed else 0
    window = {"WindowCenter": lowest + (1 << stored - 1), "WindowWidth": 3 << stored - 2}
    dataset = image(pixels, BitsStored=stored, HighBit=high, **(window | values))
    return save(dataset, tmp_path / "grey.dcm")


every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape)))
every_sign = pytest.mark.parametrize("is_signed", [False, True], ids=["unsigned", "signed"])


@every_shape
@every_sign
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_grey_values_in_every_syntax(tmp_path, shape, is_signed, photometric):
    path = grey(tmp_path, shape, is_signed=is_signed, PhotometricInterpretation=photometric)
    kinds = [*UNCOMPRESSED, "rle"]
    found = {kind: differ(converted(path, kind), "+Wi", "1") for kind in kinds}
    found["explicit"] = differ(path, "+Wi", "1")

    assert {kind: most for kind, most in found.items() if most > 1} == {}


@pytest.mark.parametrize("shape", [(8, 8, 7), (16, 16, 15), (16, 12, 11)], ids=str)
@every_sign
@pytest.mark.parametrize(("kind", "tool"), [("jpeg", "dcmj2pnm"), ("jpeg-ls", "dcml2pnm")])
def test_grey_values_that_are_compressed(tmp_path, shape, is_signed, kind, tool):
    path = converted(grey(tmp_path, shape, is_signed=is_signed), kind)

    assert differ(path, "+Wi", "1", tool=tool) <= 1


@pytest.mark.parametrize("shape", SHAPES[:-1], ids=lambda shape: "-".join(map(str, shape)))
@every_sign
@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (3, 7), (-1, 0)])
def test_rescaled_values(tmp_path, shape, is_signed, slope, intercept):
    stored = shape[1]
    middle = intercept + slope * (0 if is_signed else 1 << stored - 1)
    path = grey(
        tmp_path,
        shape,
        is_signed=is_signed,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=middle,
        WindowWidth=abs(slope) * (1 << stored) * 0.75,
    )

    assert differ(path, "+Wi", "1") <= 1


@pytest.mark.parametrize("shape", [(8, 8, 7), (16, 16, 15), (16, 12, 15)], ids=str)
@every_sign
@pytest.mark.parametrize("syntax", ["explicit", "big"])
@pytest.mark.parametrize(
    ("count", "bits"), [(256, 8), (255, 8), (4096, 12), (300, 16), (65536, 16)]
)
def test_lookup_tables(tmp_path, shape, is_signed, syntax, count, bits):
    lowest = -(1 << shape[1] - 1) if is_signed else 0
    kind = "u1" if bits == 8 else "<u2"
    entries = RNG.integers(0, 1 << bits, count).astype(kind)
    first = lowest + 3 if count < 1 << 15 else lowest
    item = table(entries, first, bits)
    item.ModalityLUTType = "US"
    found = {}
    for name, keyword in (("modality", "ModalityLUTSequence"), ("voi", "VOILUTSequence")):
        values = {keyword: [item]}
        window = {"WindowCenter": 1 << bits - 1, "WindowWidth": 1 << bits}
        path = grey(tmp_path, shape, is_signed=is_signed, **values, **window)
        if name == "voi":  # without a window, so that the table is what counts
            window = {"WindowCenter": None, "WindowWidth": None}
            path = grey(tmp_path, shape, is_signed=is_signed, **values, **window)
        if syntax != "explicit":
            path = converted(path, syntax)
        flags = ("+Wi", "1") if name == "modality" else ("+Wl", "1")
        found[name] = differ(path, *flags)

    assert {name: most for name, most in found.items() if most > 1} == {}


def colour_cells(stored: int) -> np.ndarray:
    kind = "u1" if stored <= 8 else "<u2"
    return RNG.integers(0, 1 << stored, (EDGE, EDGE, 3)).astype(kind)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("is_planar", [False, True], ids=["by pixel", "by plane"])
@pytest.mark.parametrize("stored", [8, 12, 16])
def test_colours(tmp_path, photometric, is_planar, stored):
    pixels = colour_cells(stored)
    dataset = image(
        planar(pixels) if is_planar else pixels,
        PhotometricInterpretation=photometric,
        PlanarConfiguration=int(is_planar),
        BitsStored=stored,
    )
    path = save(dataset, tmp_path / "colour.dcm")
    kinds = [*UNCOMPRESSED, "rle"]
    found = {kind: differ(converted(path, kind)) for kind in kinds} | {"explicit": differ(path)}

    tolerated = 2 if photometric == "YBR_FULL" else 1
    assert {kind: most for kind, most in found.items() if most > tolerated} == {}


@pytest.mark.parametrize("kind", ["jpeg", "baseline"])
def test_colours_that_are_compressed(tmp_path, kind):
    smooth = np.mgrid[0:240:10, 0:240:10].transpose(1, 2, 0)
    pixels = np.concatenate([smooth, smooth[:, ::-1, :1]], axis=-1).astype("u1")
    path = converted(save(image(pixels), tmp_path / "colour.dcm"), kind)

    assert differ(path, tool="dcmj2pnm") <= (1 if kind == "jpeg" else 3)


def test_colours_of_half_width(tmp_path):
    full = colour_cells(8)
    half = np.empty((EDGE, EDGE, 2), np.uint8)
    half[..., 0] = full[..., 0]
    half[:, ::2, 1], half[:, 1::2, 1] = full[:, ::2, 1], full[:, ::2, 2]
    pairs = half.reshape(EDGE, EDGE // 2, 4)[..., [0, 2, 1, 3]]  # both luminances, blue, red
    dataset = image(full, PhotometricInterpretation="YBR_FULL_422")
    dataset.PixelData = pairs.tobytes()
    path = save(dataset, tmp_path / "half.dcm")

    assert differ(path) <= 2
    assert differ(converted(path, "big")) <= 2


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big", "rle"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("count", "first"), [(256, 0), (200, 17), (129, 100)])
def test_palettes(tmp_path, syntax, bits, count, first):
    pixels = RNG.integers(0, 256, (EDGE, EDGE)).astype("u1")
    entries = [RNG.integers(0, 1 << bits, count) for _ in range(3)]
    dataset = image(
        pixels, PhotometricInterpretation="PALETTE COLOR", **palettes(entries, first, bits)
    )
    path = save(dataset, tmp_path / "palette.dcm")
    if syntax != "explicit":
        path = converted(path, syntax)

    assert differ(path) <= 1


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big", "deflated"])
@pytest.mark.parametrize("origin", [(1, 1), (-2, 5), (10, 20)])
@pytest.mark.parametrize("size", [(EDGE, EDGE), (13, 11)])
def test_overlays(tmp_path, syntax, origin, size):
    dataset = image(np.full((EDGE, EDGE), 100, np.uint8), WindowCenter=128, WindowWidth=256)
    bits = RNG.integers(0, 2, size)
    for element, vr, value in (
        (0x10, "US", size[0]),
        (0x11, "US", size[1]),
        (0x40, "CS", "G"),
        (0x50, "SS", list(origin)),
        (0x100, "US", 1),
        (0x102, "US", 0),
    ):
        dataset.add_new((0x6002, element), vr, value)
    content = np.packbits(bits.ravel(), bitorder="little").tobytes()
    dataset.add_new((0x6002, 0x3000), "OW", content + bytes(len(content) % 2))
    path = save(dataset, tmp_path / "overlay.dcm")
    if syntax != "explicit":
        path = converted(path, syntax)

    assert differ(path, "+Wi", "1") <= 1
    assert (ours(path) == 255).any()


@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE", None])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_polarity(tmp_path, photometric, shape):
    path = grey(
        tmp_path,
        (8, 8, 7),
        is_signed=False,
        PhotometricInterpretation=photometric,
        PresentationLUTShape=shape,
    )

    assert differ(path, "+Wi", "1") <= 1


def test_an_angiogram_is_shown_as_stored(tmp_path):
    item = table(np.arange(255, -1, -1).astype("<u2"), bits=8)
    item.ModalityLUTType = "US"
    path = grey(
        tmp_path,
        (8, 8, 7),
        is_signed=False,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.12.1",
        PixelIntensityRelationship="LOG",
        ModalityLUTSequence=[item],
    )

    assert differ(path, "+Wi", "1") <= 1
