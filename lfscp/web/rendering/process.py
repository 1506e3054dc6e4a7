"""The main function of a rendering process, which has none of the node's sockets.

The first process imports what rendering needs, then forks one each time the node asks for it:
they share that memory, and begin in no time. Each renders for the node over a socket of its own,
one picture at a time, within a limit of memory and one of time that the kernel keeps. A codec that
fails takes its process along, and nothing else. The first ends when the node does, by a closed
socket; the kernel ends the others with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, Final

if __name__ == "__main__":  # pydicom would load it, to download files; 9 MB
    sys.modules["requests"] = None  # type: ignore[assignment]

from lfscp.observe.processes import data_bytes
from lfscp.services.transcoding.free_memory import give_back_memory
from lfscp.web.imaging.errors import NoPictureError, NotEnoughMemoryError, is_lack_of_memory
from lfscp.web.imaging.room import Room
from lfscp.web.rendering.messages import Message, receive, send
from lfscp.web.rendering.tasks import TASKS, Memory

_PR_SET_PDEATHSIG: Final = 1
_SLACK: Final = 6 << 20  # for all that nobody counts: Python's objects, buffers of libraries
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_NICE: Final = 2
_TOLD: Final = 4000  # characters of a failure that nobody expected
_DIES_FIRST: Final = "500"
_C: Final = ctypes.CDLL(None)


def main(descriptor: int) -> None:
    """Be the first process, until the node closes the socket."""
    for each in _IGNORED:  # the node says when to end; a terminal or systemd tells all processes
        signal.signal(each, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no one waits for those that end
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _step_back()
    with socket.socket(fileno=descriptor) as node:
        _give_back()
        gc.freeze()
        send(node, {"resident": _anonymous_bytes()})
        while True:
            asked, descriptors, _, _ = socket.recv_fds(node, 1, 1)
            if not asked:
                return
            _begin(node, descriptors[0])


def _step_back() -> None:
    """Let the node go first: for a processor, and when memory runs out."""
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_DIES_FIRST, encoding="ascii")


def _begin(node: socket.socket, descriptor: int) -> None:
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:  # the node sees that its socket is closed
        os.close(descriptor)
        return
    if pid:
        os.close(descriptor)
        return
    try:
        _C.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            node.close()
            with socket.socket(fileno=descriptor) as connection:
                _serve(connection)
    finally:
        os._exit(0)


def _serve(connection: socket.socket) -> None:
    """Render for the node until it closes the connection."""
    memory, before = Memory(), data_bytes()
    send(connection, {"pid": os.getpid(), "unlimited": _limit(data_bytes() + (64 << 20))})
    while True:
        try:
            message = receive(connection)
        except (EOFError, OSError):
            return
        fields, body = _answer(message, memory, before)
        send(connection, fields, body)


def _answer(message: Message, memory: Memory, before: int) -> tuple[dict[str, Any], Any]:
    """Do one task within its limits."""
    asked = message.fields
    limit = before + asked["grant"]
    _limit(limit + _SLACK)
    signal.setitimer(signal.ITIMER_REAL, asked["seconds"])  # SIGALRM ends the process
    room = Room(asked["most"], lambda: limit - data_bytes())
    path = Path(f"/proc/self/fd/{message.descriptor}")
    memory.most_frames = asked["keep"]
    try:
        try:
            return TASKS[asked["task"]](path, asked, memory, room)
        except NotEnoughMemoryError as error:
            if asked["grant"] < error.need <= asked["most"]:
                return {"more": error.need}, b""  # what is remembered helps then
        except MemoryError:
            pass
        memory.clear()
        _give_back()
        return TASKS[asked["task"]](path, asked, memory, room)
    except NoPictureError as error:
        return {"none": str(error)}, b""
    except Exception as error:  # noqa: BLE001 - the node is told
        memory.clear()
        if not is_lack_of_memory(error):
            return {"failed": "".join(traceback.format_exception(error))[-_TOLD:]}, b""
        need = error.need if isinstance(error, NotEnoughMemoryError) else 0
        return {"more": need}, b""
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        with contextlib.suppress(OSError):
            os.close(message.descriptor)


def _limit(size: int) -> str:
    """Limit this process's memory; why that cannot be done, or nothing."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    size = size if hard == resource.RLIM_INFINITY else min(size, hard)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (size, hard))
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _anonymous_bytes() -> int:
    """Memory of this process that is in use and in no file."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        found = next((line for line in file if line.startswith("RssAnon:")), "RssAnon: 0 kB")
    return int(found.split()[1]) << 10


def _give_back() -> None:
    gc.collect()
    give_back_memory()


if __name__ == "__main__":
    main(int(sys.argv[1]))
