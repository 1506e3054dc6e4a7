"""Converts one dataset to another transfer syntax, within the shared budgets.

Rules: the memory is known and reserved before the work begins, and none is held during a wait.
Pixels are decoded, swapped, deflated and written piece by piece. Between two frames another
conversion may have its turn. Errors lose their tracebacks, which would keep decoded pixels alive.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import IO, Final, NamedTuple

from lfscp.archive.store.budget import Reservation
from lfscp.archive.store.object_store import StoredFile
from lfscp.archive.store.spool import held, spooled, write_all
from lfscp.archive.store.stored_dataset import StoredDataset
from lfscp.dicom.conversion.converter import Edit
from lfscp.dicom.conversion.encoder import LARGE, Piece, read_pieces
from lfscp.dicom.encoding.elements import UNDEFINED_LENGTH, element_head, skip_undefined
from lfscp.dicom.encoding.encapsulated import PIXEL_DATA
from lfscp.dicom.encoding.image_pixel import ImagePixel, PixelElement, read_pixel_element
from lfscp.dicom.encoding.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.dicom.errors import DatasetError
from lfscp.server.cpu_affinity import anywhere
from lfscp.services.transcoding.decoded import DecodingError, MoreMemoryNeededError
from lfscp.services.transcoding.decoded_pixels import bytes_of, decoded_pixels
from lfscp.services.transcoding.decoding_memory import MEMORY
from lfscp.services.transcoding.frames import Finish, Frames, not_held
from lfscp.services.transcoding.native_conversion import converted_pieces
from lfscp.services.transcoding.parallel_codecs import ParallelCodecs
from lfscp.upperlayer.scu.sending import FileSlice, Parts

TARGETS: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)
_STEP: Final = 1 << 20  # bytes written at a time
_FORGET_BYTES: Final = 4 << 20  # read or written until mapped pages are released
_LITTLE: Final = 1 << 20  # bytes that a conversion may keep while others have their turn
_ROUNDING: Final = 65_536  # bytes of new elements, and of padding
_LOOK_AGAIN_S: Final = 0.25
_TURN_S: Final = 1.0  # until others go first, between two frames


class Converted(NamedTuple):
    """A dataset that is ready to be sent."""

    body: bytes | FileSlice | Parts
    size: int


Note = Callable[[int, int], None]  # takes a descriptor, and how many bytes are written there


def needs_codec(transfer_syntax_uid: str) -> bool:
    """Whether pixel data in this transfer syntax is compressed (encapsulated)."""
    return transfer_syntax_uid not in TARGETS


def anew(error: DecodingError | DatasetError | MemoryError) -> Exception:
    """The same error without its traceback, which keeps memory alive."""
    if isinstance(error, DatasetError):
        return DatasetError(error.reason)
    if isinstance(error, MemoryError):
        return DecodingError("the system has no memory left")
    return DecodingError(str(error))


class Conversion:
    """One dataset on its way from one transfer syntax to another.

    Args:
        path: its file, for messages.
        look, owner: as `converted` takes them.
    """

    def __init__(
        self,
        path: StoredFile,
        dataset: StoredDataset,
        wanted_syntax: str,
        look: Callable[[], None],
        owner: object = None,
    ) -> None:
        self._path = path
        self._owner = owner
        self._dataset = dataset
        self._wanted = wanted_syntax
        self._look = look
        self._look_at = 0.0
        self._moved = 0
        element, _ = read_pixel_element(dataset.content, dataset.encoding)
        self._decodes = needs_codec(dataset.transfer_syntax_uid) and wanted_syntax in TARGETS
        has_pixels = element is not None and element.tag == PIXEL_DATA
        is_there = has_pixels and element is not None and element.begin != element.end
        decode = not_held(self._decode)
        self._frames = Frames(dataset, decode) if self._decodes and is_there else None
        self._small = _bytes_beside_pixels(dataset, element)
        self._working_set = self._frames.working_set() if self._frames else 2 * _STEP
        self._reservation: Reservation | None = None
        self._codecs: ParallelCodecs | None = None
        self._for_turn = ExitStack()
        self._turn_ends = 0.0
        self._memory = 0
        self._note_written: Note | None = None

    @contextmanager
    def run(self, *, in_memory: bool = False, note: Note | None = None) -> Iterator[Converted]:
        """Convert it.

        Args:
            in_memory: refuse what would not stay in memory, and do not wait for disk space.
            note: as `converted` takes it.
        """
        self._note_written = note
        pixels = bytes_of(self._frames.image) if self._frames else len(self._dataset.content)
        most_bytes = pixels + 2 * self._small + _ROUNDING  # headers grow by half at most
        place = held(most_bytes) if in_memory else spooled(most_bytes, self._look)
        with place as file:
            with anywhere():
                size = self._write(file)
            if isinstance(file, BytesIO):
                yield Converted(file.getvalue(), size)
            else:
                body = FileSlice(self._path, 0, size, descriptor=file.fileno())
                yield Converted(body, size)

    def _write(self, file: IO[bytes]) -> int:
        """Write the result; gives its length."""
        for_elements = min(2 * self._small, MEMORY.limit_bytes // 2) + _ROUNDING
        room = 0
        refusal: Exception | None
        while True:
            with MEMORY.reserve(for_elements + self._working_set + room, self._look) as reservation:
                self._reservation = reservation if for_elements <= 2 * _LITTLE else None
                self._memory = self._working_set + room
                try:
                    with ExitStack() as self._for_turn:
                        self._begin_turn()
                        return self._write_pieces(file, self._pieces(for_elements, room))
                except MoreMemoryNeededError as error:
                    refusal, room = None, error.more_bytes
                except (DecodingError, DatasetError, MemoryError) as error:
                    refusal = anew(error)
            if refusal is not None:
                try:
                    raise refusal
                finally:
                    del refusal  # else it holds this frame, which holds it
            file.seek(0)
            file.truncate()

    def _decode(
        self, transfer_syntax_uid: str, frame: list[memoryview], image: ImagePixel, room: float
    ) -> Finish:
        if self._codecs is None:
            codecs = ParallelCodecs(self._look, self._owner, self._memory)
            self._codecs = self._for_turn.enter_context(codecs)
        return self._codecs.begin(transfer_syntax_uid, frame, image, int(room))

    def _may_begin(self) -> bool:
        return self._codecs is not None and self._codecs.may_begin()

    def _pieces(self, most_bytes: int, room: int) -> list[Piece]:
        edits: dict[int, Edit | None] | None = {} if self._decodes else None
        if self._frames is not None:
            edits = decoded_pixels(
                self._frames,
                room_bytes=room,
                between=self._between,
                may_begin=self._may_begin,
            )
        return converted_pieces(self._dataset, self._wanted, edits, most_bytes=most_bytes)

    def _write_pieces(self, file: IO[bytes], pieces: list[Piece]) -> int:
        deflates = self._wanted == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS) if deflates else None
        for piece in read_pieces(pieces):
            for start in range(0, len(piece), _STEP):
                step = piece[start : start + _STEP]
                write_all(file, deflater.compress(step) if deflater else step)
                self._note(file, len(step))
                del step
            del piece
        if deflater is not None:
            write_all(file, deflater.flush())
            if file.tell() % 2:
                write_all(file, b"\0")
        return file.tell()

    def _note(self, file: IO[bytes], moved: int) -> None:
        """Note moved bytes: now and then release mapped pages, and ask whether to stop."""
        if self._note_written is not None and not isinstance(file, BytesIO):
            self._note_written(file.fileno(), file.tell())
        self._moved += moved
        if self._moved >= _FORGET_BYTES:
            self._moved = 0
            self._dataset.forget()
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_AGAIN_S
            self._look()

    def _begin_turn(self) -> None:
        self._codecs = None
        self._turn_ends = time.monotonic() + _TURN_S

    def _between(self) -> None:
        """Between two frames, when nothing is in memory: let others have their turn."""
        is_long = time.monotonic() >= self._turn_ends
        if self._reservation is not None and is_long and MEMORY.waiting:
            self._for_turn.close()
            self._reservation.give_way()
            self._begin_turn()


def _bytes_beside_pixels(dataset: StoredDataset, element: PixelElement | None) -> int:
    """Bytes of the elements beside the pixels, without large values."""
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
