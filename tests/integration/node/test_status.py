"""How a process says that it is: its pool, and whom it serves."""

import socket
import threading

from lfscp.node.status import process_state
from lfscp.services.service_log import association_fields
from lfscp.upperlayer.acceptor import open_acceptor, serve_acceptor
from tests.support.dicom_peer import Peer, associate_rq, until
from tests.support.serving import serving


def test_an_association_is_told_with_its_peer_and_its_thread():
    with serving(max_waiting=3) as server, Peer(server.server_address) as peer:
        peer.associate()
        peer.echo()
        state = process_state(server)
        (association,) = state.associations
        assert (association.calling_ae_title, association.called_ae_title) == ("PEER", "ANY-SCP")
        assert association.service == "verification, storage, query"
        assert association.thread in {each.name for each in threading.enumerate()}
        assert (state.running, state.max_waiting) == (2, 3)
        peer.release()
        assert until(lambda: not process_state(server).associations)


def test_who_was_looked_at_before_he_said_who_he_is_has_his_name_afterwards():
    ours, theirs = socket.socketpair()
    with serving() as server, ours, theirs:
        association = open_acceptor(server._acceptors, theirs, ("10.0.0.1", 4711))
        assert association_fields(association)["calling_ae_title"] == ""
        ours.sendall(associate_rq())
        ours.shutdown(socket.SHUT_WR)
        serve_acceptor(association, ("10.0.0.1", 4711), None)
        assert association_fields(association)["calling_ae_title"] == "PEER"
