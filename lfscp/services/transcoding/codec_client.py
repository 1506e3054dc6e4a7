"""Decodes frames in another process; see `decoding_process`.

Rules: a process decodes the objects of one retrieve and no others', since it may have been taken
over by what it decoded; what comes back is believed as far as its length. It is gone with the first
object that fails, or when none follows within some seconds. Who waits for a frame looks round
several times a second and may give up, which ends that process at once.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

from lfscp.dicom.image_pixel import ImagePixel
from lfscp.processes.forking_server import Child, ForkingServer, IdleChildren
from lfscp.services.transcoding.decoded import DecodingError, FramePieces, MoreMemoryNeededError

_MAX_S: Final = 60.0  # for one frame
_MAX_KEPT: Final = 2  # processes between two objects
_KEPT_S: Final = 3.0  # less than until they end by themselves

_SERVER: Final = ForkingServer(f"{__package__}.decoding_process")
_KEPT: Final = IdleChildren(_MAX_KEPT, _KEPT_S)
atexit.register(_SERVER.close)


class CodecProcess:
    """A process that decodes frames."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.is_ready = True  # for a frame: nothing is to come

    def decode(
        self,
        transfer_syntax_uid: str,
        frame: list[memoryview],
        image: ImagePixel,
        memory_bytes: int,
        room_bytes: int,
    ) -> FramePieces:
        """Decode a frame, as `decode_compressed` does.

        Args:
            frame: its fragments.
            memory_bytes: that it may take.
            room_bytes: of them, for what a codestream needs beside what the header lets expect.
        Raises:
            DecodingError, MoreMemoryNeededError: as there; it crashed, or takes too long. Reading
                the pieces may raise the first.
        """
        request = {
            "syntax": transfer_syntax_uid,
            "image": asdict(image),
            "memory": memory_bytes,
            "room": room_bytes,
        }
        self.is_ready = False
        with _failing():
            self.child.send(request, *frame)
            answer, length, _ = self.child.receive(_MAX_S)
            if "error" in answer:
                raise DecodingError(str(answer["error"]))
            if "more" in answer:
                raise MoreMemoryNeededError(int(answer["more"]))
            if length != image.samples * -(-image.bits_allocated // 8):
                raise ValueError("another frame")
            return FramePieces(self._pieces(length), str(answer["photometric"]))

    def _pieces(self, length: int) -> Iterator[memoryview]:
        """What it sends of a frame, in one place of memory after the other."""
        pieces = self.child.pieces(length, _MAX_S)
        while length:
            with _failing():
                piece = next(pieces)
            length -= len(piece)
            self.is_ready = not length
            yield piece


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise DecodingError(f"the codec takes longer than {_MAX_S:g} s") from None
    except (EOFError, OSError, ValueError, KeyError, TypeError):
        raise DecodingError("the codec failed") from None


@contextmanager
def codec_process(look: Callable[[], None], owner: object = None) -> Iterator[CodecProcess]:
    """A process that decodes the frames of one object, for as long as it is needed.

    Args:
        look: called several times a second; what it raises ends the wait.
        owner: who may have another object for it soon; the same process for all of his objects,
            as long as none fails.
    Raises:
        DecodingError: there can be none.
    """
    child = (None if owner is None else _KEPT.take(owner)) or _begun(look)
    child.look = look
    process = CodecProcess(child)
    is_over = False
    try:
        yield process
        is_over = True
    finally:
        if is_over and process.is_ready and owner is not None:
            _KEPT.keep(child, owner)
        else:
            child.end()


def _begun(look: Callable[[], None]) -> Child:
    try:
        return _SERVER.child(look)
    except OSError as error:
        why = error.strerror or error
        raise DecodingError(f"cannot start a decoding process: {why}") from None
    except (EOFError, ValueError):
        raise DecodingError("the decoding process failed") from None
