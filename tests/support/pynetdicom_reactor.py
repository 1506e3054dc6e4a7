"""Keeps pynetdicom's reactor from taking the answer that a client waits for.

The reactor of pynetdicom 3.0.4 says that it is paused, then looks whether it may go on. A client
that asks it to pause in between believes it and sends its request; the reactor, going on, takes the
answer off the queue ("Received unexpected C-STORE service message"). The client waits in vain, and
aborts. On a busy machine this happens (pynetdicom's issue 875).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from pynetdicom.association import Association

_original_init, _original_release = Association.__init__, Association.release


class Checkpoint(threading.Event):
    """Where the reactor waits; it looks and says that it goes on in one step."""

    def __init__(self, assoc: Association) -> None:
        super().__init__()
        self._assoc = assoc
        self._may_go_on = threading.Condition()

    def set(self) -> None:
        with self._may_go_on:
            super().set()
            self._may_go_on.notify_all()

    def clear(self) -> None:
        with self._may_go_on:
            super().clear()

    def wait(self, timeout: float | None = None) -> bool:
        with self._may_go_on:
            may = self._may_go_on.wait_for(self.is_set, timeout)
            if may:
                self._assoc._is_paused = False
        return may


@wraps(_original_init)
def _init(self: Association, *args: Any, **kwargs: Any) -> None:
    _original_init(self, *args, **kwargs)
    if type(self) is Association:  # lfscp's own has no reactor
        self._reactor_checkpoint = Checkpoint(self)
        self._reactor_checkpoint.set()


@wraps(_original_release)
def _release(self: Association) -> None:
    if threading.current_thread() is self:  # the reactor itself, after the network timeout
        self._is_paused = True
    _original_release(self)


def mend() -> None:
    """Give each association of pynetdicom's from now on such a checkpoint."""
    Association.__init__ = _init  # type: ignore[method-assign]
    Association.release = _release  # type: ignore[method-assign]


@contextmanager
def paused(assoc: Association) -> Iterator[None]:
    """Keep the reactor from the messages that come meanwhile."""
    assoc._reactor_checkpoint.clear()
    while not assoc._is_paused:
        time.sleep(0.001)
    try:
        yield
    finally:
        assoc._reactor_checkpoint.set()
