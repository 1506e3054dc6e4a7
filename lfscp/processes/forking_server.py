"""Starts processes for one kind of work when they are needed, and ends them; see `forking`.

Rules: they inherit no socket and no file of the node. A hostile object may take over the process
that works on it, so the process gets no other owner's work. A caller that gives up ends it at once.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import lfscp
from lfscp.processes.connection import Connection

_BEGIN_S: Final = 60.0
_SEND_S: Final = 60.0
_KNOWN: Final = 64
# glibc: large blocks go back to the system when they are freed. More threads only cost memory.
_ENVIRONMENT: Final = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 20),
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}
_NOT_INHERITED: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS")


class Child(Connection):
    """The connection to a forked process; see `Connection`."""

    def __init__(self, sock: socket.socket, look: Callable[[], None]) -> None:
        super().__init__(sock, look)
        sock.settimeout(_SEND_S)
        self._pidfd = -1
        self.resident_bytes = 0  # of the process that forked it
        self.unlimited = ""  # why its memory has no limit
        self.worked_for: deque[object] = deque(maxlen=_KNOWN)
        self.idle_since = 0.0

    def begin(self) -> None:
        """Wait until the process runs; raises EOFError, OSError, ValueError."""
        hello = self.receive(_BEGIN_S).fields
        self._pidfd = os.pidfd_open(hello["pid"])
        self.resident_bytes, self.unlimited = hello["resident"], hello["unlimited"]

    def end(self) -> None:
        """End the process, whatever it does."""
        self.sock.close()
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
            self._pidfd = -1


class ForkingServer:
    """Starts the first process, and has it fork others. Any thread may call any method.

    Args:
        module: does the work, see `forking.main`.
    """

    def __init__(self, module: str) -> None:
        self._command = (sys.executable, "-P", "-m", f"{__package__}.forking", module)
        self._lock = threading.Lock()
        self._first: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0
        self._is_closed = False
        self.resident_bytes = 0  # of the first process

    @property
    def pid(self) -> int:
        """Of the first process; 0 without one."""
        return self._first.pid if self._first else 0

    def child(self, look: Callable[[], None] = lambda: None) -> Child:
        """Start a process.

        Args:
            look: called several times a second; an error that it raises ends the wait.
        Raises:
            OSError, EOFError, ValueError: none can be started.
        """
        try:
            return self._begun(look)
        except EOFError:  # the first process was just ending because it was idle
            return self._begun(look)

    def close(self) -> None:
        """End all processes; no more are started."""
        with self._lock:
            self._is_closed = True
            self._end()

    def _begun(self, look: Callable[[], None]) -> Child:
        ours, first = self._ask()
        child = Child(ours, look)
        try:
            child.begin()
        except BaseException as error:
            child.end()
            if isinstance(error, TimeoutError):  # the first process hangs: start another
                with self._lock:
                    if self._first is first:
                        self._end()
            raise
        self.resident_bytes = child.resident_bytes
        return child

    def _ask(self) -> tuple[socket.socket, subprocess.Popen[bytes] | None]:
        ours, theirs = socket.socketpair()
        try:
            with theirs, self._lock:
                try:
                    self._hand_over(theirs)
                except ConnectionError:  # it has ended, or was never started
                    self._start()
                    self._hand_over(theirs)
                return ours, self._first
        except BaseException:
            ours.close()
            raise

    def _hand_over(self, sock: socket.socket) -> None:
        if self._control is None or self._owner != os.getpid():
            raise ConnectionError("no process")
        socket.send_fds(self._control, [b"."], [sock.fileno()], socket.MSG_NOSIGNAL)

    def _start(self) -> None:
        self._end()
        if self._is_closed:
            raise ConnectionError("there are no more processes")
        environment = {key: text for key, text in os.environ.items() if key not in _NOT_INHERITED}
        paths = [str(Path(lfscp.__file__).parents[1]), environment.get("PYTHONPATH", "")]
        environment |= {**_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        self._control, theirs = socket.socketpair()
        self._owner = os.getpid()
        with theirs:
            self._first = subprocess.Popen(  # noqa: S603 - our own
                (*self._command, str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=environment,
            )

    def _end(self) -> None:
        first, control = self._first, self._control
        self._first = self._control = None
        self.resident_bytes = 0
        if control is not None:
            control.close()
        if first is not None and self._owner == os.getpid():  # else its parent's
            first.kill()  # the kernel ends the others
            first.wait()


class IdleChildren:
    """Keeps idle processes for more work. Any thread may call any method.

    Args:
        limit: of their number; those that are idle for longest are ended.
        seconds: for which each is kept.
    """

    def __init__(self, limit: int, seconds: float = math.inf) -> None:
        self._limit = limit
        self._seconds = seconds
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._end = weakref.finalize(self, _end_all, self._idle)

    def take(self, owner: object, *, of_others: bool = False) -> Child | None:
        """A process that has worked for this owner, if there is one.

        Args:
            of_others: take one of another owner if there is none.
        """
        with self._lock:
            since = time.monotonic() - self._seconds
            gone = [each for each in self._idle if each.has_ended or each.idle_since < since]
            self._idle[:] = [each for each in self._idle if each not in gone]
            known = [each for each in self._idle if owner in each.worked_for]
            found = (known or (self._idle if of_others else []))[-1:]
            for each in found:
                self._idle.remove(each)
        _end_all(gone)
        return found[0] if found else None

    def keep(self, child: Child, owner: object) -> None:
        """Keep a process that has worked for this owner."""
        child.worked_for.append(owner)
        child.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(child)
            too_many = self._idle[: -self._limit]
            del self._idle[: -self._limit]
        _end_all(too_many)

    def end(self) -> None:
        """End all idle processes."""
        with self._lock:
            _end_all(self._idle)


def _end_all(children: list[Child]) -> None:
    while children:
        children.pop().end()
