"""RLE is decoded as the standard says, whatever the packets, and what is broken is told."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest
from pydicom.pixels.encoders import RLELosslessEncoder

from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.services.transcoding.codecs import run_length
from lfscp.services.transcoding.codecs.run_length import run_length_frame
from lfscp.services.transcoding.decoded import DecodingError


@pytest.fixture(autouse=True, params=["by imagecodecs", "without it"])
def decoded_both_ways(request, monkeypatch):
    if request.param == "without it":
        monkeypatch.setitem(sys.modules, "imagecodecs", None)  # cannot be imported
    return request.param


def described(rows, columns, samples=1, bits=8, *, signed=False):
    photometric = "RGB" if samples == 3 else "MONOCHROME2"
    return ImagePixel(rows, columns, samples, bits, bits, bits - 1, signed, photometric, 0, 1)


def framed(*segments):
    """A frame of some segments (PS3.5 section G.5)."""
    begins = [64 + sum(map(len, segments[:count])) for count in range(len(segments))]
    head = struct.pack("<16L", len(segments), *begins, *[0] * (15 - len(segments)))
    return head + b"".join(segments)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("samples", [1, 3])
def test_what_was_encoded_is_decoded(samples, bits, signed):
    """More pixels than one piece has, runs and noise mixed."""
    image = described(211, 307, samples, bits, signed=signed)
    rng = np.random.default_rng(1)
    values = rng.integers(0, 1 << bits, image.samples, f"<u{bits // 8}")
    values[rng.random(len(values)) < 0.7] = 7
    values = values.reshape((211, 307, samples)[: 3 if samples > 1 else 2])
    frame = RLELosslessEncoder.encode(
        values.tobytes(),
        rows=211,
        columns=307,
        samples_per_pixel=samples,
        bits_allocated=bits,
        bits_stored=bits,
        pixel_representation=0,
        photometric_interpretation=image.photometric_interpretation,
        planar_configuration=0,
        number_of_frames=1,
    )
    found = run_length_frame(frame, image).values
    assert found.dtype == np.dtype(f"<{'i' if signed else 'u'}{bits // 8}")
    assert (found.view(values.dtype) == values).all()


def test_a_packet_that_stands_for_nothing_and_bytes_too_many_are_passed_over():
    segment = b"\x80" + b"\x02abc" + b"\x80" + b"\xfez" + b"\x00!" + b"\xff?"
    values = run_length_frame(framed(segment), described(2, 3)).values
    assert values.tobytes() == b"abczzz"


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (framed(b"\x02ab"), "an RLE segment has 2 bytes, 6 are expected"),
        (framed(b"\xfe"), "an RLE segment has 0 bytes, 6 are expected"),
        (framed(b"\xfba", b"\xfba"), "it has 2 RLE segments, 1 are expected"),
        (framed(b"\xfba")[:60], "it has no RLE header"),
        (struct.pack("<16L", 1, 900, *[0] * 14), "an RLE segment has 0 bytes, 6 are expected"),
    ],
)
def test_what_is_broken_is_told(frame, reason):
    with pytest.raises(DecodingError, match=reason):
        run_length_frame(frame, described(2, 3))


def test_imagecodecs_decodes_what_is_whole(monkeypatch, decoded_both_ways):
    if decoded_both_ways == "by imagecodecs":
        monkeypatch.setattr(run_length, "_decode_pieces", lambda *_: pytest.fail("decoded here"))
    values = run_length_frame(framed(b"\x02abc\xfez"), described(2, 3)).values
    assert values.tobytes() == b"abczzz"
