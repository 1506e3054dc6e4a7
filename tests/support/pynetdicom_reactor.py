"""Holds the reactor of a pynetdicom association, so that what comes meanwhile is left to a test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pynetdicom.association import Association


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
