"""A decoder of JPEG for pydicom: libjpeg-turbo, which comes with imagecodecs.

It decodes baseline, extended (8 and 12 bit) and lossless JPEG (2 to 16 bit), and is under a BSD
licence. The other decoder of all of these, pylibjpeg-libjpeg, is under the GPL.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from pydicom import uid
from pydicom.pixels.decoders.base import DecodeRunner

NAME: Final = "libjpeg-turbo"
SYNTAXES: Final = (
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
)
# What pydicom's message names if the decoder is missing; it looks for this name in each plugin.
DECODER_DEPENDENCIES: Final = dict.fromkeys(SYNTAXES, ("imagecodecs>=2026.1",))


def is_available(transfer_syntax_uid: str) -> bool:
    """Whether it can decode this transfer syntax; pydicom asks."""
    return transfer_syntax_uid in SYNTAXES and find_spec("imagecodecs") is not None


def decode_frame(frame: bytes, runner: DecodeRunner) -> bytearray:
    """Decode one frame; pydicom calls it.

    Colours stay as they are in the codestream: what they are is said by the data set, which markers
    of the codestream may contradict.

    Returns:
        Samples by pixel, of 8 bits up to a precision of 8, else of 16 in little endian.
    Raises:
        RuntimeError: the codestream is broken.
    """
    from imagecodecs import jpeg8_decode

    as_it_is = "RGB" if runner.samples_per_pixel == 3 else None
    samples = jpeg8_decode(frame, colorspace=as_it_is, outcolorspace=as_it_is)
    little = samples.astype(samples.dtype.newbyteorder("<"), copy=False)
    return bytearray(little.reshape(-1).view("u1").data)
