"""Holds the reactor of a pynetdicom association, so that what comes meanwhile is left to a test.

pynetdicom asks its reactor to pause before each request, and believes its flag `_is_paused`. Two
things make the flag wrong. It serves an N-EVENT-REPORT in a thread of its own, which sets the same
flag, and clears it when the reactor may be waiting: then the next request waits for ever. And the
flag stays set from the end of one request until the reactor wakes: then the next request goes out
while the reactor is about to look for messages, and may take the answer.

The thread of a report also sends its answer into the midst of a request that goes out meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pynetdicom.association import Association


class Checkpoint:
    """What the reactor waits at, in place of an Event; it knows whether it waits.

    Attributes:
        holds: whether the reactor waits here, and goes on waiting until `set`.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = True
        self.holds = False

    def set(self) -> None:
        """Let the reactor go on."""
        with self._changed:
            self._open, self.holds = True, False
            self._changed.notify_all()

    def clear(self) -> None:
        """Hold the reactor when it comes next."""
        with self._changed:
            self._open = False

    def wait(self) -> None:
        """Wait until it is open; only the reactor does."""
        with self._changed:
            while not self._open:
                self.holds = True
                self._changed.wait()


class WellPaused(Association):
    """An association of which `_is_paused` says what its name says, whoever sets it."""

    _reactor_checkpoint: Checkpoint

    @property
    def _is_paused(self) -> bool:
        """Whether the reactor takes no messages: it is held, has ended, or asks this itself."""
        return self._reactor_checkpoint.holds or self._kill or threading.current_thread() is self

    @_is_paused.setter
    def _is_paused(self, value: bool) -> None:
        """Nobody needs to say so."""


def well_paused(assoc: Association) -> Association:
    """The association, of which `_is_paused` is right from now on; no request is under way.

    Messages go out whole, whichever threads send them.
    """
    if not isinstance(assoc, WellPaused):
        assert type(assoc) is Association
        assoc._reactor_checkpoint = Checkpoint()
        assoc.__class__ = WellPaused
        assoc.dimse.send_msg = _one_after_another(assoc.dimse.send_msg)
    return assoc


def _one_after_another(send: Callable[..., None]) -> Callable[..., None]:
    lock = threading.Lock()

    def send_whole(*message: Any) -> None:
        with lock:
            send(*message)

    return send_whole


@contextmanager
def paused(assoc: Association) -> Iterator[None]:
    """Keep the reactor from the messages that come meanwhile."""
    checkpoint = well_paused(assoc)._reactor_checkpoint
    checkpoint.clear()
    while not assoc._is_paused:
        time.sleep(0.001)
    try:
        yield
    finally:
        checkpoint.set()
