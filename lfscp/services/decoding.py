"""Stored objects in another transfer syntax, for receivers that do not take the stored one.

Rules: only towards uncompressed syntaxes; the SOP Instance UID stays, since the image stays what it
is; of a decoded object only the elements of its pixels change; what cannot be converted is said
with its reason and never sent half right: the result is on disk, whole, before any of it is sent.
Memory is that of one frame, and all who convert share a budget; it is free again before the
receiver takes the first byte, since that one may take its time. Codecs run in another process, see
`codec_server`.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import IO, Final, NamedTuple

from pydicom.uid import UID

from lfscp.archive.budget import BudgetExceeded, Reservation
from lfscp.archive.conversion import Edit, convert
from lfscp.archive.elements import UNDEFINED_LENGTH, element_head, skip_undefined
from lfscp.archive.encapsulated import PIXEL_DATA
from lfscp.archive.encoder import LARGE, Piece, read_pieces
from lfscp.archive.errors import CannotUnderstand
from lfscp.archive.header import DEFLATED as DEFLATED_SYNTAXES
from lfscp.archive.header import encoding_of
from lfscp.archive.image_pixel import ImagePixel, PixelElement, read_pixel_element
from lfscp.archive.object_store import StoredFile
from lfscp.archive.part10 import read_part10
from lfscp.archive.spool import spooled, write_all
from lfscp.archive.stored_dataset import StoredDataset, read_stored_dataset
from lfscp.one_processor import anywhere
from lfscp.services.codec_client import CodecProcess, codec_process
from lfscp.services.contexts import (
    DEFLATED,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.services.decoded import DecodedFrame, MoreMemoryNeededError
from lfscp.services.decoded_pixels import bytes_of, decoded_pixels
from lfscp.services.decoding_memory import MEMORY
from lfscp.services.frames import PIXELS_ELSEWHERE, DecodingError, Frames

__all__ = ["TARGETS", "Converted", "DecodingError", "decoded", "evened", "needs_codec"]

TARGETS: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED,
    EXPLICIT_VR_BIG_ENDIAN,
)
_HEAD: Final = 65_536  # bytes in which the file meta information ends
_STEP: Final = 1 << 20  # bytes written at a time
_FORGET_BYTES: Final = 16 << 20  # read or written until what was mapped is let go
_LITTLE: Final = 1 << 20  # bytes of memory that one may keep while others have their turn
_ROUNDING: Final = 65_536  # bytes of new elements, and of padding
_LOOK_AGAIN_S: Final = 0.25
_TURN_S: Final = 1.0  # until others go first, between two frames


class Converted(NamedTuple):
    """A dataset as it may be sent: a file without a name, or in memory, from its first byte on."""

    file: IO[bytes]
    size: int


def needs_codec(transfer_syntax_uid: str) -> bool:
    """Whether pixel data in this transfer syntax is compressed (encapsulated)."""
    return transfer_syntax_uid not in TARGETS


@contextmanager
def decoded(
    path: StoredFile,
    stored_syntax: str,
    wanted_syntax: str,
    dataset_offset: int | None = None,
    *,
    look: Callable[[], None] = lambda: None,
) -> Iterator[Converted]:
    """Read a stored object and encode its dataset in an uncompressed transfer syntax.

    Args:
        path: a DICOM file.
        stored_syntax: the transfer syntax UID it is stored in.
        wanted_syntax: one of TARGETS.
        dataset_offset: where its dataset begins; by its head when None.
        look: called several times a second; what it raises ends the work.
    Returns:
        The encoded dataset, of even length, without file meta information.
    Raises:
        DecodingError: no decoder, the object is broken, or it needs more than the budgets give.
        OSError, ArchiveError: the file cannot be read, or the result not be written.
    """
    if wanted_syntax not in TARGETS:
        raise DecodingError(f"objects are not converted to {UID(wanted_syntax).name}")
    if stored_syntax in PIXELS_ELSEWHERE:
        raise DecodingError(f"{UID(stored_syntax).name} only refers to its pixel data")
    what = "decoded" if needs_codec(stored_syntax) else "converted"
    with (
        _said_of(f"{UID(stored_syntax).name} cannot be {what}"),
        _Conversion(
            read_stored_dataset(path, stored_syntax, dataset_offset), wanted_syntax, look
        ).run() as converted,
    ):
        yield converted


@contextmanager
def evened(
    path: StoredFile,
    stored_syntax: str,
    dataset_offset: int | None = None,
    *,
    look: Callable[[], None] = lambda: None,
) -> Iterator[Converted]:
    """A stored dataset of odd length as it may be sent: its values of odd length are padded.

    The archive keeps what it was given; a message's fragments are of even length, and some
    receivers abort at an odd one. A deflated one gets a zero behind its end.

    Args:
        path, stored_syntax, dataset_offset, look: as `decoded` takes them.
    Returns:
        The dataset in the transfer syntax it is stored in, of even length.
    Raises:
        DecodingError: it cannot be brought to an even length.
        OSError, ArchiveError: the file cannot be read, or the result not be written.
    Source: PS3.5 sections 6.2, 7.1.1 and A.5; PS3.8 annex E.
    """
    with _said_of("its length is odd"):
        if stored_syntax in DEFLATED_SYNTAXES:
            with path.open("rb") as file, _with_a_zero(file, dataset_offset, look) as converted:
                yield converted
            return
        dataset = read_stored_dataset(path, stored_syntax, dataset_offset)
        with _Conversion(dataset, stored_syntax, look).run() as converted:
            yield converted


@contextmanager
def _said_of(what: str) -> Iterator[None]:
    """Why it cannot be, with what cannot be."""
    try:
        yield
    except CannotUnderstand as error:
        raise DecodingError(f"{what}: {error.reason}") from None
    except BudgetExceeded as error:
        raise DecodingError(f"{what}: {error}") from None


@contextmanager
def _with_a_zero(
    file: IO[bytes], dataset_offset: int | None, look: Callable[[], None]
) -> Iterator[Converted]:
    if dataset_offset is None:
        dataset_offset = read_part10(file.read(_HEAD)).dataset_offset
    size = file.seek(0, 2) - file.seek(dataset_offset)
    with spooled(size + 1, look) as result:
        while piece := file.read(_STEP):
            write_all(result, piece)
        write_all(result, b"\0")
        yield Converted(result, result.tell())


class _Conversion:
    """One dataset on its way from one transfer syntax to another.

    Args:
        look: as `decoded` takes it.
    """

    def __init__(
        self, dataset: StoredDataset, wanted_syntax: str, look: Callable[[], None]
    ) -> None:
        self._dataset = dataset
        self._wanted = wanted_syntax
        self._look = look
        self._look_at = 0.0
        self._moved = 0
        element, _ = read_pixel_element(dataset.content, dataset.encoding)
        self._decodes = needs_codec(dataset.transfer_syntax_uid) and wanted_syntax in TARGETS
        has_pixels = element is not None and element.tag == PIXEL_DATA
        is_there = element is not None and element.begin != element.end
        self._frames = (
            Frames(dataset, self._decode) if self._decodes and has_pixels and is_there else None
        )
        self._small = _bytes_beside_pixels(dataset, element)
        self._reservation: Reservation | None = None
        self._codec: CodecProcess | None = None
        self._for_turn = ExitStack()
        self._turn_ends = 0.0
        self._memory = 0

    @contextmanager
    def run(self) -> Iterator[Converted]:
        with spooled(self._most_bytes(), self._look) as file:
            with anywhere():
                size = self._write(file)
            yield Converted(file, size)

    def _most_bytes(self) -> int:
        """What the result may need on disk; headers grow by half at most."""
        pixels = bytes_of(self._frames.image) if self._frames else len(self._dataset.content)
        return pixels + 2 * self._small + _ROUNDING

    def _write(self, file: IO[bytes]) -> int:
        """Write the result; its length."""
        for_elements = min(2 * self._small, MEMORY.limit_bytes // 2) + _ROUNDING
        working_set = self._frames.working_set() if self._frames else 2 * _STEP
        room = 0
        refusal: Exception | None
        while True:
            with MEMORY.reserve(for_elements + working_set + room, self._look) as reservation:
                self._reservation = reservation if for_elements <= 2 * _LITTLE else None
                self._memory = working_set + room
                # A new error each time: the old one's traceback holds on to the memory.
                try:
                    with ExitStack() as self._for_turn:
                        self._begin_turn()
                        return self._write_pieces(file, self._pieces(for_elements, room))
                except MoreMemoryNeededError as error:
                    refusal, room = None, error.more_bytes
                except DecodingError as error:
                    refusal = DecodingError(str(error))
                except CannotUnderstand as error:
                    refusal = CannotUnderstand(error.reason)
                except MemoryError:
                    refusal = DecodingError("the system has no memory left")
            if refusal is not None:
                raise refusal
            file.seek(0)
            file.truncate()

    def _decode(
        self, transfer_syntax_uid: str, frame: list[memoryview], image: ImagePixel, room: float
    ) -> DecodedFrame:
        if self._codec is None:
            self._codec = self._for_turn.enter_context(codec_process(self._look))
        return self._codec.decode(transfer_syntax_uid, frame, image, self._memory, int(room))

    def _pieces(self, most_bytes: int, room: int) -> list[Piece]:
        dataset, target = self._dataset, encoding_of(self._wanted)
        edits: dict[int, Edit | None] | None = {} if self._decodes else None
        if self._frames is not None:
            edits = decoded_pixels(self._frames, room_bytes=room, between=self._between)
        encode = partial(
            convert, dataset.content, dataset.encoding, target, edits, most_bytes=most_bytes
        )
        pieces = encode()
        if _size_of(pieces) % 2:
            del pieces
            pieces = encode(pads=True)
        if self._wanted != DEFLATED and _size_of(pieces) % 2:
            raise CannotUnderstand("it cannot be brought to an even length")
        return pieces

    def _write_pieces(self, file: IO[bytes], pieces: list[Piece]) -> int:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS) if self._wanted == DEFLATED else None
        for piece in read_pieces(pieces):
            for start in range(0, len(piece), _STEP):
                step = piece[start : start + _STEP]
                write_all(file, deflater.compress(step) if deflater else step)
                self._note(len(step))
                del step
            del piece
        if deflater is not None:
            write_all(file, deflater.flush())
            if file.tell() % 2:
                write_all(file, b"\0")
        return file.tell()

    def _note(self, moved: int) -> None:
        """So many bytes were read or written: let go of the mapped ones, and look round."""
        self._moved += moved
        if self._moved >= _FORGET_BYTES:
            self._moved = 0
            self._dataset.forget()
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_AGAIN_S
            self._look()

    def _begin_turn(self) -> None:
        self._codec = None
        self._turn_ends = time.monotonic() + _TURN_S

    def _between(self) -> None:
        """A frame is written, and nothing of it is in memory: others may have their turn."""
        is_long = time.monotonic() >= self._turn_ends
        if self._reservation is not None and is_long and MEMORY.is_wanted:
            self._for_turn.close()
            self._reservation.give_way()
            self._begin_turn()


def _size_of(pieces: list[Piece]) -> int:
    return sum(len(piece) for piece in pieces)


def _bytes_beside_pixels(dataset: StoredDataset, element: PixelElement | None) -> int:
    """Bytes of what may be gathered: values that are large are not."""
    content, encoding = dataset.content, dataset.encoding
    stop = element.begin if element is not None else len(content)
    total, at = stop, 0
    while at + 8 <= stop:
        _, value, length, items = element_head(content, at, len(content), encoding)
        if value >= stop:
            break
        if length == UNDEFINED_LENGTH:
            at = skip_undefined(content, value, stop, items or encoding)
            continue
        at = value + length
        if items is None and length >= LARGE:
            total -= length
    return max(0, total)
