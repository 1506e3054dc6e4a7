"""A node's offer to a successor is there whatever the life before has left."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from lfscp.node.handover import FILE, Offer


def test_a_name_that_a_crash_left_is_not_in_the_way(tmp_path: Path) -> None:
    """In a container the process that starts has the same number as the one before."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left_over:
        left_over.bind(str(tmp_path / f"{FILE}.{os.getpid()}"))
    offer = Offer(tmp_path, {}, 0, lambda: None)
    try:
        offer.start()
        assert [each.name for each in tmp_path.iterdir()] == [FILE]
    finally:
        offer.close()
    assert list(tmp_path.iterdir()) == []
