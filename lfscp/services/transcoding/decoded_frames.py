"""Decodes single frames of an object with compressed pixels, within the shared budgets.

Rules: a frame is as the header describes uncompressed pixels, see `described_layout`. It is decoded
when it is asked for, into memory if it is small and else into a file without a name. So the memory
for decoding and the codec are free again before a slow receiver takes the first byte. Codecs run in
another process, see `decoding_process`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Final

import numpy as np

from lfscp.archive.store.budget import BudgetExceededError
from lfscp.archive.store.spool import spooled, write_all
from lfscp.archive.store.stored_dataset import StoredDataset
from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.dicom.errors import DatasetError
from lfscp.server.cpu_affinity import anywhere
from lfscp.services.transcoding.codecs.codec_client import codec_process
from lfscp.services.transcoding.dataset_conversion import anew
from lfscp.services.transcoding.decoded import DecodingError, FramePieces, MoreMemoryNeededError
from lfscp.services.transcoding.decoding_memory import MEMORY
from lfscp.services.transcoding.described_layout import can_lay_out, is_moved, samples_of
from lfscp.services.transcoding.frames import (
    CELLS_IN_FRAGMENTS,
    PIXELS_ELSEWHERE,
    Finish,
    Frames,
    decoder_of,
    not_held,
)

_PIECE: Final = 1 << 18


def can_decode(transfer_syntax_uid: str, image: ImagePixel | None = None) -> bool:
    """Whether there is a decoder for compressed frames.

    Args:
        image: given, it must also be possible to lay them out as it says.
    """
    if image is not None and not can_lay_out(image):
        return False
    if transfer_syntax_uid in CELLS_IN_FRAGMENTS:
        return True
    if transfer_syntax_uid in PIXELS_ELSEWHERE:
        return False
    try:
        decoder_of(transfer_syntax_uid)
    except DecodingError:
        return False
    return True


def size_of(image: ImagePixel) -> int:
    """Bytes of one decoded frame: its bits fill whole bytes."""
    return -(-samples_of(image) * image.bits_allocated // 8)


class DecodedFrames:
    """The decoded frames of one object; for one thread.

    Args:
        look: called several times a second; an error that it raises ends the work.
        owner: whose frames may be decoded by the same process.
    Raises:
        DecodingError: there is no decoder, or no description of the pixels.
    """

    def __init__(self, dataset: StoredDataset, look: Callable[[], None], owner: object) -> None:
        self._look = look
        self._owner = owner
        self._memory = 0
        self._for_frame = ExitStack()
        try:
            self._frames = Frames(dataset, not_held(self._decode), as_described=True)
            self._layout = size_of(self._frames.image) if is_moved(self._frames.image) else 0
        except DatasetError as error:
            raise DecodingError(error.reason) from None

    @contextmanager
    def frame(self, number: int, *, alone: bool = True) -> Iterator[IO[bytes]]:
        """One decoded frame, counted from 0: a file at its beginning, of `size_of` bytes.

        Args:
            alone: only few frames are wanted, so a large object is not read as a whole.
        Raises:
            DecodingError: it is broken, or needs more than the budgets allow.
            OSError, ArchiveError: the result cannot be kept.
        """
        try:
            with spooled(size_of(self._frames.image), self._look) as file:
                with anywhere():
                    self._write(file, number, alone=alone)
                file.seek(0)
                yield file
        except BudgetExceededError as error:
            raise DecodingError(str(error)) from None

    def _write(self, file: IO[bytes], number: int, *, alone: bool) -> None:
        room = 0
        refusal: Exception | None
        while True:
            try:
                needed = self._frames.working_set_of(number, alone=alone)
            except DatasetError as error:
                raise DecodingError(error.reason) from None
            self._memory = needed + self._layout + room
            with MEMORY.reserve(self._memory, self._look):
                try:
                    with ExitStack() as self._for_frame:
                        found = self._frames.pieces(number, room_bytes=room, alone=alone)
                        return self._copy(file, found)
                except MoreMemoryNeededError as error:
                    refusal, room = None, error.more_bytes
                except (DecodingError, DatasetError, MemoryError) as error:
                    refusal = anew(error)
            if isinstance(refusal, DatasetError):
                raise DecodingError(refusal.reason)
            if refusal is not None:
                try:
                    raise refusal
                finally:
                    del refusal  # else it holds this frame, which holds it
            file.seek(0)
            file.truncate()

    def _copy(self, file: IO[bytes], found: FramePieces) -> None:
        is_bits = self._frames.image.bits_allocated == 1
        for piece in _packed(found.pieces) if is_bits else found.pieces:
            write_all(file, piece)
            self._look()

    def _decode(
        self, transfer_syntax_uid: str, frame: list[memoryview], image: ImagePixel, room: float
    ) -> Finish:
        codec = self._for_frame.enter_context(codec_process(self._look, self._owner))
        memory = self._memory
        codec.begin(transfer_syntax_uid, frame, image, memory, int(room), as_described=True)
        return codec.finish


def _packed(pieces: Iterable[memoryview]) -> Iterator[bytes]:
    """Cells of one bit, which come as bytes of 0 and 1."""
    rest = np.empty(0, np.uint8)
    for piece in pieces:
        bits = np.concatenate([rest, np.frombuffer(piece, np.uint8)])
        whole = len(bits) // 8 * 8
        rest = bits[whole:].copy()
        yield np.packbits(bits[:whole], bitorder="little").tobytes()
    if len(rest):
        yield np.packbits(rest, bitorder="little").tobytes()
