"""Where a node's threads may run: those that are busy share a processor, while they are."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import StartNode
from dicom_peer import Peer, until

from lfscp.one_processor import MANY

EVERYWHERE = os.sched_getaffinity(0)


def bound_threads(pid: int) -> int:
    """How many threads of a process may not run on every processor."""
    threads = map(int, (each.name for each in Path(f"/proc/{pid}/task").iterdir()))
    return sum(os.sched_getaffinity(each) != EVERYWHERE for each in threads)


@pytest.mark.skipif(len(EVERYWHERE) < 2, reason="with one processor there is nothing to choose")
def test_threads_whose_peers_fall_silent_are_free_again(start_node: StartNode) -> None:
    node = start_node(flags=["--workers", "1"])
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(("127.0.0.1", node.port))) for _ in range(MANY)]
        for peer in peers:
            peer.associate()
        assert until(lambda: [peer.echo() for peer in peers] and bound_threads(node.pid) == MANY)
        assert until(lambda: bound_threads(node.pid) == 0), "nobody has asked for anything since"
        for peer in peers:
            assert peer.echo() == 0
            peer.release()
