"""Decodes compressed frames with Pillow in less memory, mostly at a smaller size.

JPEG is decoded from fewer of its frequencies, JPEG 2000 from fewer of its resolutions; both leave
out details that a small picture does not show. Lossless JPEG of 8 bits is decoded whole, row by
row. It does not transform colours and signs; the cells are like those of the whole frame.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image

from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.services.transcoding.decoded import Array, Codestream, DecodingError
from lfscp.web.imaging.errors import is_lack_of_memory

_JPEG: Final = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
_LOSSLESS_JPEG: Final = frozenset({"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"})
_JPEG_2000: Final = frozenset(
    {
        *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),
        *("1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93"),
    }
)
_JPEG_SCALES: Final = (2, 4, 8)
_JPEG_2000_SCALES: Final = (2, 4, 8, 16, 32)
_PROGRESSIVE: Final = b"\xff\xc2"  # then all frequencies are in memory at once
_BYTE, _WORD = 8, 16
_STRIP: Final = 1 << 20  # pixels


def scales_of(syntax: str, stream: Codestream, image: ImagePixel) -> tuple[int, ...]:
    """By which whole numbers a frame can be reduced while it is decoded.

    Args:
        stream: as the codestream describes itself.
        image: as the header describes it.
    """
    same = stream.precision <= image.bits_stored == image.high_bit + 1
    if not same or stream.is_signed != image.is_signed or stream.samples_per_pixel not in (1, 3):
        return ()
    if image.bits_allocated not in (_BYTE, _WORD):
        return ()
    if stream.precision == _BYTE and syntax in _JPEG:
        return _JPEG_SCALES
    if syntax in _LOSSLESS_JPEG:
        return (1,) if stream.precision == image.bits_allocated == _BYTE else ()
    most = _WORD if stream.samples_per_pixel == 1 else _BYTE
    return _JPEG_2000_SCALES if syntax in _JPEG_2000 and stream.precision <= most else ()


def _is_progressive(frame: bytes) -> bool:
    return frame.find(_PROGRESSIVE, 0, 65_536) >= 0


def bytes_needed(
    syntax: str, stream: Codestream, image: ImagePixel, scale: int, frame: bytes
) -> int:
    """The working set of decoding a frame scaled, without its codestream."""
    pixels = -(-image.rows // scale) * -(-image.columns // scale)
    samples = pixels * stream.samples_per_pixel
    if syntax in _JPEG_2000:
        return 16 * samples + image.samples // 8
    # Pillow has four bytes for three samples, and they are copied once.
    lines = 64 * image.columns * stream.samples_per_pixel
    frequencies = 2 * image.samples if syntax in _JPEG and _is_progressive(frame) else 0
    return (7 if stream.samples_per_pixel > 1 else 2) * pixels + lines + frequencies


def scaled_frame(
    frame: bytes, syntax: str, stream: Codestream, image: ImagePixel, scale: int
) -> Array:
    """Decode a frame scaled.

    Returns:
        Shape: (rows, columns) or (rows, columns, 3), each side divided by the scale and rounded
        up; unsigned cells.
    Raises:
        DecodingError: it is broken, or differs from its description.
    """
    shape = (-(-image.rows // scale), -(-image.columns // scale))
    try:
        picture = Image.open(BytesIO(frame), formats=("JPEG", "JPEG2000"))
        if syntax in _JPEG_2000:
            found = _jpeg_2000(picture, stream, scale)
        else:
            found = _jpeg(picture, stream, scale, is_lossless=syntax in _LOSSLESS_JPEG)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises what it likes on broken pixels
        if is_lack_of_memory(error):
            raise
        raise DecodingError(str(error)) from error
    if found.shape[:2] != shape:
        raise DecodingError("the codestream has another size than the header says")
    size = image.bits_allocated // 8  # of a cell, in bytes
    return found.astype(f"<{found.dtype.kind}{size}", copy=False).view(f"<u{size}")


def _jpeg(picture: Image.Image, stream: Codestream, scale: int, *, is_lossless: bool) -> Array:
    """Samples as they are coded: the colours are not transformed here."""
    wanted = (-(-picture.width // scale), -(-picture.height // scale))
    is_rgb = picture.info.get("adobe_transform") == 0 or is_lossless
    mode = "L" if stream.samples_per_pixel == 1 else "RGB" if is_rgb else "YCbCr"
    picture.draft(mode, wanted)
    if picture.mode != mode:
        raise DecodingError(f"the codestream is in {picture.mode}")
    return _pixels(picture)


def _pixels(picture: Image.Image) -> Array:
    """All pixels, copied strip by strip: Pillow itself would copy them twice."""
    picture.load()
    first = np.asarray(picture.crop((0, 0, 1, 1)))
    out = np.empty((picture.height, picture.width, *first.shape[2:]), first.dtype)
    step = max(1, _STRIP // picture.width)
    for top in range(0, picture.height, step):
        bottom = min(top + step, picture.height)
        out[top:bottom] = np.asarray(picture.crop((0, top, picture.width, bottom)))
    return out


def _jpeg_2000(picture: Image.Image, stream: Codestream, scale: int) -> Array:
    if picture.mode not in ("L", "I;16", "RGB"):
        raise DecodingError(f"the codestream is in {picture.mode}")
    _reduce(picture, scale)
    values = _pixels(picture)
    unused = 8 * values.dtype.itemsize - stream.precision
    if stream.samples_per_pixel == 1 and unused:  # Pillow widens them to all bits
        values >>= values.dtype.type(unused)
    if not stream.is_signed:
        return values
    # Pillow adds half the range to signed samples.
    half = values.dtype.type(1 << stream.precision - 1)
    values -= half
    return values.view(f"i{values.dtype.itemsize}")


def _reduce(picture: Any, scale: int) -> None:
    """Ask for a lower resolution; Pillow's own `reduce` rounds its size in another way.

    Source: ITU-T T.800 annex B.5: sizes are rounded up.
    """
    name, _, offset, options = picture.tile[0]
    codec, _, layers, *source = options
    size = tuple(-(-each // scale) for each in picture.size)
    picture._size = size  # noqa: SLF001 - as its `load` does
    steps = scale.bit_length() - 1
    picture.tile = [(name, (0, 0, *size), offset, (codec, steps, layers, *source))]
