"""Converts an object in a thread of its own, and lets its bytes be read while they are written.

Rules: what is ready within some seconds is given as a whole, so that an object that cannot be
converted is an error before any byte of it is sent. To convert a large one may take minutes, and a
client may not wait so long for the first byte. Then its bytes are read as they come, and an error
comes behind those that were read: the reader must not end as if they were all. The conversion goes
on at its own pace, however slow the reader is.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Final, Protocol

from lfscp.archive.store.budget import LOOK_AGAIN_S
from lfscp.server.cpu_affinity import anywhere
from lfscp.services.transcoding.dataset_conversion import Converted, Note

SOON_S: Final = 10.0  # many clients give up after 30
_PIECE: Final = 1 << 19  # bytes read at a time


class Convert(Protocol):
    """Converts an object within a `with` block; `look` and `note` as `converted` takes them."""

    def __call__(
        self, look: Callable[[], None], note: Note | None = None
    ) -> AbstractContextManager[Converted]: ...


class _NobodyReadsError(Exception):
    """The reader has gone."""


class GrowingResult:
    """What one thread writes and another one reads."""

    def __init__(self, convert: Convert) -> None:
        self._convert = convert
        self._changed = threading.Condition()
        self._descriptor = -1  # of our own: the writer's may be closed, and its number used again
        self._written = 0
        self._made: Converted | None = None
        self._error: BaseException | None = None
        self._is_over = self._is_left = False
        self._opened = ExitStack()

    def start(self) -> None:
        """Begin.

        Raises:
            RuntimeError: the system has no thread left.
        """
        with anywhere():  # a new thread may run where this one may
            threading.Thread(target=self._run, name="converting", daemon=True).start()

    def whole(self, look: Callable[[], None]) -> Converted | None:
        """The result, if it is ready soon; None if a part of it is there.

        Raises:
            Exception: what the conversion, or `look`, raises.
        """
        ends = time.monotonic() + SOON_S
        while not self._wait_for(lambda: self._is_over):
            look()
            if time.monotonic() >= ends and self._written:
                return None
        return self._result()

    def pieces(self, look: Callable[[], None]) -> Generator[bytes, None, None]:
        """All bytes, as they come; raises as `whole`."""
        at = 0
        while True:
            while not self._wait_for(partial(self._has_more, at)):
                look()
            is_over, written = self._is_over, self._written
            if is_over and at == self._result().size:
                return
            piece = self._read(at)
            at += len(piece)
            if piece:
                yield piece
            elif is_over:
                raise OSError(f"the result has {at} bytes, {self._result().size} are expected")
            else:
                self._await_again(at, written)

    def _has_more(self, at: int) -> bool:
        return self._is_over or self._written > at

    def _await_again(self, at: int, written: int) -> None:
        """The conversion has begun again: what was written is gone until it notes more."""
        with self._changed:
            if self._written == written:
                self._written = min(at, written)

    def _read(self, at: int) -> bytes:
        """The next bytes; none if the conversion has just begun again."""
        end = self._result().size if self._is_over else self._written
        return os.pread(self._descriptor, max(0, min(_PIECE, end - at)), at)

    def leave(self) -> None:
        """Nobody reads any more: the conversion ends, and what it keeps is closed."""
        with self._changed:
            self._is_left = True
            self._close()

    def _wait_for(self, condition: Callable[[], bool]) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, LOOK_AGAIN_S)

    def _result(self) -> Converted:
        if self._error is not None:
            raise self._error
        assert self._made is not None  # noqa: S101 - one of both, as soon as it is over
        return self._made

    def _run(self) -> None:
        made, error = None, None
        with ExitStack() as opened:
            try:
                made = opened.enter_context(self._convert(self._look, self._note))
            except BaseException as raised:  # noqa: BLE001 - it is raised where the result is read
                error = raised.with_traceback(None)
            with self._changed:
                self._opened = opened.pop_all()
                self._made, self._error, self._is_over = made, error, True
                if self._is_left:
                    self._close()
                self._changed.notify_all()

    def _look(self) -> None:
        if self._is_left:
            raise _NobodyReadsError

    def _note(self, descriptor: int, written: int) -> None:
        with self._changed:
            if self._descriptor < 0 and not self._is_left:
                self._descriptor = os.dup(descriptor)
            self._written = written
            self._changed.notify_all()

    def _close(self) -> None:
        """Close what is open; the lock is held."""
        self._opened.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def growing(convert: Convert, look: Callable[[], None]) -> Iterator[Converted | GrowingResult]:
    """Convert an object.

    Args:
        look: called several times a second during a wait; an error that it raises ends the work.
    Returns:
        The result; or one that grows, of which a part is there.
    Raises:
        Exception: as `convert`, or `look`.
    """
    result = GrowingResult(convert)
    try:
        result.start()
    except RuntimeError:  # the system has no thread left
        with convert(look) as made:
            yield made
        return
    try:
        yield result.whole(look) or result
    finally:
        result.leave()
