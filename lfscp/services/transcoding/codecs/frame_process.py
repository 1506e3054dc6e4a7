"""What the processes that decode and encode frames have in common; see `processes.forking`.

Rules: a process does one frame at a time, within the memory that was asked for with it, and ends
when none comes for some seconds.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Final

from lfscp.processes.connection import Connection, Message
from lfscp.processes.memory import give_back_memory, limit_data

FIRST_IDLE_S: Final = 60.0  # of the process that forks the others
_NO_FRAME_S: Final = 10.0

Answer = tuple[dict[str, Any], bytes | memoryview]


def import_codecs(modules: Iterable[str]) -> None:
    """Import the codecs that are installed, and say nothing: errors go into the answers."""
    logging.disable()
    warnings.simplefilter("ignore")
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


def serve_frames(
    connection: Connection, bytes_before: int, answer: Callable[[Connection, Message], Answer]
) -> None:
    """Answer for one frame after the other; a codec that takes more memory than asked for fails.

    Args:
        bytes_before: memory that this process may take beyond what is asked for a frame.
        answer: reads the frame of a request from the connection, and works on it.
    Raises:
        EOFError, OSError: no more come.
    """
    while True:
        request = connection.receive(_NO_FRAME_S)
        limit_data(bytes_before + request.fields["memory"])
        connection.send(*answer(connection, request))
        give_back_memory()
