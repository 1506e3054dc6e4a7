"""Where a node's threads may run: those that are busy share a processor, while they are."""

from contextlib import ExitStack

import pytest

from lfscp.server.cpu_affinity import MANY
from tests.support.dicom_peer import EVERYWHERE, Peer, bound_threads, until
from tests.support.node_process import StartNode


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
