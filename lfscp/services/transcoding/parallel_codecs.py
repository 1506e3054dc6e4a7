"""Decodes frames of one object in several processes at the same time, within the budgets.

Rules: the caller has reserved the memory of one process, which is always there. Others are added
while memory is free and nobody waits for it, up to one for each processor, counting those of all
objects. As soon as somebody waits for memory, no further frame is begun beside another one, and
what was added is given back. A process that is idle for some seconds ends by itself; another one
takes its place.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final, Self

from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.services.transcoding.codecs.codec_client import CodecProcess, codec_process
from lfscp.services.transcoding.decoded import DecodingError, FramePieces
from lfscp.services.transcoding.decoding_memory import MEMORY
from lfscp.services.transcoding.frames import Finish

_OWN_BYTES: Final = 8 << 20  # of a process, beside what a frame takes


class Processors:
    """Counts the processes that decode, of all objects; for any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._busy = 0

    def take(self, *, always: bool) -> bool:
        """Count one more, if there is a processor for it, or always."""
        with self._lock:
            if self._busy >= self._limit and not always:
                return False
            self._busy += 1
            return True

    def give_back(self) -> None:
        """Count one less."""
        with self._lock:
            self._busy -= 1


PROCESSORS: Final = Processors(len(os.sched_getaffinity(0)))


class _Lane(ExitStack):
    """One process, and what is reserved for it."""

    process: CodecProcess
    is_first: bool  # its memory is the caller's


class ParallelCodecs:
    """The processes that decode one object, within a `with` block; for one thread.

    Args:
        look, owner: as `codec_process` takes them.
        memory_bytes: that decoding one frame takes.
    """

    def __init__(self, look: Callable[[], None], owner: object, memory_bytes: int) -> None:
        self._look = look
        self._owner = owner
        self._memory = memory_bytes
        self._open = ExitStack()
        self._lanes: list[_Lane] = []

    def __enter__(self) -> Self:
        try:
            self._begin_lane(is_first=True)
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._open.__exit__(*error)  # type: ignore[arg-type]

    def may_begin(self) -> bool:
        """Whether one more frame may be begun now, beside those that are not read yet."""
        if MEMORY.waiting:
            self._end_idle()
            return False
        return self._idle() is not None or self._add()

    def begin(
        self, transfer_syntax_uid: str, frame: list[memoryview], image: ImagePixel, room_bytes: int
    ) -> Finish:
        """Begin to decode a frame in an idle process; there must be one.

        Args:
            frame, room_bytes: as `CodecProcess.begin` takes them.
        Returns:
            waits for the frame; raises as `CodecProcess.finish`.
        """
        lane = self._idle()
        if lane is None and self._add():  # the one that was idle has ended
            lane = self._idle()
        if lane is None:
            raise DecodingError("no process is free")
        try:
            lane.process.begin(transfer_syntax_uid, frame, image, self._memory, room_bytes)
        except DecodingError as error:
            return partial(_fail, str(error))  # once the frames before it are read
        return lane.process.finish

    def _idle(self) -> _Lane | None:
        for lane in list(self._lanes):
            if lane.process.is_ready and lane.process.child.has_ended:  # idle for too long
                self._close(lane)
        return next((lane for lane in self._lanes if lane.process.is_ready), None)

    def _end_idle(self) -> None:
        for lane in list(self._lanes):
            if lane.process.is_ready and not lane.is_first:
                self._close(lane)

    def _close(self, lane: _Lane) -> None:
        self._lanes.remove(lane)
        lane.close()

    def _add(self) -> bool:
        is_first = not any(lane.is_first for lane in self._lanes)
        try:
            return self._begin_lane(is_first=is_first)
        except DecodingError:
            if is_first:
                raise
            return False  # there is another one

    def _begin_lane(self, *, is_first: bool) -> bool:
        with _Lane() as lane:
            if not PROCESSORS.take(always=is_first):
                return False
            lane.callback(PROCESSORS.give_back)
            if not is_first:
                size = self._memory + _OWN_BYTES
                if not MEMORY.take_if_free(size):
                    return False
                lane.callback(MEMORY.give_back, size)
            process = lane.enter_context(codec_process(self._look, self._owner))
            kept = self._open.enter_context(lane.pop_all())
        kept.process, kept.is_first = process, is_first
        self._lanes.append(kept)
        return True


def _fail(why: str) -> FramePieces:
    raise DecodingError(why)
