"""Decodes frames in another process; see `decoding_process`.

Rules: a process decodes the objects of one retrieve only, because a hostile frame may have taken it
over; of its answers only the length is checked. It ends with the first object that fails, or when
no object follows within some seconds. During a wait for a frame, the caller is asked several times
a second whether to give up, which ends the process at once.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.processes.forking_server import Child, ForkingServer, IdleChildren
from lfscp.services.transcoding.decoded import DecodingError, FramePieces, MoreMemoryNeededError
from lfscp.services.transcoding.described_layout import samples_of

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
        self.is_ready = True  # nothing of an earlier frame is still to come
        self._expected = 0  # bytes of the frame that it decodes

    def begin(
        self,
        transfer_syntax_uid: str,
        frame: list[memoryview],
        image: ImagePixel,
        memory_bytes: int,
        room_bytes: int,
        *,
        as_described: bool = False,
    ) -> None:
        """Have it begin to decode a frame, as `decode_compressed` does; one at a time.

        Args:
            frame: its fragments.
            memory_bytes: the memory that decoding may take.
            room_bytes: the part of it for what a codestream needs beyond what the header implies.
            as_described: as there.
        Raises:
            DecodingError: the process has ended.
        """
        limits = {"memory": memory_bytes, "room": room_bytes, "described": as_described}
        request = {"syntax": transfer_syntax_uid, "image": asdict(image), **limits}
        samples = samples_of(image) if as_described else image.samples
        self._expected = samples * -(-image.bits_allocated // 8)
        self.is_ready = False
        with _failing():
            self.child.send(request, *frame)

    def finish(self) -> FramePieces:
        """Wait for the frame that was begun.

        Raises:
            DecodingError: as `decode_compressed`; or the codec crashed, or takes too long. Reading
                the pieces may raise it too.
            MoreMemoryNeededError: as there.
        """
        with _failing():
            answer, length, *_ = self.child.receive(_MAX_S)
            if "error" in answer:
                raise DecodingError(str(answer["error"]))
            if "more" in answer:
                raise MoreMemoryNeededError(int(answer["more"]))
            if length != self._expected:
                raise ValueError("another frame")
            return FramePieces(self._pieces(length), str(answer["photometric"]))

    def _pieces(self, length: int) -> Iterator[memoryview]:
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
    """A process that decodes the frames of one object.

    Args:
        look: called several times a second; an error that it raises ends the wait.
        owner: the retrieve of the object. All its objects share a process, as long as none fails.
    Raises:
        DecodingError: no process can be started.
    """
    child = (None if owner is None else _KEPT.take(owner)) or _begun(look)
    child.look = look
    process = CodecProcess(child)
    is_over = False
    try:
        yield process
        is_over = True
    finally:
        if is_over and process.is_ready and owner is not None and not child.has_ended:
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
