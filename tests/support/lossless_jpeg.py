"""Writes lossless JPEG, which none of the libraries that the tests use does."""

import struct

import numpy as np

_CODE_BITS = 5  # of every Huffman code: simple, and enough for 17 categories
_CATEGORIES = 17


def lossless_jpeg(pixels: np.ndarray, precision: int) -> bytes:
    """Encode with the pixel to the left as predictor (ITU-T T.81 annex H).

    Args:
        pixels: Shape: (rows, columns) or (rows, columns, 3), unsigned.
    """
    samples = pixels.reshape(*pixels.shape[:2], -1).astype(np.int32)
    rows, columns, count = samples.shape
    components = range(1, count + 1)
    frame = struct.pack(">BHHB", precision, rows, columns, count)
    frame += b"".join(bytes((each, 0x11, 0)) for each in components)
    table = bytes((0, *(_CATEGORIES if bits == _CODE_BITS else 0 for bits in range(1, 17))))
    table += bytes(range(_CATEGORIES))
    scan = bytes((count, *(part for each in components for part in (each, 0)), 1, 0, 0))
    segments = [(0xC3, frame), (0xC4, table), (0xDA, scan)]
    head = b"".join(
        struct.pack(">BBH", 0xFF, kind, len(content) + 2) + content for kind, content in segments
    )
    return b"\xff\xd8" + head + _coded(samples, precision) + b"\xff\xd9"


def _coded(samples: np.ndarray, precision: int) -> bytes:
    predicted = np.empty_like(samples)
    predicted[:, 1:] = samples[:, :-1]
    predicted[1:, 0] = samples[:-1, 0]
    predicted[0, 0] = 1 << precision - 1
    differences = (samples - predicted).reshape(-1)
    category = np.ceil(np.log2(abs(differences) + 1.0)).astype(np.int32)
    low = np.where(differences < 0, differences + (1 << category) - 1, differences)
    values, lengths = category << category | low, category + _CODE_BITS
    ends = np.cumsum(lengths)
    bits = np.ones(-(-int(ends[-1]) // 8) * 8, np.uint8)
    for place in range(int(lengths.max())):
        there = lengths > place
        bits[ends[there] - 1 - place] = values[there] >> place & 1
    return np.packbits(bits).tobytes().replace(b"\xff", b"\xff\x00")
