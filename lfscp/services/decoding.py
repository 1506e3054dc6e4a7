"""Stored objects in another transfer syntax, for receivers that do not take the stored one.

Rules: only towards uncompressed syntaxes; the SOP Instance UID stays, since the image stays what it
is; what cannot be converted is said with its reason and never sent half right. The whole object is
held in memory. Codecs are pydicom's plugins (the extra `codecs`; RLE needs numpy only).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from lfscp.archive.deflated import require_bounded_file
from lfscp.archive.errors import CannotUnderstand
from lfscp.archive.object_store import StoredFile
from lfscp.services.contexts import (
    DEFLATED,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.services.frames import DecodingError

__all__ = ["TARGETS", "DecodingError", "decode", "needs_codec"]

TARGETS: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED,
    EXPLICIT_VR_BIG_ENDIAN,
)
_LOSSY_JPEG: Final = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
# JPIP: the pixel data is not in the object but at a URL (PS3.5 section 8.4.1).
_PIXELS_ELSEWHERE: Final = frozenset(
    f"1.2.840.10008.1.2.4.{number}" for number in (94, 95, 204, 205)
)
_WORD_BYTES: Final = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_ICON_IMAGE_SEQUENCE: Final = 0x00880200
_PIXEL_DATA: Final = 0x7FE00010
_MAX_DECODED_BYTES: Final = 2 << 30


def needs_codec(transfer_syntax_uid: str) -> bool:
    """Whether pixel data in this transfer syntax is compressed (encapsulated)."""
    return transfer_syntax_uid not in TARGETS


def decode(path: StoredFile, stored_syntax: str, wanted_syntax: str) -> bytes:
    """Read a stored object and encode its dataset in an uncompressed transfer syntax.

    Args:
        path: a DICOM Part 10 file.
        stored_syntax: the transfer syntax UID it is stored in.
        wanted_syntax: one of TARGETS.
    Returns:
        The encoded dataset, of even length, without file meta information.
    Raises:
        DecodingError: no decoder, or the object is broken.
        OSError: the file cannot be read.
    """
    if wanted_syntax not in TARGETS:
        raise DecodingError(f"objects are not converted to {UID(wanted_syntax).name}")
    if stored_syntax in _PIXELS_ELSEWHERE:
        raise DecodingError(f"{UID(stored_syntax).name} only refers to its pixel data")
    try:
        require_bounded_file(path)
        dataset = dcmread(path)
        if needs_codec(stored_syntax):
            _decompress(dataset, stored_syntax)
        return _encode(dataset, stored_syntax, wanted_syntax)
    except (DecodingError, OSError):
        raise
    except CannotUnderstand as error:
        raise DecodingError(error.reason) from None
    except Exception as error:  # pydicom raises what it likes on broken objects
        name = UID(stored_syntax).name
        raise DecodingError(f"{name} cannot be decoded: {type(error).__name__}") from error


def _decompress(dataset: FileDataset, stored_syntax: str) -> None:
    _drop_compressed_icon(dataset)
    if _PIXEL_DATA not in dataset:
        return
    _require_bounded_pixels(dataset)
    _require_decoder(stored_syntax)
    # Lossy JPEG in YBR becomes RGB, which every receiver displays. Other colour spaces are kept:
    # turning lossless YBR into RGB would round. The same instance keeps its UID.
    try:
        dataset.decompress(as_rgb=stored_syntax in _LOSSY_JPEG, generate_instance_uid=False)
    except RuntimeError as error:  # from the codec: about pixels, it quotes no other value
        name = UID(stored_syntax).name
        raise DecodingError(f"{name} cannot be decoded: {' '.join(str(error).split())}") from error


def _require_bounded_pixels(dataset: Dataset) -> None:
    """Refuse pixels that the decoder would need gigabytes for, whatever there is of them."""
    size = dataset.get("BitsAllocated") or 8
    for keyword in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames"):
        size *= int(dataset.get(keyword) or 1)
    if size // 8 > _MAX_DECODED_BYTES:
        raise DecodingError(f"{size >> 23} MB of pixels, at most {_MAX_DECODED_BYTES >> 20} MB")


def _require_decoder(transfer_syntax_uid: str) -> None:
    name = UID(transfer_syntax_uid).name
    try:
        decoder = get_decoder(transfer_syntax_uid)
    except NotImplementedError:
        raise DecodingError(f"there is no decoder for {name}") from None
    if not decoder.is_available:
        raise DecodingError(f"no decoder for {name} is installed: pip install 'lfscp[codecs]'")


def _drop_compressed_icon(dataset: Dataset) -> None:
    """Leave out an icon whose pixels are compressed too; it is optional and not decoded here."""
    icons = dataset.get(_ICON_IMAGE_SEQUENCE)
    if icons is None:
        return
    if any(item[_PIXEL_DATA].is_undefined_length for item in icons.value if _PIXEL_DATA in item):
        del dataset[_ICON_IMAGE_SEQUENCE]


def _encode(dataset: FileDataset, stored_syntax: str, wanted_syntax: str) -> bytes:
    big_endian = EXPLICIT_VR_BIG_ENDIAN
    if (stored_syntax == big_endian) != (wanted_syntax == big_endian):
        _swap_words(dataset)
    buffer = DicomBytesIO()
    buffer.is_little_endian = wanted_syntax != big_endian
    buffer.is_implicit_VR = wanted_syntax == IMPLICIT_VR_LITTLE_ENDIAN
    dataset.is_undefined_length_sequence_item = False
    write_dataset(buffer, dataset)
    encoded = buffer.getvalue()
    if wanted_syntax != DEFLATED:
        return encoded
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = deflater.compress(encoded) + deflater.flush()
    return deflated if len(deflated) % 2 == 0 else deflated + b"\x00"


def _swap_words(dataset: Dataset) -> None:
    """Turn the words of binary values round; pydicom converts everything else, but not these."""
    for element in _elements(dataset):
        width = _WORD_BYTES.get(element.VR)
        if width is not None and isinstance(element.value, bytes):
            element.value = _swapped(element.value, width)


def _swapped(value: bytes, width: int) -> bytes:
    swapped = bytearray(len(value))
    for position in range(width):
        swapped[position::width] = value[width - 1 - position :: width]
    return bytes(swapped)


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    pending = [dataset]
    while pending:
        for element in pending.pop():
            if element.VR == "SQ":
                pending.extend(element.value)
            else:
                yield element
