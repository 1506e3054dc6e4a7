"""Runs a rendering process: one picture at a time, within a limit of memory.

`processes.forking` says how it begins and ends.
"""

from __future__ import annotations

import contextlib
import gc
import os
import traceback
from pathlib import Path
from typing import Any, Final

from lfscp.processes.connection import Connection, Message
from lfscp.processes.memory import data_bytes, give_back_memory, keep_free_memory, limit_data
from lfscp.web.imaging.errors import NoPictureError, NotEnoughMemoryError, is_lack_of_memory
from lfscp.web.imaging.room import Room
from lfscp.web.rendering.tasks import TASKS, Memory

IDLE_S: Final = None
_SLACK: Final = 6 << 20  # for memory that is not counted: Python's objects, buffers of libraries
_KEPT_FREE: Final = 2 << 20  # a slice and its picture take less
_NICE: Final = 2
_TOLD: Final = 4000  # characters of an unexpected failure


def prepare() -> None:
    """Let the node's own threads have the processor first."""
    with contextlib.suppress(OSError):
        os.nice(_NICE)


def serve(connection: Connection, own_bytes: int) -> None:
    """Render until the node closes the connection.

    Args:
        own_bytes: of memory, that this process takes anyway.
    Raises:
        EOFError, OSError: it has.
    """
    memory = Memory()
    keep_free_memory(_KEPT_FREE)
    while True:
        message = connection.receive(takes_file=True)
        try:
            fields, body = _answer(message, memory, own_bytes)
            if len(body) and _is_written(body, message.output):
                fields, body = fields | {"written": len(body)}, b""
        finally:
            for each in (message.descriptor, message.output):
                with contextlib.suppress(OSError):
                    os.close(each)
        connection.send(fields, body)


def _is_written(content: bytes | memoryview, output: int) -> bool:
    """Write an answer into the file that the node has made for it; False if that fails."""
    left = memoryview(content)
    try:
        while left and output >= 0:
            left = left[os.write(output, left) :]
    except OSError:  # the disk is full
        return False
    return not left


def _answer(message: Message, memory: Memory, before: int) -> tuple[dict[str, Any], Any]:
    """Do one task within its limits."""
    asked = message.fields
    limit = before + asked["grant"]
    limit_data(limit + _SLACK)
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
        gc.collect()
        give_back_memory()
        return TASKS[asked["task"]](path, asked, memory, room)
    except NoPictureError as error:
        return {"none": str(error)}, b""
    except Exception as error:  # noqa: BLE001 - the node is told
        memory.clear()
        if not is_lack_of_memory(error):
            return {"failed": "".join(traceback.format_exception(error))[-_TOLD:]}, b""
        need = error.need if isinstance(error, NotEnoughMemoryError) else 0
        return {"more": need}, b""
