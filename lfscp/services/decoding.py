"""Stored objects in another transfer syntax, for receivers that do not take the stored one.

Rules: only towards uncompressed syntaxes; the SOP Instance UID stays, since the image stays what it
is; of a decoded object only the elements of its pixels change; what cannot be converted is said
with its reason and never sent half right. Decoded pixels are held in memory, twice for a moment.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Final

import numpy as np
from pydicom.uid import UID

from lfscp.archive.conversion import Edit, convert
from lfscp.archive.encapsulated import PIXEL_DATA
from lfscp.archive.encoder import Piece
from lfscp.archive.errors import CannotUnderstand
from lfscp.archive.header import DEFLATED as DEFLATED_SYNTAXES
from lfscp.archive.header import encoding_of
from lfscp.archive.image_pixel import (
    EXTENDED_OFFSET_TABLE,
    EXTENDED_OFFSET_TABLE_LENGTHS,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    ImagePixel,
    read_pixel_element,
)
from lfscp.archive.object_store import StoredFile
from lfscp.archive.part10 import read_part10
from lfscp.archive.stored_dataset import StoredDataset, read_stored_dataset
from lfscp.services.contexts import (
    DEFLATED,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.services.frames import PIXELS_ELSEWHERE, Array, DecodingError, Frames

__all__ = ["TARGETS", "DecodingError", "decode", "even", "needs_codec"]

TARGETS: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED,
    EXPLICIT_VR_BIG_ENDIAN,
)
_ENCAPSULATED_TOTAL_LENGTH: Final = 0x7FE00003  # Encapsulated Pixel Data Value Total Length
_WITHOUT_A_NAME: Final = "YBR_PARTIAL"  # PS3.3 has it with shared chrominance only
_MAX_DECODED_BYTES: Final = 2 << 30
_HEAD: Final = 65_536  # bytes in which the file meta information ends


def needs_codec(transfer_syntax_uid: str) -> bool:
    """Whether pixel data in this transfer syntax is compressed (encapsulated)."""
    return transfer_syntax_uid not in TARGETS


def decode(
    path: StoredFile, stored_syntax: str, wanted_syntax: str, dataset_offset: int | None = None
) -> bytes:
    """Read a stored object and encode its dataset in an uncompressed transfer syntax.

    Args:
        path: a DICOM file.
        stored_syntax: the transfer syntax UID it is stored in.
        wanted_syntax: one of TARGETS.
        dataset_offset: where its dataset begins; by its head when None.
    Returns:
        The encoded dataset, of even length, without file meta information.
    Raises:
        DecodingError: no decoder, or the object is broken.
        OSError: the file cannot be read.
    """
    if wanted_syntax not in TARGETS:
        raise DecodingError(f"objects are not converted to {UID(wanted_syntax).name}")
    if stored_syntax in PIXELS_ELSEWHERE:
        raise DecodingError(f"{UID(stored_syntax).name} only refers to its pixel data")
    try:
        dataset = read_stored_dataset(path, stored_syntax, dataset_offset)
        edits = _decoded_pixels(dataset) if needs_codec(stored_syntax) else None
        return _converted(dataset, wanted_syntax, edits)
    except CannotUnderstand as error:
        what = "decoded" if needs_codec(stored_syntax) else "converted"
        raise DecodingError(f"{UID(stored_syntax).name} cannot be {what}: {error.reason}") from None


def even(path: StoredFile, stored_syntax: str, dataset_offset: int | None = None) -> bytes:
    """A stored dataset of odd length as it may be sent: its values of odd length are padded.

    The archive keeps what it was given; a message's fragments are of even length, and some
    receivers abort at an odd one. A deflated one gets a zero behind its end.

    Args:
        path, stored_syntax, dataset_offset: as `decode` takes them.
    Returns:
        The dataset in the transfer syntax it is stored in, of even length.
    Raises:
        DecodingError: it cannot be brought to an even length.
        OSError: the file cannot be read.
    Source: PS3.5 sections 6.2, 7.1.1 and A.5; PS3.8 annex E.
    """
    try:
        if stored_syntax in DEFLATED_SYNTAXES:
            return _encoded(path, dataset_offset) + b"\0"
        dataset = read_stored_dataset(path, stored_syntax, dataset_offset)
        return _converted(dataset, stored_syntax, None)
    except CannotUnderstand as error:
        raise DecodingError(f"its length is odd: {error.reason}") from None


def _encoded(path: StoredFile, dataset_offset: int | None) -> bytes:
    with path.open("rb") as file:
        if dataset_offset is None:
            dataset_offset = read_part10(file.read(_HEAD)).dataset_offset
        file.seek(dataset_offset)
        return file.read()


def _converted(
    dataset: StoredDataset, wanted_syntax: str, edits: Mapping[int, Edit | None] | None
) -> bytes:
    content, source, target = dataset.content, dataset.encoding, encoding_of(wanted_syntax)
    pieces = convert(content, source, target, edits)
    if sum(len(piece) for piece in pieces) % 2:
        pieces = convert(content, source, target, edits, pads=True)
    if wanted_syntax == DEFLATED:
        return _deflated(pieces)
    if sum(len(piece) for piece in pieces) % 2:
        raise CannotUnderstand("it cannot be brought to an even length")
    return b"".join(pieces)


def _deflated(pieces: list[Piece]) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = [deflater.compress(piece) for piece in pieces]
    deflated.append(deflater.flush())
    if sum(len(piece) for piece in deflated) % 2:
        deflated.append(b"\x00")
    return b"".join(deflated)


# Pixels


def _decoded_pixels(dataset: StoredDataset) -> dict[int, Edit | None]:
    """The elements that change when the pixels are decoded.

    Source: PS3.5 sections 8.1 and 8.2, annex A.1 to A.3.
    """
    element, values = read_pixel_element(dataset.content, dataset.encoding)
    if element is None or element.tag != PIXEL_DATA or element.begin == element.end:
        return {}
    frames = Frames(dataset)
    image = frames.image
    _require_bounded(image)
    cells: list[Array] = []
    photometrics: set[str] = set()
    for number in range(image.number_of_frames):
        frame = frames.decode(number)
        cells.append(frame.values)
        photometrics.add(frame.photometric_interpretation)
    if len(photometrics) > 1:
        raise DecodingError(f"its frames are in {' and '.join(sorted(photometrics))}")
    if _WITHOUT_A_NAME in photometrics:
        raise DecodingError("there is no name for decoded YBR_PARTIAL_422")
    edits: dict[int, Edit | None] = {
        EXTENDED_OFFSET_TABLE: None,
        EXTENDED_OFFSET_TABLE_LENGTHS: None,
        _ENCAPSULATED_TOTAL_LENGTH: None,
        PIXEL_DATA: Edit(b"OW" if image.bits_allocated > 8 else b"OB", _value(cells, image)),
    }
    photometric = photometrics.pop()
    if photometric != image.photometric_interpretation:
        text = photometric.encode("latin_1")
        edits[PHOTOMETRIC_INTERPRETATION] = Edit(b"CS", [text + b" " * (len(text) % 2)])
    is_planar = image.planar_configuration != 0 or PLANAR_CONFIGURATION not in values
    if image.samples_per_pixel > 1 and is_planar:
        edits[PLANAR_CONFIGURATION] = Edit(b"US", [b"\0\0"])
    return edits


def _require_bounded(image: ImagePixel) -> None:
    """Refuse pixels that the decoder would need gigabytes for, whatever there is of them."""
    size = _bytes_of(image)
    if size > _MAX_DECODED_BYTES:
        raise DecodingError(f"{size >> 20} MB of pixels, at most {_MAX_DECODED_BYTES >> 20} MB")


def _bytes_of(image: ImagePixel) -> int:
    """Bytes of all frames, decoded: cells of one bit follow each other across frames."""
    return -(-image.samples * image.bits_allocated * image.number_of_frames // 8)


def _value(cells: list[Array], image: ImagePixel) -> list[Piece]:
    """The value of Pixel Data, of even length.

    Source: PS3.5 section 8.1.1, annex D for bits.
    """
    if image.bits_allocated == 1:
        bits = np.concatenate([frame.reshape(-1) for frame in cells])
        cells = [np.packbits(bits, bitorder="little")]
    pieces: list[Piece] = [frame.reshape(-1).view(np.uint8).data for frame in cells]
    length = sum(len(piece) for piece in pieces)
    if length != _bytes_of(image):
        raise DecodingError(f"{length} bytes of pixels, {_bytes_of(image)} are expected")
    return [*pieces, b"\0"] if length % 2 else pieces
