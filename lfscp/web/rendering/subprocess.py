"""Starts and ends rendering processes, and reads their answers.

Rules: they inherit no socket and no file of the node, and hold memory only while they use it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import lfscp
from lfscp.web.rendering.messages import receive

SMALL: Final = 256 << 10  # bytes of a picture that the node holds in memory
_START_S: Final = 60.0
_PIECE: Final = 1 << 18
_KNOWN: Final = 64
# glibc: large blocks go back to the system when they are freed. Threads would only cost memory.
_ENVIRONMENT: Final = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 20),
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}
_NOT_INHERITED: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS")


@dataclass(slots=True)
class Process:
    connection: socket.socket
    states: deque[str] = field(default_factory=lambda: deque(maxlen=_KNOWN))  # it may have them


@dataclass(slots=True)
class First:
    """The process that forks the others."""

    process: subprocess.Popen[bytes]
    connection: socket.socket
    resident: int


def has_ended(connection: socket.socket) -> bool:
    """Whether the process at the other end is gone: one that is idle says nothing."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def start_first(firsts: list[First]) -> None:
    """Start the process that forks the others; raises OSError, EOFError.

    Args:
        firsts: where it is noted at once, so that it can be ended before it has begun.
    """
    ours, theirs = socket.socketpair()
    environment = {key: text for key, text in os.environ.items() if key not in _NOT_INHERITED}
    paths = [str(Path(lfscp.__file__).parents[1]), environment.get("PYTHONPATH", "")]
    environment |= {**_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-P", "-m", "lfscp.web.rendering.process", str(theirs.fileno())]
    try:
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=environment,
            )
    except BaseException:
        ours.close()
        raise
    first = First(process, ours, 0)
    firsts.append(first)
    try:
        ours.settimeout(_START_S)
        first.resident = receive(ours).fields["resident"]
    except BaseException:
        end([], firsts)
        raise


def end(idle: list[Process], first: list[First]) -> None:
    """End all processes; both lists are empty then."""
    with contextlib.suppress(IndexError):  # there are no more, or another thread was faster
        while True:
            idle.pop().connection.close()
    with contextlib.suppress(IndexError):
        while True:
            ended = first.pop()
            ended.connection.close()
            ended.process.kill()  # the kernel ends those that it has forked
            ended.process.wait()


class NoSpaceError(OSError):
    """The disk takes no more of a picture."""


def body_of(
    connection: socket.socket, length: int, spool: Callable[[int], BinaryIO]
) -> bytes | BinaryIO:
    """The body of an answer; raises NoSpaceError, EOFError, OSError."""
    if length <= SMALL:
        return b"".join(_pieces(connection, length))
    try:
        file = spool(length)
    except OSError as error:
        raise NoSpaceError(error.strerror) from None
    try:
        for piece in _pieces(connection, length):
            try:
                file.write(piece)
            except OSError as error:
                raise NoSpaceError(error.strerror) from None
        file.seek(0)
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
        raise
    return file


def _pieces(connection: socket.socket, length: int) -> Iterator[bytes]:
    while length:
        piece = connection.recv(min(length, _PIECE))
        if not piece:
            raise EOFError
        length -= len(piece)
        yield piece
