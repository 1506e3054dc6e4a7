"""Compresses the pixels of an object without loss, frame by frame.

Rules: the SOP Instance UID stays, because the pixels stay the same. One frame is in memory at a
time. Codecs run in another process with limits, which checks each frame, see `encoding_process`.
Source: PS3.5 section A.4.
"""

from __future__ import annotations

import atexit
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from typing import Final

from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from lfscp.archive.store.budget import BudgetExceededError
from lfscp.archive.store.object_store import StoredFile
from lfscp.dicom.encoding.elements import EXPLICIT_LITTLE, elements
from lfscp.dicom.encoding.encapsulated import PIXEL_DATA
from lfscp.dicom.encoding.image_pixel import ImagePixel, image_pixel, read_pixel_element
from lfscp.dicom.encoding.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicom.errors import DatasetError
from lfscp.processes.forking_server import Child, ForkingServer
from lfscp.services.transcoding.decoded import DecodingError
from lfscp.services.transcoding.decoding import Converted, converted
from lfscp.services.transcoding.decoding_memory import MEMORY
from lfscp.upperlayer.scu.sending import FileSlice

LOSSLESS: Final = (str(RLELossless), str(JPEGLSLossless), str(JPEG2000Lossless))
_PLANAR_CONFIGURATION: Final = 0x00280006
_LONG_HEAD: Final = 12  # bytes of the head of an element of VR OB or OW
_ITEM: Final = struct.Struct("<HHL")
_MAX_S: Final = 60.0  # for one frame
_TIMES: Final = 6  # the memory of a frame that encoding and checking take
_PHOTOMETRIC: Final = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL"})

_SERVER: Final = ForkingServer(f"{__package__}.encoding_process")
atexit.register(_SERVER.close)


class EncodingError(Exception):
    """The object cannot be compressed without loss; the text says why."""


def can_encode(transfer_syntax_uid: str) -> bool:
    """Whether an encoder of a transfer syntax is installed."""
    return transfer_syntax_uid in LOSSLESS and bool(get_encoder(transfer_syntax_uid).is_available)


@contextmanager
def compressed(
    path: StoredFile,
    stored_syntax: str,
    wanted_syntax: str,
    dataset_offset: int,
    *,
    look: Callable[[], None] = lambda: None,
) -> Iterator[Iterator[bytes | memoryview]]:
    """Compress a stored object.

    Args:
        wanted_syntax: one of LOSSLESS.
        look: called several times a second; an error that it raises ends the work.
    Returns:
        The pieces of its dataset; to be read once, before the context ends.
    Raises:
        EncodingError: it cannot be compressed; reading the pieces may raise it too.
        DecodingError, OSError, ArchiveError: as `converted`.
    """
    with converted(
        path, stored_syntax, EXPLICIT_VR_LITTLE_ENDIAN, dataset_offset, look=look
    ) as made:
        content = _content(made)
        element, values = read_pixel_element(content, EXPLICIT_LITTLE)
        if element is None or element.tag != PIXEL_DATA or element.is_encapsulated:
            raise EncodingError("it has no pixels")
        try:
            image = image_pixel(values, EXPLICIT_LITTLE)
        except DatasetError as error:
            raise EncodingError(error.reason) from None
        _require_encodable(image, element.end - element.begin)
        head = bytearray(content[: element.begin - _LONG_HEAD])
        if image.samples_per_pixel > 1 and wanted_syntax == RLELossless:
            _set_planar(head)
        yield _pieces(head, content, (element.begin, element.end), image, wanted_syntax, look)


def _content(made: Converted) -> memoryview:
    if isinstance(made.body, bytes):
        return memoryview(made.body)
    if not isinstance(made.body, FileSlice):
        raise EncodingError("its length is odd")
    file = made.body.open()
    try:
        whole = memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(file)
    return whole[made.body.offset : made.body.offset + made.body.size]


def _require_encodable(image: ImagePixel, size: int) -> None:
    if image.bits_allocated not in (8, 16):
        raise EncodingError(f"its pixels have {image.bits_allocated} bits")
    if image.photometric_interpretation not in _PHOTOMETRIC:
        raise EncodingError(f"its pixels are {image.photometric_interpretation}")
    if image.samples_per_pixel > 1 and image.planar_configuration:
        raise EncodingError("its colours stand in planes")
    if not size or size < _frame_bytes(image) * image.number_of_frames:
        raise EncodingError("its pixels are not all there")


def _frame_bytes(image: ImagePixel) -> int:
    return image.samples * image.bits_allocated // 8


def _set_planar(head: bytearray) -> None:
    """Say that colours stand in planes, as they do in RLE (PS3.5 section 8.2.2)."""
    for tag, begin, end, _ in elements(memoryview(head), 0, len(head), EXPLICIT_LITTLE):
        if tag == _PLANAR_CONFIGURATION and end - begin == 2:
            head[begin:end] = b"\1\0"


def _pieces(
    head: bytearray,
    content: memoryview,
    span: tuple[int, int],
    image: ImagePixel,
    syntax: str,
    look: Callable[[], None],
) -> Iterator[bytes | memoryview]:
    yield bytes(head)
    yield struct.pack("<HH2sHL", PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF, b"OB", 0, 0xFFFFFFFF)
    yield _ITEM.pack(0xFFFE, 0xE000, 0)  # an empty offset table
    size = _frame_bytes(image)
    begin, end = span
    with ExitStack() as kept:
        process = _Process(look)
        kept.callback(process.end)
        for number in range(image.number_of_frames):
            at = begin + number * size
            frame = _encoded(process, content[at : at + size], image, syntax, look)
            yield _ITEM.pack(0xFFFE, 0xE000, len(frame))
            yield frame
    yield _ITEM.pack(0xFFFE, 0xE0DD, 0)
    yield content[end:]


class _Process:
    """The process that encodes the frames of one object."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._child = _begun(look)

    def ready(self) -> Child:
        """It, or another one: it ends if it is idle for long, as while others have the memory."""
        if self._child.has_ended:
            self._child.end()
            self._child = _begun(self._look)
        return self._child

    def end(self) -> None:
        """End it."""
        self._child.end()


def _begun(look: Callable[[], None]) -> Child:
    try:
        return _SERVER.child(look)
    except (OSError, EOFError, ValueError):
        raise DecodingError("cannot start an encoding process") from None


def _encoded(
    process: _Process, frame: memoryview, image: ImagePixel, syntax: str, look: Callable[[], None]
) -> bytes:
    """One compressed frame, of even length."""
    memory = _TIMES * len(frame)
    described = asdict(replace(image, number_of_frames=1))
    try:
        with MEMORY.reserve(memory, look):
            child = process.ready()
            child.send({"syntax": syntax, "image": described, "memory": memory}, frame)
            answer, length, *_ = child.receive(_MAX_S)
            if "error" in answer:
                raise EncodingError(str(answer["error"]))
            found = b"".join(child.pieces(length, _MAX_S))
    except BudgetExceededError as error:
        raise DecodingError(str(error)) from None
    except TimeoutError:
        raise EncodingError(f"the codec takes longer than {_MAX_S:g} s") from None
    except (EOFError, OSError, ValueError, KeyError, TypeError):
        raise EncodingError("the codec failed") from None
    return found + b"\0" * (len(found) % 2)
