"""A process that has loaded lfscp, and forks a node or a command whenever a test asks for one.

To load lfscp takes longer than what most of them then do. Run as a program; see `forked_lfscp`.
What it forks leaves this program as if it had just been started: by `lfscp.cli.main`, or by Python
with a script of the project, which may have this process fork its nodes.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LFSCP = Path(sys.executable).with_name("lfscp")
ROOT = Path(__file__).parents[2]
LARGEST_REQUEST = 1 << 20
NOT_LOADED = ("archive.index.migrations",)  # alembic reads them as files


def load() -> None:
    """Import all of lfscp."""
    import lfscp
    from lfscp.cli import main  # noqa: F401 - as the command does

    for module in pkgutil.walk_packages(lfscp.__path__, "lfscp."):
        if not module.name.removeprefix("lfscp.").startswith(NOT_LOADED):
            __import__(module.name)
    prepare()
    gc.collect()
    gc.freeze()


def prepare() -> None:
    """Make once what each command makes of all commands, and each node for its index and page."""
    with found_from(ROOT):
        from tests.support.prepared import keep_commands, prepare_web
    keep_commands()
    with tempfile.TemporaryDirectory() as folder:
        prepare_web(Path(folder))
    assert threading.active_count() == 1, threading.enumerate()  # else nothing may be forked


@contextlib.contextmanager
def found_from(folder: Path) -> Iterator[None]:
    """Import from this folder too, for as long as it takes."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def serve(control: socket.socket) -> dict[str, Any]:
    """Fork what the tests ask for, until they have ended; returns in the forked process: what."""
    ends: dict[int, tuple[int, int]] = {}  # by the descriptor of a process: its number, its status
    waiting = select.poll()
    waiting.register(control, select.POLLIN)
    while True:
        for ready, _ in waiting.poll():
            if ready in ends:
                waiting.unregister(ready)
                report(ready, *ends.pop(ready))
                continue
            said, descriptors, _, _ = socket.recv_fds(control, LARGEST_REQUEST, 5)
            if not said:
                os._exit(0)
            *kept, status = descriptors
            pid = os.fork()
            if pid == 0:
                control.detach()
                request: dict[str, Any] = json.loads(said)
                become(request, kept)
                return request
            os.write(status, pid.to_bytes(8, "little", signed=True))
            for each in kept:
                os.close(each)
            process = os.pidfd_open(pid)
            waiting.register(process, select.POLLIN)
            ends[process] = pid, status


def report(process: int, pid: int, status: int) -> None:
    """Tell the exit code of a process that has ended; below 0 it is a signal."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # nobody wants to know
        os.write(status, code.to_bytes(8, "little", signed=True))
    os.close(status)
    os.close(process)


def become(request: dict[str, Any], kept: list[int]) -> None:
    """Be as the process is that a shell starts for this request; these are its descriptors."""
    if request["session"]:
        os.setsid()
    for number, each in enumerate(kept):  # what is sent gets numbers above those of a process
        os.dup2(each, number)
    os.closerange(len(kept), os.sysconf("SC_OPEN_MAX"))
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(str(request["folder"]))
    os.environ.clear()
    os.environ.update(request["environment"])
    arguments = [request["script"] or str(LFSCP), *request["arguments"]]
    sys.argv, sys.orig_argv = arguments, [sys.executable, *arguments]


def run(script: str) -> int:
    """Run the command or a script; its exit code."""
    try:
        run_script(script) if script else run_command()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
            return 1
        return ended.code or 0
    except BaseException:  # noqa: BLE001 - as Python would
        traceback.print_exc()
        return 1
    return 0


def run_command() -> None:
    """Run `lfscp`."""
    from lfscp.cli import main

    main()


def run_script(script: str) -> None:
    """Run a script, which has this program fork its nodes."""
    sys.path[:0] = [str(Path(script).parent), str(ROOT)]
    from tests.support import forked_lfscp

    forked_lfscp.fork_nodes_by(socket.socket(fileno=3))
    if os.environ.pop("PYTHONWARNINGS", "") == "error":
        warnings.simplefilter("error")
    runpy.run_path(script, run_name="__main__")


def leave(code: int) -> None:
    """End as Python ends, but do not take apart all that was loaded: that takes 0.1 s."""
    threading._shutdown()  # type: ignore[attr-defined] # waits for the threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.path[0] = str(LFSCP.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's, which is for the tests
    load()
    leave(run(serve(socket.socket(fileno=int(sys.argv[1])))["script"]))
