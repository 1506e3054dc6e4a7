"""Frames decoded in another process: see `codec_server`, which is started when it is needed.

Rules: one of its processes for each object, gone with it; who waits for a frame looks round several
times a second and may give up, which ends that process at once. What comes back is believed as far
as its length: the process may have been taken over by what it decoded.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import mmap
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

import numpy as np

from lfscp.archive.image_pixel import ImagePixel
from lfscp.services.codec_server import LENGTH, send_message
from lfscp.services.decoded import DecodedFrame, DecodingError, MoreMemoryNeededError

LOOK_AGAIN_S: Final = 0.25
_LONGEST_S: Final = 60.0  # for one frame
_LONGEST_MESSAGE: Final = 65_536
_COMMAND: Final = (sys.executable, "-P", "-m", "lfscp.services.codec_server")


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
    """A process that decodes the frames of one object.

    Args:
        sock: to it.
        look: called several times a second; what it raises ends the wait.
    """

    def __init__(self, sock: socket.socket, look: Callable[[], None]) -> None:
        self._sock = sock
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)
        self._look = look
        self._deadline = 0.0
        self._pidfd = -1

    def begin(self) -> None:
        """Wait until it is there."""
        self._deadline = time.monotonic() + _LONGEST_S
        self._pidfd = os.pidfd_open(int(self._read_message()["pid"]))

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
    ) -> DecodedFrame:
        """Decode a frame, as `decode_compressed` does.

        Args:
            frame: its fragments.
            memory_bytes: that it may take.
            room_bytes: of them, for what a codestream needs beside what the header lets expect.
        Raises:
            DecodingError, MoreMemoryNeededError: as there; it crashed, or takes too long.
        """
        request = {
            "syntax": transfer_syntax_uid,
            "size": sum(len(each) for each in frame),
            "image": asdict(image),
            "memory": memory_bytes,
            "room": room_bytes,
        }
        self._deadline = time.monotonic() + _LONGEST_S
        try:
            self._sock.settimeout(_LONGEST_S)
            send_message(self._sock, request, *frame)
            answer = self._read_message()
            return self._frame_of(answer, image)
        except (EOFError, OSError, ValueError, KeyError, TypeError):
            raise DecodingError("the codec failed") from None

    def _frame_of(self, answer: dict[str, Any], image: ImagePixel) -> DecodedFrame:
        if "error" in answer:
            raise DecodingError(str(answer["error"]))
        if "more" in answer:
            raise MoreMemoryNeededError(int(answer["more"]))
        dtype, shape = np.dtype(answer["dtype"]), tuple(answer["shape"])
        samples = (image.samples_per_pixel,) if image.samples_per_pixel > 1 else ()
        if shape != (image.rows, image.columns, *samples) or dtype.kind not in "iu":
            raise ValueError("another frame")
        # Mapped, so that it goes back to the system when it is gone: threads' arenas keep theirs.
        size = dtype.itemsize * image.samples
        content = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._read_into(memoryview(content))
        values = np.frombuffer(content, dtype).reshape(shape)
        return DecodedFrame(values, str(answer["photometric"]))

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
                self._look()
                if time.monotonic() > self._deadline:
                    raise DecodingError(f"the codec takes longer than {_LONGEST_S:g} s")
                continue
            count = self._sock.recv_into(view)
            if not count:
                raise EOFError
            view = view[count:]


@contextmanager
def codec_process(look: Callable[[], None]) -> Iterator[CodecProcess]:
    """A process that decodes the frames of one object, for as long as it is needed.

    Raises:
        DecodingError: there can be none.
    """
    try:
        sock = _SERVER.ask()
    except OSError as error:
        raise DecodingError(f"no process to decode in: {error.strerror or error}") from None
    process = CodecProcess(sock, look)
    try:
        try:
            process.begin()
        except (EOFError, OSError, ValueError, KeyError):
            raise DecodingError("the process to decode in has failed") from None
        yield process
    finally:
        process.end()
