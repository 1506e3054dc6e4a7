"""Runs the first process of a kind, which forks the others; it has no socket or file of the node.

Rules: it imports what the work needs, then forks a process whenever the node asks for one. These
share its memory and start at once. Each works for the node over a socket of its own, one task at a
time. A codec that crashes ends its own process only. The first process ends with the node, when its
socket is closed, or when it is idle for long; the kernel then ends the others. It has one thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

from lfscp.processes.connection import Connection
from lfscp.processes.memory import anonymous_bytes, data_bytes, give_back_memory, limit_data

_PR_SET_PDEATHSIG: Final = 1
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_TO_BEGIN: Final = 64 << 20  # bytes, before a task has said what it may take
_DIES_FIRST: Final = "500"
_C: Final = ctypes.CDLL(None)


def main(module: str, descriptor: str) -> None:
    """Be the first process, until the node closes the socket.

    Args:
        module: `prepare()` runs in the first process; `serve(connection, own_bytes)` works until
            the connection ends; IDLE_S is how long the first process stays idle, None for always.
    """
    for each in _IGNORED:  # a terminal and systemd signal all processes; the node ends this one
        signal.signal(each, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # leaves no zombies
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with contextlib.suppress(OSError):  # when memory runs out, the node stays
        Path("/proc/self/oom_score_adj").write_text(_DIES_FIRST, encoding="ascii")
    # pydicom fetches examples with it; it takes memory and time, and decodes nothing.
    sys.modules["requests"] = None  # type: ignore[assignment]
    work = importlib.import_module(module)
    work.prepare()
    with socket.socket(fileno=int(descriptor)) as node:
        gc.collect()
        give_back_memory()
        gc.freeze()
        resident = anonymous_bytes()
        while _is_asked(node, work.IDLE_S):
            asked, descriptors, _, _ = socket.recv_fds(node, 1, 1)
            if not asked:
                return
            _begin(work, node, descriptors[0], resident)


def _is_asked(node: socket.socket, idle_s: float | None) -> bool:
    """Wait until the node asks or has ended; False if it was idle for long and no process works."""
    while not select.select([node], [], [], idle_s)[0]:
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
    return True


def _begin(work: Any, node: socket.socket, descriptor: int, resident: int) -> None:
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:  # the node sees that its socket is closed
        pid = -1
    if pid:
        os.close(descriptor)
        return
    try:
        _C.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if os.getppid() == parent:
            node.close()
            with socket.socket(fileno=descriptor) as sock, contextlib.suppress(EOFError, OSError):
                connection, own_bytes = Connection(sock), data_bytes()
                unlimited = limit_data(own_bytes + _TO_BEGIN)
                hello = {"pid": os.getpid(), "resident": resident, "unlimited": unlimited}
                connection.send(hello)
                work.serve(connection, own_bytes)
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
