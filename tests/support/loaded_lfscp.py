"""A process that has loaded lfscp, and forks a node or a command whenever a test asks for one.

To load lfscp takes longer than what most of them then do. Run as a program; see `forked_lfscp`.
What it forks leaves this program as if it had just been started: by `lfscp.cli.main`.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import select
import signal
import socket
import sys
from pathlib import Path

LFSCP = Path(sys.executable).with_name("lfscp")
LARGEST_REQUEST = 1 << 20
NOT_LOADED = ("archive.index.migrations",)  # alembic reads them as files


def load() -> None:
    """Import all of lfscp."""
    import lfscp
    from lfscp.cli import main  # noqa: F401 - as the command does

    for module in pkgutil.walk_packages(lfscp.__path__, "lfscp."):
        if not module.name.removeprefix("lfscp.").startswith(NOT_LOADED):
            __import__(module.name)
    gc.collect()
    gc.freeze()


def serve(control: socket.socket) -> None:
    """Fork what the tests ask for, until they have ended; returns in the forked process too."""
    ends: dict[int, tuple[int, int]] = {}  # by the descriptor of a process: its number, its status
    waiting = select.poll()
    waiting.register(control, select.POLLIN)
    while True:
        for ready, _ in waiting.poll():
            if ready in ends:
                waiting.unregister(ready)
                report(ready, *ends.pop(ready))
                continue
            request, descriptors, _, _ = socket.recv_fds(control, LARGEST_REQUEST, 4)
            if not request:
                os._exit(0)
            *standard, status = descriptors
            pid = os.fork()
            if pid == 0:
                control.detach()
                become(json.loads(request), standard)
                return
            os.write(status, pid.to_bytes(8, "little", signed=True))
            for each in standard:
                os.close(each)
            process = os.pidfd_open(pid)
            waiting.register(process, select.POLLIN)
            ends[process] = pid, status


def report(process: int, pid: int, status: int) -> None:
    """Tell the exit code of a process that has ended; below 0 it is a signal."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        os.write(status, code.to_bytes(8, "little", signed=True))
    except BrokenPipeError:  # nobody wants to know
        pass
    os.close(status)
    os.close(process)


def become(request: dict[str, object], standard: list[int]) -> None:
    """Be as the process is that a shell starts for this request."""
    for number, each in enumerate(standard):
        os.dup2(each, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.stdin = open(0, closefd=False)
    sys.stdout = open(1, "w", closefd=False)
    sys.stderr = open(2, "w", errors="backslashreplace", buffering=1, closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(str(request["folder"]))
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[arg-type]
    arguments = [str(LFSCP), *request["arguments"]]  # type: ignore[misc]
    sys.argv, sys.orig_argv = arguments, [sys.executable, *arguments]


if __name__ == "__main__":
    sys.path[0] = str(LFSCP.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's, which is for the tests
    load()
    serve(socket.socket(fileno=int(sys.argv[1])))
    from lfscp.cli import main

    sys.exit(main())
