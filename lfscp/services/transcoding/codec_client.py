"""Decodes frames in another process; see `codec_server`. It starts when it is needed.

Rules: a process decodes the objects of one retrieve and no others', since it may have been taken
over by what it decoded; what comes back is believed as far as its length. It is gone with the first
object that fails, or when none follows within some seconds. Who waits for a frame looks round
several times a second and may give up, which ends that process at once.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

from lfscp.dicom.image_pixel import ImagePixel
from lfscp.services.transcoding.codec_server import LENGTH, send_message
from lfscp.services.transcoding.decoded import DecodingError, FramePieces, MoreMemoryNeededError

LOOK_AGAIN_S: Final = 0.25
_LONGEST_S: Final = 60.0  # for one frame
_LONGEST_MESSAGE: Final = 65_536
_PIECE: Final = 1 << 20  # bytes of a frame, of whole cells
_MOST_KEPT: Final = 2  # processes between two objects
_KEPT_S: Final = 3.0  # less than until they end by themselves
# What pydicom would fetch its examples with takes memory and time, and decodes nothing.
_RUN: Final = """
import sys
sys.modules["requests"] = None
from lfscp.services.transcoding.codec_server import main
main()
"""
_COMMAND: Final = (sys.executable, "-P", "-c", _RUN)


class _Server:
    """The process that forks those that decode; any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0

    def ask(self) -> socket.socket:
        """A socket to a process of its own.

        Raises:
            OSError: there can be none.
        """
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                self._hand_over(theirs)
            except OSError:  # it has ended since, or was not yet there
                self._start()
                self._hand_over(theirs)
        return ours

    def _hand_over(self, sock: socket.socket) -> None:
        if self._control is None or self._owner != os.getpid():
            raise ConnectionError("no process")
        socket.send_fds(self._control, [b"\0"], [sock.fileno()], socket.MSG_NOSIGNAL)

    def stop(self) -> None:
        """End it; those that decode end with their objects."""
        if self._owner != os.getpid():
            return
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.wait()

    def _start(self) -> None:
        self.stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # One thread, which may fork.
            environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                _COMMAND,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        self._control, self._owner = ours, os.getpid()


_SERVER: Final = _Server()
atexit.register(_SERVER.stop)


class CodecProcess:
    """A process that decodes frames.

    Args:
        sock: to it.
        look: called several times a second; what it raises ends the wait.
    """

    is_ready = False  # for a frame: nothing is to come

    def __init__(self, sock: socket.socket, look: Callable[[], None]) -> None:
        self._sock = sock
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)
        self.look = look
        self._deadline = 0.0
        self._pidfd = -1

    def begin(self) -> None:
        """Wait until it is there."""
        self._deadline = time.monotonic() + _LONGEST_S
        self._pidfd = os.pidfd_open(int(self._read_message()["pid"]))
        self.is_ready = True

    def end(self) -> None:
        """End it, whatever it does."""
        self._sock.close()
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):  # it has seen the end of the socket
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)

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
            "size": sum(len(each) for each in frame),
            "image": asdict(image),
            "memory": memory_bytes,
            "room": room_bytes,
        }
        self.is_ready = False
        self._deadline = time.monotonic() + _LONGEST_S
        with _failing():
            self._sock.settimeout(_LONGEST_S)
            send_message(self._sock, request, *frame)
            answer = self._read_message()
            if "error" in answer:
                raise DecodingError(str(answer["error"]))
            if "more" in answer:
                raise MoreMemoryNeededError(int(answer["more"]))
            size = image.samples * -(-image.bits_allocated // 8)
            if answer["size"] != size:
                raise ValueError("another frame")
            return FramePieces(self._pieces(size), str(answer["photometric"]))

    def _pieces(self, size: int) -> Iterator[memoryview]:
        """What it sends of a frame, in one place of memory after the other."""
        self._deadline = time.monotonic() + _LONGEST_S
        place = memoryview(bytearray(min(size, _PIECE)))
        for start in range(0, size, _PIECE):
            piece = place[: min(_PIECE, size - start)]
            with _failing():
                self._read_into(piece)
            self.is_ready = start + len(piece) == size
            yield piece

    def _read_message(self) -> dict[str, Any]:
        head = bytearray(LENGTH.size)
        self._read_into(memoryview(head))
        (length,) = LENGTH.unpack(head)
        if length > _LONGEST_MESSAGE:
            raise ValueError("no message")
        encoded = bytearray(length)
        self._read_into(memoryview(encoded))
        return dict(json.loads(encoded))

    def _read_into(self, view: memoryview) -> None:
        while view:
            if not self._poller.poll(1000 * LOOK_AGAIN_S):
                self.look()
                if time.monotonic() > self._deadline:
                    raise DecodingError(f"the codec takes longer than {_LONGEST_S:g} s")
                continue
            count = self._sock.recv_into(view)
            if not count:
                raise EOFError
            view = view[count:]


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError, ValueError, KeyError, TypeError):
        raise DecodingError("the codec failed") from None


class _Kept:
    """Processes whose retrieve may have another object for them; any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[tuple[object, CodecProcess, float]] = []

    def take(self, owner: object) -> CodecProcess | None:
        """The process of this owner, if it is still there."""
        now = time.monotonic()
        with self._lock:
            found = [each for each in self._kept if each[0] is owner]
            self._kept = [each for each in self._kept if each[0] is not owner]
        for _, process, since in found:
            if now - since < _KEPT_S:
                return process
            process.end()
        return None

    def keep(self, owner: object, process: CodecProcess) -> None:
        """Keep it for its owner; the oldest goes where there are too many."""
        with self._lock:
            self._kept.append((owner, process, time.monotonic()))
            too_many = self._kept[:-_MOST_KEPT]
            del self._kept[:-_MOST_KEPT]
        for _, each, _ in too_many:
            each.end()

    def end(self) -> None:
        """End all of them."""
        with self._lock:
            kept, self._kept = self._kept, []
        for _, each, _ in kept:
            each.end()


_KEPT: Final = _Kept()
atexit.register(_KEPT.end)


@contextmanager
def codec_process(look: Callable[[], None], owner: object = None) -> Iterator[CodecProcess]:
    """A process that decodes the frames of one object, for as long as it is needed.

    Args:
        owner: who may have another object for it soon; the same process for all of his objects,
            as long as none fails.
    Raises:
        DecodingError: there can be none.
    """
    process = None if owner is None else _KEPT.take(owner)
    process = process or _begun(look)
    process.look = look
    is_over = False
    try:
        yield process
        is_over = True
    finally:
        if is_over and process.is_ready and owner is not None:
            _KEPT.keep(owner, process)
        else:
            process.end()


def _begun(look: Callable[[], None]) -> CodecProcess:
    try:
        sock = _SERVER.ask()
    except OSError as error:
        raise DecodingError(f"cannot start a decoding process: {error.strerror or error}") from None
    process = CodecProcess(sock, look)
    try:
        process.begin()
    except (EOFError, OSError, ValueError, KeyError):
        process.end()
        raise DecodingError("the decoding process failed") from None
    except BaseException:
        process.end()
        raise
    return process
